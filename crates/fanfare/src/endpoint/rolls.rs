//! Rolls: what is with any node of a cluster, of which one node tells.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::Endpoint;
use crate::cluster;
use crate::cluster::Herald;
use crate::presence;

/// The rolls of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Rolls(Mutex<Vec<Arc<cluster::Roll>>>);

impl Rolls {
    fn each(&self, act: impl Fn(&cluster::Roll)) {
        let all = self.0.lock().clone();
        all.iter().for_each(|roll| act(roll));
    }
}

/// Names that are with some nodes of a cluster, such as those of users who are connected: each node says what comes and goes there, and
/// **of what comes to the first node or goes from the last, one node is told**, for each name one thing after the other. If that node ends
/// before it has told, another one is, by the same id. So nothing is missed, and things are told twice at most if a node ends, or the
/// broker forgets. While the broker is away nothing is told; then it is told what has become of each name.
///
/// Nodes whose rolls have one name are on the same roll. Clones are the same roll.
#[derive(Debug, Clone)]
pub struct Roll(Weak<cluster::Roll>);

impl Roll {
    /// The longest name, in bytes.
    pub const NAME_SIZE_MAX: usize = 512;

    /// A name is with this node from now on (`is_here`), or is not any more. Calls for one name count in their order. A name that is longer
    /// than [`NAME_SIZE_MAX`](Self::NAME_SIZE_MAX) is on no roll.
    pub fn set(&self, name: &str, is_here: bool, at: SystemTime) {
        if let Some(roll) = self.0.upgrade().filter(|_| name.len() <= Self::NAME_SIZE_MAX) {
            roll.set(name, is_here, at);
        }
    }

    /// What the herald was told last of a name is told, or given up: to be called each time, or nothing more is told of that name.
    pub fn told(&self, name: &str) {
        if let Some(roll) = self.0.upgrade() {
            roll.told(name);
        }
    }

    /// Whether nothing is with this node, and all is told that it has to tell.
    pub fn is_empty(&self) -> bool {
        self.0.upgrade().is_none_or(|roll| roll.is_empty())
    }
}

impl Endpoint {
    /// A roll of this name. What was with nodes that are lost is gone this long after that was noticed. `None` if nobody keeps account over
    /// nodes: without a broker, and with a NATS where no topic has a history.
    pub fn roll(&self, name: &str, grace: Duration, herald: impl Herald) -> Option<Roll> {
        let roll = self.0.cluster.as_ref()?.roll(name, grace, Arc::new(herald), self.runtime())?;
        let weak = Arc::downgrade(&roll);
        self.0.rolls.0.lock().push(roll);
        Some(Roll(weak))
    }

    pub(crate) fn check_rolls(&self) {
        self.0.rolls.each(cluster::Roll::check);
    }

    /// Once a second. `is_changed`: other nodes are alive than a second ago.
    pub(super) fn look_after_rolls(&self, is_changed: bool) {
        // One node is enough: the one with the lowest number of those that it knows to be alive.
        let searches = is_changed
            && presence::alive_nodes(self).is_some_and(|alive| {
                self.0.cluster.as_ref().is_some_and(|own| alive.iter().all(|node| own.incarnation() < *node))
            });
        let now_ms = self.clock().now_ms();
        self.0.rolls.each(|roll| roll.look(searches, now_ms));
    }
}
