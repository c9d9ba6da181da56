//! The nodes of the cluster, as they have said of themselves: those that are alive, and those that are gone since a while ago.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare_proto::envelope::{Heartbeat, Incarnation};
use parking_lot::Mutex;

use super::Endpoint;
use crate::presence;

/// A node that is gone is told of for so long.
const GONE_KEPT_MS: u64 = 600_000;

/// As many of those are remembered. Beyond it the first that went are not.
const GONE_MAX: usize = 64;

/// A node of the cluster, as it said of itself a few seconds ago.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeSummary {
    /// One start of the node: another after a restart.
    pub incarnation: String,
    /// What it is called: see [`Broker::node_name`](crate::Broker::node_name).
    pub name: Option<String>,
    /// Whether it is this node.
    pub is_self: bool,
    /// How many sockets it has.
    pub sockets: u64,
    /// How many topics have members there. One with members on several shards counts on each.
    pub topics: u64,
    /// How many members they have.
    pub joins: u64,
    /// The version of the crate `fanfare` that it runs; `None` for those before it was told.
    pub version: Option<String>,
    /// How many messages are published on it a second, measured over two seconds; `None` until that was, and for versions that do not tell.
    pub published_per_s: Option<f64>,
    /// How many are handed to its members a second.
    pub delivered_per_s: Option<f64>,
    /// Within which time 99 of 100 of them were written, as far as buckets tell; `None` as well where none was.
    pub p99: Option<Duration>,
    /// Where the page of its administrators is, beginning with `https://` or `http://`: see [`Broker::admin_url`](crate::Broker::admin_url).
    pub admin_url: Option<String>,
}

/// A node of the cluster that was there a while ago.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoneNode {
    /// One start of the node.
    pub incarnation: String,
    /// What it was called.
    pub name: Option<String>,
    /// The version of the crate `fanfare` that it ran.
    pub version: Option<String>,
    /// How long ago it was heard for the last time.
    pub heard: Duration,
    /// Whether it said that it ends. Otherwise it has fallen silent: it has died, or is cut off and may come back.
    pub has_left: bool,
}

/// What nodes have said of themselves last.
#[derive(Debug, Default)]
pub(super) struct Nodes(Mutex<BTreeMap<Incarnation, Heard>>);

#[derive(Debug, Clone)]
struct Heard {
    beat: Heartbeat,
    at_ms: u64,
    has_left: bool,
}

impl Endpoint {
    /// The nodes of the cluster that are alive, as far as this one knows: none without a broker.
    pub fn nodes(&self) -> Vec<NodeSummary> {
        let own = self.incarnation();
        let alive = self.heard_nodes().into_iter().filter(|(node, _)| self.is_node_here(*node));
        let summary = |(node, Heard { beat, .. }): (Incarnation, Heard)| NodeSummary {
            incarnation: node.to_string(),
            name: name(&beat),
            is_self: Some(node) == own,
            sockets: beat.sockets,
            topics: beat.topics,
            joins: beat.joins,
            version: version(&beat),
            published_per_s: beat.published_rate.map(per_s),
            delivered_per_s: beat.delivered_rate.map(per_s),
            p99: beat.p99_us.map(Duration::from_micros),
            admin_url: (!beat.admin_url.is_empty()).then(|| beat.admin_url.to_string()),
        };
        alive.map(summary).collect()
    }

    /// The nodes that this one has heard within the last ten minutes and that are not alive any more, the last that went first: 64 of them
    /// at most.
    pub fn gone_nodes(&self) -> Vec<GoneNode> {
        let now_ms = self.clock().now_ms();
        let mut gone: Vec<_> = self.heard_nodes().into_iter().filter(|(node, _)| !self.is_node_here(*node)).collect();
        gone.retain(|(_, heard)| now_ms - heard.at_ms < GONE_KEPT_MS);
        gone.sort_by_key(|(_, heard)| std::cmp::Reverse(heard.at_ms));
        let told = |(node, heard): (Incarnation, Heard)| GoneNode {
            incarnation: node.to_string(),
            name: name(&heard.beat),
            version: version(&heard.beat),
            heard: Duration::from_millis(now_ms - heard.at_ms),
            has_left: heard.has_left,
        };
        gone.into_iter().map(told).collect()
    }

    /// A node has said how it is, perhaps this one.
    pub(super) fn note_beat(&self, node: Incarnation, beat: &Heartbeat) {
        let now_ms = self.clock().now_ms();
        let mut nodes = self.0.nodes.0.lock();
        let heard = Heard { beat: beat.clone(), at_ms: now_ms, has_left: false };
        match nodes.get_mut(&node) {
            // What comes of a node behind its goodbye was sent before.
            Some(known) if known.has_left => {}
            _ => drop(nodes.insert(node, heard)),
        }
        nodes.retain(|node, heard| self.is_node_here(*node) || now_ms - heard.at_ms < GONE_KEPT_MS);
        loop {
            let mut gone: Vec<_> = nodes.iter().filter(|(node, _)| !self.is_node_here(**node)).collect();
            gone.sort_by_key(|(_, heard)| heard.at_ms);
            match gone[..] {
                [(oldest, _), ..] if gone.len() > GONE_MAX => {
                    let oldest = *oldest;
                    nodes.remove(&oldest);
                }
                _ => break,
            }
        }
    }

    /// A node has said goodbye.
    pub(super) fn node_has_left(&self, node: Incarnation) {
        if let Some(known) = self.0.nodes.0.lock().get_mut(&node) {
            known.has_left = true;
        }
    }

    fn heard_nodes(&self) -> BTreeMap<Incarnation, Heard> {
        self.0.nodes.0.lock().clone()
    }

    /// Whether a node is this one, or alive.
    fn is_node_here(&self, node: Incarnation) -> bool {
        self.incarnation() == Some(node) || presence::is_alive(self, node)
    }
}

fn per_s(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}

fn name(beat: &Heartbeat) -> Option<String> {
    (!beat.name.is_empty()).then(|| beat.name.to_string())
}

fn version(beat: &Heartbeat) -> Option<String> {
    (beat.release != [0; 3]).then(|| beat.release.map(|number| number.to_string()).join("."))
}
