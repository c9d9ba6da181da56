//! Histories in memory: they end with the process, and whoever comes back then is told that there is a gap.

use std::future::ready;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_proto::position::Stamp;
use parking_lot::Mutex;

use super::bounds::{Age, Bounds};
use super::topics::{Entry, Topics, Verdict};
use super::{Accepted, Append, HistoryLimits, Reading, Store, Wanted};
use crate::clock::Clock;
use crate::error::Error;

/// So many locks share the topics between them. The bounds are those of all.
const STRIPES: usize = 16;

/// A store in memory.
#[derive(Debug)]
pub(crate) struct Memory {
    stripes: Box<[Stripe]>,
    bounds: Arc<Bounds>,
    hasher: foldhash::fast::FixedState,
    clock: Clock,
}

/// Some of the topics.
#[derive(Debug)]
struct Stripe {
    topics: Mutex<Topics>,
    /// What [`Topics::oldest`] is, written with the lock held and read without, so that the topic that is the first to go of all
    /// is found without taking every lock: with the lock that this leads to it is looked at again.
    oldest: AtomicU64,
}

/// There is no topic.
const NONE: u64 = u64::MAX;

impl Memory {
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn new(limits: HistoryLimits, clock: Clock) -> Result<Self, Error> {
        let seed =
            getrandom::u64().map_err(|error| Error::failed(format!("the system gives no random bytes: {error}")))?;
        Ok(Memory::seeded(limits, clock, seed))
    }

    /// A store whose epochs follow from a seed.
    pub(crate) fn seeded(limits: HistoryLimits, clock: Clock, seed: u64) -> Self {
        let bounds = Arc::new(Bounds::new(limits));
        let forgotten_max = limits.topics_max.div_ceil(STRIPES);
        // Far apart: each takes one step for every topic that it forgets.
        let topics = |stripe| Topics::new(bounds.clone(), forgotten_max, seed ^ stripe << 60);
        let stripe = |stripe| Stripe { topics: Mutex::new(topics(stripe)), oldest: AtomicU64::new(NONE) };
        let stripes = (0..STRIPES as u64).map(stripe).collect();
        Memory { stripes, bounds, hasher: foldhash::fast::FixedState::with_seed(seed), clock }
    }

    fn stripe(&self, topic: &str) -> &Stripe {
        &self.stripes[self.hasher.hash_one(topic) as usize % STRIPES]
    }

    /// Forgets what the common bounds have no room for. No lock is held by the caller.
    fn evict(&self) {
        while self.bounds.are_exceeded() {
            let oldest = self.stripes.iter().map(|stripe| (stripe.oldest.load(Ordering::Acquire), stripe));
            let Some((age, stripe)) = oldest.min_by_key(|(age, _)| *age) else { return };
            let mut topics = stripe.topics.lock();
            // Otherwise it was published to, or another thread was faster: then another topic is the oldest, if any has to go.
            if topics.oldest() == Some(Age(age)) && self.bounds.are_exceeded() {
                topics.forget_oldest(&mut |_| {});
                stripe.note(&topics);
            }
        }
    }
}

impl Stripe {
    fn note(&self, topics: &Topics) {
        self.oldest.store(topics.oldest().map_or(NONE, |age| age.0), Ordering::Release);
    }
}

impl Store for Memory {
    fn append(&self, append: Append) {
        let Append { message, retention, key, expected, settle } = append;
        let now_ms = self.clock.now_ms();
        let stripe = self.stripe(&message.topic);
        // Held until the message is on its way, so that messages leave in the order of their positions.
        let mut topics = stripe.topics.lock();
        match topics.standing(&message.topic, key.as_deref(), now_ms).judge(expected) {
            Ok(Verdict::Keep(position)) => {
                let entry = Entry { event: message.event.clone(), payload: message.payload.clone() };
                let kept = topics.keep(&message.topic, position, entry, key.as_deref(), retention, now_ms, 0);
                topics.expire(now_ms, &mut |_| {});
                stripe.note(&topics);
                settle(Ok(Accepted::New(message.into_kept(Stamp::in_row(position), kept.number))));
                drop(topics);
                self.evict();
            }
            Ok(Verdict::Repeated(position)) => settle(Ok(Accepted::Repeated(position))),
            Err(error) => settle(Err(error)),
        }
    }

    fn read(&self, topic: &str, wanted: Wanted) -> Reading {
        let replay = self.stripe(topic).topics.lock().read(topic, wanted, self.clock.now_ms());
        Box::pin(ready(Ok(replay)))
    }

    #[cfg(feature = "metrics")]
    fn size(&self) -> Option<super::StoreSize> {
        let (topics, bytes) = self.bounds.taken();
        Some(super::StoreSize { topics, messages: self.bounds.messages(), bytes })
    }

    #[cfg(feature = "metrics")]
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}
