//! How messages give way: to newer ones with the same key, or to whatever there is no room for.

use bytes::Bytes;
use fanfare_proto::position::Position;

use super::queue::{Amount, What};
use super::{Bounds, Outbox, Yielding};
use crate::gap::{Gap, Rule};

impl Outbox {
    /// Lets a message take the place of the older one with its key. `false` if there is none, or no room for it there.
    pub(super) fn replace(
        &mut self,
        message: Yielding,
        encode: impl Fn(Option<Position>) -> Bytes,
        bounds: Bounds,
    ) -> bool {
        let Some(&index) = self.newest.get(&(message.lane, message.key)) else { return false };
        self.losses.add(message.rule);
        let is_last = self.queue.neighbours(index).1.is_none();
        let entry = self.queue.get_mut(index);
        let Some(What::Message { position, said, .. }) = entry.in_lane.as_mut().map(|in_lane| &mut in_lane.what) else {
            unreachable!("only messages have keys")
        };
        *position = message.position();
        if is_last {
            *said = message.stamp;
        }
        let bytes = encode(said.map(|said| said.position));
        let (old, new) = (entry.amount(), Amount { bytes: bytes.len(), frames: 1 });
        let mut without = self.waiting;
        without -= old;
        if !self.fits(without, new, bounds) {
            self.take_out(index);
            return false;
        }
        self.queue.get_mut(index).rest = bytes;
        self.waiting = without;
        self.add(new);
        self.yielding -= old;
        self.yielding += new;
        true
    }

    /// Lets messages give way until so much fits, those of this lane first. `false`, and nothing is lost, if that is not to
    /// be had.
    pub(super) fn make_room_for(&mut self, amount: Amount, bounds: Bounds, lane: Option<u32>) -> bool {
        let mut required = self.waiting;
        required -= self.yielding;
        if !self.fits(required, amount, bounds) {
            return false;
        }
        while !self.fits(self.waiting, amount, bounds) {
            let own = lane.filter(|&lane| self.oldest(lane).is_some());
            // What is not required is in a lane, and it is known that without all of that there is room.
            let Some(lane) = own.or_else(|| self.oldest_lane()) else { return false };
            match self.lanes[&lane].rule {
                Rule::Resync => self.drop_all(lane),
                Rule::DropOldest | Rule::Latest => drop(self.drop_oldest(lane)),
            }
        }
        true
    }

    /// Lets all messages give way that may.
    pub(crate) fn give_way(&mut self) {
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.drop_all(lane);
        }
    }

    /// The lane with the message that waits for the longest time.
    fn oldest_lane(&self) -> Option<u32> {
        let age = |lane: u32| self.queue.get(self.oldest(lane)?).in_lane.as_ref().map(|in_lane| in_lane.age);
        let ages = self.lanes.keys().filter_map(|&lane| Some((age(lane)?, lane)));
        ages.min().map(|(_, lane)| lane)
    }

    /// A lane's oldest message.
    fn oldest(&self, lane: u32) -> Option<u32> {
        let first = self.lanes[&lane].ends.first()?;
        if self.queue.get(first).is_gap() { self.queue.neighbours(first).1 } else { Some(first) }
    }

    pub(super) fn ends_with_gap(&self, lane: u32) -> bool {
        self.lanes[&lane].ends.last().is_some_and(|last| self.queue.get(last).is_gap())
    }

    pub(super) fn drop_all(&mut self, lane: u32) {
        while self.drop_oldest(lane) {}
    }

    /// Makes a lane's oldest message a gap; `false` if it has none. A value behind which a newer one waits is none's loss.
    fn drop_oldest(&mut self, lane: u32) -> bool {
        let Some(index) = self.oldest(lane) else { return false };
        let rule = self.lanes[&lane].rule;
        if rule == Rule::Latest && !self.is_newest(index) {
            self.losses.add(rule);
            self.take_out(index);
            return true;
        }
        self.waiting -= self.queue.get(index).amount();
        self.forget(index);
        let entry = self.queue.get_mut(index);
        (entry.rest, entry.frames) = (Bytes::new(), 0);
        if let Some(in_lane) = &mut entry.in_lane
            && let What::Message { position, said, .. } = in_lane.what
        {
            in_lane.what = What::Gap(Gap::of(rule, position, said));
            self.lose(lane, rule, position);
        }
        self.merge_gaps(index);
        true
    }

    /// Whether no newer value waits behind one.
    fn is_newest(&self, index: u32) -> bool {
        let in_lane = self.queue.get(index).in_lane.as_ref();
        in_lane.is_none_or(|in_lane| match in_lane.what {
            What::Message { key, .. } => self.newest.get(&(in_lane.lane, key)) == Some(&index),
            What::Gap(_) => false,
        })
    }

    /// Keeps account of a message that its reader will not get.
    pub(super) fn lose(&mut self, lane: u32, rule: Rule, position: Option<Position>) {
        self.losses.add(rule);
        if let Some(position) = position.filter(|_| self.lanes[&lane].voice.is_some()) {
            match self.gaps.last_mut() {
                Some((last, up_to)) if *last == lane => *up_to = position,
                _ => self.gaps.push((lane, position)),
            }
        }
    }

    /// Makes a gap one with those next to it in its lane.
    pub(super) fn merge_gaps(&mut self, index: u32) {
        let (before, _) = self.queue.neighbours(index);
        let first = match before.filter(|&before| self.absorb(before, index)) {
            Some(before) => before,
            None => index,
        };
        if let (_, Some(behind)) = self.queue.neighbours(first) {
            self.absorb(first, behind);
        }
    }

    /// Makes two neighbours one, if both are gaps.
    fn absorb(&mut self, index: u32, behind: u32) -> bool {
        let gap_of = |index: u32| match self.queue.get(index).in_lane.as_ref()?.what {
            What::Gap(gap) => Some(gap),
            What::Message { .. } => None,
        };
        let (Some(mut gap), Some(other)) = (gap_of(index), gap_of(behind)) else { return false };
        gap.widen(other);
        self.leave(behind);
        let entry = self.queue.get_mut(index);
        // It is said anew when it is about to leave.
        entry.rest = Bytes::new();
        if let Some(in_lane) = &mut entry.in_lane {
            in_lane.what = What::Gap(gap);
        }
        true
    }

    /// Takes out a message that another one has made worthless.
    fn take_out(&mut self, index: u32) {
        let (before, _) = self.queue.neighbours(index);
        self.leave(index);
        if let Some(before) = before {
            self.merge_gaps(before);
        }
    }

    pub(super) fn enter_lane(&mut self, index: u32, lane: u32, what: What) {
        if let Some(found) = self.lanes.get_mut(&lane) {
            self.queue.enter(index, lane, what, &mut found.ends);
        }
    }

    /// Takes an entry out of its lane, if it is in one.
    #[inline]
    pub(super) fn leave_lane(&mut self, index: u32) {
        if let Some(in_lane) = &self.queue.get(index).in_lane {
            self.leave_this_lane(index, in_lane.lane);
        }
    }

    fn leave_this_lane(&mut self, index: u32, lane: u32) {
        self.forget(index);
        // A lane is there as long as something is in it.
        let Some(found) = self.lanes.get_mut(&lane) else { return };
        self.queue.exit(index, &mut found.ends);
        if found.ends.first().is_none() {
            self.lanes.remove(&lane);
        }
    }

    /// An entry cannot give way any more.
    fn forget(&mut self, index: u32) {
        let entry = self.queue.get(index);
        let Some(in_lane) = &entry.in_lane else { return };
        if let What::Message { key, .. } = in_lane.what {
            self.yielding -= entry.amount();
            let key = (in_lane.lane, key);
            if self.newest.get(&key) == Some(&index) {
                self.newest.remove(&key);
            }
        }
    }
}
