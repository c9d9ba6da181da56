//! Hubs over nodes: which node has a topic's publisher, and what becomes of its topics when it is cut off or lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::envelope::Incarnation;
use fanfare_proto::payload::Text;
use parking_lot::Mutex;

use super::Endpoint;
use super::started::end;
use crate::close_reason::CloseReason;
use crate::cluster::{HoldOver, Holder, NotHeld};
use crate::mailbox::Command;
use crate::presence;

/// A hub's topic has ended, for all nodes.
pub(super) const ENDED: &str = "hub_ended";

/// A node that has not heard itself for so long closes its publishers: two thirds of the lease after which others take their topics over.
/// What it hears of itself it has sent within the last three seconds, or the link would have been made anew.
const ALONE_MS: u64 = 6_700;

/// A publisher of a hub has taken the place of another one, on another node.
pub(super) const TAKEN_OVER: &str = "hub_taken_over";

/// The nodes that were alive when it was looked last; `None` until this node has heard itself for a lease.
pub(super) type Alive = Mutex<Option<BTreeSet<Incarnation>>>;

impl Endpoint {
    /// Claims a hub's topic over all nodes.
    pub(crate) async fn hold(&self, topic: &Arc<str>, name: Option<&str>, grace: Duration) -> Result<(), NotHeld> {
        let Some(cluster) = &self.0.cluster else { return Ok(()) };
        if self.is_alone() {
            return Err(NotHeld::Unavailable);
        }
        match cluster.hold(topic, name, grace.as_millis() as u64) {
            // Whoever is not told has been replaced by another publisher of this node.
            Some(held) => held.await.unwrap_or(Err(NotHeld::Taken)),
            None => Ok(()),
        }
    }

    /// Its publisher has gone.
    pub(crate) fn free_hold(&self, topic: &Arc<str>) {
        if let Some(cluster) = &self.0.cluster {
            cluster.free_hold(topic);
        }
    }

    /// It has ended on this node: whether others have a say in that, and this node is told what becomes of it.
    pub(crate) fn end_hold(&self, topic: &Arc<str>) -> bool {
        let Some(cluster) = self.0.cluster.as_ref().filter(|cluster| cluster.keeps_holds()) else { return false };
        cluster.end_hold(topic);
        true
    }

    /// Whether a hub's topic is started on another node.
    pub(crate) async fn is_held_elsewhere(&self, topic: &str) -> Result<bool, NotHeld> {
        match &self.0.cluster {
            Some(cluster) => cluster.is_held(topic).await,
            None => Ok(false),
        }
    }

    /// Which other nodes have started some topics.
    pub(crate) async fn holders_elsewhere(&self, topics: &[&str]) -> Vec<Option<Holder>> {
        match &self.0.cluster {
            Some(cluster) => cluster.holders(topics).await,
            None => Vec::new(),
        }
    }

    /// Whether a topic is one of those that publishers of hubs start.
    pub(crate) fn is_of_a_hub(&self, topic: &str) -> bool {
        let mounts = self.0.gate.mounts();
        mounts.iter().any(|(_, mount)| mount.is_hub() && topic.starts_with(&mount.topic_prefix))
    }

    /// Whether there are nodes that may have started a topic.
    pub(crate) fn has_other_nodes(&self) -> bool {
        self.0.cluster.as_ref().is_some_and(|cluster| cluster.keeps_holds())
    }

    pub(super) fn check_holds(&self) {
        if let Some(cluster) = &self.0.cluster {
            cluster.check_holds();
        }
    }

    pub(super) fn hold_is_over(&self, topic: &Arc<str>, over: HoldOver) {
        match over {
            HoldOver::Lost => self.started().lose(topic, CloseReason::Replaced),
            HoldOver::EndedHere => end(self, topic),
            HoldOver::Ended => {
                end(self, topic);
                self.tell_of_hold(ENDED, topic);
            }
            HoldOver::TakenOver => self.tell_of_hold(TAKEN_OVER, topic),
        }
    }

    fn tell_of_hold(&self, what: &str, topic: &str) {
        if let Some(cluster) = &self.0.cluster {
            drop(cluster.command(what, Text::copy(topic).into()));
        }
    }

    /// Another node says that a publisher of its own has a topic now.
    pub(super) fn taken_over_elsewhere(&self, topic: Arc<str>) {
        // It is told while topics are locked, when the broker cannot be asked.
        if let Some(cluster) = self.0.cluster.clone() {
            self.runtime().spawn(async move { cluster.check_hold(&topic) });
        }
    }

    /// A topic may have ended on another node: then its subscribers here are closed.
    pub(crate) fn ended_elsewhere(&self, topic: Arc<str>) {
        if self.started().contains(&topic) || !self.has_members(&topic) {
            return;
        }
        let weak = self.downgrade();
        self.runtime().spawn(async move {
            let Some(endpoint) = weak.upgrade() else { return };
            if endpoint.is_held_elsewhere(&topic).await == Ok(false) && !endpoint.started().contains(&topic) {
                end(&endpoint, &topic);
            }
        });
    }

    /// Once a second: tries again what did not get through, closes publishers if this node is cut off, and ends topics of nodes that are
    /// lost.
    pub(super) fn look_after_holds(&self) {
        let Some(cluster) = &self.0.cluster else { return };
        cluster.retry_holds();
        if self.is_alone() {
            self.look_after_rolls(false);
            return self.started().close_all(&CloseReason::Alone);
        }
        let alive = presence::alive_nodes(self);
        let before = alive.as_ref().map(|alive| self.0.alive.lock().replace(alive.clone()));
        let is_changed = alive.is_some() && before.as_ref().map(Option::as_ref) != Some(alive.as_ref());
        self.look_after_rolls(is_changed);
        let (Some(alive), Some(before)) = (alive, before) else { return };
        if before.is_some_and(|before| before.is_subset(&alive)) {
            return;
        }
        let weak = self.downgrade();
        cluster.lost_holds(move |lost| {
            let Some(endpoint) = weak.upgrade() else { return };
            for (topic, revision, grace_ms) in lost {
                let (weak, due_ms) = (weak.clone(), endpoint.clock().now_ms() + grace_ms);
                let run = Box::new(move || {
                    if let Some(cluster) = weak.upgrade().and_then(|endpoint| endpoint.0.cluster.clone()) {
                        cluster.bury_hold(topic, revision);
                    }
                });
                endpoint.any_shard().send(Command::RunAt { due_ms, run });
            }
        });
    }

    fn is_alone(&self) -> bool {
        presence::deaf_for_ms(self).is_some_and(|deaf_ms| deaf_ms > ALONE_MS)
    }
}
