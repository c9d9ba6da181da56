//! Answers that count again for a while. A question is kept as its digest, so that no token lies in memory for it.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use aws_lc_rs::digest::{SHA256, digest};

/// What an entry takes beside its answer: twice the key, and the bookkeeping.
const ENTRY_SIZE: usize = 200;

/// The digest of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Question([u8; 32]);

impl Question {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text).as_ref());
        Self(bytes)
    }
}

/// Bounded in bytes; the oldest go first. Time is an argument.
#[derive(Debug)]
pub(super) struct Cache<A> {
    size_max: usize,
    size: usize,
    entries: HashMap<Question, Entry<A>>,
    /// In the order in which they came. One that was replaced counts until its turn comes, so that everything here is bounded.
    order: VecDeque<(Question, u64, usize)>,
    next: u64,
}

#[derive(Debug)]
struct Entry<A> {
    answer: A,
    until: Instant,
    number: u64,
}

impl<A: Clone> Cache<A> {
    pub(super) fn new(size_max: usize) -> Self {
        Self { size_max, size: 0, entries: HashMap::new(), order: VecDeque::new(), next: 0 }
    }

    pub(super) fn get(&self, question: &Question, now: Instant) -> Option<A> {
        let entry = self.entries.get(question).filter(|entry| now < entry.until)?;
        Some(entry.answer.clone())
    }

    /// Keeps an answer of so many bytes, unless it is larger than everything may be together.
    pub(super) fn put(&mut self, question: Question, answer: A, size: usize, until: Instant) {
        let size = size + ENTRY_SIZE;
        if size > self.size_max {
            return;
        }
        while self.size + size > self.size_max {
            self.drop_oldest();
        }
        let number = self.next;
        self.next += 1;
        self.size += size;
        self.order.push_back((question, number, size));
        self.entries.insert(question, Entry { answer, until, number });
    }

    fn drop_oldest(&mut self) {
        let Some((question, number, size)) = self.order.pop_front() else { return };
        self.size -= size;
        if self.entries.get(&question).is_some_and(|entry| entry.number == number) {
            self.entries.remove(&question);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn answers_count_for_their_time() {
        let now = Instant::now();
        let later = |seconds: u64| now + Duration::from_secs(seconds);
        let mut cache = Cache::new(10_000);
        let [a, b] = [b"a", b"b"].map(|text| Question::of(text));
        cache.put(a, 1, 10, later(10));
        assert_eq!((cache.get(&a, later(9)), cache.get(&a, later(10)), cache.get(&b, now)), (Some(1), None, None));
        cache.put(a, 2, 10, later(20));
        assert_eq!(cache.get(&a, later(19)), Some(2));
    }

    #[test]
    fn the_oldest_go_beyond_the_bound() {
        let until = Instant::now() + Duration::from_secs(60);
        let mut cache = Cache::new(1000);
        let question = |number: usize| Question::of(&number.to_be_bytes());
        for number in 0..1000 {
            cache.put(question(number), number, 50, until);
            // What was replaced is bounded too.
            cache.put(question(number), number, 50, until);
            assert!(cache.size <= 1000 && cache.order.len() <= 4 && cache.entries.len() <= 4);
        }
        let kept: Vec<_> = (0..1000).filter_map(|number| cache.get(&question(number), Instant::now())).collect();
        assert_eq!(kept, [998, 999]);
        cache.put(question(0), 0, 801, until);
        assert_eq!(cache.get(&question(0), Instant::now()), None);
    }
}
