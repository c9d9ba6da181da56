//! `/livez` and `/readyz`: whether the server has to be restarted, and whether it is to be sent clients. Neither needs a token, and
//! neither names anything but parts.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Api;
use super::answer::Answer;
use crate::health;

/// A shard that does nothing for this long is stuck.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// 503 means: restart me. Depends on nothing outside of the process.
pub(super) async fn live(State(api): State<Api>) -> Response {
    let is_live = api.endpoint.is_alive(STUCK_AFTER).await;
    let reasons: &[&str] = if is_live { &[] } else { &["a shard is stuck"] };
    answer("live", reasons)
}

/// 503 means: send me no clients now.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    answer("ready", &health::not_ready(&api.endpoint, &api.parts))
}

fn answer<R: AsRef<str>>(name: &str, reasons: &[R]) -> Response {
    let reasons: Vec<&str> = reasons.iter().map(AsRef::as_ref).collect();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Answer(json!({ name: reasons.is_empty(), "reasons": reasons }))).into_response()
}
