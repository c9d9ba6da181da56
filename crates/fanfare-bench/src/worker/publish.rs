//! Sending: at a pace, or as fast as a window allows.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{State, Worker};
use crate::plan::{Life, Traffic};
use crate::shared::Phase;
use crate::stamp::Stamp;

/// After so long without an arrival, what is in flight counts as lost, so that a window does not stay closed.
const STALL: u64 = 1_000_000_000;

/// The most messages sent before something is read again.
const BURST_MAX: usize = 256;

/// A connection that sends.
pub(super) struct Publisher {
    connection: u32,
    id: u32,
    /// The number of its last message that counts.
    number: u32,
    /// All its messages.
    sent: u64,
    last_sent: u64,
}

impl Publisher {
    pub(super) fn new(connection: u32, id: u32) -> Self {
        Self { connection, id, number: 0, sent: 0, last_sent: 0 }
    }
}

/// Who is due when: all in turn, evenly spread over time.
pub(super) struct Pace {
    start: u64,
    gap: f64,
    many: usize,
    /// From one to the next: coprime to how many there are, so that all come, and neighbours not after each other.
    stride: usize,
    turn: u64,
}

impl Pace {
    /// `rate` turns a second for each of so many.
    pub(super) fn new(start: u64, rate: f64, many: usize) -> Option<Self> {
        if many == 0 || rate <= 0.0 {
            return None;
        }
        let common = |mut a: usize, mut b: usize| {
            while b > 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        let wished = (many as f64 * 0.618) as usize;
        let stride = (wished.max(1)..).find(|stride| common(*stride, many) == 1).unwrap_or(1);
        Some(Self { start, gap: 1e9 / (rate * many as f64), many, stride, turn: 0 })
    }

    fn due(&self) -> u64 {
        self.start + (self.turn as f64 * self.gap) as u64
    }

    fn take(&mut self) -> usize {
        let who = (self.turn % self.many as u64) as usize * self.stride % self.many;
        self.turn += 1;
        who
    }
}

/// Wakes the worker at a moment, to the microsecond: waiting for the kernel can only be told milliseconds.
pub(super) struct Alarm {
    timer: TimerFd,
    set_to: u64,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Self { timer, set_to: 0 })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }

    fn set(&mut self, due: u64, now: u64) {
        if due == self.set_to {
            return;
        }
        self.set_to = due;
        // A wait of nothing would stop it.
        let wait = TimeSpec::from_duration(Duration::from_nanos(due.saturating_sub(now).max(1)));
        // Should it fail, the worker wakes up twice a second, which the latency will show.
        let _ = self.timer.set(Expiration::OneShot(wait), TimerSetTimeFlags::empty());
    }
}

impl Worker<'_> {
    /// Sends what is due.
    pub(super) fn publish_due(&mut self, now: u64) {
        for _ in 0..BURST_MAX {
            let Some(pace) = self.pace.as_mut().filter(|pace| pace.due() <= now) else { return };
            let (due, who) = (pace.due(), pace.take());
            match self.plan.life {
                Life::Presence(_) => self.leave_if_live(who),
                _ => self.publish(who, due, 1, now),
            }
        }
    }

    /// Sees to it that the worker wakes up for what is due next.
    pub(super) fn set_alarm(&mut self) {
        if let Some(pace) = &self.pace {
            let now = self.shared.now();
            self.alarm.set(pace.due(), now);
        }
    }

    /// Sends messages of one publisher that are due at `time`.
    pub(super) fn publish(&mut self, who: usize, time: u64, many: u32, now: u64) {
        let measured = self.phase == Phase::Measure;
        let publisher = &mut self.publishers[who];
        let index = publisher.connection as usize;
        if self.connections[index].state != State::Live {
            return;
        }
        let seat = self.plan.seats[self.first + index];
        let topic = &self.plan.topics[seat.topic as usize];
        for _ in 0..many {
            publisher.number += u32::from(measured);
            let number = if measured { publisher.number } else { 0 };
            let stamp = Stamp { time, publisher: publisher.id, number };
            self.plan.protocol.publish(topic, stamp, self.plan.size, &mut self.outgoing);
        }
        publisher.sent += u64::from(many);
        publisher.last_sent = now;
        let counts = &self.shared.counts;
        counts.sent.fetch_add(many.into(), Ordering::Relaxed);
        if measured {
            counts.sent_measured.fetch_add(many.into(), Ordering::Relaxed);
        }
        self.send(index);
    }

    /// Sends what the window of a publisher has room for.
    pub(super) fn refill(&mut self, who: usize, now: u64) {
        let Traffic::Window(window) = self.plan.traffic else { return };
        if !matches!(self.phase, Phase::WarmUp | Phase::Measure) {
            return;
        }
        let publisher = &self.publishers[who];
        let arrived = self.shared.arrived_of[publisher.id as usize].load(Ordering::Relaxed);
        let done = arrived / u64::from(self.plan.subscribers_per_topic);
        let free = u64::from(window).saturating_sub(publisher.sent.saturating_sub(done)) as u32;
        // A few at a time cost fewer writes.
        if free >= (window / 4).max(1) {
            self.publish(who, now, free, now);
        }
    }

    /// Does so for all whose messages have arrived.
    pub(super) fn refill_touched(&mut self) {
        let mut ours = std::mem::take(&mut self.ready_publishers);
        let first = self.publishers.first().map_or(u32::MAX, |publisher| publisher.id);
        let (shared, many) = (self.shared, self.publishers.len());
        let per_message = u64::from(self.plan.subscribers_per_topic);
        let mut others = false;
        self.tally.take_arrived(|publisher, arrived| {
            let before = shared.arrived_of[publisher as usize].fetch_add(arrived.into(), Ordering::Relaxed);
            match publisher.wrapping_sub(first) as usize {
                who if who < many => ours.push(who),
                _ => others |= before / per_message != (before + u64::from(arrived)) / per_message,
            }
        });
        if others {
            shared.wake_all();
        }
        let now = self.shared.now();
        ours.drain(..).for_each(|who| self.refill(who, now));
        self.ready_publishers = ours;
    }

    /// The same for those that other workers may have made ready (`woken`), and gives up what has not arrived for long.
    pub(super) fn refill_stalled(&mut self, woken: bool) {
        let Traffic::Window(_) = self.plan.traffic else { return };
        let now = self.now;
        let check = now >= self.next_stall_check;
        if !check && !woken {
            return;
        }
        if check {
            self.next_stall_check = now + STALL / 4;
        }
        for who in 0..self.publishers.len() {
            let publisher = &self.publishers[who];
            if check && publisher.last_sent + STALL < now {
                let all = publisher.sent * u64::from(self.plan.subscribers_per_topic);
                self.shared.arrived_of[publisher.id as usize].fetch_max(all, Ordering::Relaxed);
            }
            self.refill(who, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_at_the_right_time() {
        for many in [1, 2, 3, 10, 100, 999, 1000] {
            let mut pace = Pace::new(5_000, 10.0, many).unwrap();
            let mut turns: Vec<usize> = (0..many).map(|_| pace.take()).collect();
            turns.sort_unstable();
            assert_eq!(turns, (0..many).collect::<Vec<_>>());
            assert_eq!(pace.due(), 5_000 + 100_000_000, "{many} times a tenth of a second");
        }
        assert!(Pace::new(0, 0.0, 5).is_none() && Pace::new(0, 5.0, 0).is_none());
    }
}
