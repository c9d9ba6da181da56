//! `POST /api/publish` and `POST /api/disconnect`.

use axum::body::{Body, to_bytes};
use axum::extract::State;
use fanfare::check_topic;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError, Code};
use crate::publish::{Checked, Message};

/// The longest body of a request, in bytes.
const BODY_SIZE_MAX: usize = 8_000_000;

/// How many messages one request may publish.
const MESSAGES_MAX: usize = 1_000;

/// Published on the topic that is a socket's id, it closes that socket.
const DISCONNECT: &str = "disconnect";

/// One message, or several.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Publish<'a> {
    topic: Option<String>,
    event: Option<String>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<Vec<Message<'a>>>,
    #[serde(default)]
    allow_reserved: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disconnect {
    id: String,
}

/// Publishes all messages of a request or, if there is something wrong with any of them, none.
pub(super) async fn publish(State(api): State<Api>, body: Body) -> Result<Answer<Value>, ApiError> {
    let body = read(body).await?;
    let messages = parse(&body)?;
    let count = messages.len();
    for Checked { topic, event, payload } in messages {
        if event == DISCONNECT {
            api.endpoint.disconnect(&topic).await;
        }
        let published = api.endpoint.broadcast(&topic, &event, payload).await;
        published.map_err(|error| match error.is_invalid() {
            true => ApiError::invalid(error.to_string()),
            false => ApiError::new(Code::Internal, error.to_string()),
        })?;
    }
    Ok(Answer(json!({ "published": count })))
}

/// Closes every socket with an id.
pub(super) async fn disconnect(State(api): State<Api>, body: Body) -> Result<Answer<Value>, ApiError> {
    let body = read(body).await?;
    let Disconnect { id } = decode(&body, r#"{"id": "user_socket:7"}"#)?;
    check_topic(&id).map_err(|error| ApiError::invalid(format!("id: {}", error.to_string().replace("topic", "id"))))?;
    api.endpoint.disconnect(&id).await;
    Ok(Answer(json!({ "ok": true })))
}

async fn read(body: Body) -> Result<Vec<u8>, ApiError> {
    match to_bytes(body, BODY_SIZE_MAX).await {
        Ok(bytes) => Ok(bytes.into()),
        Err(_) => {
            let text = format!("the body is over {BODY_SIZE_MAX} bytes, or broke off; publish in several requests");
            Err(ApiError::new(Code::TooLarge, text))
        }
    }
}

fn decode<'a, T: Deserialize<'a>>(body: &'a [u8], example: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid(format!("the body is not like {example}: {error}")))
}

fn parse(body: &[u8]) -> Result<Vec<Checked>, ApiError> {
    let example = r#"{"topic": "room:lobby", "event": "new_msg", "payload": {}} or {"messages": [...]}"#;
    let publish: Publish<'_> = decode(body, example)?;
    let messages = match (publish.messages, publish.topic, publish.event, publish.payload) {
        (None, Some(topic), Some(event), payload) => vec![Message { topic, event, payload }],
        (Some(messages), None, None, None) => messages,
        (Some(_), ..) => return Err(ApiError::invalid("messages stands alone: put topic, event and payload into it")),
        (None, None, ..) => return Err(ApiError::invalid(format!("topic is missing; the body is like {example}"))),
        (None, ..) => return Err(ApiError::invalid(format!("event is missing; the body is like {example}"))),
    };
    if messages.len() > MESSAGES_MAX {
        let text = format!("{} messages are more than {MESSAGES_MAX}; publish in several requests", messages.len());
        return Err(ApiError::invalid(text));
    }
    let numbered = messages.into_iter().enumerate();
    numbered
        .map(|(i, message)| {
            message.check(publish.allow_reserved).map_err(|text| ApiError::invalid(format!("message {i}: {text}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_checked() {
        /// An empty text: it is right.
        #[track_caller]
        fn check(body: &str, part: &str) {
            let text = parse(body.as_bytes()).map_or_else(|error| format!("{error:?}"), |_| String::new());
            assert!(text.contains(part) && text.is_empty() == part.is_empty(), "{body}\n--> {text}");
        }
        check(r#"{"topic":"a","event":"b"}"#, "");
        check(r#"{"topic":"a","event":"b","payload":{"n":123456789012345678901234567890}}"#, "");
        check(r#"{"messages":[]}"#, "");
        check(r#"{"messages":[{"topic":"a","event":"b"},{"topic":"c","event":"d"}]}"#, "");
        check(r#"{"topic":"a","event":"phx_close","allow_reserved":true}"#, "");
        check("", "the body is not like");
        check("[]", "the body is not like");
        check(r#"{"topic":"a","evnt":"b"}"#, "unknown field `evnt`");
        check(r#"{"topic":"a"}"#, "event is missing");
        check(r#"{"event":"a"}"#, "topic is missing");
        check(r#"{"topic":5,"event":"a"}"#, "expected a string");
        check(r#"{"topic":"","event":"a"}"#, "the topic is empty");
        check(r#"{"topic":"a\n","event":"a"}"#, "control character");
        check(&format!(r#"{{"topic":"{}","event":"a"}}"#, "x".repeat(256)), "the topic has 256 bytes, more than 255");
        check(r#"{"topic":"a","event":""}"#, "the event has 0 bytes");
        check(&format!(r#"{{"topic":"a","event":"{}"}}"#, "x".repeat(256)), "the event has 256 bytes");
        check(r#"{"topic":"a","event":"phx_close"}"#, "allow_reserved");
        check(r#"{"topic":"a","event":"presence_diff"}"#, "allow_reserved");
        check(r#"{"topic":"a","event":"b","payload":[1]}"#, "must be a JSON object");
        check(r#"{"topic":"a","event":"b","payload":"\ud800"}"#, "payload: unpaired surrogate");
        check(r#"{"topic":"a","event":"b","messages":[]}"#, "messages stands alone");
        check(r#"{"messages":[{"topic":"a","event":"b"},{"topic":"","event":"d"}]}"#, "message 1: the topic is empty");
        let many = vec![r#"{"topic":"a","event":"b"}"#; MESSAGES_MAX + 1].join(",");
        check(&format!(r#"{{"messages":[{many}]}}"#), "1001 messages are more than 1000");
    }
}
