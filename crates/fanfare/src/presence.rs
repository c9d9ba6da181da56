//! Who is present in a topic: the pure state of `fanfare_proto::presence` behind a lock, with its diffs published.
//!
//! A diff is published while the lock is held, so that the diffs of one key leave in the order of the changes, and a
//! `presence_state` fits between them. With hooks, a worker publishes instead: it asks the fetch hook once per batch.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_proto::payload::{Json, Payload};
use fanfare_proto::presence::{Diff, TopicPresence};
use hashbrown::HashMap;
use parking_lot::Mutex;
use serde_json::{Map, Value};

pub use fanfare_proto::presence::{Extras, Meta, Presences};

use crate::command::Command;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::key::JoinKey;
use crate::message::Message;

/// The join that tracks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrackerId {
    pub(crate) shard: u16,
    pub(crate) join: JoinKey,
}

/// One presence: a set of topics with those present in them. Cheap to clone.
///
/// Every route uses the endpoint's own unless it is given another with [`Route::presence`](crate::Route::presence).
#[derive(Clone)]
pub struct Presence(Arc<Inner>);

struct Inner {
    topics: Mutex<Topics>,
    next_ref: AtomicU64,
    leave_grace: Duration,
    hooks: Option<Arc<dyn AnyHooks>>,
}

#[derive(Default)]
struct Topics {
    by_name: HashMap<Arc<str>, TopicPresence<TrackerId>, foldhash::fast::RandomState>,
    /// With hooks: what the worker has to publish, merged per topic.
    unpublished: BTreeMap<Arc<str>, Diff>,
    worker_runs: bool,
}

/// What an application adds to a presence.
pub trait PresenceHooks: Send + Sync + 'static {
    /// Adds fields beside `metas` for these keys, in states and diffs alike. Called once per batch.
    fn fetch(&self, topic: &str, keys: Vec<String>) -> impl Future<Output = Extras> + Send {
        let _ = (topic, keys);
        async { Extras::new() }
    }

    /// Called after a diff was sent.
    fn handle_metas(&self, endpoint: &Endpoint, topic: &str, change: Change) -> impl Future<Output = ()> + Send {
        let _ = (endpoint, topic, change);
        async {}
    }
}

/// What a diff changed, and who is present after it.
#[derive(Debug)]
pub struct Change {
    /// The metas that joined.
    pub joins: Presences,
    /// The metas that left.
    pub leaves: Presences,
    /// All that are present now.
    pub present: Presences,
}

impl Default for Presence {
    fn default() -> Self {
        Presence::new()
    }
}

impl Presence {
    /// A presence without hooks and without grace.
    pub fn new() -> Self {
        Presence::build(Duration::ZERO, None)
    }

    /// How long somebody stays present after the last of their joins has ended otherwise than by untrack or a leave, in
    /// case they come back: a lost connection that returns in time is then one diff that changes the meta, and no leave.
    pub fn leave_grace(self, grace: Duration) -> Self {
        Presence::build(grace, self.0.hooks.clone())
    }

    /// Calls these hooks.
    pub fn hooks(self, hooks: impl PresenceHooks) -> Self {
        Presence::build(self.0.leave_grace, Some(Arc::new(hooks)))
    }

    /// Who is present in a topic, as `presence_state` tells it.
    pub async fn list(&self, topic: &str) -> Json {
        let present = self.present(topic);
        present.to_json(&self.fetch(topic, &present).await)
    }

    fn build(leave_grace: Duration, hooks: Option<Arc<dyn AnyHooks>>) -> Self {
        // Refs of different runs must differ, since clients compare them across a reconnect.
        let seed = getrandom::u64().unwrap_or_default() >> 8;
        Presence(Arc::new(Inner { topics: Mutex::default(), next_ref: AtomicU64::new(seed), leave_grace, hooks }))
    }

    pub(crate) fn get(&self, topic: &str, key: &str) -> Json {
        let metas = self.0.topics.lock().by_name.get(topic).map(|present| present.get(key)).unwrap_or_default();
        let metas: Vec<_> = metas.iter().filter_map(|meta| meta.as_json().to::<Value>().ok()).collect();
        Json::from(Value::Array(metas))
    }

    pub(crate) fn track(
        &self,
        endpoint: &Endpoint,
        topic: &Arc<str>,
        id: TrackerId,
        key: &str,
        meta: Map<String, Value>,
    ) -> Result<String, Error> {
        let phx_ref = self.new_ref();
        let mut topics = self.0.topics.lock();
        let present = topics.by_name.entry_ref(&**topic).or_default();
        let diff = present
            .track(id, key, meta, &phx_ref)
            .map_err(|_| Error::invalid(format!("{key:?} is already_tracked by this join: use update to change it")))?;
        self.publish(endpoint, &mut topics, topic, diff);
        Ok(phx_ref)
    }

    pub(crate) fn update(
        &self,
        endpoint: &Endpoint,
        topic: &Arc<str>,
        id: TrackerId,
        key: &str,
        change: impl FnOnce(Map<String, Value>) -> Map<String, Value>,
    ) -> Result<String, Error> {
        let phx_ref = self.new_ref();
        let mut topics = self.0.topics.lock();
        let not_tracked = || Error::invalid(format!("{key:?} is not tracked by this join: track it first"));
        let present = topics.by_name.get_mut(&**topic).ok_or_else(not_tracked)?;
        let old = present.tracked(id, key).ok_or_else(not_tracked)?.fields();
        let diff = present.update(id, key, change(old), &phx_ref).ok_or_else(not_tracked)?;
        self.publish(endpoint, &mut topics, topic, diff);
        Ok(phx_ref)
    }

    pub(crate) fn untrack(&self, endpoint: &Endpoint, topic: &Arc<str>, id: TrackerId, key: &str) {
        let mut topics = self.0.topics.lock();
        if let Some(diff) = topics.by_name.get_mut(&**topic).and_then(|present| present.untrack(id, key)) {
            self.publish(endpoint, &mut topics, topic, diff);
        }
    }

    /// The join has ended. With `lost` its keys stay for the grace.
    pub(crate) fn end(&self, endpoint: &Endpoint, topic: &Arc<str>, id: TrackerId, lost: bool) {
        let mut topics = self.0.topics.lock();
        let Some(present) = topics.by_name.get_mut(&**topic) else { return };
        if lost && !self.0.leave_grace.is_zero() {
            let until_ms = endpoint.clock().after(self.0.leave_grace);
            present.depart(id, until_ms);
            self.expire_at(endpoint, topic, until_ms);
        } else {
            let diff = present.untrack_all(id);
            self.publish(endpoint, &mut topics, topic, diff);
        }
    }

    /// Pushes the state of a topic so that every diff that it does not include comes after it.
    pub(crate) async fn push_state(
        &self,
        topic: &str,
        push: impl FnOnce(Json) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.0.hooks.is_some() {
            // A diff that overtakes this is kept by the client until the state comes.
            return push(self.list(topic).await);
        }
        let topics = self.0.topics.lock();
        let present = topics.by_name.get(topic).map(TopicPresence::list).unwrap_or_default();
        push(present.to_json(&Extras::new()))
    }

    fn expire_at(&self, endpoint: &Endpoint, topic: &Arc<str>, due_ms: u64) {
        let (presence, later, topic) = (self.clone(), endpoint.clone(), topic.clone());
        let run = move || {
            let mut topics = presence.0.topics.lock();
            let Some(present) = topics.by_name.get_mut(&*topic) else { return };
            let diff = present.expire(later.clock().now_ms());
            presence.publish(&later, &mut topics, &topic, diff);
        };
        endpoint.any_shard().send(Command::RunAt { due_ms, run: Box::new(run) });
    }

    fn publish(&self, endpoint: &Endpoint, topics: &mut Topics, topic: &Arc<str>, diff: Diff) {
        if topics.by_name.get(&**topic).is_some_and(TopicPresence::is_empty) {
            topics.by_name.remove(&**topic);
        }
        if diff.is_empty() {
            return;
        }
        if self.0.hooks.is_none() {
            send_diff(endpoint, topic, diff.to_json(&Extras::new()));
            return;
        }
        match topics.unpublished.get_mut(topic) {
            Some(earlier) => earlier.merge(diff),
            None => drop(topics.unpublished.insert(topic.clone(), diff)),
        }
        if !std::mem::replace(&mut topics.worker_runs, true) {
            endpoint.runtime().spawn(self.clone().work(endpoint.clone()));
        }
    }

    /// Publishes until nothing is left: one at a time, so that diffs stay in order.
    async fn work(self, endpoint: Endpoint) {
        let Some(hooks) = self.0.hooks.clone() else { return };
        loop {
            let (topic, diff, present) = {
                let mut topics = self.0.topics.lock();
                let Some((topic, diff)) = topics.unpublished.pop_first() else {
                    topics.worker_runs = false;
                    return;
                };
                let present = topics.by_name.get(&*topic).map(TopicPresence::list).unwrap_or_default();
                (topic, diff, present)
            };
            let keys: std::collections::BTreeSet<String> =
                diff.joins.iter().chain(diff.leaves.iter()).map(|(key, _)| key.to_owned()).collect();
            let extras = hooks.fetch(&topic, keys.into_iter().collect()).await;
            send_diff(&endpoint, &topic, diff.to_json(&extras));
            let change = Change { joins: diff.joins, leaves: diff.leaves, present };
            hooks.handle_metas(&endpoint, &topic, change).await;
        }
    }

    fn present(&self, topic: &str) -> Presences {
        self.0.topics.lock().by_name.get(topic).map(TopicPresence::list).unwrap_or_default()
    }

    async fn fetch(&self, topic: &str, present: &Presences) -> Extras {
        match &self.0.hooks {
            Some(hooks) if !present.is_empty() => {
                hooks.fetch(topic, present.iter().map(|(key, _)| key.to_owned()).collect()).await
            }
            _ => Extras::new(),
        }
    }

    fn new_ref(&self) -> String {
        format!("{:016x}", self.0.next_ref.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presence")
    }
}

fn send_diff(endpoint: &Endpoint, topic: &Arc<str>, diff: Json) {
    let message = Message::new(topic.clone(), "presence_diff", Payload::Json(diff)).expect("a diff is an object");
    endpoint.dispatch(&message, None);
}

/// [`PresenceHooks`] behind a pointer. A hook that panics counts as one that adds nothing.
trait AnyHooks: Send + Sync {
    fn fetch<'a>(&'a self, topic: &'a str, keys: Vec<String>) -> Pin<Box<dyn Future<Output = Extras> + Send + 'a>>;
    fn handle_metas<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        topic: &'a str,
        change: Change,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl<H: PresenceHooks> AnyHooks for H {
    fn fetch<'a>(&'a self, topic: &'a str, keys: Vec<String>) -> Pin<Box<dyn Future<Output = Extras> + Send + 'a>> {
        Box::pin(async move {
            crate::join::guarded(PresenceHooks::fetch(self, topic, keys)).await.unwrap_or_else(|panic| {
                tracing::warn!(topic, panic, "the presence's fetch hook panicked");
                Extras::new()
            })
        })
    }

    fn handle_metas<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        topic: &'a str,
        change: Change,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let ran = crate::join::guarded(PresenceHooks::handle_metas(self, endpoint, topic, change)).await;
            if let Err(panic) = ran {
                tracing::warn!(topic, panic, "the presence's handle_metas hook panicked");
            }
        })
    }
}
