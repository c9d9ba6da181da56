//! Where a message stands in its topic's history, as clients see it: `<epoch>:<offset>`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// The longest position, in bytes.
pub const POSITION_SIZE_MAX: usize = 16 + 1 + 20;

/// One life of a topic's history. Offsets of different epochs cannot be compared: between the two, messages may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(NonZeroU64);

impl Epoch {
    /// The epoch with this number; `None` for 0, which stands for no epoch.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0.get()
    }
}

/// Behind which message a reader stands: offsets count the messages of an epoch from 1, and 0 is before the first.
///
/// Its text is the epoch in up to 16 hexadecimal digits, a colon, and the offset in decimal digits. It means nothing to
/// clients: they keep it and give it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the history in which it counts.
    pub epoch: Epoch,
    /// How many messages the topic has had in it up to here.
    pub offset: u64,
}

/// Where a client is that comes with what is no position of ours, and cannot be refused: in an epoch that no topic has, so that
/// it is told of a gap.
pub const FOREIGN: Position = Position { epoch: Epoch(NonZeroU64::MAX), offset: 0 };

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{}", self.epoch.0, self.offset)
    }
}

/// Where a message stands in its topic's history, and what comes before it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Of the message itself.
    pub position: Position,
    /// Of the message before it, which may be of another epoch: offsets grow, and need not be consecutive. Of the first message it is
    /// where the topic was without one.
    pub prev: Position,
}

impl Stamp {
    /// Of a message in a history whose offsets are consecutive, in one epoch.
    pub const fn in_row(position: Position) -> Self {
        Stamp { position, prev: Position { offset: position.offset.saturating_sub(1), ..position } }
    }
}

/// From where a reader wants to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With what is published from now on.
    Now,
    /// With the first message that the topic ever had: the text `0:0`.
    Start,
    /// Behind this position.
    Position(Position),
}

impl FromStr for Since {
    type Err = NotAPosition;

    /// Reads a position, or `0:0`.
    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let number = |digits: &str, radix| match digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => u64::from_str_radix(digits, radix).map_err(|_| NotAPosition),
            false => Err(NotAPosition),
        };
        let (epoch, offset) = text.split_once(':').ok_or(NotAPosition)?;
        match (Epoch::new(number(epoch, 16)?), number(offset, 10)?) {
            (Some(epoch), offset) => Ok(Self::Position(Position { epoch, offset })),
            (None, 0) => Ok(Self::Start),
            (None, _) => Err(NotAPosition),
        }
    }
}

/// A text that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPosition;

impl fmt::Display for NotAPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "not a position such as \"5e1f:42\": give back one that the server sent, or \"0:0\" for the beginning",
        )
    }
}

impl std::error::Error for NotAPosition {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let position = |epoch, offset| Ok(Since::Position(Position { epoch: Epoch::new(epoch).unwrap(), offset }));
        for (text, expected) in [
            ("5e1f:42", position(0x5e1f, 42)),
            ("1:0", position(1, 0)),
            ("ffffffffffffffff:18446744073709551615", position(u64::MAX, u64::MAX)),
            ("0:0", Ok(Since::Start)),
            ("0:1", Err(NotAPosition)),
            ("", Err(NotAPosition)),
            (":", Err(NotAPosition)),
            ("5e1f", Err(NotAPosition)),
            ("5e1f:", Err(NotAPosition)),
            (":1", Err(NotAPosition)),
            ("+1:1", Err(NotAPosition)),
            ("1:-1", Err(NotAPosition)),
            ("1:1:1", Err(NotAPosition)),
            ("1: 1", Err(NotAPosition)),
            ("10000000000000000:1", Err(NotAPosition)),
            ("1:18446744073709551616", Err(NotAPosition)),
        ] {
            assert_eq!(text.parse::<Since>(), expected, "{text}");
            if let Ok(Since::Position(position)) = expected {
                assert_eq!(position.to_string(), text);
                assert!(text.len() <= POSITION_SIZE_MAX);
            }
        }
    }

    #[test]
    fn an_absent_position_costs_nothing() {
        assert_eq!(size_of::<Option<Position>>(), 16);
    }
}
