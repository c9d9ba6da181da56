//! Long-polling: every logical answer is HTTP 200 with the status in its JSON body, as the clients expect.
//!
//! A session lives on one node. In a cluster its token begins with that node, and a request that comes to another is asked there: no load
//! balancer has to know about sessions. The token is verified where the session is, by the key of that run.

use std::sync::Arc;

use std::error::Error as StdError;
use std::time::Duration;

use bytes::Bytes;
use fanfare_proto::envelope::Incarnation;
use fanfare_proto::message::Incoming;
use fanfare_proto::phoenix::longpoll::{BodyError, decode_body, response};
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::phoenix::session_question::{SessionAnswer, SessionQuestion};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::admission::Asking;
use super::refusal::Refusal;
use super::{Connection, Found};
use crate::body::Body;
use crate::endpoint::{Answered, Endpoint};
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::gate::{self, Bodies, SessionClaims, SessionHandle};
use crate::mailbox::{Command, Post};
use crate::outbox::Share;
use crate::transport::Transport;
use crate::transport::longpoll::Polled;

/// A node answers within this time, and within the window of a poll.
const NODE_PATIENCE: Duration = Duration::from_secs(2);

/// What a node says of a body with more messages than it takes at once; no answer to a client has it.
const TOO_MANY_LINES: u16 = 413;

/// The session's token, in the place of the parameter `token`.
const TOKEN_HEADER: &str = "x-phoenix-longpoll-token";

impl Endpoint {
    pub(super) async fn longpoll<B>(&self, found: Found, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let connection = Connection::of(&request, self);
        let (parts, body) = request.into_parts();
        let (found, parts, connection) = (&found, &Arc::new(parts), connection.as_ref());
        let asking = Asking::new(self, found, parts, connection, Transport::LongPoll);
        let answer = match parts.method {
            Method::GET => asking.get().await,
            Method::POST => asking.post(body).await,
            Method::OPTIONS => return preflight(parts),
            _ => Err(Refusal::Method("GET, POST, OPTIONS")),
        };
        let mut answer = answer.unwrap_or_else(|refusal| asking.refuse(refusal));
        if answer.status() != StatusCode::INTERNAL_SERVER_ERROR {
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        answer
    }
}

impl Asking<'_> {
    async fn get(&self) -> Result<Response<Body>, Refusal> {
        self.check_origin()?;
        let token = self.token();
        let found = match self.named(token.as_deref()) {
            Session::Here(claims) => self.endpoint.poll_session(claims).await,
            Session::On(node) => {
                let patience = self.found.mount.longpoll_window + NODE_PATIENCE;
                let found = self.ask(node, token.as_deref(), None, patience).await?;
                found.map(|answer| (answer, self.endpoint.outboxes().answer(0)))
            }
            Session::None => None,
        };
        match found {
            Some((SessionAnswer { status: 200, body }, share)) => Ok(json(self.unread(body, share))),
            Some((SessionAnswer { status: 204, .. }, _)) => Ok(logical(204, token.as_deref(), &[])),
            // It is over: a new one begins, as for a client that never had one.
            _ => self.new_session().await,
        }
    }

    /// 410 is what clients take for "here is a new session".
    async fn new_session(&self) -> Result<Response<Body>, Refusal> {
        let endpoint = self.endpoint;
        let admitted = self.admit(self.read()?).await?;
        let version = admitted.version;
        let SessionHandle { shard, socket, secret } = self.open(admitted, None).await?;
        let claims = SessionClaims {
            mount: self.found.number,
            shard: shard.number(),
            socket,
            secret,
            issued_ms: endpoint.clock().now_ms(),
            version,
            position: 0,
        };
        Ok(logical(410, Some(&endpoint.sign(&claims)), &[]))
    }

    /// Nothing of a body is read before the token in the head is found to be good.
    async fn post<B>(&self, body: B) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (endpoint, limits, headers) = (self.endpoint, self.found.mount.limits, &self.parts.headers);
        let token = self.token();
        let session = match self.check_origin() {
            Ok(()) => self.named(token.as_deref()),
            Err(refusal) => {
                Bodies::discard(headers, body);
                return Err(refusal);
            }
        };
        if matches!(session, Session::None) {
            Bodies::discard(headers, body);
            return Ok(self.no_session());
        }
        let body = endpoint.bodies().collect(headers, body, limits.body_size_max).await.map_err(Refusal::Body)?;
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let posted = match session {
            Session::Here(claims) => {
                let status = endpoint.post_to_session(claims, content_type, &body, limits.body_lines_max).await;
                Some(SessionAnswer { status, body: Bytes::new() })
            }
            Session::On(node) => {
                let post = (content_type.unwrap_or_default(), Bytes::copy_from_slice(&body));
                self.ask(node, token.as_deref(), Some(post), NODE_PATIENCE).await?
            }
            Session::None => None,
        };
        match posted.map(|posted| posted.status) {
            Some(TOO_MANY_LINES) => Err(Refusal::TooManyMessages(limits.body_lines_max)),
            Some(410) | None => Ok(self.no_session()),
            Some(status) => Ok(logical(status, None, &[])),
        }
    }

    /// To a POST; a GET would be given a new session.
    fn no_session(&self) -> Response<Body> {
        let fact = Fact {
            kind: Kind::Refused,
            event: Event::NoSession,
            who: Who {
                user: None,
                address: self.connection.map(|connection| connection.peer),
                endpoint: self.found.mount.path.as_ref(),
            },
            topic: None,
            code: Some(410),
            detail: format_args!(
                "messages for a session that is over, or that another server has: the client begins a new one"
            ),
        };
        fact.tell(self.endpoint.own_counters());
        logical(410, None, &[])
    }

    /// The token that the client sent.
    fn token(&self) -> Option<String> {
        let in_header = self.parts.headers.get(TOKEN_HEADER).and_then(|token| token.to_str().ok()).map(str::to_owned);
        let in_query = || {
            let params = fanfare_proto::params::Params::parse(self.parts.uri.query().unwrap_or_default()).ok()?;
            params.str("token").map(str::to_owned)
        };
        in_header.or_else(in_query)
    }

    fn named(&self, token: Option<&str>) -> Session {
        token.map_or(Session::None, |token| self.endpoint.session(token, self.found.number))
    }

    /// Asks the node on which a session is; `None` if there is none any more. A body that the broker does not carry is refused.
    async fn ask(
        &self,
        node: Incarnation,
        token: Option<&str>,
        post: Option<(&str, Bytes)>,
        patience: Duration,
    ) -> Result<Option<SessionAnswer>, Refusal> {
        let body_size = post.as_ref().map(|(_, body)| body.len());
        let question = SessionQuestion { mount: self.found.number, token: token.unwrap_or_default(), post }.to_bytes();
        let more = question.len() - body_size.unwrap_or_default();
        Ok(match self.endpoint.ask_node(node, question, patience).await {
            Answered::Answer(answer) => SessionAnswer::read(&answer).ok(),
            Answered::Gone => None,
            Answered::TooLarge(most) => {
                return Err(Refusal::Body(gate::BodyError::TooLarge(most.saturating_sub(more))));
            }
            // What was posted may have been handled; a client that polls again loses nothing.
            Answered::Silent => {
                let status = if body_size.is_none() { 204 } else { 503 };
                Some(SessionAnswer { status, body: Bytes::new() })
            }
        })
    }
}

impl Endpoint {
    /// Answers for a session of this node to which another node was sent a request.
    pub(crate) async fn answer_for_another_node(&self, question: &Bytes) -> Bytes {
        let gone = SessionAnswer { status: 410, body: Bytes::new() };
        let Ok(SessionQuestion { mount, token, post }) = SessionQuestion::read(question) else {
            return gone.to_bytes();
        };
        let lines_max =
            self.gate().mounts().get(usize::from(mount)).map_or(0, |(_, mount)| mount.limits.body_lines_max);
        let answer = match (self.session(token, mount), post) {
            (Session::Here(claims), None) => self.poll_session(claims).await.map_or(gone, |(answer, _)| answer),
            (Session::Here(claims), Some((content_type, body))) => {
                let content_type = Some(content_type).filter(|content_type| !content_type.is_empty());
                let status = self.post_to_session(claims, content_type, &body, lines_max).await;
                SessionAnswer { status, body: Bytes::new() }
            }
            (Session::On(_) | Session::None, _) => gone,
        };
        let answer = answer.to_bytes();
        // It would be asked for again and again: a new session begins instead.
        if self.can_answer(answer.len()) {
            answer
        } else {
            SessionAnswer { status: 410, body: Bytes::new() }.to_bytes()
        }
    }

    /// What waits for a session, or nothing after a while; `None` if it is over.
    async fn poll_session(&self, claims: SessionClaims) -> Option<(SessionAnswer, Share)> {
        let (answer, answered) = oneshot::channel();
        let SessionClaims { socket, secret, position, .. } = claims;
        if let Some(shard) = self.shards().get(usize::from(claims.shard)) {
            shard.send_promptly(Command::Poll { socket, secret, position: Some(position), answer });
        }
        match answered.await {
            Ok(Polled::Messages(messages, position, share)) => {
                let token = self.sign(&SessionClaims { position, ..claims });
                Some((SessionAnswer { status: 200, body: logical_body(200, Some(&token), &messages) }, share))
            }
            Ok(Polled::Nothing) => Some((SessionAnswer { status: 204, body: Bytes::new() }, self.outboxes().answer(0))),
            Ok(Polled::Gone | Polled::Lost(_)) | Err(_) => None,
        }
    }

    /// Hands on what was posted to a session, and returns the status of the answer.
    async fn post_to_session(
        &self,
        claims: SessionClaims,
        content_type: Option<&str>,
        body: &[u8],
        lines_max: usize,
    ) -> u16 {
        let (messages, is_decodable) = match decode(claims.version, content_type, body, lines_max) {
            Ok(messages) => (Ok(messages), true),
            Err(BodyError::Undecodable(_)) => (Err(body.len()), false),
            Err(BodyError::TooManyLines) => return TOO_MANY_LINES,
        };
        let (answer, answered) = oneshot::channel();
        let SessionClaims { socket, secret, .. } = claims;
        if let Some(shard) = self.shards().get(usize::from(claims.shard)) {
            shard.send_promptly(Command::Post(Box::new(Post { socket, secret, messages, answer })));
        }
        match answered.await {
            Ok(true) if is_decodable => 200,
            Ok(true) => 400,
            Ok(false) | Err(_) => 410,
        }
    }

    /// The token of a session of this node.
    fn sign(&self, claims: &SessionClaims) -> String {
        let signed = self.gate().token_key.sign(claims);
        self.incarnation().map_or_else(|| signed.clone(), |node| format!("{node}.{signed}"))
    }

    /// What a token names, if it is one of a mount's.
    fn session(&self, token: &str, mount: u16) -> Session {
        let (node, signed) = token.split_once('.').map_or((None, token), |(node, signed)| (Some(node), signed));
        let node = node.map(|node| u64::from_str_radix(node, 16).ok().and_then(Incarnation::new));
        match (node, self.incarnation()) {
            (Some(Some(node)), Some(own)) if node != own => return Session::On(node),
            (None, Some(_)) | (Some(_), None) => return Session::None,
            _ => {}
        }
        let claims = self.gate().token_key.verify(signed, self.clock().now_ms());
        claims.filter(|claims| claims.mount == mount).map_or(Session::None, Session::Here)
    }
}

/// Where a session is.
enum Session {
    Here(SessionClaims),
    /// That is for the node to say.
    On(Incarnation),
    None,
}

fn decode(
    version: Version,
    content_type: Option<&str>,
    body: &[u8],
    lines_max: usize,
) -> Result<Vec<Incoming<'static>>, BodyError> {
    let messages = decode_body(version, content_type, body, lines_max)?;
    Ok(messages.into_iter().map(Incoming::into_owned).collect())
}

/// An answer whose status is in its body.
pub(super) fn logical(code: u16, token: Option<&str>, messages: &[Bytes]) -> Response<Body> {
    json(logical_body(code, token, messages).into())
}

fn logical_body(code: u16, token: Option<&str>, messages: &[Bytes]) -> Bytes {
    let messages: Vec<&str> = messages.iter().map(|message| std::str::from_utf8(message).unwrap_or_default()).collect();
    let mut out = Vec::new();
    response(code, token, &messages, &mut out);
    out.into()
}

fn json(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub(super) fn preflight(parts: &Parts) -> Response<Body> {
    let requested = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut answer = Response::new(Body::default());
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.unwrap_or(HeaderValue::from_static("")));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("get, post, options"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    answer
}
