//! What deliveries are counted in, one for each worker: the code that runs once for every message that arrives.

use crate::histogram::Histogram;
use crate::plan::{Plan, Traffic};
use crate::protocol::Role;
use crate::sequence::{Arrival, Sequence};
use crate::stamp::Stamp;

/// Sums of a worker's measured deliveries; added up over workers at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    /// Each message once for each subscriber that stays connected.
    pub(crate) delivered: u64,
    /// The same for subscribers that drop and come back.
    pub(crate) delivered_unsteady: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    /// Messages of other topics than the subscriber's.
    pub(crate) strays: u64,
    pub(crate) reads: u64,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    /// What clients were told about who is present.
    pub(crate) presence_messages: u64,
    pub(crate) latency: Histogram,
}

impl Sums {
    pub(crate) fn add(&mut self, other: &Sums) {
        self.delivered += other.delivered;
        self.delivered_unsteady += other.delivered_unsteady;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.strays += other.strays;
        self.reads += other.reads;
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.presence_messages += other.presence_messages;
        self.latency.add(&other.latency);
    }
}

/// Who gets a delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver {
    /// Its index within the worker.
    pub(crate) index: u32,
    pub(crate) topic: u32,
    pub(crate) role: Role,
    /// Whether it drops and comes back.
    pub(crate) unsteady: bool,
}

pub(crate) struct Tally {
    pub(crate) sums: Sums,
    /// Deliveries since the last look, those of the warm-up included.
    pub(crate) arrived: u64,
    /// Those of them that count.
    pub(crate) fresh: u64,
    /// How long the last of these took, in nanoseconds.
    pub(crate) last_latency: u64,
    /// Since the last look, for each publisher; only where a window needs it.
    arrived_of: Vec<u32>,
    /// Publishers with anything there.
    touched: Vec<u32>,
    /// For each connection of the worker, one for each publisher of its topic.
    sequences: Vec<Sequence>,
    publishers_per_topic: u32,
    hint: usize,
    packs: bool,
}

impl Tally {
    pub(crate) fn new(plan: &Plan, connections: usize) -> Self {
        let counted = if matches!(plan.traffic, Traffic::Window(_)) { plan.publishers() } else { 0 };
        Self {
            sums: Sums::default(),
            arrived: 0,
            fresh: 0,
            last_latency: 0,
            arrived_of: vec![0; counted],
            touched: Vec::new(),
            sequences: vec![Sequence::default(); connections * plan.publishers_per_topic as usize],
            publishers_per_topic: plan.publishers_per_topic,
            hint: 0,
            packs: plan.protocol.packs(),
        }
    }

    /// Forgets what a connection has got: it is a new one.
    pub(crate) fn forget(&mut self, index: usize) {
        let publishers = self.publishers_per_topic as usize;
        self.sequences[index * publishers..][..publishers].fill(Sequence::default());
    }

    /// Forgets what does not tell the warm-up from what counts. Messages of other workers' publishers that count may be
    /// here already: whatever is counted by their number stays.
    pub(crate) fn forget_warm_up(&mut self) {
        let sums = &mut self.sums;
        for sum in [&mut sums.reads, &mut sums.frames, &mut sums.bytes, &mut sums.presence_messages] {
            *sum = 0;
        }
    }

    /// Takes a message. False if it has no stamp, and means something else.
    #[inline]
    pub(crate) fn message(&mut self, receiver: Receiver, message: &[u8], now: u64) -> bool {
        let Some((stamp, end)) = Stamp::find(message, &mut self.hint) else { return false };
        self.sums.frames += 1;
        if receiver.role.subscribes() {
            self.deliver(receiver, stamp, now);
            if self.packs {
                let (mut rest, mut anywhere) = (&message[end..], usize::MAX);
                while let Some((stamp, end)) = Stamp::find(rest, &mut anywhere) {
                    self.deliver(receiver, stamp, now);
                    rest = &rest[end..];
                }
            }
        }
        true
    }

    #[inline]
    fn deliver(&mut self, receiver: Receiver, stamp: Stamp, now: u64) {
        let first = receiver.topic * self.publishers_per_topic;
        let slot = stamp.publisher.wrapping_sub(first);
        if slot >= self.publishers_per_topic {
            self.sums.strays += 1;
            return;
        }
        self.arrived += 1;
        if let Some(count) = self.arrived_of.get_mut(stamp.publisher as usize) {
            if *count == 0 {
                self.touched.push(stamp.publisher);
            }
            *count += 1;
        }
        if stamp.number == 0 {
            return;
        }
        let sequence = &mut self.sequences[(receiver.index * self.publishers_per_topic + slot) as usize];
        match sequence.arrive(stamp.number) {
            Arrival::New => {}
            Arrival::Late => self.sums.reordered += 1,
            Arrival::Again => {
                self.sums.duplicated += 1;
                return;
            }
        }
        self.fresh += 1;
        match receiver.unsteady {
            false => self.sums.delivered += 1,
            true => self.sums.delivered_unsteady += 1,
        }
        self.last_latency = now.saturating_sub(stamp.time);
        self.sums.latency.record(self.last_latency);
    }

    /// Hands over what each publisher's messages have got to since the last call.
    pub(crate) fn take_arrived(&mut self, mut each: impl FnMut(u32, u32)) {
        for publisher in self.touched.drain(..) {
            each(publisher, std::mem::take(&mut self.arrived_of[publisher as usize]));
        }
    }
}
