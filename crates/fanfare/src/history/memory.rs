//! Histories in memory: they end with the process, and whoever comes back then is told that there is a gap.

use std::future::ready;
use std::hash::BuildHasher;
use std::pin::Pin;

use parking_lot::Mutex;

use super::topics::{Entry, Topics, Verdict};
use super::{Accepted, Append, HistoryLimits, Reading, Store, Wanted};
use crate::clock::Clock;
use crate::error::Error;

/// So many locks share the topics between them, and the bounds.
const STRIPES: usize = 16;

/// A store in memory.
#[derive(Debug)]
pub(crate) struct Memory {
    stripes: Box<[Mutex<Topics>]>,
    hasher: foldhash::fast::FixedState,
    clock: Clock,
}

impl Memory {
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn new(limits: HistoryLimits, clock: Clock) -> Result<Self, Error> {
        let seed =
            getrandom::u64().map_err(|error| Error::new(format!("the system gives no random bytes: {error}")))?;
        Ok(Memory::seeded(limits, clock, seed))
    }

    /// A store whose epochs follow from a seed.
    pub(crate) fn seeded(limits: HistoryLimits, clock: Clock, seed: u64) -> Self {
        let HistoryLimits { bytes_max, topics_max, .. } = limits;
        let share =
            HistoryLimits { bytes_max: bytes_max / STRIPES, topics_max: topics_max.div_ceil(STRIPES), ..limits };
        Memory {
            // Far apart: each takes one step for every topic that it forgets.
            stripes: (0..STRIPES as u64).map(|stripe| Mutex::new(Topics::new(share, seed ^ stripe << 60))).collect(),
            hasher: foldhash::fast::FixedState::with_seed(seed),
            clock,
        }
    }

    fn stripe(&self, topic: &str) -> &Mutex<Topics> {
        &self.stripes[self.hasher.hash_one(topic) as usize % STRIPES]
    }
}

impl Store for Memory {
    fn append(&self, append: Append) {
        let Append { message, retention, key, expected, settle } = append;
        let now_ms = self.clock.now_ms();
        // Held until the message is on its way, so that messages leave in the order of their positions.
        let mut topics = self.stripe(&message.topic).lock();
        match topics.standing(&message.topic, key.as_deref(), now_ms).judge(expected) {
            Ok(Verdict::Keep(position)) => {
                let entry = Entry { event: (&*message.event).into(), payload: message.payload.clone() };
                topics.keep(&message.topic, position, entry, key.as_deref(), retention, now_ms, 0);
                topics.evict(now_ms, |_| {});
                settle(Ok(Accepted::New(message.placed(position))));
            }
            Ok(Verdict::Repeated(position)) => settle(Ok(Accepted::Repeated(position))),
            Err(error) => settle(Err(error)),
        }
    }

    fn read(&self, topic: &str, wanted: Wanted) -> Reading {
        let replay = self.stripe(topic).lock().read(topic, wanted, self.clock.now_ms());
        Box::pin(ready(Ok(replay)))
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}
