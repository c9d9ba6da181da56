//! What goes wrong between nodes and the broker in memory, and between its servers, when a test says so.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fanfare_proto::position::{Epoch, Position};

use super::{Dice, Event, MemoryBroker, Queue, Server, Stamp, State};
use crate::broker::{Attached, Incarnation};
use crate::clock::Clock;

/// How often, and how much.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Of a thousand messages so many are lost on their way to a node.
    lost_of_1000: u64,
    /// Of a thousand so many come before the one that was sent before them.
    reordered_of_1000: u64,
    delay_max_ms: u64,
    pub(super) is_noting: bool,
    /// What a replica has, to be promoted.
    replica: Option<Server>,
    misbehaviour: Option<Misbehaviour>,
    /// What was appended since it was looked at: topic, predecessor, position, envelope.
    appended: Vec<(String, Position, Position, Bytes)>,
}

/// What is wrong with one node's link.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub(super) is_cut_up: bool,
    pub(super) is_cut_down: bool,
    pub(super) is_stalled: bool,
    pub(super) is_kept_down: bool,
    /// What the misbehaving broker has delivered last.
    last: std::collections::HashMap<Arc<str>, Position>,
}

/// A broker that breaks its contract, or nodes that would not hold to theirs: with any of these a checker of histories has to find
/// something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Messages are stamped as if each followed what the node was given last: as if nobody looked at the chain.
    NoChain,
    /// The head that an attachment tells is read before the subscription is in force, which comes later.
    ReadsBeforeSubscribing,
    /// A log goes on with its epoch in another session.
    KeepsEpochs,
    /// The first epoch of a log follows from its topic.
    DerivesEpochs,
    /// Nodes do not hear that their link is up again.
    NoRepair,
    /// Messages come twice, the second time stamped as if it followed the first.
    Doubles,
}

impl MemoryBroker {
    /// A broker in which nothing moves but in [`step`](MemoryBroker::step), with a clock that is moved by hand. The same seed and calls do
    /// the same things.
    pub fn stepped(seed: u64) -> Self {
        let broker = MemoryBroker::with(seed, Clock::Virtual(Arc::new(AtomicU64::new(0))), true);
        broker.0.state.lock().faults.is_noting = true;
        broker
    }

    /// Moves the clock, and lets all that is due by then happen.
    pub fn step(&self, now_ms: u64) {
        if let Clock::Virtual(now) = &self.0.clock {
            now.store(now_ms, Ordering::Release);
        }
        self.0.state.lock().now_ms = now_ms;
        self.0.pump();
    }

    /// When something happens next, if nothing else does before.
    pub fn next_ms(&self) -> Option<u64> {
        let state = self.0.state.lock();
        let nodes = state.nodes.values();
        nodes.flat_map(|node| node.next_request_ms().into_iter().chain(node.next_event_ms())).min()
    }

    /// From now on, of a thousand messages so many are lost, and so many overtake another; everything takes a while, up to so
    /// many milliseconds.
    pub fn disturb(&self, lost_of_1000: u64, reordered_of_1000: u64, delay_max_ms: u64) {
        let mut state = self.0.state.lock();
        let Faults { lost_of_1000: lost, reordered_of_1000: reordered, delay_max_ms: delay, .. } = &mut state.faults;
        (*lost, *reordered, *delay) = (lost_of_1000, reordered_of_1000, delay_max_ms);
    }

    /// All that was appended since this was asked last: topic, predecessor, position and envelope of each.
    pub fn take_appended(&self) -> Vec<(String, Position, Position, Bytes)> {
        std::mem::take(&mut self.0.state.lock().faults.appended)
    }

    /// From now on it is wrong in this way.
    pub fn misbehave(&self, misbehaviour: Misbehaviour) {
        self.0.state.lock().faults.misbehaviour = Some(misbehaviour);
    }

    /// A node's link breaks; it comes back at once, or when it is [let back](MemoryBroker::let_back).
    pub fn break_link(&self, node: u64, keep_down: bool) {
        let mut state = self.0.state.lock();
        let Some(who) = Incarnation::new(node) else { return };
        if let Some(node) = state.nodes.get_mut(&who) {
            node.trouble.is_kept_down = keep_down;
        }
        state.lose_link(who, "a test has cut it");
        drop(state);
        self.0.pump_if_free();
    }

    /// A node's link comes back.
    pub fn let_back(&self, node: u64) {
        let mut state = self.0.state.lock();
        let Some(who) = Incarnation::new(node) else { return };
        if let Some(node) = state.nodes.get_mut(&who) {
            node.trouble.is_kept_down = false;
        }
        state.bring_back(who);
    }

    /// What a node sends, or what it is sent, does not arrive for now, and nobody is told.
    pub fn cut(&self, node: u64, up: bool, down: bool) {
        self.trouble(node, |trouble| (trouble.is_cut_up, trouble.is_cut_down) = (up, down));
    }

    /// A node is told nothing for now, as if it were stopped.
    pub fn stall(&self, node: u64, stall: bool) {
        self.trouble(node, |trouble| trouble.is_stalled = stall);
    }

    fn trouble(&self, node: u64, change: impl FnOnce(&mut Trouble)) {
        let mut state = self.0.state.lock();
        if let Some(node) = Incarnation::new(node).and_then(|who| state.nodes.get_mut(&who)) {
            change(&mut node.trouble);
        }
    }

    /// The replica gets all that there is.
    pub fn replicate(&self) {
        let mut state = self.0.state.lock();
        state.faults.replica = state.servers.first().cloned();
    }

    /// The replica is promoted: what came since it was replicated is gone, and it is another session. All links break.
    pub fn fail_over(&self) {
        let mut state = self.0.state.lock();
        let Some(mut promoted) = state.faults.replica.clone() else { return };
        promoted.session = state.dice.next();
        state.servers = vec![promoted];
        state.reconnect_all("another server was promoted");
    }

    /// The replica is promoted while the other server goes on: some nodes talk to the one, the others to the other.
    pub fn split(&self, to_replica: impl Fn(u64) -> bool) {
        let mut state = self.0.state.lock();
        let Some(mut promoted) = state.faults.replica.clone() else { return };
        promoted.session = state.dice.next();
        state.servers.truncate(1);
        state.servers.push(promoted);
        let moved: Vec<_> = state.nodes.keys().copied().filter(|who| to_replica(who.number())).collect();
        for who in moved {
            if let Some(node) = state.nodes.get_mut(&who) {
                node.server = 1;
            }
            state.lose_link(who, "another server was promoted");
        }
    }

    /// Only the promoted server is left.
    pub fn heal(&self) {
        let mut state = self.0.state.lock();
        if state.servers.len() > 1 {
            state.servers.remove(0);
            state.reconnect_all("the server was demoted");
        }
    }

    /// Everything is gone. Nodes find out as they do with a server that has another life.
    pub fn flush(&self) {
        let mut state = self.0.state.lock();
        state.servers.iter_mut().for_each(Server::flush);
        state.reconnect_all("the server has another life");
    }

    /// A topic, or only its messages, is gone, and nobody is told.
    pub fn evict(&self, topic: &str, only_messages: bool) {
        self.0.state.lock().servers.iter_mut().for_each(|server| server.evict(topic, only_messages));
    }

    /// A node is gone, without a word.
    pub fn kill(&self, node: u64) {
        if let Some(who) = Incarnation::new(node) {
            self.0.state.lock().nodes.remove(&who);
        }
    }
}

impl Faults {
    /// Something was appended. Whoever steps the broker looks now and then.
    pub(super) fn note(&mut self, topic: &str, stamp: Stamp, envelope: &Bytes) {
        if self.is_noting {
            self.appended.push((topic.to_owned(), stamp.prev, stamp.position, envelope.clone()));
        }
    }

    pub(super) fn delay_ms(&self, dice: &mut Dice) -> u64 {
        if self.delay_max_ms == 0 { 0 } else { dice.below(self.delay_max_ms + 1) }
    }

    pub(super) fn is_reordered(&self, dice: &mut Dice) -> bool {
        self.reordered_of_1000 > 0 && dice.below(1_000) < self.reordered_of_1000
    }
}

impl Queue<Event> {
    /// The last two change places, if no contract keeps them from that.
    pub(super) fn swap_last(&mut self) {
        let Some(before) = self.0.len().checked_sub(2) else { return };
        let may_swap = match (&self.0[before].1, &self.0[before + 1].1) {
            (Event::Live { topic, by, .. }, Event::Live { topic: other, by: another, .. }) => {
                topic != other || by != another
            }
            _ => false,
        };
        if may_swap {
            let (one_ms, other_ms) = (self.0[before].0, self.0[before + 1].0);
            self.0.swap(before, before + 1);
            (self.0[before].0, self.0[before + 1].0) = (one_ms, other_ms);
        }
    }
}

impl State {
    fn reconnect_all(&mut self, why: &str) {
        for who in self.nodes.keys().copied().collect::<Vec<_>>() {
            if let Some(node) = self.nodes.get_mut(&who) {
                node.server = 0;
            }
            self.lose_link(who, why);
        }
    }

    pub(super) fn is_lost(&mut self, event: &Event) -> bool {
        let lost = self.faults.lost_of_1000;
        lost > 0 && matches!(event, Event::Live { .. } | Event::Inbox(_)) && self.dice.below(1_000) < lost
    }

    pub(super) fn misbehaving_epoch(&self, topic: &str, server: usize) -> Option<Epoch> {
        match self.faults.misbehaviour? {
            Misbehaviour::KeepsEpochs => Some(self.servers[server].position(topic)?.epoch),
            Misbehaviour::DerivesEpochs if self.servers[server].position(topic).is_none() => {
                let mut hasher = DefaultHasher::new();
                topic.hash(&mut hasher);
                Epoch::new(hasher.finish() | 1)
            }
            _ => None,
        }
    }

    /// The answer of a broker that reads first, and subscribes when it has answered something else.
    pub(super) fn attach_too_late(&mut self, who: Incarnation, topic: &Arc<str>, fresh: Epoch) -> Option<Attached> {
        if self.faults.misbehaviour != Some(Misbehaviour::ReadsBeforeSubscribing) {
            return None;
        }
        let server = self.server_of(who);
        let head = self.servers[server].head(topic, fresh);
        let (topic, due_ms) = (topic.clone(), self.now_ms + 1 + self.delay_ms());
        let run = Box::new(move |state: &mut State| {
            if let Some(node) = state.nodes.get_mut(&who).filter(|node| node.wanted.contains(&topic)) {
                node.attached.insert(topic);
            }
            Event::Answer(0, Box::new(|| ()))
        });
        if let Some(node) = self.nodes.get_mut(&who) {
            node.up[0].put(due_ms, super::Request { run });
        }
        Some(Attached { head: Some(head) })
    }

    /// What a misbehaving broker makes of what it is about to tell a node.
    pub(super) fn misbehaving(&mut self, who: Incarnation, mut event: Event) -> Event {
        if let Some(again) = self.misbehave(who, &mut event)
            && let Some(node) = self.nodes.get_mut(&who)
        {
            node.down[0].0.push_front((0, again));
        }
        event
    }

    /// The same, and what it tells it after that.
    fn misbehave(&mut self, who: Incarnation, event: &mut Event) -> Option<Event> {
        let misbehaviour = self.faults.misbehaviour?;
        let trouble = &mut self.nodes.get_mut(&who)?.trouble;
        match (misbehaviour, event) {
            (Misbehaviour::NoChain, Event::Live { topic, stamp: Some(stamp), .. }) => {
                if let Some(last) = trouble.last.insert(topic.clone(), stamp.position) {
                    stamp.prev = last;
                }
                None
            }
            (Misbehaviour::Doubles, Event::Live { topic, envelope, stamp: Some(stamp), by }) => {
                // Twice, not for ever.
                let stamp = (stamp.prev != stamp.position).then_some(Stamp { prev: stamp.position, ..*stamp })?;
                let stamp = Some(stamp);
                Some(Event::Live { topic: topic.clone(), envelope: envelope.clone(), stamp, by: *by })
            }
            (Misbehaviour::NoRepair, event @ Event::Link(_)) => {
                let is_again = trouble.last.insert("".into(), Position { epoch: Epoch::new(1)?, offset: 0 }).is_some();
                if is_again {
                    *event = Event::Answer(0, Box::new(|| ()));
                }
                None
            }
            _ => None,
        }
    }
}
