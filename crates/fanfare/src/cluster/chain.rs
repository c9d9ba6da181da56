//! What a node has handed on of one log: an unbroken chain of messages. What does not follow is held until what is before it comes,
//! or until the log is read.
//!
//! Pure: messages and answers go in, what is to be handed on comes out.

use fanfare_proto::position::{Position, Stamp};

use crate::broker::{Epochs, Head};

/// So many messages are held while one before them is missing; above it they are read from the log.
pub(super) const HELD_MAX: usize = 64;

/// The same in bytes.
pub(super) const HELD_BYTES_MAX: usize = 256 * 1024;

/// The chain of one log.
#[derive(Debug)]
pub(super) struct Chain<T> {
    last: Position,
    epochs: Epochs,
    /// Added to offsets it makes numbers that grow, also where a log has lost its tail and offsets begin again further back.
    base: u64,
    held: Vec<Held<T>>,
    held_bytes: usize,
    /// Counts what was held.
    came: u64,
}

#[derive(Debug)]
struct Held<T> {
    stamp: Stamp,
    size: usize,
    message: T,
    came: u64,
}

/// A message that is to be handed on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next<T> {
    pub(super) stamp: Stamp,
    /// See [`Message::number`](crate::message::Message::number).
    pub(super) number: u64,
    pub(super) message: T,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the next one.
    Next,
    /// It was handed on before, or is of an epoch that the log has left.
    Double,
    /// One before it is missing.
    Held,
}

impl<T> Chain<T> {
    /// Begins behind the head of a log.
    pub(super) fn new(head: Head) -> Self {
        Chain { last: head.position, epochs: head.epochs, base: 0, held: Vec::new(), held_bytes: 0, came: 0 }
    }

    /// The last message that was handed on, or where the chain began.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// The number of the last message.
    pub(super) fn number(&self) -> u64 {
        self.number_of(self.last)
    }

    /// The number of a position that the chain has passed.
    pub(super) fn number_of(&self, position: Position) -> u64 {
        self.base + position.offset
    }

    /// Whether a position is one that the chain has passed.
    pub(super) fn has(&self, position: Position) -> bool {
        position.offset <= self.last.offset && self.epochs.at(position.offset) == Some(position.epoch)
    }

    pub(super) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Whether something is held.
    pub(super) fn has_hole(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether more is held than may be.
    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX || self.held_bytes >= HELD_BYTES_MAX
    }

    /// Takes a message that has come, and adds what is to be handed on now. What is held is dropped where it is too much: the log has
    /// it.
    pub(super) fn take(&mut self, stamp: Stamp, message: T, size: usize, next: &mut Vec<Next<T>>) -> Taken {
        if stamp.prev == self.last {
            self.hand_on(stamp, message, next);
            self.follow(next);
            return Taken::Next;
        }
        let Position { epoch, offset } = stamp.position;
        let was_left = epoch != self.last.epoch && self.epochs.iter().any(|(known, _)| known == epoch);
        if was_left || (epoch == self.last.epoch && offset <= self.last.offset) {
            return Taken::Double;
        }
        if !self.is_full() && self.held.iter().all(|held| held.stamp != stamp) {
            self.came += 1;
            self.held_bytes += size;
            self.held.push(Held { stamp, size, message, came: self.came });
        }
        Taken::Held
    }

    /// What has come so far, for [`forget_held`](Chain::forget_held).
    pub(super) fn mark(&self) -> u64 {
        self.came
    }

    /// The log was read up to its head, and had what was held up to a mark, or will never have it. Returns that.
    pub(super) fn forget_held(&mut self, mark: u64) -> Vec<(Stamp, T)> {
        let (gone, kept) = std::mem::take(&mut self.held).into_iter().partition(|held| held.came <= mark);
        self.held = kept;
        self.held_bytes = self.held.iter().map(|held| held.size).sum();
        let gone: Vec<Held<T>> = gone;
        gone.into_iter().map(|held| (held.stamp, held.message)).collect()
    }

    /// The log does not have what comes behind the last message: the chain goes on from another place of the log, and what is between is told as
    /// a gap.
    pub(super) fn jump(&mut self, head: Head) {
        let number = self.number();
        self.base = self.base.max(number.saturating_sub(head.position.offset));
        self.last = head.position;
        self.epochs = head.epochs;
    }

    /// Adds what was held and is next now.
    pub(super) fn follow(&mut self, next: &mut Vec<Next<T>>) {
        while let Some(index) = self.held.iter().position(|held| held.stamp.prev == self.last) {
            let Held { stamp, size, message, .. } = self.held.swap_remove(index);
            self.held_bytes -= size;
            self.hand_on(stamp, message, next);
        }
    }

    fn hand_on(&mut self, stamp: Stamp, message: T, next: &mut Vec<Next<T>>) {
        if stamp.position.epoch != self.last.epoch {
            self.epochs.begin(stamp.position.epoch, stamp.position.offset);
        }
        self.last = stamp.position;
        next.push(Next { stamp, number: self.number(), message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_proto::position::Epoch;

    fn at(epoch: u64, offset: u64) -> Position {
        Position { epoch: Epoch::new(epoch).unwrap(), offset }
    }

    fn head(epoch: u64, first: u64, offset: u64) -> Head {
        Head { position: at(epoch, offset), epochs: Epochs::new(at(epoch, 0).epoch, first) }
    }

    fn take(chain: &mut Chain<u64>, prev: Position, position: Position) -> (Taken, Vec<(u64, u64)>) {
        let mut next = Vec::new();
        let taken = chain.take(Stamp { position, prev }, position.offset, 10, &mut next);
        (taken, next.into_iter().map(|next| (next.message, next.number)).collect())
    }

    #[test]
    fn what_follows_is_handed_on_and_what_does_not_is_held() {
        let mut chain = Chain::new(head(1, 0, 4));
        assert_eq!(take(&mut chain, at(1, 4), at(1, 5)), (Taken::Next, vec![(5, 5)]));
        assert_eq!(take(&mut chain, at(1, 4), at(1, 5)), (Taken::Double, vec![]));
        assert_eq!(take(&mut chain, at(1, 6), at(1, 7)), (Taken::Held, vec![]));
        assert_eq!(take(&mut chain, at(1, 7), at(1, 9)), (Taken::Held, vec![]), "offsets need not be consecutive");
        assert_eq!(take(&mut chain, at(1, 5), at(1, 6)), (Taken::Next, vec![(6, 6), (7, 7), (9, 9)]));
        assert!(!chain.has_hole() && chain.has(at(1, 7)) && !chain.has(at(1, 10)));
    }

    #[test]
    fn an_epoch_may_begin_within_the_chain() {
        let mut chain = Chain::new(head(1, 0, 4));
        assert_eq!(take(&mut chain, at(1, 4), at(2, 5)), (Taken::Next, vec![(5, 5)]));
        assert_eq!(take(&mut chain, at(1, 4), at(1, 5)), (Taken::Double, vec![]), "its epoch was left");
        assert!(chain.has(at(1, 4)) && chain.has(at(2, 5)) && !chain.has(at(1, 5)) && !chain.has(at(2, 4)));
    }

    #[test]
    fn numbers_grow_over_a_lost_tail() {
        let mut chain = Chain::new(head(1, 0, 4));
        take(&mut chain, at(1, 4), at(1, 9));
        chain.jump(head(2, 0, 3));
        assert_eq!(chain.number(), 9);
        assert_eq!(take(&mut chain, at(2, 3), at(2, 4)), (Taken::Next, vec![(4, 10)]));
        chain.jump(head(3, 0, 20));
        assert_eq!(take(&mut chain, at(3, 20), at(3, 21)).1, vec![(21, 27)]);
    }

    #[test]
    fn what_is_held_has_a_bound() {
        let mut chain = Chain::new(head(1, 0, 0));
        for offset in 2..200 {
            assert_eq!(take(&mut chain, at(1, offset - 1), at(1, offset)).0, Taken::Held);
        }
        assert!(chain.is_full());
        let mark = chain.mark();
        assert_eq!(take(&mut chain, at(1, 0), at(1, 1)).1.len(), 1 + HELD_MAX);
        assert_eq!(chain.forget_held(mark), []);
    }
}
