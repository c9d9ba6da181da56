//! Traces: what becomes of single requests, told as spans to a collector of OpenTelemetry.
//!
//! OpenTelemetry's own packages are not used: what is told is two pages of JSON, which our HTTP client posts, where they would be ten
//! packages more. Whoever asks decides by its `traceparent` whether it is traced; of those who say nothing a part is. What is not traced
//! costs a look at a header.

mod otlp;
mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use axum::http::HeaderMap;
use fanfare::HeldBack;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::config::traces::Traces as Settings;
use crate::http_client::Client;

/// So many spans wait for the collector. Those that come then are counted and lost.
const QUEUE_MAX: usize = 2_048;

/// So many lines a minute say that the collector does not take them.
const FAILURE_LINES_MAX: u64 = 1;

/// Where spans go.
#[derive(Debug)]
pub(crate) struct Traces {
    ratio: f64,
    queue: mpsc::Sender<Value>,
    counts: Arc<Counts>,
}

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

/// One trace that a request belongs to, and the span above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parent {
    trace: u128,
    /// None of a trace that begins here.
    span: Option<u64>,
}

/// Something that is going on.
#[derive(Debug)]
pub(crate) struct Span {
    parent: Parent,
    id: u64,
    began: SystemTime,
    name: String,
    attributes: Vec<(&'static str, Attribute)>,
}

/// What is said of a span.
#[derive(Debug)]
pub(crate) enum Attribute {
    Text(String),
    Number(u64),
    Flag(bool),
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

impl Traces {
    /// Begins to send spans of this node, if there is a collector.
    ///
    /// # Errors
    /// The collector's address in the environment is none.
    pub(crate) fn start(
        settings: Option<&Settings>,
        node: String,
        counts: &Arc<Counts>,
    ) -> Result<Option<Self>, String> {
        let Some(endpoint) = Settings::collector(settings)? else { return Ok(None) };
        tracing::info!(?endpoint, "spans go to a collector");
        let (queue, spans) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(send::run(Client::new()?, endpoint.0, node, spans, counts.clone()));
        let ratio = settings.map_or(0.0, |settings| settings.ratio.0);
        Ok(Some(Self { ratio, queue, counts: counts.clone() }))
    }

    /// What a request's spans belong to; `None` if it is not traced.
    pub(crate) fn parent(&self, headers: &HeaderMap) -> Option<Parent> {
        let given = headers.get("traceparent").and_then(|header| Parent::of_header(header.to_str().ok()?));
        match given {
            Some((parent, is_sampled)) => is_sampled.then_some(parent),
            // The upper bits decide, so that nobody has to throw dice again.
            None if self.ratio > 0.0 => {
                let trace = u128::from(random()) << 64 | u128::from(random());
                let is_sampled = (trace >> 64) as f64 / 2f64.powi(64) < self.ratio;
                is_sampled.then_some(Parent { trace, span: None })
            }
            None => None,
        }
    }

    /// A span is over, and well unless it is of this error.
    pub(crate) fn end(&self, span: Span, error: Option<&'static str>) {
        if self.queue.try_send(otlp::span(&span, error, SystemTime::now())).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Parent {
    /// Reads `traceparent`: a trace, and whether it is sampled. What is none counts as none.
    fn of_header(text: &str) -> Option<(Self, bool)> {
        let number = |text: &str| {
            let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()
        };
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_form = (version.len(), trace.len(), span.len(), flags.len()) == (2, 32, 16, 2);
        // Later versions may add something behind.
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        let (trace, span, flags) = (number(trace)?, number(span)?, number(flags)?);
        let is_right = is_form && is_known && number(version).is_some() && trace != 0 && span != 0;
        is_right.then_some((Self { trace, span: Some(span as u64) }, flags & 1 == 1))
    }
}

impl Span {
    /// Begins now.
    pub(crate) fn begin(parent: Parent, name: String, attributes: Vec<(&'static str, Attribute)>) -> Self {
        Self { parent, id: random().max(1), began: SystemTime::now(), name, attributes }
    }

    pub(crate) fn say(&mut self, name: &'static str, attribute: Attribute) {
        self.attributes.push((name, attribute));
    }
}

/// Where the system gives no random bytes, spans cannot be told apart; they harm nobody.
fn random() -> u64 {
    getrandom::u64().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_read_or_counts_as_none() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        let parent = Parent { trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span: Some(0x00f0_67aa_0ba9_02b7) };
        for (text, expected) in [
            (format!("00-{TRACE}-01"), Some((parent, true))),
            (format!("00-{TRACE}-00"), Some((parent, false))),
            (format!("00-{TRACE}-03"), Some((parent, true))),
            (format!("cc-{TRACE}-01-what-comes-later"), Some((parent, true))),
            (format!("00-{TRACE}-01-more"), None),
            (format!("ff-{TRACE}-01"), None),
            (format!("00-{}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}"), None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01".into(), None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".into(), None),
            ("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(), None),
            ("".into(), None),
        ] {
            assert_eq!(Parent::of_header(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_part_of_those_who_say_nothing_is_traced() {
        let traced = |ratio| {
            let (queue, _) = mpsc::channel(1);
            let traces = Traces { ratio, queue, counts: Arc::default() };
            (0..1_000).filter(|_| traces.parent(&HeaderMap::new()).is_some()).count()
        };
        assert_eq!((traced(0.0), traced(1.0)), (0, 1_000));
        assert!((300..700).contains(&traced(0.5)), "{}", traced(0.5));
    }

    #[test]
    fn spans_without_room_are_counted_and_lost() {
        let (queue, _waiting) = mpsc::channel(QUEUE_MAX);
        let traces = Traces { ratio: 1.0, queue, counts: Arc::default() };
        let parent = Parent { trace: 1, span: None };
        for _ in 0..QUEUE_MAX + 3 {
            traces.end(Span::begin(parent, "send".into(), Vec::new()), None);
        }
        assert_eq!(traces.counts.numbers(), [("sent", 0), ("dropped", 3), ("failed", 0)]);
    }
}
