//! Spans of what channels' code does for a socket: joins, and what its client has sent.

use fanfare_proto::payload::Payload;
use serde::Deserialize;

use super::Socket;
use crate::channel::{Outcome, Reply, Run, Status};
use crate::trace::{OpenSpan, SpanKind};

/// No more of what a client calls its event stands in the name of a span, in bytes.
const EVENT_SHOWN_MAX: usize = 64;

/// What a client may say in the payload of a join.
#[derive(Deserialize)]
struct Params {
    traceparent: Option<String>,
}

impl Socket {
    /// The span of a join, if it is traced. Its client decides that only where the topic's policy lets it.
    #[inline]
    pub(super) fn trace_join(&self, topic: &str, params: &Payload) -> Option<OpenSpan> {
        if self.info.endpoint.tracing().is_on() { self.span_of_join(topic, params) } else { None }
    }

    #[cold]
    fn span_of_join(&self, topic: &str, params: &Payload) -> Option<OpenSpan> {
        let endpoint = &self.info.endpoint;
        let given = if endpoint.policies().trusts_traces(topic) { traceparent(params) } else { None };
        let traced = endpoint.tracing().of(given.as_deref())?;
        Some(endpoint.labels().span(&traced, SpanKind::Server, "join", topic))
    }

    /// The span of a client's message that its channel handles, if it is traced.
    #[inline]
    pub(super) fn trace_handling(&self, topic: &str, event: &str) -> Option<OpenSpan> {
        if self.info.endpoint.tracing().is_on() { self.span_of_handling(topic, event) } else { None }
    }

    #[cold]
    fn span_of_handling(&self, topic: &str, event: &str) -> Option<OpenSpan> {
        let endpoint = &self.info.endpoint;
        let traced = endpoint.tracing().root()?;
        let shown = &event[..event.floor_char_boundary(EVENT_SHOWN_MAX)];
        Some(endpoint.labels().span_called(&traced, SpanKind::Server, format!("handle {shown}"), topic))
    }
}

/// Runs a channel's code within a span.
#[cold]
pub(super) fn around(mut span: OpenSpan, run: Run) -> Run {
    let within = span.within();
    Box::pin(async move {
        let outcome = within.scope(run).await;
        match &*outcome {
            Outcome::Refused { .. } => span.say("fanfare.result", "refused"),
            Outcome::JoinCrashed { .. } | Outcome::Ran { result: Err(_), .. } => span.fail("crashed"),
            Outcome::Ran { result: Ok(Reply { answer: Some((Status::Error, _)), .. }), .. } => {
                span.say("fanfare.result", "error");
            }
            Outcome::Joined { .. } | Outcome::Read(_) | Outcome::Ran { .. } => span.say("fanfare.result", "ok"),
        }
        outcome
    })
}

/// The member of a join's payload that says to which trace it belongs.
fn traceparent(params: &Payload) -> Option<String> {
    let Payload::Json(json) = params else { return None };
    serde_json::from_str::<Params>(json.as_str()).ok()?.traceparent
}
