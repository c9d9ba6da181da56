//! How long messages take from their publication until they are written.
//!
//! A message carries its birth. What a shard has handed out in a turn is looked at once, when the turn has written: messages of the
//! same birth are one entry, and nothing is done for a delivery.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Histogram, Labels};
use crate::message::Message;
use crate::trace::SpanKind;

/// Messages that a shard hands out in this turn.
#[derive(Debug, Default)]
pub(crate) struct Underway {
    /// When they were born, by the engine's clock in microseconds, and how many.
    births: Vec<(u64, u64)>,
    /// Those that are traced, of which there are few.
    traced: Vec<Handed>,
}

/// A traced message that a shard hands out.
#[derive(Debug)]
struct Handed {
    message: Arc<Message>,
    /// How many members its topic has on the shard.
    members: usize,
    began: SystemTime,
}

/// The list of a turn with more different births is given back.
const KEPT_MAX: usize = 1_024;

impl Underway {
    /// A message is handed out. One that was born nowhere is not measured.
    #[inline]
    pub(crate) fn add(&mut self, born_us: u64) {
        match self.births.last_mut() {
            Some((last_us, count)) if *last_us == born_us => *count += 1,
            _ if born_us == 0 => {}
            _ => self.births.push((born_us, 1)),
        }
    }

    /// The same of one that is traced.
    #[cold]
    pub(crate) fn add_traced(&mut self, message: &Arc<Message>, members: usize) {
        self.traced.push(Handed { message: message.clone(), members, began: SystemTime::now() });
    }

    /// Those that are traced have been written: one span for each of them, however many members have got it.
    #[inline]
    pub(crate) fn tell_traced(&mut self, labels: &Labels, shard: usize) {
        if !self.traced.is_empty() {
            self.tell(labels, shard);
        }
    }

    #[cold]
    fn tell(&mut self, labels: &Labels, shard: usize) {
        for Handed { message, members, began } in self.traced.drain(..) {
            let Some(traced) = &message.trace else { continue };
            let mut span = labels.span(traced, SpanKind::Internal, "deliver", &message.topic).since(began);
            span.say("fanfare.members", members);
            span.say("fanfare.shard", shard);
        }
    }

    /// All that was handed out has been written, or waits for readers that take no more.
    #[inline]
    pub(crate) fn are_written(&mut self, now_us: u64, took: &Histogram) {
        if self.births.is_empty() {
            return;
        }
        for (born_us, count) in self.births.drain(..) {
            took.observe_times(now_us.saturating_sub(born_us), count);
        }
        if self.births.capacity() > KEPT_MAX {
            self.births = Vec::new();
        }
    }
}
