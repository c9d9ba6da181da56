//! One topic as a stream over plain HTTP: server-sent events for `EventSource`, JSON lines for everybody else.

use std::sync::Arc;

use std::time::Duration;

use fanfare_proto::bullet::Positions;
use fanfare_proto::frame::{Form, Outgoing};
use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;
use fanfare_proto::position::Since;
use fanfare_proto::wire;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderName, ORIGIN, RETRY_AFTER, VARY};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::sync::oneshot;

use super::admission::{Asked, Asking};
use super::refusal::Refusal;
use super::streamed::{Framing, retry};
use super::{Connection, Found};
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::mailbox::Command;
use crate::transport::Transport;

/// Keeps nginx from collecting messages before it hands them on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

impl Endpoint {
    pub(super) async fn stream<B>(&self, mut found: Found, request: Request<B>) -> Response<Body> {
        let connection = Connection::of(&request, self);
        let (parts, _) = request.into_parts();
        found.dialect = found.dialect.asked_for(&parts.headers);
        let (found, parts, connection) = (&found, &Arc::new(parts), connection.as_ref());
        let asking = Asking::new(self, found, parts, connection, Transport::EventStream);
        let mut answer = asking.stream().await.unwrap_or_else(|refusal| asking.refuse(refusal));
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Whoever may not read it was refused above.
        if let Some(origin) = parts.headers.get(ORIGIN) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(VARY, HeaderValue::from_static("origin"));
        }
        answer
    }
}

impl Asking<'_> {
    async fn stream(&self) -> Result<Response<Body>, Refusal> {
        if self.parts.method != Method::GET {
            return Err(Refusal::Method("GET"));
        }
        let asked = self.read()?;
        let (topic, params) = wanted(&asked);
        let framing = if self.found.dialect.gives_up() { Framing::Events } else { Framing::Lines };
        // Of a topic that keeps nothing nobody can have all.
        let is_lost = asked.since.is_some_and(|since| since != Since::Now) && self.endpoint.store_of(&topic).is_none();
        let mut beginning = match framing {
            Framing::Events => retry(None).to_vec(),
            Framing::Lines => framing.heartbeat().to_vec(),
        };
        if is_lost {
            lost(framing, &topic, &mut beginning);
        }
        let admitted = self.admit(asked).await?;
        let (answer, joined) = oneshot::channel();
        // Closes the socket where it is dropped, if the client goes while it waits for the join as well.
        let streamed =
            self.open_stream(admitted, framing, beginning.into(), Positions::default(), Some(answer)).await?;
        let (shard, socket) = streamed.socket();
        shard.send_promptly(Command::JoinStream { socket, topic: topic.into(), params });
        match joined.await {
            Ok(Ok(())) => Ok(streaming(streamed.into(), framing)),
            Ok(Err(response)) => Ok(not_joined(&response)),
            Err(_) => Err(Refusal::Ended),
        }
    }
}

/// The topic, and the parameters of its join. The others are for connect, credentials among them.
fn wanted(asked: &Asked) -> (String, Payload) {
    let topic = asked.params.str("topic").unwrap_or_default().to_owned();
    let params = asked.params.get("params").filter(|params| params.is_object()).cloned();
    (topic, params.unwrap_or_else(|| serde_json::json!({})).into())
}

/// Appends what a client is told that wants to go on from somewhere in a topic without a history. There is no position to tell.
fn lost(framing: Framing, topic: &str, out: &mut Vec<u8>) {
    let form = if framing == Framing::Events { Form::Events } else { Form::Lines };
    let payload = serde_json::json!({ "recovered": false }).into();
    let joined = Outgoing::Push { join_ref: &Ref::NULL, topic, event: "joined", payload: &payload, position: None };
    // Only Phoenix's binary frames have fields that can be too long.
    let _ = wire::encode(form, joined, out);
}

/// A stream that begins, of whatever is framed so.
pub(super) fn streaming(body: Body, framing: Framing) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(framing.content_type()));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The same refusal for `EventSource`, which gives up for ever where the status is not 200: a stream that ends at once,
/// and says when to come again.
pub(super) fn come_again(refused: &Response<Body>) -> Response<Body> {
    let seconds = refused.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    streaming(Body::from(retry(seconds.map(Duration::from_secs))), Framing::Events)
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
