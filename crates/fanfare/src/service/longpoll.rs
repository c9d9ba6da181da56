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
use http_body_util::{BodyExt, Limited};
use tokio::sync::oneshot;

use super::admission::{self, Refusal};
use super::{Body, Connection, Found, status, text};
use crate::address::AddressSlot;
use crate::command::{Command, Polled, Post};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::socket::{Carrier, Transport};
use crate::token::SessionClaims;
use crate::transport::longpoll::PollSession;

/// The session's token, in the place of the parameter `token`.
const TOKEN_HEADER: &str = "x-phoenix-longpoll-token";

/// The application's token, on the request that creates a session.
const AUTH_TOKEN_HEADER: &str = "x-phoenix-authtoken";

impl Endpoint {
    pub(super) async fn longpoll<B>(&self, found: Found, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let connection = Connection::of(&request);
        let (parts, body) = request.into_parts();
        let mut answer = match parts.method {
            Method::GET => self.get(&found, &parts, connection.as_ref()).await,
            Method::POST => self.post(&found, &parts, body, connection.as_ref()).await,
            Method::OPTIONS => return preflight(&parts),
            _ => text(StatusCode::BAD_REQUEST, "use GET to poll and POST to push"),
        };
        if answer.status() != StatusCode::INTERNAL_SERVER_ERROR {
            answer.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        answer
    }

    async fn get(&self, found: &Found, parts: &Parts, connection: Option<&Connection>) -> Response<Body> {
        if let Err(refusal) = admission::check_origin(&found.mount, parts, connection) {
            return self.refused(refusal);
        }
        let (token, claims) = self.session_token(found, parts);
        if let Some(claims) = claims {
            let (answer, answered) = oneshot::channel();
            let SessionClaims { socket, secret, position, .. } = claims;
            if let Some(shard) = self.shards().get(usize::from(claims.shard)) {
                shard.send_promptly(Command::Poll { socket, secret, position: Some(position), answer });
            }
            match answered.await {
                Ok(Polled::Messages(messages, position)) => {
                    let token = self.token_key().sign(&SessionClaims { position, ..claims });
                    return logical(200, Some(&token), &messages);
                }
                Ok(Polled::Nothing) => return logical(204, token.as_deref(), &[]),
                // It is over: a new one begins, as for a client that never had one.
                Ok(Polled::Gone) | Err(_) => {}
            }
        }
        self.new_session(found, parts, connection).await
    }

    /// The whole body of a request.
    pub(super) async fn collect<B>(&self, body: B, size_max: usize) -> Result<Bytes, Box<Response<Body>>>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        match Limited::new(body, size_max).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                self.own_counters().count(Event::RejectedRequest);
                Err(Box::new(text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")))
            }
            Err(_) => Err(Box::new(status(StatusCode::BAD_REQUEST))),
        }
    }

    /// A place for a session of this client's address.
    pub(super) fn session_slot(
        &self,
        connection: Option<&Connection>,
    ) -> Result<Option<AddressSlot>, Box<Response<Body>>> {
        let Some(connection) = connection else { return Ok(None) };
        match self.session_counts().take(connection.peer.ip()) {
            Some(slot) => Ok(Some(slot)),
            None => {
                self.own_counters().count(Event::RejectedLimit);
                let why = "too many long-poll sessions from this address";
                Err(Box::new(text(StatusCode::TOO_MANY_REQUESTS, why)))
            }
        }
    }

    /// 410 is what clients take for "here is a new session".
    async fn new_session(&self, found: &Found, parts: &Parts, connection: Option<&Connection>) -> Response<Body> {
        if self.is_draining() {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }
        let slot = match self.session_slot(connection) {
            Ok(slot) => slot,
            Err(response) => return *response,
        };
        let (params, version) = match admission::params(found, parts) {
            Ok(asked) => asked,
            Err(refusal) => return self.refused(refusal),
        };
        if let Err(response) = self.check_rate(found, &params, &parts.headers) {
            return *response;
        }
        let mount = &found.mount;
        let header = |name| parts.headers.get(name).and_then(|token| token.to_str().ok()).map(str::to_owned);
        let auth_token = header(AUTH_TOKEN_HEADER).filter(|_| mount.auth_token);
        let transport = Transport::LongPoll;
        let connected = match admission::connect(mount, params, version, transport, parts, connection, auth_token).await
        {
            Ok(connected) => connected,
            Err(refusal) => return self.refused(refusal),
        };
        let shard = self.next_shard().clone();
        let number = self.shard_index(&shard);
        let Ok(secret) = random_secret() else { return status(StatusCode::INTERNAL_SERVER_ERROR) };
        let socket = match self.new_socket(found, shard, connected, version, transport, connection) {
            Ok(socket) => socket,
            Err(response) => return *response,
        };
        let issued_ms = self.clock().now_ms();
        let carrier = Carrier::Poll(Box::new(PollSession::new(secret, issued_ms, slot, None)));
        let Ok(socket) = self.attach(socket, carrier).await else {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        };
        let claims =
            SessionClaims { mount: found.number, shard: number, socket, secret, issued_ms, version, position: 0 };
        logical(410, Some(&self.token_key().sign(&claims)), &[])
    }

    async fn post<B>(&self, found: &Found, parts: &Parts, body: B, connection: Option<&Connection>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        if let Err(refusal) = admission::check_origin(&found.mount, parts, connection) {
            return self.refused(refusal);
        }
        let limits = found.mount.limits;
        let body = match self.collect(body, limits.body_size_max).await {
            Ok(body) => body,
            Err(response) => return *response,
        };
        let (_, Some(claims)) = self.session_token(found, parts) else { return self.no_session() };
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let (messages, is_decodable) = match decode(claims.version, content_type, &body, limits.body_lines_max) {
            Ok(messages) => (Ok(messages), true),
            Err(BodyError::Undecodable(_)) => (Err(body.len()), false),
            Err(error @ BodyError::TooManyLines) => {
                self.own_counters().count(Event::RejectedRequest);
                let mut response = Response::new(Body::from(error.to_string()));
                *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                return response;
            }
        };
        let (answer, answered) = oneshot::channel();
        let SessionClaims { socket, secret, .. } = claims;
        if let Some(shard) = self.shards().get(usize::from(claims.shard)) {
            shard.send_promptly(Command::Post(Box::new(Post { socket, secret, messages, answer })));
        }
        match answered.await {
            Ok(true) if is_decodable => logical(200, None, &[]),
            Ok(true) => logical(400, None, &[]),
            Ok(false) | Err(_) => self.no_session(),
        }
    }

    /// To a POST; a GET would be given a new session.
    fn no_session(&self) -> Response<Body> {
        self.own_counters().count(Event::NoSession);
        logical(410, None, &[])
    }

    /// The token that the client sent, and what it names if it is one of this mount's.
    fn session_token(&self, found: &Found, parts: &Parts) -> (Option<String>, Option<SessionClaims>) {
        let in_header = parts.headers.get(TOKEN_HEADER).and_then(|token| token.to_str().ok()).map(str::to_owned);
        let in_query = || {
            let params = fanfare_proto::params::Params::parse(parts.uri.query().unwrap_or_default()).ok()?;
            params.str("token").map(str::to_owned)
        };
        let token = in_header.or_else(in_query);
        let claims = token.as_deref().and_then(|token| self.token_key().verify(token, self.clock().now_ms()));
        (token, claims.filter(|claims| claims.mount == found.number))
    }

    fn refused(&self, refusal: Refusal) -> Response<Body> {
        self.own_counters().count(refusal.event());
        match refusal {
            Refusal::Panicked => status(StatusCode::INTERNAL_SERVER_ERROR),
            // Only protocols without join parameters take a position here.
            Refusal::Query | Refusal::NotAPosition => {
                text(StatusCode::BAD_REQUEST, "the query is not UTF-8, or has too many parameters")
            }
            Refusal::Origin | Refusal::Version | Refusal::Rejected(_) => logical(403, None, &[]),
        }
    }
}

fn decode(
    version: Version,
    content_type: Option<&str>,
    body: &Bytes,
    lines_max: usize,
) -> Result<Vec<Incoming<'static>>, BodyError> {
    let messages = decode_body(version, content_type, body, lines_max)?;
    Ok(messages.into_iter().map(Incoming::into_owned).collect())
}

/// An answer whose status is in its body.
fn logical(code: u16, token: Option<&str>, messages: &[Bytes]) -> Response<Body> {
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
    let mut answer = status(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested.unwrap_or(HeaderValue::from_static("")));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("get, post, options"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
    answer
}

pub(super) fn random_secret() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_be_bytes(bytes))
}
