//! `/livez` and `/readyz`: whether the server has to be restarted, and whether it is to be sent clients. Neither needs a token, and
//! neither names anything but parts, and servers of the broker by their addresses.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use super::answer::Answer;
use crate::live::Health;

/// A shard that does nothing for this long is stuck.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Both.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(health: &Health) -> Router<S> {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready)).with_state(health.clone())
}

/// 503 means: restart me. Depends on nothing outside of the process.
async fn live(State(health): State<Health>) -> Response {
    let is_live = health.endpoint.is_alive(STUCK_AFTER).await;
    let reasons: &[&str] = if is_live { &[] } else { &["a shard is stuck"] };
    answer("live", is_live, reasons)
}

/// 503 means: send me no clients now.
async fn ready(State(health): State<Health>) -> Response {
    let (is_ready, reasons) = health.ready();
    answer("ready", is_ready, &reasons)
}

fn answer<R: AsRef<str>>(name: &str, is_so: bool, reasons: &[R]) -> Response {
    let reasons: Vec<&str> = reasons.iter().map(AsRef::as_ref).collect();
    let status = if is_so { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Answer(json!({ name: is_so, "reasons": reasons }))).into_response()
}
