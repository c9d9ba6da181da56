//! Who is present in one topic, and the diffs that say how that changes.
//!
//! A channel tracks metadata under keys; several channels may share a key. Refs come from the caller, as does the
//! time; sending and batching in time are the engine's. The wire form is in [`Presences`], [`Diff`] and [`State`].
//!
//! [`TopicPresence`] has all who are present as clients see them. [`Rows`] says what it has of other nodes, and what they are
//! told of this one; [`Leases`] says which of them are alive; [`Body`] is what they write to each other.

mod body;
mod bounds;
mod diff;
mod leases;
mod meta;
mod rows;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use self::state::Pieces;

pub use self::body::{Answer, Ask, Body, Change, Delta, Digest};
pub use self::bounds::{Bounds, Untracked};
pub use self::diff::{Diff, Extras, Presences};
pub use self::leases::{Event, Leases};
pub use self::meta::Meta;
pub use self::rows::{Node, Rows, Tell};
pub use self::state::State;

/// The presences of one topic. `Id` names a channel; a copy of it is kept for each key that the channel tracks.
///
/// Track and untrack take O(log n) in the number of trackings, and so does all else per tracking that it touches.
pub struct TopicPresence<Id> {
    /// All trackings, those departing included. In front of those of another key come those of a smaller one; within
    /// a key the order is that in which they were tracked, which an update does not change.
    trackings: BTreeMap<Place, Meta>,
    /// Where the trackings of the channels are, those departing excluded.
    by_channel: BTreeMap<(Id, Arc<str>), u64>,
    /// The trackings that await their end, by key and by time.
    departing: BTreeMap<Place, u64>,
    deadlines: BTreeSet<(u64, Place)>,
    next_number: u64,
    /// How many keys there are.
    keys: usize,
    /// What the trackings count for the bound on bytes.
    bytes: usize,
    /// How many of the trackings are those of other nodes.
    others: usize,
    /// How many other nodes count, where nobody is known but a number is.
    counted: usize,
    pieces: Pieces,
}

/// A key, and a number that tells its trackings apart.
type Place = (Arc<str>, u64);

/// Numbers from here on are of trackings of other nodes.
const OTHERS: u64 = 1 << 63;

impl<Id: Copy + Ord> TopicPresence<Id> {
    /// A topic with nobody in it.
    pub fn new() -> Self {
        Self {
            trackings: BTreeMap::new(),
            by_channel: BTreeMap::new(),
            departing: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_number: 0,
            keys: 0,
            bytes: 0,
            others: 0,
            counted: 0,
            pieces: Pieces::default(),
        }
    }

    /// Tracks a key for a channel.
    ///
    /// Departing metas of the key, whosever they were, leave in the same diff in which the new one joins, so that
    /// clients do not see somebody go who came back in time.
    ///
    /// # Errors
    /// The channel tracks the key already, or the topic would have more than `bounds` allow.
    pub fn track(&mut self, id: Id, key: &str, meta: Meta, bounds: Bounds) -> Result<Diff, Untracked> {
        let key: Arc<str> = key.into();
        if self.by_channel.contains_key(&(id, key.clone())) {
            return Err(Untracked::Already);
        }
        let returned: Vec<Place> = self.departing.range(places_of(&key)).map(|(place, _)| place.clone()).collect();
        let freed = returned.iter().map(|place| self.trackings.get(place).map_or(0, |meta| bounds::size(&key, meta)));
        let bytes = self.bytes + bounds::size(&key, &meta) - freed.sum::<usize>();
        bounds.check(self.len() + self.counted + 1 - returned.len(), bytes)?;
        let mut diff = Diff::default();
        for place in returned {
            self.end_departing(&place, &mut diff);
        }
        diff.joins.push(&key, meta.clone());
        let number = self.insert(key.clone(), meta, 0);
        self.by_channel.insert((id, key), number);
        Ok(diff)
    }

    /// Ends one tracking of a channel. `None` when there is no such.
    pub fn untrack(&mut self, id: Id, key: &str) -> Option<Diff> {
        let place = self.take(id, key.into())?;
        let mut diff = Diff::default();
        self.end(&place, &mut diff);
        Some(diff)
    }

    /// Ends all trackings of a channel.
    pub fn untrack_all(&mut self, id: Id) -> Diff {
        let mut diff = Diff::default();
        for key in self.keys_of(id) {
            if let Some(place) = self.take(id, key) {
                self.end(&place, &mut diff);
            }
        }
        diff
    }

    /// Replaces the meta of a tracking entirely; the diff has the key in both parts. The new meta should name the old one's
    /// ref as its previous one.
    ///
    /// # Errors
    /// The channel does not track the key, or the topic would grow beyond `bounds`.
    pub fn update(&mut self, id: Id, key: &str, meta: Meta, bounds: Bounds) -> Result<Diff, Untracked> {
        let place = self.place(id, key).ok_or(Untracked::Never)?;
        let current = self.trackings.get_mut(&place).ok_or(Untracked::Never)?;
        let bytes = self.bytes + bounds::size(key, &meta) - bounds::size(key, current);
        if bytes > self.bytes {
            bounds.check(0, bytes)?;
        }
        self.bytes = bytes;
        let old = std::mem::replace(current, meta.clone());
        self.pieces.changed(key);
        let mut diff = Diff::default();
        diff.joins.push(&place.0, meta);
        diff.leaves.push(&place.0, old);
        Ok(diff)
    }

    /// The meta that a channel has under a key, for an update that depends on it.
    pub fn tracked(&self, id: Id, key: &str) -> Option<&Meta> {
        self.trackings.get(&self.place(id, key)?)
    }

    /// Lets all trackings of a channel that is gone leave at `until_ms`, unless somebody tracks their key before.
    /// Until then they are present, but belong to no channel.
    pub fn depart(&mut self, id: Id, until_ms: u64) {
        for key in self.keys_of(id) {
            if let Some(place) = self.take(id, key) {
                self.deadlines.insert((until_ms, place.clone()));
                self.departing.insert(place, until_ms);
            }
        }
    }

    /// Ends the departing trackings whose time has come.
    pub fn expire(&mut self, now_ms: u64) -> Diff {
        let mut diff = Diff::default();
        while let Some((_, place)) = self.deadlines.first().filter(|(until_ms, _)| *until_ms <= now_ms).cloned() {
            self.end_departing(&place, &mut diff);
        }
        diff
    }

    /// When the next departing tracking ends, to call [`expire`](Self::expire) then.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(until_ms, _)| *until_ms)
    }

    /// All present. It shares the metas, but takes O(n).
    pub fn list(&self) -> Presences {
        let mut presences = Presences::default();
        for ((key, _), meta) in &self.trackings {
            presences.push(key, meta.clone());
        }
        presences
    }

    /// All present as text. It costs what has changed since the last time, and little for the rest.
    pub fn state(&mut self) -> State {
        self.pieces.state(&self.trackings, self.keys, self.bytes)
    }

    /// The metas of one key, in the order in which they were tracked; empty when nobody tracks it.
    pub fn get(&self, key: &str) -> Vec<Meta> {
        self.trackings.range(places_of(&key.into())).map(|(_, meta)| meta.clone()).collect()
    }

    /// How many trackings there are, over all keys.
    pub fn len(&self) -> usize {
        self.trackings.len()
    }

    /// How many keys there are, and what other nodes count where only their number is known.
    pub fn keys(&self) -> usize {
        self.keys + self.counted
    }

    /// The trackings of this node, those departing included.
    pub fn own(&self) -> impl Iterator<Item = (&Arc<str>, &Meta)> {
        let own = self.trackings.iter().filter(|((_, number), _)| *number < OTHERS);
        own.map(|((key, _), meta)| (key, meta))
    }

    /// How many keys this node counts, where nobody else's are known.
    fn own_keys(&self) -> usize {
        self.keys
    }

    /// How many trackings are this node's.
    pub fn own_len(&self) -> usize {
        self.len() - self.others
    }

    /// Whether nobody is present.
    pub fn is_empty(&self) -> bool {
        self.trackings.is_empty() && self.counted == 0
    }

    /// Adds a tracking of another node, and says where it is.
    fn admit(&mut self, key: &Arc<str>, meta: Meta) -> u64 {
        self.others += 1;
        self.insert(key.clone(), meta, OTHERS)
    }

    /// Takes a tracking of another node away.
    fn dismiss(&mut self, key: &Arc<str>, number: u64, diff: &mut Diff) {
        self.others -= 1;
        self.end(&(key.clone(), number), diff);
    }

    fn insert(&mut self, key: Arc<str>, meta: Meta, from: u64) -> u64 {
        let number = from | self.next_number;
        self.next_number += 1;
        self.keys += usize::from(!self.has(&key));
        self.bytes += bounds::size(&key, &meta);
        self.pieces.changed(&key);
        self.trackings.insert((key, number), meta);
        number
    }

    fn has(&self, key: &Arc<str>) -> bool {
        self.trackings.range(places_of(key)).next().is_some()
    }

    fn place(&self, id: Id, key: &str) -> Option<Place> {
        let channel_and_key = (id, Arc::from(key));
        let number = *self.by_channel.get(&channel_and_key)?;
        Some((channel_and_key.1, number))
    }

    fn keys_of(&self, id: Id) -> Vec<Arc<str>> {
        let from_first = (id, Arc::from(""))..;
        self.by_channel
            .range(from_first)
            .take_while(|((of, _), _)| *of == id)
            .map(|((_, key), _)| key.clone())
            .collect()
    }

    /// Takes a tracking from its channel.
    fn take(&mut self, id: Id, key: Arc<str>) -> Option<Place> {
        let ((_, key), number) = self.by_channel.remove_entry(&(id, key))?;
        Some((key, number))
    }

    fn end(&mut self, place: &Place, diff: &mut Diff) {
        if let Some(meta) = self.trackings.remove(place) {
            self.keys -= usize::from(!self.has(&place.0));
            self.bytes -= bounds::size(&place.0, &meta);
            self.pieces.changed(&place.0);
            diff.leaves.push(&place.0, meta);
        }
    }

    fn end_departing(&mut self, place: &Place, diff: &mut Diff) {
        if let Some(until_ms) = self.departing.remove(place) {
            self.deadlines.remove(&(until_ms, place.clone()));
        }
        self.end(place, diff);
    }
}

impl<Id: Copy + Ord> Default for TopicPresence<Id> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Id> fmt::Debug for TopicPresence<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicPresence({} trackings, {} departing)", self.trackings.len(), self.departing.len())
    }
}

fn places_of(key: &Arc<str>) -> std::ops::RangeInclusive<Place> {
    (key.clone(), 0)..=(key.clone(), u64::MAX)
}

#[cfg(test)]
mod tests;
