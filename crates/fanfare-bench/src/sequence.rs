//! What one subscriber has of one publisher: each number is new, late, or there again.

/// How far back a number is remembered. A repetition that comes later than that counts as late.
const REMEMBERED: u32 = u32::BITS;

/// Eight bytes, because there is one for every publisher that a client hears.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequence {
    highest: u32,
    /// Bit `n`: the number `highest - n` has come.
    seen: u32,
}

/// What an arrival is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Above everything that has come. Numbers that it skips may still come late; those that don't are lost.
    New,
    /// New as well, but after one with a higher number.
    Late,
    /// It has come before.
    Again,
}

impl Sequence {
    /// Takes the next number, which is at least 1.
    #[inline]
    pub(crate) fn arrive(&mut self, number: u32) -> Arrival {
        if number > self.highest {
            let ahead = number - self.highest;
            self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | 1;
            self.highest = number;
            return Arrival::New;
        }
        let age = self.highest - number;
        if age >= REMEMBERED {
            return Arrival::Late;
        }
        if self.seen >> age & 1 == 1 {
            return Arrival::Again;
        }
        self.seen |= 1 << age;
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the arrivals are new or late, late, and there again.
    fn count(numbers: &[u32]) -> (usize, usize, usize) {
        let mut sequence = Sequence::default();
        let arrivals: Vec<Arrival> = numbers.iter().map(|number| sequence.arrive(*number)).collect();
        let of = |kind| arrivals.iter().filter(|arrival| **arrival == kind).count();
        (of(Arrival::New) + of(Arrival::Late), of(Arrival::Late), of(Arrival::Again))
    }

    #[test]
    fn kinds_of_arrivals() {
        #[track_caller]
        fn check(numbers: &[u32], distinct: usize, late: usize, again: usize) {
            assert_eq!(count(numbers), (distinct, late, again), "{numbers:?}");
        }
        check(&[], 0, 0, 0);
        check(&[1, 2, 3], 3, 0, 0);
        check(&[5, 6], 2, 0, 0); // one that came to it late
        check(&[1, 3], 2, 0, 0); // 2 is lost: what was sent and not here
        check(&[1, 3, 2], 3, 1, 0);
        check(&[2, 1], 2, 1, 0);
        check(&[1, 1], 1, 0, 1);
        check(&[1, 2, 1, 2, 3], 3, 0, 2);
        check(&[1, 3, 2, 2, 3], 3, 1, 2);
        check(&[4, 3, 2, 1, 4, 3, 2, 1], 4, 3, 4);
        check(&[1, 40, 9, 9], 3, 1, 1); // the oldest that is remembered
        check(&[1, 40, 8, 8], 4, 2, 0); // one further back: not known to be there again
        check(&[u32::MAX, u32::MAX, u32::MAX - 1], 2, 1, 1);
    }

    /// Any disorder within what is remembered is counted as a set would count it.
    #[test]
    fn like_a_set() {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % limit as u64) as usize
        };
        for round in 0..500 {
            let mut numbers: Vec<u32> = (1..=200).filter(|_| below(20) > 0).collect();
            for _ in 0..below(40) {
                let (at, by) = (below(numbers.len()), below(12));
                let to = (at + by).min(numbers.len() - 1);
                match below(2) {
                    0 => numbers.swap(at, to),
                    _ => numbers.insert(to, numbers[at]),
                }
            }
            // Only disorder that the window spans has an exact answer.
            let mut highest = 0;
            numbers.retain(|number| {
                highest = highest.max(*number);
                highest - number < REMEMBERED
            });
            let (mut seen, mut highest, mut late) = (std::collections::BTreeSet::new(), 0, 0);
            for number in &numbers {
                late += usize::from(seen.insert(*number) && *number < highest);
                highest = highest.max(*number);
            }
            assert_eq!(count(&numbers), (seen.len(), late, numbers.len() - seen.len()), "round {round}: {numbers:?}");
        }
    }
}
