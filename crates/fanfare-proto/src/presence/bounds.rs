//! How much one topic may hold, and why something is not tracked.

use std::fmt;

use super::Meta;

/// What one topic may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many trackings, over all keys.
    pub members_max: usize,
    /// How many bytes, about as a `presence_state` has them.
    pub bytes_max: usize,
}

impl Bounds {
    pub(super) fn check(self, members: usize, bytes: usize) -> Result<(), Untracked> {
        let Bounds { members_max, bytes_max } = self;
        if members > members_max {
            return Err(Untracked::TooMany { members_max });
        }
        if bytes > bytes_max {
            return Err(Untracked::TooLarge { bytes, bytes_max });
        }
        Ok(())
    }
}

/// What one tracking counts: its key and meta, and what a `presence_state` has around them.
pub(super) fn size(key: &str, meta: &Meta) -> usize {
    const AROUND: usize = r#""":{"metas":[]},"#.len();
    key.len() + meta.as_json().as_bytes().len() + AROUND
}

/// Why something is not tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untracked {
    /// The channel tracks the key already.
    Already,
    /// The channel does not track the key that it wants to update.
    Never,
    /// As many are tracked in the topic as may be.
    TooMany {
        /// The bound.
        members_max: usize,
    },
    /// The topic would have too many bytes.
    TooLarge {
        /// What it would have.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
}

impl fmt::Display for Untracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already => f.write_str("the channel tracks this key already"),
            Self::Never => f.write_str("the channel does not track this key"),
            Self::TooMany { members_max } => write!(f, "{members_max} members are present, and no more may be"),
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "all present would have {bytes} bytes, more than {bytes_max}")
            }
        }
    }
}

impl std::error::Error for Untracked {}
