//! `POST /api/publish` and `POST /api/disconnect`.

use axum::body::{Body, to_bytes};
use axum::extract::State;
use fanfare::check_topic;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError, Code};
use crate::message;

/// The longest body of a request, in bytes.
const BODY_SIZE_MAX: usize = 8_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Disconnect {
    id: String,
}

/// Publishes all messages of a request or, if there is something wrong with any of them, none.
pub(super) async fn publish(State(api): State<Api>, body: Body) -> Result<Answer<Value>, ApiError> {
    let body = read(body).await?;
    let messages = message::parse(&body).map_err(|fault| ApiError::invalid(fault.text))?;
    let count = messages.len();
    for message in messages {
        message.publish(&api.endpoint).await.map_err(|error| match error.is_invalid() {
            true => ApiError::invalid(error.to_string()),
            false => ApiError::new(Code::Internal, error.to_string()),
        })?;
    }
    Ok(Answer(json!({ "published": count })))
}

/// Closes every socket with an id.
pub(super) async fn disconnect(State(api): State<Api>, body: Body) -> Result<Answer<Value>, ApiError> {
    let body = read(body).await?;
    let Disconnect { id } = message::decode(&body, r#"{"id": "user_socket:7"}"#).map_err(ApiError::invalid)?;
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
