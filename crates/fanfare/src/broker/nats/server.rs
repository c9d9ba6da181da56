//! What is known of the server, by its links and whoever makes commands.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::stream::{self, Stream};
use super::subjects::Subjects;
use crate::broker::pulse::Pulse;
use crate::broker::{Logs, Undone};

/// What is known of a server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) subjects: Subjects,
    /// What it is, and where its servers are, without credentials.
    pub(super) name: Arc<str>,
    /// How the link to it stands.
    pub(super) pulse: Pulse,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    /// The largest envelope.
    pub(super) envelope_size_max: usize,
    /// What the server takes at most, as far as it is known.
    payload_max: AtomicUsize,
    /// Those that keep logs; none without a JetStream.
    pub(super) streams: Vec<Stream>,
    logs: Logs,
    random: RandomState,
    drawn: AtomicU64,
    numbered: AtomicU64,
}

impl Server {
    pub(super) fn new(
        subjects: Subjects,
        name: Arc<str>,
        timeout: Duration,
        envelope_size_max: usize,
        logs: Logs,
    ) -> Self {
        Server {
            subjects,
            name,
            pulse: Pulse::new(),
            timeout,
            envelope_size_max,
            payload_max: AtomicUsize::new(usize::MAX),
            streams: Stream::all(&logs.kinds),
            logs,
            random: RandomState::new(),
            drawn: AtomicU64::new(0),
            numbered: AtomicU64::new(0),
        }
    }

    /// It takes so many bytes in one message.
    pub(super) fn set_payload_max(&self, bytes: usize) {
        if self.payload_max.swap(bytes, Ordering::Relaxed) != bytes && bytes < self.envelope_size_max {
            tracing::info!(
                max_payload = bytes,
                "the broker takes no larger messages: raise max_payload in its configuration if they are needed"
            );
        }
    }

    /// Whether an envelope can be carried, with so much in headers.
    pub(super) fn carries(&self, size: usize, headers: usize) -> Result<(), Undone> {
        // The server counts the headers, and whoever sets the other bound does not.
        let payload_max = self.payload_max.load(Ordering::Relaxed).saturating_sub(headers);
        let (most, next) = match payload_max < self.envelope_size_max {
            true => (payload_max, "raise max_payload in the configuration of the NATS server"),
            false => (self.envelope_size_max, "raise message_size_max"),
        };
        if size > most { Err(Undone::too_large(size, most, next)) } else { Ok(()) }
    }

    /// Why it cannot be asked for anything now.
    pub(super) fn is_away(&self) -> Undone {
        let why = self.pulse.down();
        Undone::Refused(why.unwrap_or_else(|| format!("{} is not connected yet", self.name).into()))
    }

    /// A random number that nobody else draws.
    pub(super) fn draw(&self) -> u64 {
        self.random.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for something that is answered.
    pub(super) fn number(&self) -> u64 {
        self.numbered.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The stream that keeps a topic.
    pub(super) fn stream_of(&self, topic: &str) -> Option<&Stream> {
        let class = stream::class(&(self.logs.of)(topic)?);
        self.streams.iter().find(|stream| stream.class == class)
    }

    /// The stream with this name.
    pub(super) fn stream_named(&self, name: &str) -> Option<(&Stream, stream::Known)> {
        self.streams.iter().find_map(|stream| Some((stream, stream.known().filter(|known| *known.name == *name)?)))
    }
}
