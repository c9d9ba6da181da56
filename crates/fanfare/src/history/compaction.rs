//! How a log is made shorter: what is worth keeping of its oldest segment is copied to its end, a bounded step at a time, and
//! then the segment is not needed any more.
//!
//! What is copied comes from memory. A topic is copied as a whole, so that each has one oldest segment: it is copied once for
//! each time that the log goes round, which costs as much as copying message by message would.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfare_proto::position::{Epoch, Position};

use super::log::{frame, oldest_needed};
use super::record::Record;
use super::topics::Topics;

/// Which topics begin where, and how far the work is.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    /// Topics by the oldest segment in which something of them may be, known ones and forgotten ones. Names of others, or of
    /// those that begin elsewhere, may be among them.
    origins: BTreeMap<u64, Vec<Arc<str>>>,
    /// Of the last topic of the oldest segment, as much was copied.
    partly: Option<Partly>,
}

#[derive(Debug, Clone, Copy)]
struct Partly {
    epoch: Epoch,
    /// Up to this offset.
    offset: u64,
    /// What is behind this one was published since, and needs no copy.
    end: u64,
    /// From this segment on.
    origin: u64,
}

/// A step that was written to a buffer. It counts once the buffer is in the log.
#[derive(Debug)]
pub(super) struct Step {
    segment: u64,
    /// The topics that were copied to the end, from the end of the segment's list on, and where they begin now; `None` for
    /// those that have nothing in the segment.
    copied: Vec<Option<u64>>,
    partly: Option<Partly>,
    /// All of the segment's were.
    is_last: bool,
}

impl Compaction {
    pub(super) fn new(origins: BTreeMap<u64, Vec<Arc<str>>>) -> Self {
        Compaction { origins, partly: None }
    }

    /// Learns of a topic that begins in this segment.
    pub(super) fn add(&mut self, topic: Arc<str>, segment: u64) {
        self.origins.entry(segment).or_default().push(topic);
    }

    /// Writes the next records that free the oldest of the segments, about as many bytes as may be.
    pub(super) fn step(
        &self,
        topics: &mut Topics,
        (oldest, next): (u64, u64),
        target: u64,
        bytes_max: usize,
        now_ms: u64,
        out: &mut Vec<u8>,
    ) -> Step {
        let size_max = out.len() + bytes_max;
        let names = self.origins.get(&oldest).map_or(&[][..], Vec::as_slice);
        let mut step = Step { segment: oldest, copied: Vec::new(), partly: self.partly, is_last: false };
        for name in names.iter().rev() {
            if out.len() >= size_max {
                return step;
            }
            let Some(topic) = topics.trimmed(name, now_ms).filter(|topic| topic.origin == oldest) else {
                let forgotten = topics.unknown().forgotten(name).filter(|forgotten| forgotten.origin == oldest);
                step.copied.push(forgotten.map(|forgotten| {
                    let record = Record::Forgotten { topic: name, epoch: forgotten.epoch };
                    frame(out, |out| record.write(out));
                    target
                }));
                step.partly = None;
                continue;
            };
            let head = topic.stream.head();
            let partly = step.partly.take().filter(|partly| partly.epoch == head.epoch);
            let mut partly = partly.unwrap_or_else(|| {
                frame(out, |out| Record::Head { topic: name, position: head, at_ms: topic.last_ms }.write(out));
                for (key, offset, at_ms) in topic.keys.iter() {
                    let position = Position { offset, ..head };
                    frame(out, |out| Record::Key { topic: name, position, at_ms, key }.write(out));
                }
                Partly { epoch: head.epoch, offset: 0, end: head.offset, origin: target }
            });
            for (offset, at_ms, entry) in topic.stream.after(partly.offset).take_while(|kept| kept.0 <= partly.end) {
                if out.len() >= size_max {
                    step.partly = Some(partly);
                    return step;
                }
                let position = Position { offset, ..head };
                let (event, payload) = (&*entry.event, &entry.payload);
                let record = Record::Message { topic: name, position, at_ms, key: "", event, payload };
                frame(out, |out| record.write(out));
                partly.offset = offset;
            }
            step.copied.push(Some(partly.origin));
        }
        oldest_needed(next, out);
        step.is_last = true;
        step
    }

    /// The step is in the log. Gives the segment that is not needed any more, if there is one.
    pub(super) fn apply(&mut self, step: Step, topics: &mut Topics) -> Option<u64> {
        let Step { segment, copied, partly, is_last } = step;
        self.partly = partly;
        for origin in copied {
            let name = self.origins.get_mut(&segment).and_then(Vec::pop).expect("a step copies what is listed");
            if let Some(origin) = origin {
                topics.set_origin(&name, origin);
                self.add(name, origin);
            }
        }
        is_last.then(|| {
            self.origins.remove(&segment);
            segment
        })
    }
}
