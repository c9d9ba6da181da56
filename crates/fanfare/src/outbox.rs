//! A socket's bounded queue of outgoing frames: what the kernel would not take at once, or what no poll has asked for yet.
//!
//! It knows bytes and frame boundaries, nothing of topics or sockets. An idle socket has none: the shard lends one when
//! something must wait and takes it back when it is empty.
//!
//! Most of what waits is required: it leaves, or the socket is closed. Messages of topics whose policy says so may give way
//! instead, by the rule of their lane (one for each join). What has given way leaves a gap in its place, in which its reader
//! is told, if it has asked. Of a gap that is not told nothing leaves.

mod give_way;
mod load;
mod outboxes;
mod queue;

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use fanfare_proto::chunked;
use fanfare_proto::position::{Position, Stamp};
use hashbrown::HashMap;

use crate::figures::Load;
use crate::gap::{Gap, Losses, Rule, Voice};
pub(crate) use load::Seen;
pub(crate) use outboxes::{Outboxes, Share};
use queue::{Amount, Ends, Queue, What};

/// At most this many segments leave in one `writev`.
const SEGMENTS_PER_WRITE_MAX: usize = 64;

/// Fewer than these are told apart by a small array.
const SEGMENTS_FEW: usize = 8;

/// What a socket's outbox may hold. Gaps come on top: at most one between two messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) bytes_max: usize,
    pub(crate) frames_max: usize,
}

/// The queue. An entry is one or more whole frames; only the first may be partly written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Queue,
    lanes: Map<u32, Lane>,
    /// The newest message of each key, in lanes where only that counts.
    newest: Map<(u32, u64), u32>,
    waiting: Amount,
    /// So much of it may give way.
    yielding: Amount,
    /// So many frames, the first ones, have been given to the client and may have to be given again.
    held: usize,
    losses: Losses,
    /// What of it the sums of its shard have.
    accounted: Load,
    /// What was queued since they were told.
    given: Amount,
    /// So many bytes of the first entry's buffer have left already.
    spent: usize,
    /// Where those lanes' latest losses stand in their topics' histories whose readers are told.
    gaps: Vec<(u32, Position)>,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The messages and gaps of one join. No two gaps stand next to each other.
#[derive(Debug)]
struct Lane {
    rule: Rule,
    ends: Ends,
    voice: Option<Box<Voice>>,
}

/// What leaves next where messages leave one by one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum First {
    Message(Bytes),
    /// Messages have given way here, and no message says so.
    Gap,
}

/// A message that may give way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yielding {
    /// Messages of a lane give way to each other first.
    pub(crate) lane: u32,
    pub(crate) rule: Rule,
    /// Of messages with the same key only the newest counts, where the rule says so.
    pub(crate) key: u64,
    pub(crate) stamp: Option<Stamp>,
    /// The reader takes no more at present: values give way to newer ones only then, or where there is no room.
    pub(crate) is_held_up: bool,
}

impl Yielding {
    fn position(&self) -> Option<Position> {
        self.stamp.map(|stamp| stamp.position)
    }
}

impl Outbox {
    /// The bytes and frames that wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.waiting.bytes, self.waiting.frames)
    }

    /// For how many entries it keeps memory.
    pub(crate) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// What has given way since the last time.
    pub(crate) fn take_losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// The lanes that have gaps since the last time, and up to where.
    pub(crate) fn take_gaps(&mut self) -> impl Iterator<Item = (u32, Position)> {
        self.gaps.drain(..)
    }

    /// Whether this much fits. Where nothing waits anything does: the frame limit bounds it.
    pub(crate) fn has_room(&self, bytes: usize, frames: usize, bounds: Bounds) -> bool {
        self.fits(self.waiting, Amount { bytes, frames }, bounds)
    }

    /// Whether so much more would fit beside this.
    fn fits(&self, waiting: Amount, more: Amount, bounds: Bounds) -> bool {
        waiting.frames == self.held
            || (waiting.bytes + more.bytes <= bounds.bytes_max && waiting.frames + more.frames <= bounds.frames_max)
    }

    /// Lets messages that may give way do so until so much fits. `false`, and nothing is lost, if that is not to be had.
    pub(crate) fn make_room(&mut self, bytes: usize, frames: usize, bounds: Bounds) -> bool {
        self.make_room_for(Amount { bytes, frames }, bounds, None)
    }

    /// Queues whole frames that must not be lost, for which there is room.
    pub(crate) fn push(&mut self, bytes: Bytes, frames: usize) {
        self.add(Amount { bytes: bytes.len(), frames });
        self.queue.append(bytes, frames, 0);
    }

    /// Queues one frame in parts, which must not be lost and for which there is room.
    pub(crate) fn push_parts(&mut self, head: Bytes, parts: VecDeque<Bytes>) {
        let index = self.queue.append_parts(head, parts, 0);
        self.add(self.queue.get(index).amount());
    }

    /// Queues the rest of frames of which `written` bytes have left already, into an empty outbox.
    pub(crate) fn push_rest(&mut self, mut bytes: Bytes, frames: usize, written: usize) {
        let begun = rest_of_begun_frame(&bytes, written);
        bytes.advance(written);
        self.spent = written;
        self.add(Amount { bytes: bytes.len(), frames });
        self.queue.append(bytes, frames, begun);
    }

    /// Queues a message that may give way, or lets it give way at once. `encode` makes the frame that says that the message
    /// stands at some position; `voice` is what its lane is told by, if that is a new one.
    ///
    /// A message that takes an older one's place says the position of that one as long as others wait behind it: who comes
    /// back from there gets all that it has not seen, and this one perhaps again.
    pub(crate) fn offer(
        &mut self,
        message: Yielding,
        encode: impl Fn(Option<Position>) -> Bytes,
        bounds: Bounds,
        voice: impl FnOnce() -> Option<Box<Voice>>,
    ) {
        let Yielding { lane, rule, key, stamp, is_held_up } = message;
        let position = message.position();
        let is_slow =
            || is_held_up || !self.fits(self.waiting, Amount { bytes: encode(position).len(), frames: 1 }, bounds);
        if rule == Rule::Latest && is_slow() && self.replace(message, &encode, bounds) {
            return;
        }
        self.lanes.entry(lane).or_insert_with(|| Lane { rule, ends: Ends::default(), voice: voice() });
        let bytes = encode(position);
        let amount = Amount { bytes: bytes.len(), frames: 1 };
        let has_room = match rule {
            Rule::Resync => !self.ends_with_gap(lane) && self.fits(self.waiting, amount, bounds),
            Rule::DropOldest | Rule::Latest => self.make_room_for(amount, bounds, Some(lane)),
        };
        if has_room {
            self.add(amount);
            self.yielding += amount;
            let index = self.queue.append(bytes, 1, 0);
            self.enter_lane(index, lane, What::Message { key, position, said: stamp });
            if rule == Rule::Latest {
                self.newest.insert((lane, key), index);
            }
        } else {
            if rule == Rule::Resync {
                self.drop_all(lane);
            }
            self.lose(lane, rule, position);
            let index = self.queue.append(Bytes::new(), 0, 0);
            self.enter_lane(index, lane, What::Gap(Gap::of(rule, position, stamp)));
            self.merge_gaps(index);
        }
    }

    /// Writes as much as the kernel takes. `Ok(true)` when all has left, `Ok(false)` when the kernel took no more.
    pub(crate) fn write_to(&mut self, write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<bool> {
        self.skip_silent_gaps();
        while self.queue.first().is_some() {
            match self.write_pieces(write) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.advance(written);
                    self.skip_silent_gaps();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// All that waits, of a carrier on which every entry is one message.
    pub(crate) fn messages(&mut self) -> Vec<Bytes> {
        let mut messages = Vec::with_capacity(self.waiting.frames);
        let mut next = self.queue.first();
        while let Some(index) = next {
            self.say(index);
            let entry = self.queue.get(index);
            if !entry.is_gap() || !entry.rest.is_empty() {
                messages.push(entry.whole());
            }
            next = self.queue.after(index);
        }
        messages
    }

    /// What is first, of a carrier whose reader is told in another way of gaps that have no message.
    pub(crate) fn first(&mut self) -> Option<First> {
        let index = self.queue.first()?;
        if self.is_silent(index) {
            return Some(First::Gap);
        }
        self.say(index);
        Some(First::Message(self.queue.get(index).whole()))
    }

    /// What is first has left.
    pub(crate) fn pop(&mut self) {
        if let Some(index) = self.queue.first() {
            self.leave(index);
        }
    }

    /// All messages were given to the client, and stay until it is known that it has them.
    pub(crate) fn hold(&mut self) {
        let mut next = self.queue.first();
        while let Some(index) = next {
            next = self.queue.after(index);
            if self.is_silent(index) {
                self.leave(index);
            } else {
                self.require(index);
            }
        }
        self.held = self.waiting.frames;
    }

    /// The client has so many of those that were given. The others are given again.
    pub(crate) fn release(&mut self, frames: usize) {
        (0..frames).for_each(|_| self.pop());
        self.held = 0;
        // A gap that is not told is over with what was before it.
        self.skip_silent_gaps();
    }

    /// Drops all, or leaves it to somebody else.
    pub(crate) fn clear(&mut self) {
        let (losses, accounted, given) = (self.losses, self.accounted, self.given);
        *self = Outbox { losses, accounted, given, ..Outbox::default() };
    }

    /// Drops all frames of which nothing was written yet: the stream stays well-formed.
    pub(crate) fn cut(&mut self) {
        let first = self.queue.first().map(|index| self.queue.get(index)).filter(|entry| entry.begun > 0);
        let begun = first.map(|entry| match entry.is_in_parts() {
            true => (entry.rest.clone(), entry.more().cloned().collect()),
            false => (entry.rest.slice(..entry.begun), VecDeque::new()),
        });
        let spent = first.map_or(0, |entry| self.spent + entry.rest.len());
        self.clear();
        if let Some((rest, parts)) = begun {
            let size = rest.len() + parts.iter().map(Bytes::len).sum::<usize>();
            self.add(Amount { bytes: size, frames: 1 });
            // Of its buffer, what came before and comes behind.
            self.spent = spent - rest.len();
            self.queue.append_parts(rest, parts, size);
        }
    }

    #[inline]
    fn add(&mut self, amount: Amount) {
        self.waiting += amount;
        self.given += amount;
    }

    /// Makes what is first something that has bytes.
    #[inline]
    fn skip_silent_gaps(&mut self) {
        if !self.lanes.is_empty() {
            while let Some(first) = self.queue.first().filter(|&first| self.is_silent(first)) {
                self.leave(first);
            }
        }
    }

    fn is_silent(&self, index: u32) -> bool {
        let entry = self.queue.get(index);
        entry.is_gap() && entry.in_lane.as_ref().is_some_and(|in_lane| self.lanes[&in_lane.lane].voice.is_none())
    }

    /// Puts a gap into words, if somebody is to hear of it.
    fn say(&mut self, index: u32) {
        let entry = self.queue.get(index);
        if let Some(in_lane) = &entry.in_lane
            && let What::Gap(gap) = &in_lane.what
            && entry.rest.is_empty()
            && let Some(voice) = &self.lanes[&in_lane.lane].voice
        {
            let said = voice.say(gap);
            self.queue.get_mut(index).rest = said;
        }
    }

    fn write_pieces(&mut self, write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize> {
        // Nearly always a few wait: the larger array costs more than all else that is done here.
        let mut few = [IoSlice::new(&[]); SEGMENTS_FEW];
        let count = self.gather(&mut few);
        if count < SEGMENTS_FEW {
            return write(&few[..count]);
        }
        self.write_many(write)
    }

    #[inline(never)]
    fn write_many(&mut self, write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SEGMENTS_PER_WRITE_MAX];
        let count = self.gather(&mut slices);
        write(&slices[..count])
    }

    /// The pieces that leave next.
    fn gather<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        if !self.lanes.is_empty() {
            let mut next = self.queue.first();
            for _ in 0..slices.len() {
                let Some(index) = next else { break };
                self.say(index);
                next = self.queue.after(index);
            }
        }
        let mut count = 0;
        let mut next = self.queue.first();
        for _ in 0..slices.len() {
            let Some(index) = next.filter(|_| count < slices.len()) else { break };
            let entry = self.queue.get(index);
            if !entry.rest.is_empty() {
                slices[count] = IoSlice::new(&entry.rest);
                count += 1;
            }
            for (slice, part) in slices[count..].iter_mut().zip(entry.more()) {
                *slice = IoSlice::new(part);
                count += 1;
            }
            next = self.queue.after(index);
        }
        count
    }

    fn advance(&mut self, mut written: usize) {
        while written > 0
            && let Some(first) = self.queue.first()
        {
            let size = self.queue.get(first).size();
            if written < size {
                return self.begin(first, written);
            }
            written -= size;
            self.spent = 0;
            self.leave(first);
        }
    }

    /// Part of the first entry has left: the frame that was begun stays, whatever it is.
    fn begin(&mut self, index: u32, written: usize) {
        self.require(index);
        let entry = self.queue.get_mut(index);
        entry.begun = match written.checked_sub(entry.begun) {
            None => entry.begun - written,
            Some(past) => rest_of_begun_frame(&entry.rest[entry.begun..], past),
        };
        entry.advance(written);
        self.spent += written;
        self.waiting.bytes -= written;
    }

    /// An entry cannot give way any more, and a gap in words is a frame like others.
    fn require(&mut self, index: u32) {
        let is_gap = self.queue.get(index).is_gap();
        self.leave_lane(index);
        if is_gap {
            let entry = self.queue.get_mut(index);
            entry.frames = 1;
            let amount = entry.amount();
            self.add(amount);
        }
    }

    /// An entry is gone, whole.
    fn leave(&mut self, index: u32) {
        let entry = self.queue.get(index);
        if !entry.is_gap() {
            self.waiting -= entry.amount();
        }
        self.leave_lane(index);
        self.queue.remove(index);
    }
}

/// `frames` begins at a frame boundary: how much of the frame that contains offset `written` is left, 0 at a boundary.
fn rest_of_begun_frame(frames: &[u8], written: usize) -> usize {
    let mut end = 0;
    while end < written {
        end += frame_size(&frames[end..]);
    }
    end - written
}

/// The size of the unmasked frame at the beginning of `bytes`, header included, or of the chunk: the first byte of a chunk is
/// that of a digit, which no whole frame begins with.
fn frame_size(bytes: &[u8]) -> usize {
    match *bytes {
        [first, ..] if first.is_ascii() => chunked::first(bytes).map_or(bytes.len(), |chunk| chunk.size),
        [_, length, a, b, ..] if length & 127 == 126 => 4 + usize::from(u16::from_be_bytes([a, b])),
        [_, length, a, b, c, d, e, f, g, h, ..] if length & 127 == 127 => {
            10 + u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize
        }
        [_, length, ..] => 2 + usize::from(length & 127),
        // Frames in here are whole; what is not is left in one piece.
        _ => bytes.len().max(1),
    }
}

#[cfg(test)]
mod tests;
