//! What slow readers lose, and how they are told.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::frame::{Form, Outgoing};
use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;
use fanfare_proto::position::{Position, Stamp};
use fanfare_proto::wire;
use serde_json::json;

use crate::event::{Event, Tally};
use crate::fact::{Fact, Kind, Who};
use crate::message::{Carriage, carry, with_buffer};

/// The event by which a reader is told.
pub(crate) const GAP: &str = "gap";

/// What gives way where a reader is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The oldest messages.
    DropOldest,
    /// Older messages of the same key, then the oldest.
    Latest,
    /// All, until the reader has caught up.
    Resync,
}

impl Rule {
    /// Its name, as the configuration and clients have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Rule::DropOldest => "drop_oldest",
            Rule::Latest => "latest",
            Rule::Resync => "resync",
        }
    }
}

/// How many messages were lost by each rule for slow readers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses(pub(crate) [u32; 3]);

impl Losses {
    pub(crate) fn add(&mut self, rule: Rule) {
        self.0[rule as usize] += 1;
    }

    /// Counts them, and keeps who has lost them.
    pub(crate) fn note<'w>(self, who: impl FnOnce() -> Who<'w>, counters: &impl Tally) {
        if self == Losses::default() {
            return;
        }
        let who = who();
        let events = [Event::DroppedOldest, Event::DroppedForLatest, Event::DroppedUntilResync];
        for (event, lost) in events.into_iter().zip(self.0).filter(|(_, lost)| *lost > 0) {
            let detail = format_args!("a slow reader: messages gave way, as the policy of their topic has it");
            let fact = Fact { kind: Kind::Dropped, event, who, topic: None, code: None, detail };
            fact.note(counters, lost.into());
        }
    }
}

/// Messages of one topic that a reader does not get, at one place of what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gap {
    /// None where the reader is not slow, but the broker has lost them: of how many is not known.
    pub(crate) rule: Option<Rule>,
    pub(crate) dropped: u64,
    /// The messages behind this position up to the other contain those that were dropped.
    pub(crate) from: Option<Position>,
    pub(crate) to: Option<Position>,
}

impl Gap {
    /// One message that was dropped. `said` is the place that its reader would have been told with it.
    pub(crate) fn of(rule: Rule, position: Option<Position>, said: Option<Stamp>) -> Self {
        Gap { rule: Some(rule), dropped: 1, from: said.map(|said| said.prev), to: position }
    }

    /// Messages that the broker has lost, or that this node has not got from it.
    pub(crate) fn of_broker(from: Option<Position>, to: Option<Position>) -> Self {
        Gap { rule: None, dropped: 0, from, to }
    }

    /// What a join is told.
    pub(crate) fn payload(&self) -> Payload {
        let place = |position: Option<Position>| position.map(|position| position.to_string());
        let payload = json!({
            "reason": self.rule.map_or("broker", Rule::name),
            "dropped": self.rule.map(|_| self.dropped),
            "from": place(self.from),
            "to": place(self.to),
        });
        payload.into()
    }

    /// Takes in what was dropped right behind.
    pub(crate) fn widen(&mut self, behind: Gap) {
        self.dropped += behind.dropped;
        self.from = self.from.or(behind.from);
        self.to = match (self.to, behind.to) {
            (Some(one), Some(other)) if one.epoch == other.epoch && one.offset > other.offset => Some(one),
            (one, other) => other.or(one),
        };
    }
}

/// Tells a join of its gaps, in its own form.
#[derive(Debug)]
pub(crate) struct Voice {
    pub(crate) topic: Arc<str>,
    pub(crate) join_ref: Ref,
    pub(crate) form: Form,
    pub(crate) carriage: Carriage,
    /// Whether what the join gets says where it stands.
    pub(crate) resumes: bool,
}

impl Voice {
    /// The frame. To a join that resumes it says the position before the gap: who comes back from there has missed nothing.
    pub(crate) fn say(&self, gap: &Gap) -> Bytes {
        let push = Outgoing::Push {
            join_ref: &self.join_ref,
            topic: &self.topic,
            event: GAP,
            payload: &gap.payload(),
            position: gap.from.filter(|_| self.resumes),
        };
        with_buffer(|out| {
            let kind = wire::encode(self.form, push, out).ok().flatten();
            carry(self.carriage, kind.expect("every form has pushes, and none is too long as text"), out)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_proto::position::Epoch;

    #[test]
    fn gaps_span_what_was_dropped() {
        let at = |epoch, offset| Some(Position { epoch: Epoch::new(epoch).unwrap(), offset });
        let dropped = |messages: &[Option<Position>]| {
            let mut gaps =
                messages.iter().map(|&position| Gap::of(Rule::DropOldest, position, position.map(Stamp::in_row)));
            let mut gap = gaps.next().unwrap();
            gaps.for_each(|behind| gap.widen(behind));
            (gap.dropped, gap.from, gap.to)
        };
        assert_eq!(dropped(&[at(1, 5)]), (1, at(1, 4), at(1, 5)));
        assert_eq!(dropped(&[at(1, 5), at(1, 6), at(1, 9)]), (3, at(1, 4), at(1, 9)));
        // Values that took the place of older ones stand further back than those behind them.
        assert_eq!(dropped(&[at(1, 9), at(1, 6)]).2, at(1, 9));
        assert_eq!(dropped(&[at(7, 9), at(8, 1)]), (2, at(7, 8), at(8, 1)), "the history was forgotten in between");
        // What is not kept has no position.
        assert_eq!(dropped(&[None, at(1, 3), None]), (3, at(1, 2), at(1, 3)));
        assert_eq!(dropped(&[None, None]), (2, None, None));
    }
}
