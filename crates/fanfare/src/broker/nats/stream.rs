//! The streams that keep logs: one for all topics that keep about as many messages.
//!
//! What a topic keeps is bounded by its stream, and reads apply what the topic itself says. A stream is for a *class*, the next power of ten
//! of the number of messages, so that another number within the class changes nothing for what is kept. Its name has a random end, from which
//! the epoch of its positions comes: a stream that is made again has other positions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_proto::history::Retention;
use fanfare_proto::position::{Epoch, Position};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::subjects::Subjects;

/// The class of the stream that keeps registers, which is none of topics.
pub(super) const REGISTERS: u64 = 0;

/// What is kept longer than its topic says, so that positions of a topic that was quiet for long are known.
const AGE_MORE_MS: u64 = 24 * 3_600_000;

/// For so long a message with the same key is not kept again.
const KEYS_FOR_MS: u64 = 300_000;

/// The stream of one class.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) class: u64,
    age_max_ms: u64,
    known: Mutex<Option<Known>>,
    /// The highest number in it that was seen.
    seen: AtomicU64,
}

/// A stream that is there.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) name: Arc<str>,
    epoch: Epoch,
}

/// What is to be done about a stream that was found.
pub(super) enum Found {
    /// Nothing.
    Good,
    /// It is to be changed to this.
    Short(Value),
    /// It has lost its tail, and must be made again.
    Lost,
}

/// The class of topics that keep so much.
pub(super) fn class(retention: &Retention) -> u64 {
    let mut class = 10;
    while class < retention.messages_max as u64 && class < 1_000_000_000 {
        class *= 10;
    }
    class
}

impl Known {
    fn new(name: &str) -> Self {
        let digest = Sha256::digest(name);
        let number = digest.first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes));
        Known { name: name.into(), epoch: Epoch::new(number).unwrap_or(const { Epoch::new(1).unwrap() }) }
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The position of a message with this number.
    pub(super) fn at(&self, sequence: u64) -> Position {
        Position { epoch: self.epoch, offset: sequence }
    }
}

impl Stream {
    /// One for each class, and if there are any, one for registers.
    pub(super) fn all(kinds: &[Retention]) -> Vec<Self> {
        let mut streams: Vec<Stream> = Vec::new();
        for kind in kinds {
            let class = class(kind);
            match streams.iter_mut().find(|stream| stream.class == class) {
                Some(stream) => stream.age_max_ms = stream.age_max_ms.max(kind.age_max_ms),
                None => streams.push(Stream::new(class, kind.age_max_ms)),
            }
        }
        if !streams.is_empty() {
            streams.push(Stream::new(REGISTERS, 0));
        }
        streams
    }

    fn new(class: u64, age_max_ms: u64) -> Self {
        Stream { class, age_max_ms, known: Mutex::new(None), seen: AtomicU64::new(0) }
    }

    /// The stream as it is known to be.
    pub(super) fn known(&self) -> Option<Known> {
        self.known.lock().clone()
    }

    /// It is there under this name.
    pub(super) fn set_known(&self, name: &str) {
        let mut known = self.known.lock();
        if known.as_ref().is_none_or(|known| *known.name != *name) {
            self.seen.store(0, Ordering::Relaxed);
            *known = Some(Known::new(name));
        }
    }

    /// A message with this number is in it.
    pub(super) fn saw(&self, sequence: u64) {
        self.seen.fetch_max(sequence, Ordering::Relaxed);
    }

    /// The highest number that was seen.
    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// What it is to be, under this name.
    pub(super) fn config(&self, subjects: &Subjects, name: &str) -> Value {
        let nanoseconds = |ms: u64| ms.saturating_mul(1_000_000).min(i64::MAX as u64);
        let all = subjects.kept_all(self.class);
        if self.class == REGISTERS {
            return json!({
                "name": name,
                "subjects": [all],
                "retention": "limits",
                "discard": "old",
                "storage": "file",
                "num_replicas": 1,
                "max_msgs_per_subject": 1,
            });
        }
        json!({
            "name": name,
            "subjects": [all],
            "retention": "limits",
            "discard": "old",
            "storage": "file",
            "num_replicas": 1,
            // With the record of a topic's beginning.
            "max_msgs_per_subject": self.class + 1,
            "max_age": nanoseconds(self.age_max_ms.saturating_add(AGE_MORE_MS)),
            "duplicate_window": nanoseconds(KEYS_FOR_MS),
            "allow_direct": true,
            // Every message is handed on to the nodes as it is kept, in the order of the stream, and says what is before it.
            "republish": { "src": all, "dest": subjects.live_all() },
        })
    }

    /// Looks at a stream that was found, of which so much had been seen when it was asked for.
    ///
    /// # Errors
    /// It is none of ours.
    pub(super) fn look_at(&self, subjects: &Subjects, info: &Value, seen: u64) -> Result<Found, String> {
        let config = &info["config"];
        let name = config["name"].as_str().unwrap_or_default();
        let is_ours = match self.class {
            REGISTERS => config["max_msgs_per_subject"] == 1,
            _ => config["republish"]["dest"].as_str() == Some(&*subjects.live_all()),
        };
        if !is_ours {
            return Err(format!(
                "the stream {name:?} has the subjects of this namespace and is none of a node's: choose another namespace, or \
                 delete it"
            ));
        }
        let is_known = self.known().is_some_and(|known| *known.name == *name);
        if is_known && info["state"]["last_seq"].as_u64().is_none_or(|last| last < seen) {
            return Ok(Found::Lost);
        }
        let wanted = self.config(subjects, name);
        if self.class == REGISTERS {
            return Ok(Found::Good);
        }
        if config["max_age"].as_u64().is_some_and(|age| age > 0 && Some(age) < wanted["max_age"].as_u64()) {
            let mut longer = config.clone();
            longer["max_age"] = wanted["max_age"].clone();
            return Ok(Found::Short(longer));
        }
        Ok(Found::Good)
    }
}
