//! The topics of a presence: who is in each, and what its members have not been told yet.
//!
//! Each topic belongs to one of many locks, held while a tracking is entered or taken out and while what has changed is written
//! down, but never while anything is sent, put together of all who are present, or decided by the application.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;

use fanfare_proto::presence::{Diff, State, TopicPresence};
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use super::TrackerId;
use super::nodes::Shared;

/// So many locks share the topics between them.
const STRIPES: usize = 64;

/// One diff tells of no more joins than these, or than this part of those who are present. Whoever joins is sent twice what has
/// come in the same turn before, in the state and in the diff behind it: this bounds what that can be, whatever a turn brings.
const JOINS_AT_ONCE: usize = 16;
const PART_AT_ONCE: usize = 16;

/// How the members of topics are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlet {
    /// A topic's home tells who has come and gone.
    Diffs,
    /// A topic's home tells how many there are.
    Counts,
    /// A worker asks the hooks, and tells who has come and gone.
    Hooks,
}

/// All topics of a presence.
pub(super) struct Topics {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: foldhash::fast::RandomState,
}

/// Those that share a lock.
#[derive(Default)]
pub(super) struct Stripe {
    by_name: HashMap<Arc<str>, Topic, foldhash::fast::RandomState>,
    /// Topics of which the worker has something to tell, each once.
    for_worker: VecDeque<Arc<str>>,
    worker_runs: bool,
}

/// A topic in which somebody is, or of which something is to be told.
pub(super) struct Topic {
    pub(super) present: TopicPresence<TrackerId>,
    /// The shard that tells its members, so that there is one order: that of the first who was tracked.
    pub(super) home: u16,
    untold: Diff,
    /// How many joins are in it.
    untold_joins: usize,
    told_count: usize,
    /// Somebody is about to tell of it: the home or the worker, when they come to it.
    is_due: bool,
    /// Who wants to be told all who are present, as hooks tell it.
    pub(super) asking: Vec<oneshot::Sender<State>>,
    /// Hooks are asked for that.
    pub(super) is_asked: bool,
    /// What is exchanged with other nodes, where there are some.
    pub(super) shared: Option<Box<Shared>>,
}

/// Who has to be told of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Nobody,
    /// The topic's home, which does not know.
    Home(u16),
    /// The topic's home, if it is at hand: so much has changed that it should be told before more comes.
    HomeAtOnce(u16),
    /// A worker for the topic's lock.
    Worker,
}

impl Topics {
    pub(super) fn new() -> Self {
        Topics { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), hasher: Default::default() }
    }

    /// The number of the lock of a topic.
    pub(super) fn number_of(&self, topic: &str) -> usize {
        // Below, the other bits of another hash are used.
        self.hasher.hash_one(topic) as usize % STRIPES
    }

    pub(super) fn numbered(&self, number: usize) -> MutexGuard<'_, Stripe> {
        self.stripes[number].lock()
    }

    /// All locks.
    pub(super) fn stripes(&self) -> impl Iterator<Item = &Mutex<Stripe>> {
        self.stripes.iter()
    }

    pub(super) fn of(&self, topic: &str) -> MutexGuard<'_, Stripe> {
        self.numbered(self.number_of(topic))
    }

    /// What `presence_state` tells of a topic.
    pub(super) fn state(&self, topic: &str) -> State {
        self.of(topic).get_mut(topic).map(|of_topic| of_topic.present.state()).unwrap_or_default()
    }
}

impl Stripe {
    pub(super) fn get(&self, topic: &str) -> Option<&Topic> {
        self.by_name.get(topic)
    }

    pub(super) fn get_mut(&mut self, topic: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(topic)
    }

    /// The topics of this lock.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        self.by_name.keys().cloned().collect()
    }

    /// Forgets a topic, and what has not been told of it.
    pub(super) fn forget(&mut self, topic: &str) {
        self.by_name.remove(topic);
    }

    /// A topic, which may be new. [`changed`](Self::changed) must follow: it forgets those in which nobody is.
    pub(super) fn entry(&mut self, topic: &Arc<str>, home: u16) -> &mut Topic {
        self.by_name.entry_ref(&**topic).or_insert_with(|| Topic {
            present: TopicPresence::new(),
            home,
            untold: Diff::default(),
            untold_joins: 0,
            told_count: 0,
            is_due: false,
            asking: Vec::new(),
            is_asked: false,
            shared: None,
        })
    }

    /// Writes down what has changed in a topic, to be told by the one whom the answer names.
    pub(super) fn changed(&mut self, topic: &Arc<str>, diff: Diff, outlet: Outlet) -> Wake {
        let Some(of_topic) = self.by_name.get_mut(&**topic) else { return Wake::Nobody };
        // Of other nodes, where only numbers are told, a number is all that changes.
        let is_counted = outlet == Outlet::Counts && of_topic.present.keys() != of_topic.told_count;
        if !diff.is_empty() || is_counted {
            if outlet != Outlet::Counts {
                of_topic.untold_joins += diff.joins.len();
                of_topic.untold.merge(diff);
            }
            let is_much = of_topic.untold_joins > JOINS_AT_ONCE.max(of_topic.present.len() / PART_AT_ONCE);
            let was_due = std::mem::replace(&mut of_topic.is_due, true);
            return match outlet {
                Outlet::Diffs | Outlet::Counts if !was_due => Wake::Home(of_topic.home),
                Outlet::Diffs if is_much => Wake::HomeAtOnce(of_topic.home),
                Outlet::Hooks if !was_due => {
                    self.for_worker.push_back(topic.clone());
                    let runs = std::mem::replace(&mut self.worker_runs, true);
                    if runs { Wake::Nobody } else { Wake::Worker }
                }
                _ => Wake::Nobody,
            };
        }
        self.forget_if_over(topic);
        Wake::Nobody
    }

    /// What the members of a topic have not been told.
    pub(super) fn take_untold(&mut self, topic: &str) -> Diff {
        let Some(of_topic) = self.by_name.get_mut(topic) else { return Diff::default() };
        (of_topic.is_due, of_topic.untold_joins) = (false, 0);
        let diff = std::mem::take(&mut of_topic.untold);
        self.forget_if_over(topic);
        diff
    }

    /// How many keys are in a topic, and its home, unless its members know: then it is looked at when it changes again, and
    /// otherwise when whoever asks has told them and has waited.
    pub(super) fn take_untold_count(&mut self, topic: &str) -> Option<(u16, usize)> {
        let of_topic = self.by_name.get_mut(topic)?;
        let count = of_topic.present.keys();
        if std::mem::replace(&mut of_topic.told_count, count) != count {
            return Some((of_topic.home, count));
        }
        of_topic.is_due = false;
        self.forget_if_over(topic);
        None
    }

    /// The next topic of which the worker has to tell, and all who are present there; without one it has to end.
    pub(super) fn next_for_worker(&mut self) -> Option<(Arc<str>, Diff, fanfare_proto::presence::Presences)> {
        let Some(topic) = self.for_worker.pop_front() else {
            self.worker_runs = false;
            return None;
        };
        let present = self.get(&topic).map(|of_topic| of_topic.present.list()).unwrap_or_default();
        let diff = self.take_untold(&topic);
        Some((topic, diff, present))
    }

    fn forget_if_over(&mut self, topic: &str) {
        let is_over = |of_topic: &Topic| of_topic.present.is_empty() && !of_topic.is_due && of_topic.shared.is_none();
        if self.by_name.get(topic).is_some_and(is_over) {
            self.by_name.remove(topic);
        }
    }
}
