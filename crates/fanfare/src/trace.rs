//! Traces: what becomes of single requests and messages, told as spans.
//!
//! What is traced carries where it stands in its trace: a future of the application's code has it around it, a message a pointer. What is
//! not costs a look at that, for each message once and for each shard that hands it out; a delivery costs nothing.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Who is told of spans, and decides what is traced that nobody has decided about: see [`Builder::tracer`](crate::Builder::tracer).
pub trait Tracer: fmt::Debug + Send + Sync + 'static {
    /// Which part is traced of what belongs to no trace yet, from 0.0 to 1.0; `None` while nothing is traced at all. It is asked for each
    /// connect, join and message of a client.
    fn ratio(&self) -> Option<f64>;

    /// A span is over. Called on threads that have other things to do: it must not wait.
    fn ended(&self, span: Span);
}

/// Where something stands in a trace.
#[derive(Clone)]
pub struct Traced {
    tracer: Arc<dyn Tracer>,
    trace: u128,
    /// None of a trace that begins here.
    span: Option<u64>,
}

/// Something that is over.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Span {
    /// The trace, not 0.
    pub trace: u128,
    /// The span above, if there is one.
    pub parent: Option<u64>,
    /// Its own number, not 0.
    pub id: u64,
    /// On which side of a message or request it is.
    pub kind: SpanKind,
    /// What it is called: there are few names.
    pub name: String,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What is said of it. Nothing of a credential or a payload.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// What has gone wrong.
    pub error: Option<&'static str>,
}

/// On which side of a message or request a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Within this program.
    Internal,
    /// Somebody is answered.
    Server,
    /// Somebody is asked.
    Client,
    /// A message is handed to others, who get it later.
    Producer,
}

/// A value that is said of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpanValue {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
}

/// Something that goes on until this is dropped, which tells it.
///
/// A pointer and no more: what may be traced is moved at the cost of its size, and is traced seldom.
pub struct OpenSpan(Box<Open>);

struct Open {
    tracer: Arc<dyn Tracer>,
    /// None once it is over.
    span: Option<Span>,
}

/// What is traced on a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tracing(pub(crate) Option<Arc<dyn Tracer>>);

tokio::task_local!(static CURRENT: Traced);

impl Traced {
    /// What the code that asks is run for, if that is traced: what a channel's code, [`Connect`](crate::Connect) and those inside of a
    /// [`scope`](Traced::scope) find here.
    pub fn current() -> Option<Traced> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs a future as a part of the trace: what it publishes belongs to it.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The same for code that does not wait.
    pub(crate) fn run<T>(self, run: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, run)
    }

    /// Begins a span below.
    pub fn span(&self, kind: SpanKind, name: String) -> OpenSpan {
        let began = SystemTime::now();
        let span = Span {
            trace: self.trace,
            parent: self.span,
            id: random().max(1),
            kind,
            name,
            began,
            ended: began,
            attributes: Vec::new(),
            error: None,
        };
        OpenSpan(Box::new(Open { tracer: self.tracer.clone(), span: Some(span) }))
    }

    /// The number of the trace, as lines of the log have it.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The header `traceparent` of requests that are made for this.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span.unwrap_or(1))
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traced").field(&format_args!("{:032x}", self.trace)).field(&self.span).finish()
    }
}

impl OpenSpan {
    /// What belongs to it.
    pub fn within(&self) -> Traced {
        let (trace, span) = self.0.span.as_ref().map_or((0, None), |span| (span.trace, Some(span.id)));
        Traced { tracer: self.0.tracer.clone(), trace, span }
    }

    /// Says something of it: nothing of a credential or a payload.
    pub fn say(&mut self, name: &'static str, value: impl Into<SpanValue>) {
        if let Some(span) = &mut self.0.span {
            span.attributes.push((name, value.into()));
        }
    }

    /// It has gone wrong. The error is one of few.
    pub fn fail(&mut self, error: &'static str) {
        if let Some(span) = &mut self.0.span {
            span.error = Some(error);
        }
    }

    /// It began earlier.
    pub(crate) fn since(mut self, began: SystemTime) -> Self {
        if let Some(span) = &mut self.0.span {
            span.began = began;
        }
        self
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(mut span) = self.0.span.take() {
            // The clock may have been set back.
            span.ended = SystemTime::now().max(span.began);
            self.0.tracer.ended(span);
        }
    }
}

impl fmt::Debug for OpenSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OpenSpan").field(&self.0.span).finish()
    }
}

impl From<String> for SpanValue {
    fn from(text: String) -> Self {
        SpanValue::Text(text)
    }
}

impl From<&str> for SpanValue {
    fn from(text: &str) -> Self {
        SpanValue::Text(text.to_owned())
    }
}

impl From<usize> for SpanValue {
    fn from(number: usize) -> Self {
        SpanValue::Number(number as u64)
    }
}

impl From<bool> for SpanValue {
    fn from(flag: bool) -> Self {
        SpanValue::Flag(flag)
    }
}

impl Tracing {
    /// Whether anything is.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.as_ref().is_some_and(|tracer| tracer.ratio().is_some())
    }

    /// A trace that begins here, for the part of all that is traced.
    #[inline]
    pub(crate) fn root(&self) -> Option<Traced> {
        let tracer = self.0.as_ref()?;
        let ratio = tracer.ratio().filter(|ratio| *ratio > 0.0)?;
        // The 53 bits that a number of this kind holds.
        let is_sampled = ((random() >> 11) as f64) < ratio * 2f64.powi(53);
        let trace = || u128::from(random()) << 64 | u128::from(random().max(1));
        is_sampled.then(|| Traced { tracer: tracer.clone(), trace: trace(), span: None })
    }

    /// The trace of a request with this `traceparent`, which decides, if it is one.
    pub(crate) fn of(&self, traceparent: Option<&str>) -> Option<Traced> {
        let tracer = self.0.as_ref().filter(|tracer| tracer.ratio().is_some())?;
        match traceparent.and_then(read) {
            Some((trace, span, is_sampled)) => {
                is_sampled.then(|| Traced { tracer: tracer.clone(), trace, span: Some(span) })
            }
            None => self.root(),
        }
    }

    /// The same of somebody who may only say to which trace it belongs, or that it is not traced: that it is would be a way to fill the
    /// collector.
    pub(crate) fn of_stranger(&self, traceparent: Option<&str>) -> Option<Traced> {
        match traceparent.and_then(read) {
            Some((_, _, false)) => None,
            Some((trace, span, true)) => self.root().map(|root| Traced { trace, span: Some(span), ..root }),
            None => self.root(),
        }
    }
}

/// Reads `traceparent`: a trace, the span above, and whether it is sampled. What is none counts as none.
fn read(text: &str) -> Option<(u128, u64, bool)> {
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
    is_right.then_some((trace, span as u64, flags & 1 == 1))
}

/// A number that no other span has. Nobody gains by guessing it: a generator of the thread's own (SplitMix64) costs less than the system's.
fn random() -> u64 {
    thread_local!(static STATE: Cell<u64> = Cell::new(getrandom::u64().unwrap_or_else(|_| seed())));
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Where the system gives no random bytes, spans may get the numbers of others; they harm nobody.
fn seed() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Part(Option<f64>);

    impl Tracer for Part {
        fn ratio(&self) -> Option<f64> {
            self.0
        }

        fn ended(&self, _span: Span) {}
    }

    fn tracing(ratio: Option<f64>) -> Tracing {
        Tracing(Some(Arc::new(Part(ratio))))
    }

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

    #[test]
    fn a_parent_is_read_or_counts_as_none() {
        let (trace, span) = (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7);
        for (text, expected) in [
            (format!("00-{TRACE}-01"), Some((trace, span, true))),
            (format!("00-{TRACE}-00"), Some((trace, span, false))),
            (format!("00-{TRACE}-03"), Some((trace, span, true))),
            (format!("cc-{TRACE}-01-what-comes-later"), Some((trace, span, true))),
            (format!("00-{TRACE}-01-more"), None),
            (format!("ff-{TRACE}-01"), None),
            (format!("00-{}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}"), None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01".into(), None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".into(), None),
            ("00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into(), None),
            ("".into(), None),
        ] {
            assert_eq!(read(&text), expected, "{text}");
        }
    }

    #[test]
    fn a_part_is_traced_of_what_nobody_has_decided_about() {
        let traced = |ratio| (0..1_000).filter(|_| tracing(ratio).root().is_some()).count();
        assert_eq!((traced(None), traced(Some(0.0)), traced(Some(1.0))), (0, 0, 1_000));
        assert!((300..700).contains(&traced(Some(0.5))), "{}", traced(Some(0.5)));
    }

    #[test]
    fn a_stranger_cannot_have_itself_traced() {
        let (yes, no) = (format!("00-{TRACE}-01"), format!("00-{TRACE}-00"));
        let is_traced = |traced: Option<Traced>| traced.is_some();
        for (ratio, header, own, stranger) in [
            (Some(0.0), Some(&*yes), true, false),
            (Some(0.0), Some(&*no), false, false),
            (Some(0.0), None, false, false),
            (Some(1.0), Some(&*yes), true, true),
            (Some(1.0), Some(&*no), false, false),
            (Some(1.0), Some("nonsense"), true, true),
            (None, Some(&*yes), false, false),
        ] {
            let tracing = tracing(ratio);
            let found = (is_traced(tracing.of(header)), is_traced(tracing.of_stranger(header)));
            assert_eq!(found, (own, stranger), "{ratio:?} {header:?}");
        }
        assert_eq!(tracing(Some(1.0)).of_stranger(Some(&yes)).unwrap().traceparent(), yes, "it is part of the trace");
    }
}
