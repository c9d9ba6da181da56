//! Long-polling: every logical answer is HTTP 200 with the status in its JSON body, as the clients expect.

use std::error::Error as StdError;

use bytes::Bytes;
use fanfare_proto::message::Incoming;
use fanfare_proto::phoenix::longpoll::{BodyError, decode_body, response};
use fanfare_proto::phoenix::message::Version;
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
use crate::command::{Command, Polled, Post};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::gate::{Bodies, SessionClaims};
use crate::socket::Transport;
use crate::transport::longpoll::SessionHandle;

/// The session's token, in the place of the parameter `token`.
const TOKEN_HEADER: &str = "x-phoenix-longpoll-token";

impl Endpoint {
    pub(super) async fn longpoll<B>(&self, found: Found, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let connection = Connection::of(&request);
        let (parts, body) = request.into_parts();
        let (found, parts, connection) = (&found, &parts, connection.as_ref());
        let asking = Asking { endpoint: self, found, parts, connection, transport: Transport::LongPoll };
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
        let (endpoint, (token, claims)) = (self.endpoint, self.session_token());
        if let Some(claims) = claims {
            let (answer, answered) = oneshot::channel();
            let SessionClaims { socket, secret, position, .. } = claims;
            if let Some(shard) = endpoint.shards().get(usize::from(claims.shard)) {
                shard.send_promptly(Command::Poll { socket, secret, position: Some(position), answer });
            }
            match answered.await {
                Ok(Polled::Messages(messages, position)) => {
                    let token = endpoint.gate().token_key.sign(&SessionClaims { position, ..claims });
                    return Ok(logical(200, Some(&token), &messages));
                }
                Ok(Polled::Nothing) => return Ok(logical(204, token.as_deref(), &[])),
                // It is over: a new one begins, as for a client that never had one.
                Ok(Polled::Gone | Polled::Lost(_)) | Err(_) => {}
            }
        }
        self.new_session().await
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
        Ok(logical(410, Some(&endpoint.gate().token_key.sign(&claims)), &[]))
    }

    /// Nothing of a body is read before the token in the head is found to be good.
    async fn post<B>(&self, body: B) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (endpoint, limits, headers) = (self.endpoint, self.found.mount.limits, &self.parts.headers);
        let claims = match self.check_origin() {
            Ok(()) => self.session_token().1,
            Err(refusal) => {
                Bodies::discard(headers, body);
                return Err(refusal);
            }
        };
        let Some(claims) = claims else {
            Bodies::discard(headers, body);
            return Ok(self.no_session());
        };
        let body = endpoint.bodies().collect(headers, body, limits.body_size_max).await.map_err(Refusal::Body)?;
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let (messages, is_decodable) = match decode(claims.version, content_type, &body, limits.body_lines_max) {
            Ok(messages) => (Ok(messages), true),
            Err(BodyError::Undecodable(_)) => (Err(body.len()), false),
            Err(BodyError::TooManyLines) => return Err(Refusal::TooManyMessages(limits.body_lines_max)),
        };
        drop(body);
        let (answer, answered) = oneshot::channel();
        let SessionClaims { socket, secret, .. } = claims;
        if let Some(shard) = endpoint.shards().get(usize::from(claims.shard)) {
            shard.send_promptly(Command::Post(Box::new(Post { socket, secret, messages, answer })));
        }
        Ok(match answered.await {
            Ok(true) if is_decodable => logical(200, None, &[]),
            Ok(true) => logical(400, None, &[]),
            Ok(false) | Err(_) => self.no_session(),
        })
    }

    /// To a POST; a GET would be given a new session.
    fn no_session(&self) -> Response<Body> {
        self.endpoint.own_counters().count(Event::NoSession);
        logical(410, None, &[])
    }

    /// The token that the client sent, and what it names if it is one of this mount's.
    fn session_token(&self) -> (Option<String>, Option<SessionClaims>) {
        let (endpoint, parts) = (self.endpoint, self.parts);
        let in_header = parts.headers.get(TOKEN_HEADER).and_then(|token| token.to_str().ok()).map(str::to_owned);
        let in_query = || {
            let params = fanfare_proto::params::Params::parse(parts.uri.query().unwrap_or_default()).ok()?;
            params.str("token").map(str::to_owned)
        };
        let token = in_header.or_else(in_query);
        let now_ms = endpoint.clock().now_ms();
        let claims = token.as_deref().and_then(|token| endpoint.gate().token_key.verify(token, now_ms));
        (token, claims.filter(|claims| claims.mount == self.found.number))
    }
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
    let messages: Vec<&str> = messages.iter().map(|message| std::str::from_utf8(message).unwrap_or_default()).collect();
    let mut out = Vec::new();
    response(code, token, &messages, &mut out);
    let mut answer = Response::new(Body::from(out));
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
