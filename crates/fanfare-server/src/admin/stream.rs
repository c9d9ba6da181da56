//! Answers that go on: server-sent events for browsers, JSON lines for whoever accepts `application/x-ndjson`.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde_json::Value;

use super::Api;
use crate::access::Caller;

/// How soon what goes on notices that it is to end.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// Whether what somebody reads may go on: not when the server drains, and no longer than the token and the session that it is read by.
pub(super) fn may_go_on(api: &Api, caller: &Caller) -> bool {
    !api.endpoint.is_draining() && api.sessions.still_may(caller, &api.live.load().tokens)
}

/// In which of the two it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Events,
    Lines,
}

impl Form {
    /// What a request accepts.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if accepts.contains("application/x-ndjson") { Self::Lines } else { Self::Events }
    }

    /// One item.
    pub(super) fn item(self, event: &str, data: &Value) -> String {
        match self {
            Self::Lines => format!("{data}\n"),
            Self::Events => format!("event: {event}\ndata: {data}\n\n"),
        }
    }

    /// Something that means nothing: the reader knows that the stream goes on, and the server that the reader is there.
    pub(super) fn nothing(self) -> String {
        match self {
            Self::Lines => "\n".into(),
            Self::Events => ": \n\n".into(),
        }
    }

    /// The answer.
    pub(super) fn answer(self, items: impl Stream<Item = Result<String, Infallible>> + Send + 'static) -> Response {
        let kind = match self {
            Self::Lines => "application/x-ndjson",
            Self::Events => "text/event-stream",
        };
        let headers =
            [(CONTENT_TYPE, HeaderValue::from_static(kind)), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        (headers, Body::from_stream(items)).into_response()
    }
}
