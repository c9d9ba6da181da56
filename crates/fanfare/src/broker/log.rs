//! The history of a topic as a broker keeps it: positions that tell when the broker has lost something, appends, and reads.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::history::Retention;
use fanfare_proto::position::{Epoch, Position, Since};

use super::{Done, Stamp};

/// A log remembers at most so many of its epochs, the newest; positions of older ones are not recovered.
pub(crate) const EPOCHS_MAX: usize = 8;

/// Keeps the messages of topics.
///
/// **Positions work like terms and indexes in Raft.** A log begins a new epoch, a fresh random number, at the first append to a topic
/// of which it knows nothing, and at the first append in a session of the broker other than the one that wrote the log last; a session
/// is what cannot survive a lost tail. Within a log the epochs follow one another, offsets grow over all of them, and need not be
/// consecutive: what comes next is told by the predecessor that each message names, never by adding one. So a position is in the log
/// iff the log has that epoch at that offset, and no position ever stands for two messages.
pub(crate) trait Log: Send + Sync + fmt::Debug {
    /// Adds a message, and gives it to all nodes that are attached to the topic, stamped with its position: either both or none. The
    /// appends of one node to one topic are carried out in the order of the calls.
    ///
    /// It may end unknown. With an idempotency key it is safe to repeat then.
    fn append(&self, append: Append);

    /// What of a topic's log a reader gets. All of the answer is from one moment. A topic that the log does not know begins there, as
    /// with [`attach`](super::Transport::attach).
    fn read(&self, topic: &Arc<str>, read: Read, done: Done<Page>);

    /// Where the logs of some topics are, in their order, for comparing: cheap, not more than 500 at a time. A topic that the log
    /// does not know begins there, and those that nobody has published to yet are kept alive by this.
    fn heads(&self, topics: Vec<Arc<str>>, done: Done<Vec<Position>>);
}

/// A message for a log.
pub(crate) struct Append {
    pub(crate) topic: Arc<str>,
    /// The message as it travels.
    pub(crate) envelope: Bytes,
    pub(crate) retention: Retention,
    /// One with the same key that the topic remembers is not added again, whatever is expected: at least the last 1,024 keys, and
    /// those of five minutes.
    pub(crate) key: Option<Box<str>>,
    /// It is added only if the topic is here. [`Since::Start`] expects a topic without messages.
    pub(crate) expected: Option<Since>,
    pub(crate) done: Done<Appended>,
}

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It is kept here. Before the first message of a topic is offset 0, in the epoch that attaching to the topic has told, if
    /// anybody did.
    New(Stamp),
    /// One with the same key was kept before, there.
    Repeated(Position),
    /// The topic is not where it was expected, but here. Nothing was written.
    Conflict(Position),
}

/// The epochs of a log, each with its first offset, oldest first; never none, never more than [`EPOCHS_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(Epoch, u64)>);

impl Epochs {
    /// A log of one epoch.
    pub(crate) fn new(epoch: Epoch, first: u64) -> Self {
        Epochs(vec![(epoch, first)])
    }

    /// The list, oldest first. `None` if it is none: empty, or its offsets do not grow. Of a longer one the newest count.
    pub(crate) fn from_list(list: impl IntoIterator<Item = (Epoch, u64)>) -> Option<Self> {
        let mut list: Vec<_> = list.into_iter().collect();
        list.drain(..list.len().saturating_sub(EPOCHS_MAX));
        (!list.is_empty() && list.is_sorted_by(|(_, one), (_, other)| one < other)).then_some(Epochs(list))
    }

    /// Another one begins with this offset.
    pub(crate) fn begin(&mut self, epoch: Epoch, first: u64) {
        self.0.push((epoch, first));
        self.0.drain(..self.0.len().saturating_sub(EPOCHS_MAX));
    }

    /// The epoch at an offset: of the last entry whose first offset is not behind it.
    pub(crate) fn at(&self, offset: u64) -> Option<Epoch> {
        self.0.iter().rev().find(|(_, first)| *first <= offset).map(|(epoch, _)| *epoch)
    }

    /// The newest epoch.
    pub(crate) fn newest(&self) -> Epoch {
        self.0[self.0.len() - 1].0
    }

    /// All of them with their first offsets, oldest first.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (Epoch, u64)> {
        self.0.iter().copied()
    }
}

/// Where a log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Of its newest message, or offset 0.
    pub(crate) position: Position,
    pub(crate) epochs: Epochs,
}

impl Head {
    /// Before its first message, as far as its epochs are remembered from the beginning.
    pub(crate) fn beginning(&self) -> Option<Head> {
        let (epoch, first) = self.epochs.iter().next()?;
        let position = Position { epoch, offset: first };
        (first == 0).then(|| Head { position, epochs: Epochs::new(epoch, first) })
    }

    /// Where it was at a position of its own.
    pub(crate) fn back_at(&self, position: Position) -> Head {
        let known = self.epochs.iter().filter(|(_, first)| *first <= position.offset);
        let epochs = Epochs::from_list(known).unwrap_or_else(|| Epochs::new(position.epoch, position.offset));
        Head { position, epochs }
    }

    /// Whether a position is one of the log's. Messages behind it may be gone all the same.
    pub(crate) fn has(&self, position: Position) -> bool {
        position.offset <= self.position.offset && self.epochs.at(position.offset) == Some(position.epoch)
    }
}

/// What a reader wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    pub(crate) since: Since,
    /// At most so many, the oldest first: there may be more behind the last of them.
    pub(crate) limit: usize,
    /// The same in bytes of envelopes, but one message at least.
    pub(crate) bytes_max: usize,
    /// So many of the newest, for whoever is not recovered from a position.
    pub(crate) newest: usize,
    /// What counts as kept, exactly: a log may have more.
    pub(crate) retention: Retention,
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) head: Head,
    /// Whether the log has the wanted position and every message behind it: then the entries are those that follow it. If not, they
    /// are the newest, and there is a gap before them.
    pub(crate) recovered: bool,
    /// Oldest first, each the predecessor of the next.
    pub(crate) entries: Vec<Entry>,
}

/// A message of a log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) stamp: Stamp,
    /// As it was appended.
    pub(crate) envelope: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u64) -> Epoch {
        Epoch::new(number).unwrap()
    }

    #[test]
    fn a_position_is_a_logs_own_only_with_the_epoch_at_its_offset() {
        let epochs = Epochs::from_list([(epoch(1), 0), (epoch(2), 4), (epoch(3), 5)]).unwrap();
        let head = Head { position: Position { epoch: epoch(3), offset: 9 }, epochs };
        for (number, offset, expected) in [
            (1, 0, true),
            (1, 3, true),
            (1, 4, false),
            (2, 4, true),
            (2, 3, false),
            (2, 5, false),
            (3, 5, true),
            (3, 9, true),
            (3, 10, false),
            (4, 9, false),
        ] {
            assert_eq!(head.has(Position { epoch: epoch(number), offset }), expected, "{number}:{offset}");
        }
    }

    #[test]
    fn the_newest_eight_epochs_are_remembered() {
        let mut epochs = Epochs::new(epoch(1), 0);
        for number in 2..=10 {
            epochs.begin(epoch(number), number * 10);
        }
        assert_eq!((epochs.iter().len(), epochs.newest()), (EPOCHS_MAX, epoch(10)));
        assert_eq!((epochs.at(29), epochs.at(30), epochs.at(1_000)), (None, Some(epoch(3)), Some(epoch(10))));
        assert_eq!(
            Epochs::from_list((1..=10).map(|number| (epoch(number), if number == 1 { 0 } else { number * 10 }))),
            Some(epochs)
        );
        assert_eq!((Epochs::from_list([]), Epochs::from_list([(epoch(1), 5), (epoch(2), 5)])), (None, None));
    }
}
