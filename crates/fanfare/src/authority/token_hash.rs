//! Tokens as they are remembered: enough to know one again, and nothing to connect with.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// A token, to be compared with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash(u64);

impl TokenHash {
    pub(crate) fn of(token: &str) -> Self {
        TokenHash(hash(token))
    }
}

/// Clients must not be able to choose two texts that are taken for one.
pub(crate) fn hash(text: &str) -> u64 {
    static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASH.hash_one(text)
}
