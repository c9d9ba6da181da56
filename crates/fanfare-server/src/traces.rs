//! Traces: what becomes of single requests and messages, told as spans to a collector of OpenTelemetry.
//!
//! OpenTelemetry's own packages are not used; ARCHITECTURE.md has the figures. What is told is two pages of JSON, which our HTTP client
//! posts. What is traced, and how spans hang together, is the engine's.

mod otlp;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use axum::http::Uri;
use fanfare::HeldBack;
use fanfare::trace::{Span, Tracer};
use tokio::sync::mpsc;

use crate::config::traces::Traces as Settings;
use crate::http_client::Client;

/// So many spans wait for the collector. Those that come then are counted and lost.
const QUEUE_MAX: usize = 2_048;

/// So many lines a minute say that the collector does not take them.
const FAILURE_LINES_MAX: u64 = 1;

/// What is traced, and where spans go.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    /// Nothing is traced without.
    collector: ArcSwapOption<Collector>,
    counts: Arc<Counts>,
}

/// Where spans go.
#[derive(Debug)]
struct Collector {
    url: Uri,
    ratio: f64,
    queue: mpsc::Sender<Span>,
}

/// What a configuration says of traces, ready to count.
#[derive(Debug)]
pub(crate) struct Prepared(Option<(Uri, f64, Client)>);

/// What has become of spans.
#[derive(Debug)]
pub(crate) struct Counts {
    sent: AtomicU64,
    /// For them there was no room.
    dropped: AtomicU64,
    /// The collector has not taken them.
    failed: AtomicU64,
    lines: HeldBack,
}

impl Default for Counts {
    fn default() -> Self {
        let [sent, dropped, failed] = Default::default();
        Self { sent, dropped, failed, lines: HeldBack::new(FAILURE_LINES_MAX, 60) }
    }
}

impl Counts {
    /// By what has become of them.
    pub(crate) fn numbers(&self) -> [(&'static str, u64); 3] {
        [("sent", &self.sent), ("dropped", &self.dropped), ("failed", &self.failed)]
            .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }
}

impl Prepared {
    /// # Errors
    /// The collector's address in the environment is none, or it cannot be asked.
    pub(crate) fn new(settings: Option<&Settings>) -> Result<Self, String> {
        let Some(endpoint) = Settings::collector(settings)? else { return Ok(Self(None)) };
        Ok(Self(Some((endpoint.0, settings.map_or(0.0, |settings| settings.ratio.0), Client::new()?))))
    }
}

impl Traces {
    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// From now on this counts. Spans that wait for a collector that is left go there still.
    pub(crate) fn put_in_force(&self, Prepared(prepared): Prepared, node: &str) {
        let collector = prepared.map(|(url, ratio, client)| {
            let known = self.collector.load();
            let queue = match known.as_ref().filter(|known| known.url == url) {
                Some(known) => known.queue.clone(),
                None => {
                    tracing::info!(host = url.host(), "spans go to a collector");
                    let (queue, spans) = mpsc::channel(QUEUE_MAX);
                    tokio::spawn(send::run(client, url.clone(), node.to_owned(), spans, self.counts.clone()));
                    queue
                }
            };
            Arc::new(Collector { url, ratio, queue })
        });
        self.collector.store(collector);
    }
}

impl Tracer for Traces {
    fn ratio(&self) -> Option<f64> {
        self.collector.load().as_ref().map(|collector| collector.ratio)
    }

    fn ended(&self, span: Span) {
        if let Some(collector) = &*self.collector.load()
            && collector.queue.try_send(span).is_err()
        {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare::Endpoint;
    use fanfare::trace::SpanKind;

    use super::*;

    #[tokio::test]
    async fn spans_without_room_are_counted_and_lost() {
        let (queue, _waiting) = mpsc::channel(QUEUE_MAX);
        let traces = Arc::new(Traces::default());
        let url = Uri::from_static("http://127.0.0.1:4318/v1/traces");
        traces.collector.store(Some(Arc::new(Collector { url, ratio: 1.0, queue })));
        let endpoint = Endpoint::builder().tracer(traces.clone()).build().await.unwrap();
        let traced = endpoint.traced(None).unwrap();
        for _ in 0..QUEUE_MAX + 3 {
            drop(traced.span(SpanKind::Internal, "one of many".into()));
        }
        assert_eq!(traces.counts.numbers(), [("sent", 0), ("dropped", 3), ("failed", 0)]);
    }
}
