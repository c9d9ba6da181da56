//! How the parts stand that depend on others: key sets, databases, sources, the broker.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare::BrokerLink;
use fanfare::metrics::Timings;
use serde_json::{Map, Value, json};

/// A part of the server that depends on something outside of it.
pub(crate) trait Part: Send + Sync + fmt::Debug {
    /// Its kind, under which the report lists it: `keys`, `sources`.
    fn kind(&self) -> &'static str;
    /// Its name in the configuration.
    fn name(&self) -> &str;
    /// How it stands now.
    fn state(&self) -> State;

    /// Whether clients should go elsewhere while it is unavailable.
    fn is_needed(&self) -> bool {
        false
    }

    /// What it has counted since the start, by reason.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// How long what it asks others takes, if it asks any.
    fn timings(&self) -> Option<&Timings> {
        None
    }

    /// How old the last thing was that it took over from others, if these say when it was made.
    fn lag(&self) -> Option<Duration> {
        None
    }

    /// How much it has yet to tell others, if it keeps that.
    fn waiting(&self) -> Option<usize> {
        None
    }
}

/// A reason under which a part counts, and what it counts in the words of docs/operations.md.
pub(crate) type Counted = (&'static str, &'static str);

/// The reasons of a part with their numbers.
pub(crate) fn numbers<const N: usize>(counted: &[Counted; N], numbers: [&AtomicU64; N]) -> Vec<(&'static str, u64)> {
    let numbers = numbers.map(|number| number.load(Ordering::Relaxed));
    counted.iter().map(|(reason, _)| *reason).zip(numbers).collect()
}

/// How a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// All is well.
    Ok,
    /// Its last attempt failed, and it works with what it has.
    Stale,
    /// It holds back what it has, since it cannot be taken from it now.
    Waiting,
    /// It had to hold back so much that it loses what comes.
    Losing,
    /// It cannot do its work.
    Unavailable,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
            Self::Waiting => "waiting",
            Self::Losing => "losing",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The report: `{"status": "ok"}`, with parts their states by kind and name, and links to the broker by name; `degraded` as soon as one
/// is not ok.
pub(crate) fn report(parts: &[Arc<dyn Part>], links: &[BrokerLink]) -> Value {
    let is_ok = parts.iter().all(|part| part.state() == State::Ok) && links.iter().all(|link| link.down.is_none());
    let mut report = json!({ "status": if is_ok { "ok" } else { "degraded" } });
    for part in parts {
        let states = report[part.kind()].take();
        let mut states = if let Value::Object(states) = states { states } else { Map::new() };
        states.insert(part.name().to_owned(), part.state().name().into());
        report[part.kind()] = states.into();
    }
    for link in links {
        report["broker"][&link.name] = told(link);
    }
    report
}

fn told(link: &BrokerLink) -> Value {
    let state = if link.down.is_none() { State::Ok } else { State::Unavailable };
    let seconds = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
    json!({
        "state": state.name(),
        "why": link.down,
        "since_s": seconds(link.since),
        "heard_s": link.heard.map(seconds),
        "canary_ms": link.round.map(|round| (round.as_secs_f64() * 10_000.0).round() / 10.0),
        "ups": link.ups,
        "holes": link.holes,
        "repairs": link.repairs,
        "gaps": link.gaps,
        "lost": link.lost,
        "doubles": link.doubles,
    })
}
