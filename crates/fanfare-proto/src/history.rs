//! What a topic keeps of its recent messages, and what a reader who comes back gets of them: all that it missed, or nothing.
//!
//! Pure: the time is an argument. How the values are stored is another's business.

use std::collections::VecDeque;

use crate::position::{Epoch, Position, Since};

/// How much of a topic is kept. The tightest of the three bounds counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most so many messages.
    pub messages_max: usize,
    /// At most so many bytes. The newest message is kept whatever its size.
    pub bytes_max: usize,
    /// None that is older than so many milliseconds.
    pub age_max_ms: u64,
}

impl Default for Retention {
    /// 100 messages, 1 MiB, 10 minutes.
    fn default() -> Self {
        Retention { messages_max: 100, bytes_max: 1024 * 1024, age_max_ms: 600_000 }
    }
}

/// The history of one topic.
#[derive(Debug)]
pub struct Stream<T> {
    epoch: Epoch,
    /// The offset of the newest message that there ever was; 0 before the first.
    last: u64,
    /// Their offsets have no gaps, and end with `last`.
    kept: VecDeque<Kept<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<T> {
    at_ms: u64,
    size: usize,
    value: T,
}

/// What a reader gets that wants to go on from somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Whether all that it missed is there; if not, it gets nothing.
    pub recovered: bool,
    /// How many of the newest messages it has missed.
    pub count: usize,
}

impl<T> Stream<T> {
    /// A history without messages.
    pub fn new(epoch: Epoch) -> Self {
        Stream { epoch, last: 0, kept: VecDeque::new(), bytes: 0 }
    }

    /// Where the newest message stands.
    pub fn head(&self) -> Position {
        Position { epoch: self.epoch, offset: self.last }
    }

    /// The bytes of what is kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many messages are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no message is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Adds a message of so many bytes, and gives up what is too much then.
    pub fn append(&mut self, value: T, size: usize, now_ms: u64, retention: &Retention) -> Position {
        self.last += 1;
        self.bytes += size;
        self.kept.push_back(Kept { at_ms: now_ms, size, value });
        self.trim(now_ms, retention);
        self.head()
    }

    /// Goes on where another process stopped: the message with the offset, and none before it but those added already.
    pub fn restore(&mut self, offset: u64, value: T, size: usize, at_ms: u64) {
        if offset != self.last + 1 {
            self.kept.clear();
            self.bytes = 0;
        }
        self.last = offset;
        self.bytes += size;
        self.kept.push_back(Kept { at_ms, size, value });
    }

    /// Knows of messages up to an offset that are kept no more.
    pub fn restore_head(&mut self, offset: u64) {
        if offset > self.last {
            self.kept.clear();
            self.bytes = 0;
            self.last = offset;
        }
    }

    /// Gives up what is too old or too much.
    pub fn trim(&mut self, now_ms: u64, retention: &Retention) {
        while let Some(oldest) = self.kept.front() {
            let is_too_old = oldest.at_ms.saturating_add(retention.age_max_ms) <= now_ms;
            let is_too_much = self.kept.len() > retention.messages_max.max(1)
                || (self.bytes > retention.bytes_max && self.kept.len() > 1);
            if !is_too_old && !is_too_much {
                return;
            }
            self.bytes -= oldest.size;
            self.kept.pop_front();
        }
    }

    /// Gives up all messages. Whoever comes back from before is told.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    /// What a reader gets that wants to go on from somewhere.
    pub fn recover(&self, since: Since) -> Recovery {
        let none = Recovery { recovered: false, count: 0 };
        let offset = match since {
            Since::Now => return Recovery { recovered: true, count: 0 },
            Since::Start => 0,
            Since::Position(position) if position.epoch == self.epoch => position.offset,
            Since::Position(_) => return none,
        };
        let Some(missed) = self.last.checked_sub(offset) else { return none };
        match usize::try_from(missed) {
            Ok(count) if count <= self.kept.len() => Recovery { recovered: true, count },
            _ => none,
        }
    }

    /// The messages behind an offset, oldest first, each with its offset and the time when it came.
    pub fn after(&self, offset: u64) -> impl Iterator<Item = (u64, u64, &T)> {
        let before = self.last - self.kept.len() as u64;
        let skipped = usize::try_from(offset.saturating_sub(before)).unwrap_or(usize::MAX);
        let kept = self.kept.iter().enumerate().skip(skipped);
        kept.map(move |(index, kept)| (before + index as u64 + 1, kept.at_ms, &kept.value))
    }

    /// The newest messages with their positions, oldest first.
    pub fn newest(&self, count: usize) -> impl Iterator<Item = (Position, &T)> {
        let skipped = self.kept.len().saturating_sub(count);
        let before = self.last - self.kept.len() as u64;
        self.kept
            .iter()
            .enumerate()
            .skip(skipped)
            .map(move |(index, kept)| (Position { epoch: self.epoch, offset: before + index as u64 + 1 }, &kept.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 7;

    fn at(epoch: u64, offset: u64) -> Since {
        Since::Position(Position { epoch: Epoch::new(epoch).unwrap(), offset })
    }

    /// Messages `1..=count`, one a second, of ten bytes each.
    fn stream(count: u64, retention: &Retention) -> Stream<u64> {
        let mut stream = Stream::new(Epoch::new(EPOCH).unwrap());
        for number in 1..=count {
            stream.append(number, 10, number * 1_000, retention);
        }
        stream
    }

    #[test]
    fn all_that_was_missed_or_nothing() {
        let plenty = Retention { messages_max: 100, bytes_max: 10_000, age_max_ms: 60_000 };
        let three = Retention { messages_max: 3, ..plenty };
        let got = |count| Some(count);
        for (what, count, retention, since, expected) in [
            ("empty stream, start", 0, plenty, Since::Start, got(0)),
            ("empty stream, same position", 0, plenty, at(EPOCH, 0), got(0)),
            ("from a position", 5, plenty, at(EPOCH, 2), got(3)),
            ("more missed than is kept", 5, three, at(EPOCH, 1), None),
            ("the oldest that is kept", 5, three, at(EPOCH, 2), got(3)),
            ("position in the future", 5, plenty, at(EPOCH, 6), None),
            ("same position", 5, plenty, at(EPOCH, 5), got(0)),
            ("zero position", 5, plenty, at(EPOCH, 0), got(5)),
            ("start", 5, plenty, Since::Start, got(5)),
            ("start, trimmed", 5, three, Since::Start, None),
            ("now", 5, plenty, Since::Now, got(0)),
            ("another epoch", 5, plenty, at(EPOCH + 1, 5), None),
            ("another epoch, empty stream", 0, plenty, at(EPOCH + 1, 0), None),
        ] {
            let stream = stream(count, &retention);
            let recovery = stream.recover(since);
            assert_eq!(recovery, Recovery { recovered: expected.is_some(), count: expected.unwrap_or(0) }, "{what}");
            let numbers: Vec<u64> = stream.newest(recovery.count).map(|(_, number)| *number).collect();
            assert_eq!(numbers, (count + 1 - recovery.count as u64..=count).collect::<Vec<_>>(), "{what}");
            assert!(stream.newest(recovery.count).all(|(position, number)| position.offset == *number), "{what}");
        }
    }

    #[test]
    fn an_expired_stream_remembers_where_it_was() {
        let retention = Retention { age_max_ms: 2_000, ..Retention::default() };
        let mut stream = stream(5, &retention);
        assert_eq!(stream.len(), 2, "the fifth and the fourth, which came within two seconds");
        stream.trim(7_000, &retention);
        assert!(stream.is_empty() && stream.bytes() == 0);
        assert_eq!(stream.recover(at(EPOCH, 4)), Recovery { recovered: false, count: 0 });
        assert_eq!(stream.recover(at(EPOCH, 5)), Recovery { recovered: true, count: 0 });
        assert_eq!(stream.append(6, 10, 8_000, &retention).offset, 6);
    }

    #[test]
    fn bounds_hold() {
        for (retention, kept) in [
            (Retention { messages_max: 2, ..Retention::default() }, 2),
            (Retention { messages_max: 0, ..Retention::default() }, 1),
            (Retention { bytes_max: 35, ..Retention::default() }, 3),
            (Retention { bytes_max: 5, ..Retention::default() }, 1),
            (Retention { age_max_ms: 3_000, ..Retention::default() }, 3),
        ] {
            let stream = stream(9, &retention);
            assert_eq!((stream.len(), stream.bytes()), (kept, kept * 10), "{retention:?}");
            assert_eq!(stream.head().offset, 9);
        }
    }

    #[test]
    fn what_was_stored_is_restored() {
        let mut stream = Stream::new(Epoch::new(EPOCH).unwrap());
        stream.restore(3, 3, 10, 0);
        stream.restore(4, 4, 10, 0);
        assert_eq!(stream.recover(at(EPOCH, 2)), Recovery { recovered: true, count: 2 });
        stream.restore(6, 6, 10, 0);
        assert_eq!(stream.recover(at(EPOCH, 4)), Recovery { recovered: false, count: 0 }, "one is missing");
        assert_eq!(stream.recover(at(EPOCH, 5)), Recovery { recovered: true, count: 1 });
        let behind = |offset| stream.after(offset).map(|(offset, _, _)| offset).collect::<Vec<_>>();
        assert_eq!((behind(0), behind(5), behind(6), behind(u64::MAX)), (vec![6], vec![6], vec![], vec![]));
        stream.restore_head(5);
        assert_eq!(stream.head().offset, 6);
        stream.restore_head(8);
        assert_eq!((stream.head().offset, stream.len(), stream.bytes()), (8, 0, 0));
    }
}
