//! The queue between threads under a scheduler that permutes them: its file is compiled against that scheduler's primitives.
//!
//! What is tried: an item that its sender has put in, and told of, is never behind what the owner puts in after it was told;
//! each sender's items keep their order; nothing is lost or doubled; and an owner that sleeps is woken.

#[path = "../../src/mailbox/lane.rs"]
#[allow(dead_code, reason = "the model uses what the engine does, by another path")]
mod lane;

mod sync {
    pub(super) use shuttle::sync::atomic::{AtomicUsize, Ordering};
    pub(super) use shuttle::sync::{Mutex, MutexGuard};

    pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().expect("no thread panics while it holds a lane")
    }
}

use std::collections::VecDeque;

use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::thread;

use lane::Lane;

/// Schedules tried. A failure prints one that repeats it.
const SCHEDULES: usize = 5_000;

const SENDERS: usize = 2;
const EACH: usize = 3;

/// An item: whose it is, and which.
type Item = (usize, usize);

/// The owner's items have this sender.
const OWNER: usize = SENDERS;

/// Everything that the owner takes out, in its order; `told` is asked before each of its own items for what must come before.
fn run(put: impl Fn(&Lane<Item>, Item) + Send + Sync + Copy + 'static) -> (Vec<Item>, Vec<Vec<usize>>) {
    let lane = Arc::new(Lane::new());
    // How many of each sender's items the owner may have been told of.
    let told: Arc<Vec<AtomicUsize>> = Arc::new((0..SENDERS).map(|_| AtomicUsize::new(0)).collect());
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (lane, told) = (lane.clone(), told.clone());
            thread::spawn(move || {
                for n in 0..EACH {
                    put(&lane, (sender, n));
                    told[sender].store(n + 1, Ordering::Release);
                }
            })
        })
        .collect();
    let (mut own, mut order, mut known) = (VecDeque::new(), Vec::new(), Vec::new());
    for n in 0..EACH {
        known.push(told.iter().map(|told| told.load(Ordering::Acquire)).collect());
        lane.put_own(&mut own, (OWNER, n));
        order.extend(own.pop_front());
    }
    senders.into_iter().for_each(|sender| sender.join().expect("a sender does not panic"));
    lane.take_over(&mut own);
    order.extend(own);
    (order, known)
}

fn check((order, known): &(Vec<Item>, Vec<Vec<usize>>)) {
    assert_eq!(order.len(), (SENDERS + 1) * EACH, "{order:?}");
    for sender in 0..=SENDERS {
        let items = order.iter().filter(|item| item.0 == sender).map(|item| item.1);
        assert!(items.eq(0..EACH), "the items of {sender} in {order:?}");
    }
    for (n, known) in known.iter().enumerate() {
        let own = order.iter().position(|&item| item == (OWNER, n)).expect("counted above");
        for (sender, &count) in known.iter().enumerate() {
            let before = order[..own].iter().filter(|item| item.0 == sender).count();
            assert!(before >= count, "told of {count} items of {sender}, {before} come before own item {n}: {order:?}");
        }
    }
}

#[test]
fn what_the_owner_was_told_of_comes_before_what_it_puts_in() {
    shuttle::check_random(|| check(&run(Lane::put)), SCHEDULES);
}

/// The model can fail: with an owner that has a queue of its own beside the lane, as there was once, it does.
#[test]
fn the_model_sees_an_owner_that_does_not_look() {
    let found = std::panic::catch_unwind(|| {
        shuttle::check_random(
            || {
                let lane = Arc::new(Lane::new());
                let told = Arc::new(AtomicBool::new(false));
                let sender = {
                    let (lane, told) = (lane.clone(), told.clone());
                    thread::spawn(move || {
                        lane.put((0, 0));
                        told.store(true, Ordering::Release);
                    })
                };
                let mut own = VecDeque::new();
                let was_told = told.load(Ordering::Acquire);
                own.push_back((OWNER, 0));
                sender.join().expect("a sender does not panic");
                lane.take_over(&mut own);
                assert!(!was_told || own[0] == (0, 0), "overtaken");
            },
            SCHEDULES,
        );
    });
    assert!(found.is_err());
}

/// A sleeping owner is woken: the flag is taken down before the look, and put up after the item.
#[test]
fn an_owner_that_sleeps_is_woken() {
    shuttle::check_random(
        || {
            let lane = Arc::new(Lane::new());
            let (woken, wakes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let senders: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let (lane, woken, wakes) = (lane.clone(), woken.clone(), wakes.clone());
                    thread::spawn(move || {
                        lane.put((sender, 0));
                        if !woken.swap(true, Ordering::AcqRel) {
                            wakes.fetch_add(1, Ordering::AcqRel);
                        }
                    })
                })
                .collect();
            let mut own: VecDeque<Item> = VecDeque::new();
            let mut turns = 0;
            while own.len() < SENDERS {
                // Polls: only a wake-up lets it go on.
                while wakes.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                wakes.store(0, Ordering::Release);
                woken.swap(false, Ordering::AcqRel);
                lane.take_over(&mut own);
                turns += 1;
                assert!(turns <= 2 * SENDERS, "woken without a reason");
            }
            senders.into_iter().for_each(|sender| sender.join().expect("a sender does not panic"));
        },
        SCHEDULES,
    );
}
