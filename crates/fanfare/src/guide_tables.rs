//! The tables of the guides that tell of the engine's counters and close codes.

use fanfare_proto::rate::Rate;
use fanfare_tables::{Table, prose};

use crate::close_reason::CloseReason;
use crate::event::{Event, Limit};
use crate::fact::Kind;

const GUIDE: &str = "operations.md";

#[test]
fn counters_stand_in_the_guide() {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in Event::ALL.iter().map(|event| event.name()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut events = Event::ALL.to_vec();
    events.sort_by_key(|event| names.iter().position(|name| *name == event.name().0));
    let mut table = Table::new(&["name", "reason", "counts"]);
    for event in events {
        let (name, reason) = event.name();
        table.row(&[&format!("`{name}`"), &format!("`{reason}`"), &prose(event.about())]);
    }
    table.check(GUIDE, "counters");
}

#[test]
fn events_of_the_log_stand_in_the_guide() {
    let mut table = Table::new(&["`event`", "when"]);
    for kind in Kind::ALL {
        table.row(&[&format!("`{}`", kind.name()), kind.about().trim()]);
    }
    table.check(GUIDE, "log-events");
}

#[test]
fn close_codes_stand_in_the_guide() {
    let mut reasons: Vec<CloseReason> = one_of_each().into_iter().filter(is_told).collect();
    reasons.sort_by_key(CloseReason::code);
    let mut table = Table::new(&["code", "text in the frame", "when", "counted in `closes`"]);
    for reason in &reasons {
        let (_, counted) = reason.event().name();
        let text = if reason.text().is_empty() { "–".to_owned() } else { format!("`{}`", reason.text()) };
        table.row(&[&reason.code().to_string(), &text, &prose(reason.event().about()), &format!("`{counted}`")]);
    }
    table.check(GUIDE, "close-codes");
}

#[test]
fn every_close_has_its_counter() {
    let reasons = one_of_each();
    let closes = Event::ALL.iter().filter(|event| event.name().0 == "closes");
    let uncounted: Vec<_> = closes.filter(|event| !reasons.iter().any(|reason| reason.event() == **event)).collect();
    assert!(uncounted.is_empty(), "no reason to close is counted as {uncounted:?}");
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_stand_in_the_guide() {
    let mut table = Table::new(&["metric", "type", "labels", "what it is", "what to do"]);
    for family in crate::metrics::FAMILIES {
        let labels: Vec<_> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (format!("`{}`", family.name()), family.kind().name());
        table.row(&[&name, kind, &labels.join(", "), family.help(), family.advice()]);
    }
    table.check("metrics.md", "engine-metrics");
}

/// Whether there is a connection that the code can be told on.
fn is_told(reason: &CloseReason) -> bool {
    !matches!(reason, CloseReason::Lost | CloseReason::Unpolled)
}

/// All reasons, with the codes that they bring.
fn one_of_each() -> Vec<CloseReason> {
    use fanfare_proto::rooms;
    vec![
        CloseReason::Client,
        CloseReason::Lost,
        CloseReason::Disconnect,
        CloseReason::Expired,
        CloseReason::Idle,
        CloseReason::Protocol(1002),
        CloseReason::Protocol(1007),
        CloseReason::TooLarge,
        CloseReason::Undecodable,
        CloseReason::Drain,
        CloseReason::Slow,
        CloseReason::Crowded,
        CloseReason::Overfull,
        CloseReason::Unpolled,
        CloseReason::Unauthorized,
        CloseReason::Displaced,
        CloseReason::OverRate(Limit::Messages, Rate::per_second(10)),
        CloseReason::OverQuota(String::new()),
        CloseReason::TopicEnded,
        CloseReason::Replaced,
        CloseReason::Alone,
        CloseReason::HistoryUnavailable,
        CloseReason::Application(rooms::CLOSE_CODE, rooms::INVALID_PAYLOAD.into()),
        CloseReason::Application(rooms::CLOSE_CODE, rooms::NOT_JOINED.into()),
    ]
}
