//! The links of this node to its broker: which are up, and what is counted of the topics that each carries.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;

use super::Cluster;
use crate::broker::{BrokerLink, LinkId};
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};

/// A node that is not connected yet lets those who come wait so long for that, reckoned from its start.
const BEGINNING_MAX_MS: u64 = 5_000;

/// What a link has refused just before it came up is asked again within this.
const SETTLING_MS: u64 = 1_000;

/// What is known of the links.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<BTreeMap<LinkId, Link>>);

#[derive(Debug, Default)]
struct Link {
    is_up: bool,
    /// When it came up for the first time.
    first_up_ms: Option<u64>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    holes: u64,
    repairs: u64,
    gaps: u64,
    lost: u64,
    doubles: u64,
}

impl Links {
    pub(super) fn set(&self, link: LinkId, is_up: bool, now_ms: u64) {
        let mut links = self.0.lock();
        let link = links.entry(link).or_default();
        link.is_up = is_up;
        if is_up {
            link.first_up_ms.get_or_insert(now_ms);
        }
    }

    /// Those that are up.
    pub(super) fn up(&self) -> Vec<LinkId> {
        self.0.lock().iter().filter(|(_, link)| link.is_up).map(|(id, _)| *id).collect()
    }

    fn is_up(&self, link: LinkId) -> bool {
        self.0.lock().get(&link).is_some_and(|link| link.is_up)
    }
}

impl Cluster {
    /// Whether the link that carries a topic is up.
    pub(crate) fn is_up(&self, topic: &str) -> bool {
        self.link_of(topic).is_some_and(|link| self.links.is_up(link))
    }

    /// Whether this node has just started, and the link that carries a topic is about to come up for the first time: whoever comes waits for it.
    pub(super) fn is_beginning(&self, topic: &str) -> bool {
        let now_ms = self.now_ms();
        let link = self.link_of(topic);
        let first_up_ms = link.and_then(|link| self.links.0.lock().get(&link)?.first_up_ms);
        match first_up_ms {
            Some(up_ms) => now_ms < up_ms + SETTLING_MS,
            None => now_ms < self.begun_ms + BEGINNING_MAX_MS,
        }
    }

    /// The link that carries a topic.
    pub(super) fn link_of(&self, topic: &str) -> Option<LinkId> {
        self.parts.get().map(|parts| parts.transport.link_of(topic))
    }

    /// Counts something that has come about in a topic. Rare: what is common is counted nowhere.
    pub(super) fn count(&self, topic: &str, event: Event) {
        self.counters.count(event);
        self.count_of_link(topic, event, 1);
    }

    /// Counts and keeps that messages of other nodes are lost to the members of a topic.
    pub(super) fn note_lost(&self, topic: &str, event: Event, times: u64, detail: fmt::Arguments<'_>) {
        let (kind, who) = (Kind::Dropped, Who::default());
        Fact { kind, event, who, topic: Some(topic), code: None, detail }.note(&self.counters, times);
        self.count_of_link(topic, event, times);
    }

    fn count_of_link(&self, topic: &str, event: Event, count: u64) {
        self.change(topic, |counts| match event {
            Event::BrokerHole => counts.holes += count,
            Event::BrokerRepair => counts.repairs += count,
            Event::BrokerGap => counts.gaps += count,
            Event::BrokerLost => counts.lost += count,
            _ => {}
        });
    }

    /// A message of another node has come twice.
    pub(super) fn count_double(&self, topic: &str) {
        self.change(topic, |counts| counts.doubles += 1);
    }

    fn change(&self, topic: &str, change: impl FnOnce(&mut Counts)) {
        if let Some(link) = self.link_of(topic) {
            change(&mut self.links.0.lock().entry(link).or_default().counts);
        }
    }

    /// How all links stand.
    pub(crate) fn links(&self) -> Vec<BrokerLink> {
        let stands = self.parts.get().map(|parts| parts.transport.stands()).unwrap_or_default();
        let counted = self.links.0.lock();
        let with_counts = |(id, link): (LinkId, BrokerLink)| match counted.get(&id) {
            Some(Link { counts: Counts { holes, repairs, gaps, lost, doubles }, .. }) => {
                BrokerLink { holes: *holes, repairs: *repairs, gaps: *gaps, lost: *lost, doubles: *doubles, ..link }
            }
            None => link,
        };
        stands.into_iter().map(with_counts).collect()
    }
}
