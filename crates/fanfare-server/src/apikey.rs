//! API keys: what they are, where they are kept (`store`), and the answers that are kept for a while (`lookup`).
//!
//! A key that Fanfare makes is `ff_NAME_SECRET`. It is shown once and stored as its SHA-256 hash: a random text of 192 bits
//! cannot be guessed, so that a slow hash, which passwords need, would only slow down connects. Keys of older systems, which
//! stand in their tables as they are, work as well.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub(crate) mod command;
pub(crate) mod lookup;
pub(crate) mod store;
mod watch;

pub(crate) use watch::Watch;

const PREFIX: &str = "ff_";
const NAME_SIZE: usize = 8;
const SECRET_BYTES: usize = 24;

/// Longer texts are no keys.
pub(crate) const KEY_SIZE_MAX: usize = 512;

/// A key as a client shows it. Never printed, but for a new one, once.
#[derive(Clone)]
pub(crate) struct Key(String);

impl Key {
    /// A text that may be one.
    pub(crate) fn presented(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= KEY_SIZE_MAX;
        fits.then(|| Self(text.to_owned()))
    }

    /// A new one.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn generate() -> Result<Self, String> {
        const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut random = [0; NAME_SIZE + SECRET_BYTES];
        getrandom::fill(&mut random).map_err(|error| format!("the system gives no random bytes: {error}"))?;
        let (name, secret) = random.split_at(NAME_SIZE);
        let name: String = name.iter().map(|byte| LETTERS[usize::from(byte % 32)] as char).collect();
        Ok(Self(format!("{PREFIX}{name}_{}", URL_SAFE_NO_PAD.encode(secret))))
    }

    /// The key itself, for the one who looks it up or has just made it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored of it.
    pub(crate) fn hash(&self) -> Hash {
        Hash(digest(&SHA256, self.0.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// What it is called where others may read along: the part before the secret, or for a key of another system the
    /// beginning of its hash.
    pub(crate) fn name(&self) -> String {
        let end = PREFIX.len() + NAME_SIZE;
        let is_ours = self.0.starts_with(PREFIX) && self.0.as_bytes().get(end) == Some(&b'_');
        if is_ours { self.0[..end].to_owned() } else { format!("plain_{}", &self.hash().to_string()[..8]) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// The SHA-256 hash of a key. It is looked up as a whole: how long that takes says nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hash([u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is stored beside a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// How its store finds it again, as long as it has this key.
    pub(crate) handle: String,
    /// See [`Key::name`].
    pub(crate) name: String,
    pub(crate) domain: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) is_active: bool,
    /// When it stops working, because another one has taken its place; in seconds of the Unix time.
    pub(crate) until: Option<i64>,
}

impl Record {
    /// Whether its key lets somebody in now.
    pub(crate) fn works(&self) -> bool {
        self.is_active && self.until.is_none_or(|until| now() < until)
    }
}

/// The Unix time, in seconds.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_keys_are_long_different_and_named_by_their_beginning() {
        let (one, two) = (Key::generate().unwrap(), Key::generate().unwrap());
        assert_eq!(one.expose().len(), 3 + 8 + 1 + 32);
        assert_ne!(one.expose(), two.expose());
        assert_eq!(one.name(), one.expose()[..11]);
        assert!(one.expose().starts_with(&format!("{}_", one.name())));
        // A key is part of paths and queries.
        assert!(one.expose().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
    }

    #[test]
    fn keys_of_others_are_named_by_their_hash() {
        let key = Key::presented("abc").unwrap();
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((key.hash().to_string(), key.name()), (hash.to_owned(), "plain_ba7816bf".to_owned()));
        assert_eq!(format!("{key:?}"), "Key");
        assert!(Key::presented("").is_none() && Key::presented(&"x".repeat(513)).is_none());
    }
}
