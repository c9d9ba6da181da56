//! The message that a node sends to itself: it shows that a link takes what is published and brings what it is subscribed to.

use std::time::{Duration, Instant};

use bytes::Bytes;

/// How often one is sent, and how late it may be.
pub(super) const EVERY: Duration = Duration::from_secs(1);
pub(super) const LATE_AFTER: Duration = Duration::from_secs(3);

/// Those of one connection, of which one at a time is under way.
#[derive(Default)]
pub(super) struct Canary {
    number: u64,
    under_way: Option<(Instant, Bytes)>,
    next: Option<Instant>,
}

impl Canary {
    /// Begins now.
    pub(super) fn begin(&mut self) {
        *self = Canary { number: self.number, under_way: None, next: Some(Instant::now()) };
    }

    /// One that is to be sent now, as it is made of its number.
    ///
    /// # Errors
    /// The last one has not come back in time.
    pub(super) fn due(&mut self, now: Instant, make: impl FnOnce(u64) -> Bytes) -> Result<Option<Bytes>, String> {
        if let Some((sent, _)) = &self.under_way {
            let late = now.duration_since(*sent);
            return match late < LATE_AFTER {
                true => Ok(None),
                false => Err(format!("deaf: this node has not heard its own message for {late:.1?}")),
            };
        }
        if self.next.is_none_or(|next| next > now) {
            return Ok(None);
        }
        self.number += 1;
        let bytes = make(self.number);
        self.next = None;
        self.under_way = Some((now, bytes.clone()));
        Ok(Some(bytes))
    }

    /// When one is to be sent, or late; `None` before the beginning.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next.or_else(|| self.under_way.as_ref().map(|(sent, _)| *sent + LATE_AFTER))
    }

    /// Whether a message is the one under way: when that was sent.
    pub(super) fn is_back(&mut self, content: &[u8]) -> Option<Instant> {
        let (sent, _) = self.under_way.take_if(|(_, bytes)| &bytes[..] == content)?;
        self.next = Some(Instant::now() + EVERY);
        Some(sent)
    }
}
