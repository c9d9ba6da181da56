//! What this node publishes, on its way to the broker.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare_proto::envelope::{Content, Envelope, Message as Carried, OVERHEAD_SIZE_MAX};
use fanfare_proto::position::{Position, Stamp};

use super::arrive::Arrived;
use super::{Cluster, STRIPES, Topics};
use crate::broker::{self, Appended, Done, Undone};
use crate::error::Error;
use crate::history::{Accepted, Append, Settle};
use crate::message::Draft;

/// The series of so many topics are counted; one that had to go begins again.
const SERIES_MAX: usize = 65_536;

/// An own message of a log that was not handed on.
pub(super) struct Pending {
    pub(super) draft: Draft,
    pub(super) settle: Settle,
}

impl Cluster {
    /// Publishes a message of a topic without a log to the other nodes.
    pub(crate) fn publish(&self, draft: &Draft, done: Done<()>) {
        let Some(parts) = self.parts.get() else { return done(Err(not_connected())) };
        let series = self.with(&draft.topic, |topics| topics.next_series(&draft.topic));
        let (envelope, _) = self.envelope(draft, NonZeroU64::new(series));
        let taken = self.taken.clone();
        let done = move |published: Result<_, Undone>| {
            taken.fetch_add(u64::from(published.is_ok()), Ordering::Relaxed);
            done(published.map(drop));
        };
        parts.transport.publish(&draft.topic, envelope, Box::new(done));
    }

    /// Whether the broker can carry a message, as far as that is known before it is tried.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) fn carries(&self, draft: &Draft) -> Result<(), Undone> {
        let Some(parts) = self.parts.get() else { return Ok(()) };
        parts.transport.carries(OVERHEAD_SIZE_MAX + draft.event.len() + draft.payload.size())
    }

    /// Adds a message to the log of its topic.
    pub(super) fn append_to_log(&self, append: Append) {
        let Append { message: draft, retention, key, expected, settle } = append;
        let Some(log) = self.parts.get().and_then(|parts| parts.log.as_ref()) else {
            return settle(Err(refused(&not_connected())));
        };
        let topic = draft.topic.clone();
        let (envelope, number) = self.envelope(&draft, None);
        self.with(&topic, |topics| topics.pending.insert(number, Pending { draft, settle }));
        let (me, name) = (self.me.clone(), topic.clone());
        let done = Box::new(move |appended| {
            if let Some(me) = me.upgrade() {
                me.appended(&name, number, appended);
            }
        });
        log.append(broker::Append { topic, envelope, retention, key, expected, done });
    }

    /// How many messages of this node the broker has taken.
    #[cfg(feature = "metrics")]
    pub(crate) fn published(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many topics it is subscribed to at the broker, or is about to be.
    #[cfg(feature = "metrics")]
    pub(crate) fn subscriptions(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.topics.lock().by_name.len()).sum()
    }

    /// The broker has answered. A message that is new is handed on in the chain, and its publisher told then.
    fn appended(&self, topic: &Arc<str>, number: u64, appended: Result<Appended, Undone>) {
        self.taken.fetch_add(u64::from(appended.is_ok()), Ordering::Relaxed);
        self.with(topic, |topics| {
            let Some(pending) = topics.pending.get(&number) else { return };
            let arrived = Arrived::own(self.incarnation, number, &pending.draft);
            match appended {
                Ok(Appended::New(stamp)) => match topics.by_name.get_mut(topic) {
                    Some(known) if known.chain.is_some() => self.take(topics, topic, stamp, arrived),
                    // Whoever joins now is told a head that is not before it.
                    found => {
                        if let Some(known) = found {
                            known.is_early(stamp, arrived);
                        }
                        topics.settle(number, Ok(Accepted::Kept(stamp.position)));
                    }
                },
                Ok(Appended::Repeated(position)) => topics.settle(number, Ok(Accepted::Repeated(position))),
                Ok(Appended::Conflict(head)) => topics.settle(number, Err(conflict(head))),
                Err(undone) => {
                    undone.note(topic, &self.counters);
                    topics.settle(number, Err(refused(&undone)));
                }
            }
        });
    }

    fn envelope(&self, draft: &Draft, series: Option<NonZeroU64>) -> (bytes::Bytes, u64) {
        let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        let message = Carried { event: &draft.event, payload: draft.payload.clone(), series };
        (Envelope { origin: self.incarnation, number, content: Content::Message(message) }.to_bytes(), number)
    }
}

impl Topics {
    /// Tells what became of an own message that is not handed on.
    pub(super) fn settle(&mut self, number: u64, accepted: Result<Accepted, Error>) {
        if let Some(pending) = self.pending.remove(&number) {
            (pending.settle)(accepted);
        }
    }

    fn next_series(&mut self, topic: &Arc<str>) -> u64 {
        if self.series.len() >= SERIES_MAX / STRIPES
            && !self.series.contains_key(topic)
            && let Some(any) = self.series.keys().next().cloned()
        {
            self.series.remove(&any);
        }
        let series = self.series.entry(topic.clone()).or_insert(0);
        *series += 1;
        *series
    }

    /// What was held and will not be handed on: it is kept where it stands, or the log has lost it.
    pub(super) fn settle_dropped(
        &mut self,
        own: impl IntoIterator<Item = (Stamp, u64)>,
        has: impl Fn(Position) -> bool,
    ) {
        for (stamp, number) in own {
            let accepted = match has(stamp.position) {
                true => Ok(Accepted::Kept(stamp.position)),
                false => Err(refused(&Undone::unknown("the broker has lost the message after it had accepted it"))),
            };
            self.settle(number, accepted);
        }
    }
}

/// The error of a message that was not, or not surely, published.
pub(crate) fn refused(undone: &Undone) -> Error {
    match undone {
        Undone::Refused(_) | Undone::Gone => {
            Error::unavailable(format!("the message was not published, {undone}; publish it again later"))
        }
        Undone::Impossible(_) => Error::invalid(format!("the message was not published, {undone}")),
        Undone::Denied(_) => Error::denied(format!("the message was not published, {undone}")),
        Undone::Unknown(_) => Error::unknown(format!(
            "the message was {undone}; it may appear later: with an idempotency key it is safe to publish it again"
        )),
    }
}

fn not_connected() -> Undone {
    Undone::refused("the broker is not connected yet")
}

fn conflict(head: Position) -> Error {
    let head = if head.offset == 0 { "0:0".to_owned() } else { head.to_string() };
    Error::conflict(format!(
        "the topic is at {head}, not where the message expects it: read what has come since, and publish again"
    ))
}
