//! How much may wait to be handed out by a shard, in messages and in bytes, and who waits in line where there is no room.
//!
//! Both bounds are one number of *units*, so that a publisher takes one place: a message takes a share of the units for being
//! one and a share for its bytes, whichever is larger. `inboxes` has how much sockets may hold before that, `parts`
//! what each shard has of a bound for all.

mod inboxes;
mod parts;

use tokio::sync::Semaphore;

use crate::error::Error;

pub(crate) use inboxes::{Allowance, Inboxes};
pub(crate) use parts::Parted;

/// What may wait to be handed out, for each shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) messages_max: usize,
    pub(crate) bytes_max: usize,
}

impl Waiting {
    /// What is enough for the writes of several turns, and handed out in a fraction of a second.
    pub(crate) const DEFAULT: Waiting = Waiting { messages_max: 4_096, bytes_max: 16_000_000 };

    /// Beyond so many messages shares would be rounded too much.
    const MESSAGES_LIMIT: usize = 1 << 20;

    /// # Errors
    /// A bound is out of its range.
    pub(crate) fn check(self) -> Result<(), Error> {
        let Waiting { messages_max, bytes_max } = self;
        if !(1..=Waiting::MESSAGES_LIMIT).contains(&messages_max) {
            let limit = Waiting::MESSAGES_LIMIT;
            return Err(Error::invalid(format!("publishing_waiting_max is {messages_max}: use 1 to {limit}")));
        }
        if bytes_max == 0 {
            return Err(Error::invalid("publishing_waiting_bytes_max is 0: use 1 or more"));
        }
        Ok(())
    }

    /// The units that a message of this size takes.
    pub(crate) fn units(self, size: usize) -> u32 {
        let for_one = UNITS / self.messages_max as u64;
        // No message is larger than 2^33 bytes, by far.
        let for_bytes = (size as u64).saturating_mul(UNITS) / self.bytes_max as u64;
        for_one.max(for_bytes).clamp(1, UNITS) as u32
    }
}

/// Whose room it is, of the two that each shard has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// That of messages that are kept nowhere.
    Live,
    /// That of messages that are kept first: however long their disk takes, the others do not wait for it.
    Kept,
}

/// A power of two, so that shares of usual bounds have no rest.
const UNITS: u64 = 1 << 30;

/// The room of one shard.
#[derive(Debug)]
pub(crate) struct Room {
    waiting: Waiting,
    free: Semaphore,
}

impl Room {
    pub(crate) fn new(waiting: Waiting) -> Self {
        Room { waiting, free: Semaphore::new(UNITS as usize) }
    }

    /// The units that a message of this size takes.
    pub(crate) fn units(&self, size: usize) -> u32 {
        self.waiting.units(size)
    }

    /// Takes so many units, if they are free and nobody waits for them.
    #[inline]
    pub(crate) fn try_take(&self, units: u32) -> bool {
        self.free.try_acquire_many(units).map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Takes so many units as soon as all who have waited longer have got theirs.
    pub(crate) async fn take(&self, units: u32) {
        if let Ok(permit) = self.free.acquire_many(units).await {
            permit.forget();
        }
    }

    /// Gives units back.
    pub(crate) fn give_back(&self, units: usize) {
        if units > 0 {
            self.free.add_permits(units);
        }
    }

    /// Whether a message of no size would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.free.available_permits() < self.waiting.units(0) as usize
    }
}
