//! A node: its topics, a client for each, and what is known of other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fanfare_proto::envelope::Incarnation;
use fanfare_proto::presence::{self, Body, Bounds, Diff, Event, Leases, Meta, Presences, Rows, Tell, TopicPresence};
use serde_json::Map;

use super::{DEAF_MS, KEPT_MS, TERM_MS, TOPICS};

const BOUNDS: Bounds = Bounds { members_max: 1_000, bytes_max: 1_000_000 };

pub(super) struct Node {
    pub(super) index: usize,
    pub(super) incarnation: Incarnation,
    pub(super) shared: Arc<presence::Node>,
    pub(super) is_alive: bool,
    pub(super) stalled_until_ms: u64,
    pub(super) next_beat_ms: u64,
    pub(super) next_look_ms: u64,
    pub(super) leases: Leases,
    /// What the checks go by: when it heard of whom, and of itself, and since when without a break.
    pub(super) last_heard: BTreeMap<Incarnation, u64>,
    pub(super) canary_ms: u64,
    pub(super) renewed_ms: u64,
    topics: Vec<Option<Topic>>,
    next_ref: u64,
}

struct Topic {
    present: TopicPresence<u32>,
    rows: Rows,
    /// What a client has, once it was told the state.
    client: Option<BTreeSet<String>>,
    /// Refs that have left for good, as far as the client was told.
    left: BTreeSet<String>,
}

impl Node {
    pub(super) fn start(index: usize, incarnation: Incarnation, now_ms: u64) -> Self {
        Node {
            index,
            incarnation,
            shared: Arc::new(presence::Node::new(incarnation)),
            is_alive: true,
            stalled_until_ms: 0,
            next_beat_ms: now_ms,
            next_look_ms: now_ms,
            leases: Leases::new(TERM_MS, KEPT_MS, DEAF_MS, now_ms),
            last_heard: BTreeMap::new(),
            canary_ms: now_ms,
            renewed_ms: now_ms,
            topics: TOPICS.iter().map(|_| None).collect(),
            next_ref: 0,
        }
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        let topics = self.topics.iter().flatten().filter_map(|topic| topic.rows.due_ms(&topic.present));
        let due_ms = topics.chain([self.next_beat_ms, self.next_look_ms]).min();
        due_ms.map(|due_ms| due_ms.max(self.stalled_until_ms))
    }

    pub(super) fn enter(&mut self, topic: usize, now_ms: u64) {
        let shared = self.shared.clone();
        self.topics[topic].get_or_insert_with(|| {
            let mut rows = Rows::new(shared, false);
            rows.ask(now_ms);
            Topic { present: TopicPresence::new(), rows, client: None, left: BTreeSet::new() }
        });
    }

    /// Only where nobody is tracked: those who are are members.
    pub(super) fn leave(&mut self, topic: usize) -> bool {
        let is_over = self.topics[topic].as_ref().is_some_and(|topic| topic.present.own_len() == 0);
        if is_over {
            self.topics[topic] = None;
        }
        is_over
    }

    pub(super) fn track(&mut self, topic: usize, id: u32, key: &str) {
        let meta = self.meta(None);
        self.change(topic, |present| present.track(id, key, meta, BOUNDS).unwrap_or_default());
    }

    pub(super) fn update(&mut self, topic: usize, id: u32, key: &str) {
        let present = self.topics[topic].as_ref().and_then(|topic| topic.present.tracked(id, key));
        let Some(old) = present.map(|meta| meta.phx_ref().to_owned()) else { return };
        let meta = self.meta(Some(&old));
        self.change(topic, |present| present.update(id, key, meta, BOUNDS).unwrap_or_default());
    }

    pub(super) fn untrack(&mut self, topic: usize, id: u32, key: &str) {
        self.change(topic, |present| present.untrack(id, key).unwrap_or_default());
    }

    pub(super) fn close(&mut self, topic: usize, id: u32) {
        self.change(topic, |present| present.untrack_all(id));
    }

    pub(super) fn repair(&mut self, now_ms: u64) {
        self.leases.renew(now_ms);
        self.renewed_ms = now_ms;
        for topic in self.topics.iter_mut().flatten() {
            topic.rows.ask(now_ms);
            topic.rows.tell_digest(now_ms);
        }
    }

    pub(super) fn tell_digests(&mut self, now_ms: u64) {
        self.topics.iter_mut().flatten().for_each(|topic| topic.rows.tell_digest(now_ms));
    }

    pub(super) fn heard_itself(&mut self, now_ms: u64) {
        self.leases.canary(now_ms);
        if now_ms - self.canary_ms > DEAF_MS {
            self.renewed_ms = now_ms;
        }
        self.canary_ms = now_ms;
    }

    pub(super) fn event(&mut self, event: Event) {
        for topic in self.topics.iter_mut().flatten() {
            let diff = match event {
                Event::Appeared(_) => continue,
                Event::Hidden(node) => topic.rows.hide(&mut topic.present, node),
                Event::Dropped(node) => topic.rows.drop_row(&mut topic.present, node),
            };
            topic.apply(&diff);
        }
    }

    pub(super) fn asked(&mut self, topic: usize, number: u64, nodes: Option<u64>) {
        if let Some(topic) = &mut self.topics[topic] {
            topic.rows.receivers(number, nodes);
        }
    }

    pub(super) fn act(&mut self, now_ms: u64) -> Vec<(usize, Tell)> {
        let mut tells = Vec::new();
        for (number, topic) in self.topics.iter_mut().enumerate() {
            let Some(topic) = topic else { continue };
            topic.rows.act(&topic.present, now_ms);
            if topic.client.is_none() && topic.rows.is_complete(now_ms) {
                topic.client = Some(refs(&topic.present.list()));
            }
            tells.extend(topic.rows.take_tells().into_iter().map(|tell| (number, tell)));
        }
        tells
    }

    /// Returns who has left.
    pub(super) fn take(
        &mut self,
        topic: usize,
        origin: Incarnation,
        body: Body,
        now_ms: u64,
    ) -> Result<BTreeSet<String>, String> {
        let is_alive = self.leases.is_alive(origin);
        let Some(of_topic) = &mut self.topics[topic] else { return Ok(BTreeSet::new()) };
        let diff = of_topic.rows.take(&mut of_topic.present, origin, body, is_alive, now_ms);
        if diff.is_empty() {
            return Ok(BTreeSet::new());
        }
        of_topic.apply(&diff);
        let left = refs(&diff.leaves);
        of_topic.left.extend(left.iter().cloned());
        if let Some(back) = refs(&diff.joins).difference(&left).find(|joined| of_topic.left.contains(*joined)) {
            return Err(format!("node {} at {now_ms} ms: {back} has left {} and joins", self.index, TOPICS[topic]));
        }
        self.check_clients().map(|()| left)
    }

    pub(super) fn version_of(&self, topic: usize, node: Incarnation) -> u64 {
        self.topics[topic].as_ref().map_or(0, |topic| topic.rows.version_of(node))
    }

    pub(super) fn is_interested(&self, topic: usize) -> bool {
        self.topics[topic].is_some()
    }

    pub(super) fn refs(&self, topic: usize) -> BTreeSet<String> {
        self.topics[topic].as_ref().map(|topic| refs(&topic.present.list())).unwrap_or_default()
    }

    pub(super) fn own_refs(&self, topic: usize) -> BTreeSet<String> {
        let of_topic = self.topics[topic].iter().filter(|_| self.is_alive);
        of_topic.flat_map(|topic| topic.present.own().map(|(_, meta)| meta.phx_ref().to_owned())).collect()
    }

    pub(super) fn check_clients(&self) -> Result<(), String> {
        for (number, topic) in self.topics.iter().enumerate() {
            let Some(topic) = topic else { continue };
            let present = refs(&topic.present.list());
            if topic.client.as_ref().is_some_and(|client| *client != present) {
                return Err(format!("node {}: a client of {} does not see what is", self.index, TOPICS[number]));
            }
            let keys = topic.present.list().len();
            if topic.present.keys() != keys || topic.present.len() != present.len() {
                return Err(format!("node {}: {} is counted wrongly", self.index, TOPICS[number]));
            }
        }
        Ok(())
    }

    /// Somebody may be hidden only if they were silent for a lease, and this node was not deaf meanwhile.
    pub(super) fn check_hiding(&self, of: Incarnation, now_ms: u64) -> Result<(), String> {
        let heard_ms = self.last_heard.get(&of).copied().unwrap_or(0);
        let who = format!("node {} at {now_ms} ms hides {of}", self.index);
        if now_ms - heard_ms < TERM_MS {
            return Err(format!("{who}, heard at {heard_ms} ms"));
        }
        if now_ms - self.canary_ms > DEAF_MS || now_ms - self.renewed_ms < TERM_MS {
            return Err(format!("{who}, and has heard itself since {} until {} ms", self.renewed_ms, self.canary_ms));
        }
        Ok(())
    }

    fn change(&mut self, topic: usize, change: impl FnOnce(&mut TopicPresence<u32>) -> Diff) {
        if let Some(topic) = &mut self.topics[topic] {
            let diff = change(&mut topic.present);
            topic.rows.changed(&diff);
            topic.apply(&diff);
        }
    }

    fn meta(&mut self, previous: Option<&str>) -> Meta {
        self.next_ref += 1;
        Meta::new(Map::new(), &format!("{:x}-{:x}", self.incarnation.number(), self.next_ref), previous)
    }
}

impl Topic {
    /// A client adds who joins, then removes who leaves.
    fn apply(&mut self, diff: &Diff) {
        if let Some(client) = &mut self.client {
            client.extend(refs(&diff.joins));
            for left in refs(&diff.leaves) {
                client.remove(&left);
            }
        }
    }
}

fn refs(presences: &Presences) -> BTreeSet<String> {
    presences.iter().flat_map(|(_, metas)| metas.iter().map(|meta| meta.phx_ref().to_owned())).collect()
}
