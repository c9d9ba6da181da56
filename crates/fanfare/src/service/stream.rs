//! One topic as a stream over plain HTTP: server-sent events for `EventSource`, JSON lines for everybody else.

use std::time::Duration;

use fanfare_proto::params::{Params, decode_path_segment};
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName, ORIGIN, RETRY_AFTER, VARY};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::admission::{self, Refusal};
use super::body::{Framing, retry};
use super::bullet::accepts_events;
use super::longpoll::random_secret;
use super::websocket::refuse;
use super::{Body, Connection, Found, status, text};
use crate::channel::Status;
use crate::command::Command;
use crate::connect::Connected;
use crate::endpoint::Endpoint;
use crate::shard::Shard;
use crate::socket::{Carrier, Protocol, Transport};
use crate::transport::longpoll::{PollSession, SessionHandle};

/// What a client of server-sent events has received last.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Keeps nginx from collecting messages before it hands them on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

type Refused = Box<Response<Body>>;

impl Endpoint {
    pub(super) async fn stream<B>(&self, mut found: Found, request: Request<B>) -> Response<Body> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "use GET: a stream is read only");
        }
        let connection = Connection::of(&request);
        let (parts, _) = request.into_parts();
        found.protocol = if accepts_events(&parts) { Protocol::Events } else { Protocol::Lines };
        let mut answer = match self.open_stream(&found, &parts, connection.as_ref()).await {
            Ok(answer) => answer,
            Err(refused) if found.protocol == Protocol::Events && is_passing(refused.status()) => come_again(&refused),
            Err(refused) => *refused,
        };
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
        // Whoever may not read it was refused above.
        if let Some(origin) = parts.headers.get(ORIGIN) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(VARY, HeaderValue::from_static("origin"));
        }
        answer
    }

    async fn open_stream(
        &self,
        found: &Found,
        parts: &Parts,
        connection: Option<&Connection>,
    ) -> Result<Response<Body>, Refused> {
        if self.is_draining() {
            return Err(Box::new(status(StatusCode::SERVICE_UNAVAILABLE)));
        }
        let mount = &found.mount;
        let refused = |refusal: Refusal| -> Refused {
            self.own_counters().count(refusal.event());
            Box::new(refuse(mount, refusal))
        };
        admission::check_origin(mount, parts, connection).map_err(refused)?;
        let (params, _) = admission::params(found, parts).map_err(refused)?;
        let since = since(parts, &params).map_err(refused)?;
        self.check_rate(found, &params, &parts.headers)?;
        let topic = params.str("topic").unwrap_or_default().to_owned();
        // The others are for connect, credentials among them.
        let asked = params.get("params").filter(|params| params.is_object()).cloned();
        let asked: Payload = asked.unwrap_or_else(|| serde_json::json!({})).into();
        let transport = Transport::EventStream;
        let connected = admission::connect(mount, params, Version::V2, transport, parts, connection, None).await;
        let connected = Connected { since: Some(since), ..connected.map_err(refused)? };

        let slot = self.session_slot(connection)?;
        let shard = self.next_shard().clone();
        let secret = random_secret().map_err(|_| Box::new(status(StatusCode::INTERNAL_SERVER_ERROR)))?;
        let socket = self.new_socket(found, shard.clone(), connected, Version::V2, transport, connection)?;
        let (answer, joined) = oneshot::channel();
        let session = PollSession::new(secret, self.clock().now_ms(), slot, None).answering(answer);
        let attached = self.attach(socket, Carrier::Poll(Box::new(session))).await;
        let socket = attached.map_err(|_| Box::new(status(StatusCode::SERVICE_UNAVAILABLE)))?;
        let framing = if found.protocol == Protocol::Events { Framing::Events } else { Framing::Lines };
        // Closes the session where it is dropped, if the client goes while it waits for the join as well.
        let body = Body::stream(SessionHandle { shard: shard.clone(), socket, secret }, framing);
        let join = move |shard: &mut Shard| {
            shard.with(socket, |socket, turn| socket.join_stream(turn, &topic, asked));
        };
        shard.send_promptly(Command::Run(Box::new(join)));
        match joined.await {
            Ok((Status::Ok, _)) => {
                let mut response = Response::new(body);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
                Ok(response)
            }
            Ok((_, response)) => Err(Box::new(not_joined(&response))),
            Err(_) => Err(Box::new(status(StatusCode::SERVICE_UNAVAILABLE))),
        }
    }
}

/// Whether whoever is refused so may be let in later.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

/// The same refusal for `EventSource`, which gives up for ever where the status is not 200: a stream that ends at once,
/// and says when to come again.
fn come_again(refused: &Response<Body>) -> Response<Body> {
    let seconds = refused.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut answer = Response::new(Body::from(retry(seconds.map(Duration::from_secs))));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Framing::Events.content_type()));
    answer
}

/// From where a client wants to go on: what it has received last, or the parameter `since`.
fn since(parts: &Parts, params: &Params) -> Result<Since, Refusal> {
    let last = parts.headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("no text"));
    match last.or(params.str("since")) {
        None | Some("") => Ok(Since::Now),
        Some(text) => text.parse().map_err(|_| Refusal::NotAPosition),
    }
}

/// The topic behind the mount's path: the rest of it, slashes included. `None` where it is not UTF-8.
pub(super) fn topic_of(rest: &[&str], params: &mut Params) -> Option<()> {
    if !rest.is_empty() {
        let segments: Result<Vec<_>, _> = rest.iter().map(|segment| decode_path_segment(segment)).collect();
        params.insert("topic", segments.ok()?.join("/"));
    }
    Some(())
}

/// A refused join: its response is the body.
fn not_joined(response: &Payload) -> Response<Body> {
    let mut body = Vec::new();
    fanfare_proto::frame::in_message(response, &mut body);
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::FORBIDDEN;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
