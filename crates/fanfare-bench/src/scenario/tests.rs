//! Who sits where, and small sums.

use super::*;

#[test]
fn seats() {
    #[track_caller]
    fn check(layout: &Layout, apart: bool, expected: &[(u32, Role, u32)]) {
        let seats: Vec<_> =
            layout.seats(apart).into_iter().map(|seat| (seat.topic, seat.role, seat.publisher)).collect();
        assert_eq!(seats, expected);
        assert_eq!(layout.connections(apart), expected.len());
    }
    use Role::{Member, Publisher, Subscriber};
    check(
        &Layout::audience(2, 2),
        false,
        &[(0, Subscriber, 0), (0, Subscriber, 0), (0, Publisher, 0), (0, Publisher, 1)],
    );
    check(&Layout::rooms(2, 2), false, &[(0, Member, 0), (0, Member, 1), (1, Member, 2), (1, Member, 3)]);
    check(&Layout::rooms(2, 1), true, &[(0, Subscriber, 0), (0, Publisher, 0), (1, Subscriber, 1), (1, Publisher, 1)]);
}

#[test]
fn medians() {
    for (numbers, expected) in [(vec![], 0.0), (vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0], 2.5)] {
        assert_eq!(median(numbers), expected);
    }
}
