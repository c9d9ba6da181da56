//! The broker: who is attached, what is on its way, and what becomes of it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fanfare_proto::envelope::Incarnation;

const LOSS_PERCENT: u64 = 10;
const DOUBLE_PERCENT: u64 = 5;

/// A small generator, so that a seed gives the same run everywhere.
pub(super) struct Rng(pub u64);

impl Rng {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(super) fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Topic(usize),
    Inbox(Incarnation),
    Heartbeat,
    Bye,
    Canary,
}

#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) node: usize,
    /// For this one only.
    pub(super) incarnation: Option<Incarnation>,
    pub(super) to: To,
    pub(super) envelope: Bytes,
}

pub(super) struct Network {
    /// Whether it says how many nodes were reached.
    counts: bool,
    underway: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    attached: BTreeSet<(usize, usize)>,
    /// Until when nothing comes from and to each node, and until when something did not.
    outward_ms: Vec<u64>,
    inward_ms: Vec<u64>,
    is_calm: bool,
}

impl Network {
    pub(super) fn new(nodes: usize, counts: bool) -> Self {
        Network {
            counts,
            underway: BTreeMap::new(),
            sent: 0,
            attached: BTreeSet::new(),
            outward_ms: vec![0; nodes],
            inward_ms: vec![0; nodes],
            is_calm: false,
        }
    }

    pub(super) fn attach(&mut self, node: usize, topic: usize) {
        self.attached.insert((node, topic));
    }

    pub(super) fn detach(&mut self, node: usize, topic: usize) {
        self.attached.remove(&(node, topic));
    }

    pub(super) fn leave(&mut self, node: usize) {
        self.attached.retain(|(of, _)| *of != node);
    }

    pub(super) fn attached(&self, topic: usize) -> Option<u64> {
        self.counts.then(|| self.attached.iter().filter(|(_, of)| *of == topic).count() as u64)
    }

    pub(super) fn cut(&mut self, node: usize, outward: bool, inward: bool, until_ms: u64) {
        if outward {
            self.outward_ms[node] = self.outward_ms[node].max(until_ms);
        }
        if inward {
            self.inward_ms[node] = self.inward_ms[node].max(until_ms);
        }
    }

    pub(super) fn heal(&mut self) {
        self.is_calm = true;
    }

    /// When a node was last cut off, if it was: now, or until then.
    pub(super) fn cut_until_ms(&self, node: usize) -> u64 {
        self.outward_ms[node].max(self.inward_ms[node])
    }

    /// What a node sends itself, which arrives unless it is cut off.
    pub(super) fn canary(&mut self, node: usize, now_ms: u64, rng: &mut Rng) {
        if self.passes(self.outward_ms[node], now_ms) && self.passes(self.inward_ms[node], now_ms) {
            let packet = Packet { node, incarnation: None, to: To::Canary, envelope: Bytes::new() };
            self.later(packet, now_ms + 1 + rng.below(20));
        }
    }

    pub(super) fn publish(
        &mut self,
        from: usize,
        to: To,
        envelope: Bytes,
        nodes: &[Incarnation],
        now_ms: u64,
        rng: &mut Rng,
    ) {
        if !self.passes(self.outward_ms[from], now_ms) {
            return;
        }
        for (node, incarnation) in nodes.iter().enumerate() {
            let is_for_it = match to {
                To::Topic(topic) => self.attached.contains(&(node, topic)),
                To::Inbox(to) => to == *incarnation,
                To::Heartbeat | To::Bye | To::Canary => true,
            };
            if !is_for_it || !self.passes(self.inward_ms[node], now_ms) {
                continue;
            }
            let copies = match self.is_calm {
                true => 1,
                false if rng.chance(LOSS_PERCENT) => 0,
                false => 1 + u64::from(rng.chance(DOUBLE_PERCENT)),
            };
            for copy in 0..copies {
                let delay_ms = 1 + rng.below(40) + copy * rng.below(2_000);
                let packet = Packet { node, incarnation: Some(*incarnation), to, envelope: envelope.clone() };
                self.later(packet, now_ms + delay_ms);
            }
        }
    }

    pub(super) fn later(&mut self, packet: Packet, at_ms: u64) {
        self.sent += 1;
        self.underway.insert((at_ms, self.sent), packet);
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.underway.keys().next().map(|(at_ms, _)| *at_ms)
    }

    pub(super) fn next(&mut self, now_ms: u64) -> Option<Packet> {
        let first = self.underway.first_entry()?;
        (first.key().0 <= now_ms).then(|| first.remove())
    }

    fn passes(&self, cut_ms: u64, now_ms: u64) -> bool {
        self.is_calm || cut_ms <= now_ms
    }
}
