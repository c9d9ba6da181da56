//! The first so many of what is offered, by a rank: what a page of a list is made of without all of the list being kept.

use std::collections::BinaryHeap;

/// Keeps those with the lowest ranks.
#[derive(Debug)]
pub(crate) struct Best<R, T> {
    limit: usize,
    kept: BinaryHeap<Ranked<R, T>>,
    /// Something was offered that is not among them.
    has_more: bool,
}

#[derive(Debug)]
struct Ranked<R, T> {
    rank: R,
    item: T,
}

impl<R: Ord, T> Best<R, T> {
    pub(crate) fn new(limit: usize) -> Self {
        Best { limit, kept: BinaryHeap::new(), has_more: false }
    }

    /// The rank below which something has to be to get in; `None` while there is room.
    pub(crate) fn bar(&self) -> Option<&R> {
        (self.kept.len() >= self.limit).then(|| self.kept.peek().map(|worst| &worst.rank)).flatten()
    }

    pub(crate) fn offer(&mut self, rank: R, item: T) {
        if self.bar().is_some_and(|bar| rank >= *bar) {
            self.has_more = true;
            return;
        }
        self.kept.push(Ranked { rank, item });
        if self.kept.len() > self.limit {
            self.kept.pop();
            self.has_more = true;
        }
    }

    /// Somebody else did not even offer something, since it would not get in.
    pub(crate) fn leave_out(&mut self, is_any: bool) {
        self.has_more |= is_any;
    }

    /// What was kept, in order, and the rank behind which the next page begins if there is one.
    pub(crate) fn into_page(self) -> (Vec<(R, T)>, bool) {
        let kept = self.kept.into_sorted_vec().into_iter().map(|Ranked { rank, item }| (rank, item)).collect();
        (kept, self.has_more)
    }
}

impl<R: PartialEq, T> PartialEq for Ranked<R, T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl<R: Eq, T> Eq for Ranked<R, T> {}

impl<R: Ord, T> PartialOrd for Ranked<R, T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Ord, T> Ord for Ranked<R, T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_ranks_are_kept_in_order() {
        #[track_caller]
        fn check(limit: usize, offered: &[u32], expected: &[u32], more: bool) {
            let mut best = Best::new(limit);
            offered.iter().for_each(|&rank| best.offer(rank, ()));
            let (kept, has_more) = best.into_page();
            let kept: Vec<_> = kept.into_iter().map(|(rank, ())| rank).collect();
            assert_eq!((&*kept, has_more), (expected, more), "{limit} of {offered:?}");
        }
        check(3, &[], &[], false);
        check(3, &[2, 1], &[1, 2], false);
        check(3, &[3, 1, 2], &[1, 2, 3], false);
        check(3, &[9, 3, 8, 1, 2, 7], &[1, 2, 3], true);
        check(1, &[1, 2], &[1], true);
    }
}
