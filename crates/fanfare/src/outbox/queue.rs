//! Entries in two kinds of lists: all that waits, in the order in which it leaves, and the lanes, one for each join whose
//! messages may give way. Any entry can be taken out of both at once, in no time.

use std::collections::VecDeque;
use std::ops::{AddAssign, SubAssign};

use bytes::{Buf, Bytes};
use fanfare_proto::position::{Position, Stamp};
use slab::Slab;

use crate::gap::Gap;

/// No entry.
const NONE: u32 = u32::MAX;

/// How much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) bytes: usize,
    pub(super) frames: usize,
}

/// Something that waits.
#[derive(Debug)]
pub(super) struct Entry {
    /// Whole frames, but for what has left of the first. Of a gap nothing until it is about to leave.
    pub(super) rest: Bytes,
    /// What follows of the same frame, where that is in parts.
    more: Option<Box<Parts>>,
    pub(super) frames: u32,
    links: Link,
    /// The bytes of `rest` up to the next frame boundary are of a frame whose beginning was written; 0 when none was.
    pub(super) begun: usize,
    /// Of what may give way, or has. All else leaves, or the socket is closed. Boxed, since little of what waits for a moment
    /// is in a lane.
    pub(super) in_lane: Option<Box<InLane>>,
}

/// The parts of one frame that is too large to be copied for each of its readers.
#[derive(Debug)]
struct Parts {
    parts: VecDeque<Bytes>,
    size: usize,
}

/// What a frame takes beside that and its bytes: what is known of it in its lane, and the newest of its key.
pub(super) const IN_LANE_SIZE: usize = size_of::<InLane>() + 40;

/// What is known of an entry that is in a lane.
#[derive(Debug)]
pub(super) struct InLane {
    pub(super) lane: u32,
    /// Grows from entry to entry.
    pub(super) age: u64,
    pub(super) what: What,
    links: Link,
}

/// What is in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// A message that may give way.
    Message {
        key: u64,
        /// Where it stands in its topic's history.
        position: Option<Position>,
        /// Where it says that it stands: so far its reader knows all. It differs where it took another one's place.
        said: Option<Stamp>,
    },
    /// Messages have given way here.
    Gap(Gap),
}

impl Entry {
    pub(super) fn amount(&self) -> Amount {
        Amount { bytes: self.size(), frames: self.frames as usize }
    }

    /// How many bytes are left of it.
    pub(super) fn size(&self) -> usize {
        self.rest.len() + self.more.as_ref().map_or(0, |more| more.size)
    }

    /// What it takes in memory beside its bytes and its place in the queue.
    pub(super) fn size_beside(&self) -> usize {
        if self.in_lane.is_some() { IN_LANE_SIZE } else { 0 }
    }

    /// Whether it is one frame in parts.
    pub(super) fn is_in_parts(&self) -> bool {
        self.more.is_some()
    }

    /// What follows `rest` of the same frame.
    pub(super) fn more(&self) -> impl Iterator<Item = &Bytes> {
        self.more.iter().flat_map(|more| &more.parts)
    }

    /// The same in one piece.
    pub(super) fn whole(&self) -> Bytes {
        match &self.more {
            None => self.rest.clone(),
            Some(_) => [&self.rest].into_iter().chain(self.more()).flatten().copied().collect(),
        }
    }

    /// So many of its bytes have left, but not all.
    pub(super) fn advance(&mut self, mut written: usize) {
        while written >= self.rest.len()
            && let Some(more) = &mut self.more
            && let Some(next) = more.parts.pop_front()
        {
            written -= self.rest.len();
            more.size -= next.len();
            self.rest = next;
        }
        self.rest.advance(written);
    }

    pub(super) fn is_gap(&self) -> bool {
        self.in_lane.as_ref().is_some_and(|in_lane| matches!(in_lane.what, What::Gap(_)))
    }
}

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    after: u32,
}

impl Default for Link {
    fn default() -> Self {
        Link { before: NONE, after: NONE }
    }
}

/// Which list of an entry's.
#[derive(Debug, Clone, Copy)]
enum List {
    All,
    Lane,
}

/// Where a list begins and ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    first: u32,
    last: u32,
}

impl Default for Ends {
    fn default() -> Self {
        Ends { first: NONE, last: NONE }
    }
}

impl Ends {
    pub(super) fn first(self) -> Option<u32> {
        some(self.first)
    }

    pub(super) fn last(self) -> Option<u32> {
        some(self.last)
    }
}

/// All that waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: Slab<Entry>,
    all: Ends,
    next_age: u64,
}

impl Queue {
    /// For how many entries there is memory.
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.all.first()
    }

    pub(super) fn get(&self, index: u32) -> &Entry {
        &self.entries[index as usize]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    /// The entry that leaves next.
    pub(super) fn after(&self, index: u32) -> Option<u32> {
        some(self.get(index).links.after)
    }

    /// The neighbours in a lane.
    pub(super) fn neighbours(&self, index: u32) -> (Option<u32>, Option<u32>) {
        self.get(index)
            .in_lane
            .as_ref()
            .map_or((None, None), |in_lane| (some(in_lane.links.before), some(in_lane.links.after)))
    }

    /// Adds an entry behind all others, in no lane yet.
    #[inline]
    pub(super) fn append(&mut self, rest: Bytes, frames: usize, begun: usize) -> u32 {
        self.append_entry(Entry {
            rest,
            more: None,
            frames: frames as u32,
            links: Link::default(),
            begun,
            in_lane: None,
        })
    }

    /// Adds a frame in parts, of which so many bytes have to leave since others have.
    pub(super) fn append_parts(&mut self, head: Bytes, parts: VecDeque<Bytes>, begun: usize) -> u32 {
        let size = parts.iter().map(Bytes::len).sum();
        let more = Some(Box::new(Parts { parts, size }));
        self.append_entry(Entry { rest: head, more, frames: 1, links: Link::default(), begun, in_lane: None })
    }

    #[inline]
    fn append_entry(&mut self, entry: Entry) -> u32 {
        let index = self.entries.insert(entry) as u32;
        let mut all = self.all;
        self.link(index, List::All, &mut all);
        self.all = all;
        index
    }

    /// Puts an entry at the end of a lane.
    pub(super) fn enter(&mut self, index: u32, lane: u32, what: What, ends: &mut Ends) {
        let in_lane = InLane { lane, age: self.next_age, what, links: Link::default() };
        self.next_age += 1;
        self.get_mut(index).in_lane = Some(Box::new(in_lane));
        self.link(index, List::Lane, ends);
    }

    /// Takes an entry out of its lane.
    pub(super) fn exit(&mut self, index: u32, ends: &mut Ends) {
        self.unlink(index, List::Lane, ends);
        self.get_mut(index).in_lane = None;
    }

    /// Takes an entry out, which is in no lane.
    #[inline]
    pub(super) fn remove(&mut self, index: u32) {
        let mut all = self.all;
        self.unlink(index, List::All, &mut all);
        self.all = all;
        self.entries.remove(index as usize);
    }

    #[inline]
    fn link(&mut self, index: u32, list: List, ends: &mut Ends) {
        *self.links(index, list) = Link { before: ends.last, after: NONE };
        match ends.last() {
            Some(last) => self.links(last, list).after = index,
            None => ends.first = index,
        }
        ends.last = index;
    }

    #[inline]
    fn unlink(&mut self, index: u32, list: List, ends: &mut Ends) {
        let Link { before, after } = *self.links(index, list);
        match some(before) {
            Some(before) => self.links(before, list).after = after,
            None => ends.first = after,
        }
        match some(after) {
            Some(after) => self.links(after, list).before = before,
            None => ends.last = before,
        }
    }

    #[inline]
    fn links(&mut self, index: u32, list: List) -> &mut Link {
        let entry = self.get_mut(index);
        match list {
            List::All => &mut entry.links,
            List::Lane => &mut entry.in_lane.as_mut().expect("what is in a lane knows its neighbours").links,
        }
    }
}

fn some(index: u32) -> Option<u32> {
    (index != NONE).then_some(index)
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        self.bytes += other.bytes;
        self.frames += other.frames;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Amount) {
        self.bytes -= other.bytes;
        self.frames -= other.frames;
    }
}
