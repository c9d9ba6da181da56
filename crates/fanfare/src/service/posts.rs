//! Messages that are published by POST requests of Supabase's clients: several as one JSON body, or one whose body is its
//! payload. The answers are those that clients know. `rate` has how often that may be.

mod rate;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::params::Params;
use fanfare_proto::payload::{JsonText, Payload};
use fanfare_proto::supabase::{self, Named, TOPIC_PREFIX, engine_topic, privacy};
use fanfare_proto::topic::check_topic;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE,
    AUTHORIZATION, CONTENT_TYPE, HeaderName,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::admission::Asking;
use super::refusal::Refusal;
use super::{Connection, Found};
use crate::authority::{Asked, Bearer, Settings};
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::gate::Bodies;
use crate::publish::Publish;
use crate::transport::Transport;

/// How many messages of a request were left out, since their sender has no right to send them.
const LEFT_OUT: HeaderName = HeaderName::from_static("x-left-out");

/// The longest id that a message can be given, in bytes.
const ID_SIZE_MAX: usize = 100;

/// Messages of a request.
#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    messages: Vec<Posted>,
}

/// A message of a request. What is not of the right type is as if it were left out.
#[derive(Deserialize)]
struct Posted {
    #[serde(default)]
    topic: Value,
    #[serde(default)]
    event: Value,
    #[serde(default)]
    payload: Option<Box<RawValue>>,
    #[serde(default)]
    private: Value,
    #[serde(default)]
    id: Value,
}

/// Why nothing of a request was published: the answer.
struct Told(StatusCode, Value);

/// A message that can be published.
struct Ready {
    name: String,
    is_private: bool,
    event: String,
    id: Option<String>,
    payload: Payload,
}

impl Endpoint {
    pub(super) async fn posts<B>(&self, found: Found, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let connection = Connection::of(&request, self);
        let (parts, body) = request.into_parts();
        let (found, parts, connection) = (&found, &Arc::new(parts), connection.as_ref());
        let asking = Asking::new(self, found, parts, connection, Transport::LongPoll);
        let mut answer = asking.posts(body).await.unwrap_or_else(|refusal| asking.refuse(refusal));
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if parts.method == Method::OPTIONS {
            let allowed = "authorization, apikey, content-type, x-client-info";
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3600"));
        }
        answer
    }
}

impl Asking<'_> {
    async fn posts<B>(&self, body: B) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (headers, found) = (&self.parts.headers, self.found);
        if self.parts.method == Method::OPTIONS {
            return Ok(answer(StatusCode::NO_CONTENT, None));
        }
        let refusal = match self.check_origin() {
            Ok(()) if self.parts.method != Method::POST => Some(Refusal::Method("POST")),
            Ok(()) if self.endpoint.is_draining() => Some(Refusal::Draining),
            checked => checked.err(),
        };
        let (None, Some(settings)) = (&refusal, &found.mount.authority) else {
            Bodies::discard(headers, body);
            return Err(refusal.unwrap_or(Refusal::Ended));
        };
        // Nothing of a body is read before it is known whose it is.
        let token = credential(headers);
        let Ok(bearer) = settings.verify(token).await else {
            Bodies::discard(headers, body);
            return Ok(message(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        let size_max = found.mount.limits.body_size_max;
        let body = self.endpoint.bodies().collect(headers, body, size_max).await.map_err(Refusal::Body)?;
        let messages = match found.params.str("topic") {
            Some(name) => one(self, name, &body, settings.payload_size_max),
            None => batch(&body, found.mount.limits.body_lines_max, settings.payload_size_max),
        };
        drop(body);
        let messages = match messages {
            Ok(messages) => messages,
            Err(Told(status, body)) => return Ok(answer(status, Some(body))),
        };
        if let Some(tenant) = self.tenant(None)? {
            let now_ns = self.endpoint.clock().now_us().saturating_mul(1_000);
            tenant.publish(messages.len(), now_ns).map_err(Refusal::Quota)?;
        }
        Ok(match self.spend(token, messages.len()) {
            Ok(left) => {
                let mut answer = self.publish_all(settings, &bearer, messages).await;
                left.into_iter().for_each(|left| left.tell(&mut answer));
                answer
            }
            Err(too_many) => too_many.answer(),
        })
    }

    async fn publish_all(&self, settings: &Settings, bearer: &Bearer, messages: Vec<Ready>) -> Response<Body> {
        let (all, mut left_out) = (messages.len(), 0);
        let mut allowed: HashMap<String, bool> = HashMap::new();
        for ready in messages {
            let topic = ready.topic();
            let Ready { name, is_private, event, id, payload } = ready;
            let is_allowed = match allowed.get(&topic) {
                Some(&is_allowed) => is_allowed,
                None => {
                    let asked = Asked { topic: &topic, name: &name, is_private, bearer, presence_key: None };
                    let is_allowed = settings.rights(asked).await.broadcast_write;
                    allowed.insert(topic.clone(), is_allowed);
                    is_allowed
                }
            };
            if !is_allowed {
                left_out += 1;
                continue;
            }
            let named = Named { event: &event, id: id.as_deref() };
            let published = self.endpoint.publish(Publish::new(&topic, &named.to_engine(), payload)).await;
            match published {
                Ok(_) => {}
                Err(error) if error.is_invalid() => {
                    return answer(StatusCode::UNPROCESSABLE_ENTITY, Some(json!({ "message": error.to_string() })));
                }
                Err(error) => return message(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            }
        }
        if left_out == all {
            return message(StatusCode::FORBIDDEN, "Unauthorized");
        }
        let mut response = answer(StatusCode::ACCEPTED, None);
        if left_out > 0 {
            response.headers_mut().insert(LEFT_OUT, left_out.into());
        }
        response
    }
}

/// `Authorization: Bearer …` in any case, or else the header `apikey`.
fn credential(headers: &HeaderMap) -> &str {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let bearer = text(AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    bearer.or_else(|| text(HeaderName::from_static("apikey"))).unwrap_or_default()
}

/// The messages of a JSON body, if each can be published; an entry for each that cannot otherwise.
fn batch(body: &[u8], messages_max: usize, payload_size_max: usize) -> Result<Vec<Ready>, Told> {
    let blank = || unprocessable(json!({ "messages": ["can't be blank"] }));
    let Batch { messages } =
        serde_json::from_slice(body).map_err(|_| not_json("messages", body).unwrap_or_else(blank))?;
    if messages.is_empty() {
        return Err(blank());
    }
    if messages.len() > messages_max {
        let reason = "Too many messages to broadcast, please reduce the batch size";
        return Err(Told(StatusCode::TOO_MANY_REQUESTS, json!({ "message": reason })));
    }
    let checked: Vec<_> = messages.into_iter().map(|posted| posted.check(payload_size_max)).collect();
    if checked.iter().all(Result::is_ok) {
        return Ok(checked.into_iter().filter_map(Result::ok).collect());
    }
    let errors: Vec<Value> = checked.into_iter().map(|checked| checked.err().unwrap_or(json!({}))).collect();
    Err(unprocessable(json!({ "messages": errors })))
}

impl Posted {
    fn check(self, payload_size_max: usize) -> Result<Ready, Value> {
        let text = |value: Value| match value {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        };
        let (topic, event) = (text(self.topic), text(self.event));
        let mut errors = Map::new();
        for (field, is_there) in
            [("topic", topic.is_some()), ("event", event.is_some()), ("payload", self.payload.is_some())]
        {
            if !is_there {
                errors.insert(field.to_owned(), json!(["can't be blank"]));
            }
        }
        let (Some(name), Some(event), Some(payload)) = (topic, event, self.payload) else {
            return Err(errors.into());
        };
        let Some(payload) = supabase::payload(payload.get().as_bytes()) else {
            return Err(json!({ "payload": ["is invalid"] }));
        };
        let Some(is_private) = privacy(&self.private) else {
            return Err(json!({ "private": ["is invalid"] }));
        };
        let ready = Ready { name, is_private, event, id: text(self.id), payload };
        ready.check(payload_size_max)
    }
}

impl Ready {
    fn check(self, payload_size_max: usize) -> Result<Ready, Value> {
        if self.payload.size() > payload_size_max {
            return Err(json!({ "payload": ["Payload size exceeds tenant limit"] }));
        }
        if let Err(error) = check_topic(&self.topic()) {
            return Err(json!({ "topic": [error.to_string()] }));
        }
        match &self.id {
            Some(id) if id.len() > ID_SIZE_MAX => {
                Err(json!({ "id": [format!("has {} bytes, more than {ID_SIZE_MAX}", id.len())] }))
            }
            _ => Ok(self),
        }
    }

    fn topic(&self) -> String {
        engine_topic(&format!("{TOPIC_PREFIX}{}", self.name), self.is_private)
    }
}

/// The message of a body that is a payload.
fn one(asking: &Asking<'_>, name: &str, body: &[u8], payload_size_max: usize) -> Result<Vec<Ready>, Told> {
    let content_type = asking.parts.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("invalid"));
    let payload = match content_type.and_then(|value| value.split(';').next()).map(str::trim) {
        None | Some("application/json") => supabase::payload(body),
        Some("application/octet-stream") => Some(Payload::Binary(Bytes::copy_from_slice(body))),
        Some(_) => {
            let reason = "Unsupported Media Type. Use application/json or application/octet-stream";
            return Err(Told(StatusCode::UNSUPPORTED_MEDIA_TYPE, json!({ "error": reason })));
        }
    };
    let invalid = || unprocessable(json!({ "payload": ["is invalid"] }));
    let payload = payload.ok_or_else(|| not_json("payload", body).unwrap_or_else(invalid))?;
    let query = Params::parse(asking.parts.uri.query().unwrap_or_default()).unwrap_or_default();
    let private = query.str("private").map_or(Value::Null, Value::from);
    let is_private = privacy(&private).ok_or_else(|| unprocessable(json!({ "private": ["is invalid"] })))?;
    let event = asking.found.params.str("event").unwrap_or_default().to_owned();
    let ready = Ready { name: name.to_owned(), is_private, event, id: None, payload };
    ready.check(payload_size_max).map(|ready| vec![ready]).map_err(unprocessable)
}

/// What is wrong with a body that is not JSON, and where. `None`: it is.
fn not_json(field: &str, body: &[u8]) -> Option<Told> {
    let error = JsonText::parse(Bytes::copy_from_slice(body)).err()?;
    Some(unprocessable(json!({ field: [format!("the body is not JSON: {error}")] })))
}

fn unprocessable(errors: Value) -> Told {
    Told(StatusCode::UNPROCESSABLE_ENTITY, json!({ "errors": errors }))
}

fn message(status: StatusCode, text: &str) -> Response<Body> {
    answer(status, Some(json!({ "message": text })))
}

fn answer(status: StatusCode, body: Option<Value>) -> Response<Body> {
    let mut response = Response::new(body.as_ref().map_or_else(Body::default, |body| Body::from(body.to_string())));
    *response.status_mut() = status;
    if body.is_some() {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}
