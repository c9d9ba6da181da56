//! The nodes, their clients, and the broker between them, in virtual time.

mod network;
mod node;

use std::collections::BTreeSet;

use fanfare_proto::envelope::{Content, Envelope, Incarnation};
use fanfare_proto::presence::{Body, Change, Event, Tell};

use network::{Network, Packet, Rng, To};
use node::Node;

const NODES: usize = 4;
const TOPICS: [&str; 2] = ["room:1", "room:2"];
const CHAOS_MS: u64 = 150_000;
const HEARTBEAT_MS: u64 = 2_000;
const TERM_MS: u64 = 10_000;
const KEPT_MS: u64 = 60_000;
const DEAF_MS: u64 = 3_500;

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    None,
    DeafExpire,
    AnyDeltaFits,
    NobodyAsksAgain,
}

/// How it becomes quiet after the faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quiet {
    LinksComeUp,
    NothingIsSaid,
}

pub(super) fn run(seed: u64, quiet: Quiet, mutation: Mutation) -> Result<(), String> {
    let mut world = World::new(seed, mutation);
    world.until(CHAOS_MS, true)?;
    let stalled_until_ms = world.nodes.iter().map(|node| node.stalled_until_ms).max().unwrap_or(0);
    world.until(stalled_until_ms + 1, false)?;
    world.network.heal();
    if quiet == Quiet::LinksComeUp {
        world.nodes.iter_mut().for_each(|node| node.repair(world.now_ms));
    }
    // The lease of those that have just died, and of a member that has not been heard for two digests.
    let quiet_ms = if quiet == Quiet::LinksComeUp { TERM_MS + 4_000 } else { 900_000 };
    world.until(world.now_ms + quiet_ms, false)?;
    world.check_equal()
}

struct World {
    rng: Rng,
    now_ms: u64,
    network: Network,
    nodes: Vec<Node>,
    mutation: Mutation,
    next_act_ms: u64,
    next_incarnation: u64,
}

impl World {
    fn new(seed: u64, mutation: Mutation) -> Self {
        let mut rng = Rng(seed);
        let counts = rng.chance(50);
        let nodes = (0..NODES).map(|index| Node::start(index, incarnation(index as u64 + 1), 0)).collect();
        World {
            rng,
            now_ms: 0,
            network: Network::new(NODES, counts),
            nodes,
            mutation,
            next_act_ms: 0,
            next_incarnation: NODES as u64 + 1,
        }
    }

    fn until(&mut self, end_ms: u64, is_chaos: bool) -> Result<(), String> {
        loop {
            let dues = self.nodes.iter().filter(|node| node.is_alive).filter_map(Node::due_ms);
            let acts = is_chaos.then_some(self.next_act_ms);
            let next_ms = dues.chain(acts).chain(self.network.next_ms()).min().unwrap_or(end_ms).max(self.now_ms);
            if next_ms >= end_ms {
                self.now_ms = end_ms.max(self.now_ms);
                return Ok(());
            }
            self.now_ms = next_ms;
            if is_chaos && self.next_act_ms <= self.now_ms {
                self.act();
                self.next_act_ms = self.now_ms + 20 + self.rng.below(400);
            }
            while let Some(packet) = self.network.next(self.now_ms) {
                self.deliver(packet)?;
            }
            for index in 0..NODES {
                if self.nodes[index].is_alive && self.nodes[index].due_ms().is_some_and(|due_ms| due_ms <= self.now_ms)
                {
                    self.turn(index)?;
                }
            }
        }
    }

    fn act(&mut self) {
        let (now_ms, index) = (self.now_ms, self.rng.index(NODES));
        let topic = self.rng.index(TOPICS.len());
        let (id, key) = (self.rng.below(6) as u32, format!("user{}", self.rng.below(5)));
        let what = self.rng.below(1_000);
        let longest_ms = if self.rng.chance(20) { 90_000 } else { 14_000 };
        let for_ms = 500 + self.rng.below(longest_ms);
        let node = &mut self.nodes[index];
        match what {
            0..8 if node.is_alive => {
                let bye = self.rng.chance(30);
                let origin = node.incarnation;
                node.is_alive = false;
                self.network.leave(index);
                if bye {
                    self.publish(index, origin, To::Bye, Content::Canary);
                }
            }
            0..50 if !node.is_alive => {
                let incarnation = incarnation(self.next_incarnation);
                self.next_incarnation += 1;
                self.nodes[index] = Node::start(index, incarnation, now_ms);
            }
            50..60 => node.stalled_until_ms = node.stalled_until_ms.max(now_ms + for_ms),
            60..75 => self.network.cut(index, self.rng.chance(60), self.rng.chance(60), now_ms + for_ms),
            _ if !node.is_alive || node.stalled_until_ms > now_ms => {}
            75..150 => {
                if node.leave(topic) {
                    self.network.detach(index, topic);
                }
            }
            150..450 => {
                self.network.attach(index, topic);
                node.enter(topic, now_ms);
            }
            450..700 => {
                self.network.attach(index, topic);
                node.enter(topic, now_ms);
                node.track(topic, id, &key);
            }
            700..820 => node.update(topic, id, &key),
            820..920 => node.untrack(topic, id, &key),
            _ => node.close(topic, id),
        }
    }

    /// All that a node does by itself at a time.
    fn turn(&mut self, index: usize) -> Result<(), String> {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[index];
        let origin = node.incarnation;
        let beats = node.next_beat_ms <= now_ms;
        if beats {
            node.next_beat_ms = now_ms + HEARTBEAT_MS;
        }
        let looks = node.next_look_ms <= now_ms;
        let mut hidden = Vec::new();
        if looks {
            if self.mutation == Mutation::DeafExpire {
                node.leases.canary(now_ms);
            }
            node.next_look_ms = now_ms + 1_000;
            let (events, was_stalled) = node.leases.look(now_ms);
            if was_stalled {
                node.renewed_ms = now_ms;
                node.repair(now_ms);
            }
            for event in events {
                if let Event::Hidden(of) = event {
                    node.check_hiding(of, now_ms)?;
                    hidden.push(of);
                }
                node.event(event);
                node.check_clients()?;
            }
        }
        let tells = node.act(now_ms);
        if beats {
            for _server in 0..2 {
                self.publish(index, origin, To::Heartbeat, Content::Canary);
            }
        }
        if looks {
            self.network.canary(index, now_ms, &mut self.rng);
        }
        for (topic, tell) in tells {
            self.tell(index, topic, tell);
        }
        match self.nodes.iter().find(|node| hidden.contains(&node.incarnation) && self.is_well(node)) {
            Some(node) => Err(format!("node {index} at {now_ms} ms hides {}, which is well", node.incarnation)),
            None => Ok(()),
        }
    }

    fn is_well(&self, node: &Node) -> bool {
        let troubled_ms = self.network.cut_until_ms(node.index).max(node.stalled_until_ms);
        node.is_alive && self.now_ms >= troubled_ms + TERM_MS + HEARTBEAT_MS
    }

    fn tell(&mut self, index: usize, topic: usize, tell: Tell) {
        let origin = self.nodes[index].incarnation;
        match tell {
            Tell::Everyone(body) => {
                let ask = match &body {
                    Body::Ask(ask) => Some(ask.number),
                    _ => None,
                };
                self.publish(index, origin, To::Topic(topic), body.to_content(""));
                if let Some(number) = ask {
                    let nodes = self.network.attached(topic);
                    self.nodes[index].asked(topic, number, nodes);
                }
            }
            Tell::One(to, body) => {
                let is_again = matches!(&body, Body::Ask(_));
                if !(is_again && self.mutation == Mutation::NobodyAsksAgain) {
                    self.publish(index, origin, To::Inbox(to), body.to_content(TOPICS[topic]));
                }
            }
        }
    }

    fn publish(&mut self, index: usize, origin: Incarnation, to: To, content: Content<'_>) {
        let envelope = Envelope { origin, number: 0, content }.to_bytes();
        let nodes: Vec<_> = self.nodes.iter().map(|node| node.incarnation).collect();
        self.network.publish(index, to, envelope, &nodes, self.now_ms, &mut self.rng);
    }

    fn deliver(&mut self, packet: Packet) -> Result<(), String> {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[packet.node];
        if !node.is_alive || packet.incarnation.is_some_and(|incarnation| incarnation != node.incarnation) {
            return Ok(());
        }
        if node.stalled_until_ms > now_ms {
            self.network.later(packet, node.stalled_until_ms);
            return Ok(());
        }
        if packet.to == To::Canary {
            let was_deaf = now_ms - node.canary_ms > DEAF_MS;
            node.heard_itself(now_ms);
            if was_deaf {
                node.repair(now_ms);
            }
            return Ok(());
        }
        let envelope = Envelope::read(&packet.envelope).map_err(|unread| unread.to_string())?;
        let origin = envelope.origin;
        if packet.to == To::Bye {
            if let Some(event) = node.leases.bye(origin, now_ms) {
                node.event(event);
            }
            return node.check_clients();
        }
        if origin != node.incarnation {
            if node.leases.has_left(origin) {
                return Ok(());
            }
            node.last_heard.insert(origin, now_ms);
            if let Some(event) = node.leases.heard(origin, now_ms) {
                node.event(event);
                let ask = node.shared.ask_for_digests().to_content("");
                let index = node.index;
                let from = node.incarnation;
                self.publish(index, from, To::Inbox(origin), ask);
            }
        }
        let Some(body) = Body::of_content(&envelope.content) else { return Ok(()) };
        let (name, body) = body.map_err(|unread| unread.to_string())?;
        let node = &mut self.nodes[packet.node];
        let topic = match packet.to {
            To::Topic(topic) => topic,
            _ if name.is_empty() => {
                node.tell_digests(now_ms);
                return Ok(());
            }
            _ => TOPICS.iter().position(|topic| *topic == name).ok_or("a topic that nobody has")?,
        };
        let body = match body {
            Body::Delta(mut delta) if self.mutation == Mutation::AnyDeltaFits => {
                delta.from = node.version_of(topic, origin);
                Body::Delta(delta)
            }
            body => body,
        };
        if let Body::Delta(delta) = &body
            && let Change::Count(_) = delta.change
        {
            return Err("a count where everybody is told".to_owned());
        }
        let node = &mut self.nodes[packet.node];
        if !node.is_interested(topic) {
            if let Body::Ask(ask) = body
                && origin != node.incarnation
            {
                let nothing = Tell::One(origin, node.shared.nothing(&ask));
                self.tell(packet.node, topic, nothing);
            }
            return Ok(());
        }
        let left = node.take(topic, origin, body, now_ms)?;
        match left.iter().find(|left| self.nodes.iter().any(|node| node.own_refs(topic).contains(*left))) {
            Some(left) => Err(format!("node {} at {now_ms} ms: {left} leaves {name:?} and is there", packet.node)),
            None => Ok(()),
        }
    }

    fn check_equal(&self) -> Result<(), String> {
        for (topic, name) in TOPICS.iter().enumerate() {
            let alive = || self.nodes.iter().filter(|node| node.is_alive);
            let all: BTreeSet<String> = alive().flat_map(|node| node.own_refs(topic)).collect();
            for node in alive().filter(|node| node.is_interested(topic)) {
                let seen = node.refs(topic);
                if seen != all {
                    let (missing, extra): (Vec<_>, Vec<_>) =
                        (all.difference(&seen).collect(), seen.difference(&all).collect());
                    return Err(format!("{name} on node {}: missing {missing:?}, too many {extra:?}", node.index));
                }
            }
        }
        Ok(())
    }
}

fn incarnation(number: u64) -> Incarnation {
    Incarnation::new(number).expect("not 0")
}
