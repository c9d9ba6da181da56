//! What takes spans to the collector, some at a time. What it does not take is counted and lost: a trace is no message.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::Uri;
use fanfare::trace::Span;
use tokio::sync::mpsc;

use super::Counts;
use super::otlp;
use crate::http_client::{Client, Limits};

/// So many spans are in a request.
const SPANS_MAX: usize = 512;

/// For so long spans are gathered.
const PAUSE: Duration = Duration::from_millis(200);

/// An answer says next to nothing.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(10), body_size_max: 64_000 };

pub(super) async fn run(client: Client, url: Uri, node: String, mut spans: mpsc::Receiver<Span>, counts: Arc<Counts>) {
    let mut some = Vec::new();
    while spans.recv_many(&mut some, SPANS_MAX).await > 0 {
        if some.len() < SPANS_MAX {
            tokio::time::sleep(PAUSE).await;
            while some.len() < SPANS_MAX
                && let Ok(span) = spans.try_recv()
            {
                some.push(span);
            }
        }
        let body = otlp::request(&node, &some.iter().map(otlp::span).collect::<Vec<_>>()).to_string();
        let count = some.len() as u64;
        some.clear();
        match client.post(&url, &[], body.into(), LIMITS).await {
            Ok(_) => drop(counts.sent.fetch_add(count, Ordering::Relaxed)),
            Err(failure) => {
                counts.failed.fetch_add(count, Ordering::Relaxed);
                if let Some(held_back) = counts.lines.pass() {
                    let reason = failure.text();
                    tracing::warn!(event = "spans_lost", reason, count, held_back, "the collector does not take spans");
                }
            }
        }
    }
}
