//! Which shards have members of which topic, so that a publish wakes those and no others.
//!
//! Most topics are small (a user, a document), and an endpoint may have as many shards as the machine has cores: without
//! this table a message to one reader would wake them all. It is read once a publish and written when a topic gets its first
//! member on a shard or loses its last one, under one of many locks; with a single shard there is nothing to ask, and no table.
//!
//! A shard that loses a topic and gains it again must not hand out what was sent to it before: the messages in between went
//! elsewhere, and the new members would see a gap. So the table has a clock that ticks when a shard gains a topic; a message
//! that is older than the topic on its shard has no reader there.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;

/// So many locks share the topics between them.
const STRIPES: usize = 64;

/// Numbers of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardSet(u128);

impl ShardSet {
    /// How many shards there can be.
    pub(crate) const SHARDS_MAX: usize = u128::BITS as usize;

    /// Every shard.
    pub(crate) const ALL: ShardSet = ShardSet(u128::MAX);

    /// No shard.
    pub(crate) const NONE: ShardSet = ShardSet(0);

    /// One shard.
    pub(crate) fn of(shard: usize) -> Self {
        ShardSet(1 << shard)
    }

    /// Those that are in either.
    pub(crate) fn with(self, others: ShardSet) -> Self {
        ShardSet(self.0 | others.0)
    }

    /// Those that are not in the other.
    pub(crate) fn without(self, others: ShardSet) -> Self {
        ShardSet(self.0 & !others.0)
    }

    /// Those with lower numbers than one.
    pub(crate) fn below(self, shard: usize) -> Self {
        ShardSet(self.0 & ((1 << shard) - 1))
    }

    pub(crate) fn contains(self, shard: usize) -> bool {
        self.0 & (1 << shard) != 0
    }

    fn insert(&mut self, shard: usize) {
        self.0 |= 1 << shard;
    }

    fn remove(&mut self, shard: usize) {
        self.0 &= !(1 << shard);
    }
}

/// A time of the table's clock. Topics that share a lock share it; other times cannot be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

#[derive(Debug, Default)]
struct Stripe {
    topics: HashTable<(Arc<str>, ShardSet)>,
    now: Tick,
    /// Subscriptions on their way to their shard: what their senders publish next must not be lost.
    underway: HashTable<Underway>,
}

/// Subscriptions of one topic on their way to one shard.
#[derive(Debug)]
struct Underway {
    topic: Arc<str>,
    shard: usize,
    count: usize,
}

/// The table of one endpoint.
#[derive(Debug)]
pub(crate) struct Interest {
    /// Empty when there is one shard and nobody else to tell.
    stripes: Box<[RwLock<Stripe>]>,
    hasher: foldhash::fast::RandomState,
    watch: Option<Arc<dyn Watch>>,
}

/// Who is told when a topic gets its first member on a node, and when it loses its last one.
pub(crate) trait Watch: Send + Sync + fmt::Debug {
    /// Told after the change, with no lock held: by then it may have changed again.
    fn changed(&self, topic: &Arc<str>);
}

impl Interest {
    pub(crate) fn new(shards: usize, watch: Option<Arc<dyn Watch>>) -> Self {
        let stripes = if shards == 1 && watch.is_none() { 0 } else { STRIPES };
        Interest {
            stripes: (0..stripes).map(|_| RwLock::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            watch,
        }
    }

    /// The shards that a message published now goes to, and what time it is.
    pub(crate) fn shards_of(&self, topic: &str) -> (ShardSet, Tick) {
        let Some((hash, stripe)) = self.stripe(topic) else { return (ShardSet::ALL, Tick::default()) };
        let stripe = stripe.read();
        let found = stripe.topics.find(hash, |(name, _)| **name == *topic);
        (found.map_or(ShardSet::NONE, |&(_, shards)| shards), stripe.now)
    }

    /// A topic has its first member on a shard; what is older than the returned time is not for it. Called by that shard
    /// before anybody is told of the member.
    pub(crate) fn enter(&self, shard: usize, topic: &Arc<str>) -> Tick {
        let Some((hash, stripe)) = self.stripe(topic) else { return Tick::default() };
        let (gained, is_first) = stripe.write().enter(shard, topic, hash, &self.hasher);
        self.tell_if(is_first, topic);
        gained
    }

    #[inline]
    fn tell_if(&self, has_changed: bool, topic: &Arc<str>) {
        if has_changed && let Some(watch) = &self.watch {
            watch.changed(topic);
        }
    }

    /// A topic has lost its last member on a shard.
    pub(crate) fn leave(&self, shard: usize, topic: &str) {
        if let Some((hash, stripe)) = self.stripe(topic) {
            let vacated = stripe.write().leave(shard, topic, hash);
            if let Some(topic) = vacated {
                self.tell_if(true, &topic);
            }
        }
    }

    /// A subscription sets out for its shard, which counts as interested from now on.
    pub(crate) fn set_out(&self, shard: usize, topic: &Arc<str>) -> Tick {
        let Some((hash, stripe)) = self.stripe(topic) else { return Tick::default() };
        let mut stripe = stripe.write();
        let rehash = |underway: &Underway| self.hasher.hash_one(&*underway.topic);
        let entry = stripe.underway.entry(hash, |underway| underway.is(shard, topic), rehash);
        entry.or_insert_with(|| Underway { topic: topic.clone(), shard, count: 0 }).get_mut().count += 1;
        let (gained, is_first) = stripe.enter(shard, topic, hash, &self.hasher);
        drop(stripe);
        self.tell_if(is_first, topic);
        gained
    }

    /// It has arrived, and the topic has members on the shard or has none.
    pub(crate) fn arrived(&self, shard: usize, topic: &str, has_members: bool) {
        let Some((hash, stripe)) = self.stripe(topic) else { return };
        let mut stripe = stripe.write();
        if let Ok(mut underway) = stripe.underway.find_entry(hash, |underway| underway.is(shard, topic)) {
            underway.get_mut().count -= 1;
            if underway.get().count == 0 {
                underway.remove();
            }
        }
        let vacated = if has_members { None } else { stripe.leave(shard, topic, hash) };
        drop(stripe);
        if let Some(topic) = vacated {
            self.tell_if(true, &topic);
        }
    }

    /// The part of the table that has a topic, with the topic's hash, if there is a table.
    #[inline]
    fn stripe(&self, topic: &str) -> Option<(u64, &RwLock<Stripe>)> {
        if self.stripes.is_empty() {
            return None;
        }
        let hash = self.hasher.hash_one(topic);
        // Below, the hash's other bits are used.
        Some((hash, &self.stripes[(hash >> 32) as usize % STRIPES]))
    }
}

impl Stripe {
    fn enter(&mut self, shard: usize, topic: &Arc<str>, hash: u64, hasher: &impl BuildHasher) -> (Tick, bool) {
        let rehash = |(name, _): &(Arc<str>, ShardSet)| hasher.hash_one(&**name);
        let entry = self.topics.entry(hash, |(name, _)| name == topic, rehash);
        let mut entry = entry.or_insert_with(|| (topic.clone(), ShardSet::NONE));
        let shards = &mut entry.get_mut().1;
        let is_first = *shards == ShardSet::NONE;
        shards.insert(shard);
        self.now = Tick(self.now.0 + 1);
        (self.now, is_first)
    }

    /// The topic, if no shard has members of it any more.
    fn leave(&mut self, shard: usize, topic: &str, hash: u64) -> Option<Arc<str>> {
        if self.underway.find(hash, |underway| underway.is(shard, topic)).is_some() {
            return None;
        }
        let mut entry = self.topics.find_entry(hash, |(name, _)| **name == *topic).ok()?;
        entry.get_mut().1.remove(shard);
        (entry.get().1 == ShardSet::NONE).then(|| entry.remove().0.0)
    }
}

impl Underway {
    fn is(&self, shard: usize, topic: &str) -> bool {
        self.shard == shard && *self.topic == *topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interested(interest: &Interest, topic: &str) -> Vec<usize> {
        let (shards, _) = interest.shards_of(topic);
        (0..ShardSet::SHARDS_MAX).filter(|&shard| shards.contains(shard)).collect()
    }

    fn is_empty(interest: &Interest) -> bool {
        interest.stripes.iter().all(|stripe| stripe.read().topics.is_empty() && stripe.read().underway.is_empty())
    }

    #[test]
    fn knows_which_shards_have_members() {
        let interest = Interest::new(128, None);
        let topics: Vec<Arc<str>> = (0..1_000).map(|n| format!("user:{n}").into()).collect();
        for (n, topic) in topics.iter().enumerate() {
            interest.enter(n % 128, topic);
            interest.enter(127, topic);
        }
        interest.leave(127, "user:5");
        interest.leave(127, "nobody");
        assert_eq!(interested(&interest, "user:5"), [5]);
        assert_eq!(interested(&interest, "user:700"), [700 % 128, 127]);
        assert!(interested(&interest, "nobody").is_empty());
        for (n, topic) in topics.iter().enumerate() {
            interest.leave(n % 128, topic);
            interest.leave(127, topic);
        }
        assert!(is_empty(&interest));
    }

    #[test]
    fn a_message_is_older_than_a_topic_that_its_shard_gained_later() {
        let (interest, topic) = (Interest::new(2, None), "t".into());
        interest.enter(1, &topic);
        let (_, before) = interest.shards_of("t");
        interest.leave(1, "t");
        let (nobody, _) = interest.shards_of("t");
        assert_eq!(nobody, ShardSet::NONE);
        let gained = interest.enter(1, &topic);
        let (_, after) = interest.shards_of("t");
        assert!(before < gained && gained <= after);
    }

    #[test]
    fn a_subscription_underway_holds_the_shards_interest() {
        let (interest, topic) = (Interest::new(2, None), "t".into());
        interest.enter(0, &topic);
        interest.set_out(0, &topic);
        interest.set_out(0, &topic);
        interest.leave(0, "t");
        assert_eq!(interested(&interest, "t"), [0], "the last member leaves before it arrives");
        interest.arrived(0, "t", false);
        assert_eq!(interested(&interest, "t"), [0], "a second one is underway");
        interest.arrived(0, "t", true);
        assert_eq!(interested(&interest, "t"), [0], "it has become a member");
        interest.leave(0, "t");
        assert!(is_empty(&interest));
    }

    #[test]
    fn subscriptions_underway_are_told_apart_by_their_shards_and_topics() {
        let interest = Interest::new(2, None);
        // Two topics that share a lock.
        let stripe = |topic: &str| interest.stripe(topic).map(|(_, stripe)| std::ptr::from_ref(stripe));
        let a: Arc<str> = "a".into();
        let b: Arc<str> = (0..).map(|n| format!("b:{n}")).find(|b| stripe(b) == stripe(&a)).unwrap().into();
        for (shard, topic) in [(0, &a), (1, &a), (1, &b)] {
            interest.set_out(shard, topic);
        }
        // The other shard's arrives and ends.
        interest.arrived(1, &a, false);
        assert_eq!((interested(&interest, &a), interested(&interest, &b)), (vec![0], vec![1]));
        interest.enter(0, &b);
        interest.leave(0, &b);
        assert_eq!(interested(&interest, &b), [1], "nothing of it was underway to this shard");
        interest.leave(1, &b);
        interest.leave(0, &a);
        assert_eq!((interested(&interest, &a), interested(&interest, &b)), (vec![0], vec![1]), "they are underway");
        interest.arrived(1, &b, false);
        interest.arrived(0, &a, false);
        assert!(is_empty(&interest));
    }

    /// However many are underway to a topic, they take one place, and each is looked up as fast as one alone.
    #[test]
    fn many_subscriptions_underway_take_one_place() {
        let (interest, topic) = (Interest::new(2, None), "t".into());
        for _ in 0..100_000 {
            interest.set_out(1, &topic);
        }
        let places: usize = interest.stripes.iter().map(|stripe| stripe.read().underway.len()).sum();
        assert_eq!(places, 1);
        for _ in 0..100_000 {
            interest.arrived(1, "t", false);
        }
        assert!(is_empty(&interest));
    }

    #[test]
    fn a_single_shard_is_always_interested() {
        assert_eq!(Interest::new(1, None).shards_of("t"), (ShardSet::ALL, Tick::default()));
    }
}
