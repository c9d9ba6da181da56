//! Who is present in a topic, and how its members are told: the pure state of `fanfare_proto::presence`, many topics of it.
//!
//! - **One order.** Whoever changes a topic writes the change down (`topics`); one shard, the topic's home, tells its members of
//!   all that was written down, once a turn when it has read what there is, in one diff. So diffs come from one sender, whose order holds, without a
//!   lock held while they are sent; a lone change waits for nothing, and a crowd's are merged by the length of the turn. With
//!   hooks a worker takes the home's place (`hooks`): it asks the fetch hook once per diff.
//! - **States between diffs.** A `presence_state` is put together when its push is carried out, on the shard of the member: what it
//!   does not have was told by nobody yet, so it comes behind it. What it has and a diff behind it tells again is known to clients
//!   by its ref. How much that can be is bounded (`topics`): 10,000 who join at once are sent 2 % more than each other's metas.
//! - **Other nodes.** What they have is merged into the same state, and what that changes is told on the same way (`nodes`, `exchange`).
//! - **Work by change.** A state is kept as text in pieces, of which a change costs one. A roster of n costs each of its members n
//!   entries, so n² must be sent in all. That is what bounds the number of members, and what [`Presence::counts_only`] is for.

mod exchange;
mod hooks;
mod nodes;
mod topics;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_proto::payload::{JsonText, Payload};
use fanfare_proto::presence::{Bounds, Diff, State, Untracked};
use parking_lot::MutexGuard;
use serde_json::{Map, Value, json};

use self::hooks::AnyHooks;
use self::topics::{Outlet, Stripe, Topics, Wake};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::key::JoinKey;
use crate::mailbox::Command;
use crate::message::Message;

pub(crate) use self::exchange::Exchange;
pub use self::hooks::{Change, PresenceHooks};
pub(crate) use self::nodes::{
    alive_nodes, attached, bye, deaf_for_ms, heard, heard_beat, is_alive, is_lost, lets_go, look, repair,
};
pub use fanfare_proto::presence::{Extras, Meta, Presences};

/// Tells who is present.
pub(crate) const STATE: &str = "presence_state";

/// Of topics whose members are told how many there are, each is told at most once in this time: the last number, which may
/// change as often as it likes.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// A diff of more bytes is told in parts, without the fields that hooks add.
const DIFF_SIZE_MAX: usize = 64 * 1024;

/// What a topic may hold. The text of all who are present has to fit into the outbox of each, beside other things.
const BOUNDS: Bounds = Bounds { members_max: 20_000, bytes_max: 4 * 1024 * 1024 };

/// The same where only their number is told: memory is all that it costs.
const COUNTS_BOUNDS: Bounds = Bounds { members_max: 1_000_000, bytes_max: 128 * 1024 * 1024 };

/// Changes in a topic of which its members have not been told.
pub(crate) struct Untold(Presence, Endpoint, Arc<str>);

impl Untold {
    /// Tells them, as the topic's home.
    pub(crate) fn tell(self) {
        let Untold(presence, endpoint, topic) = self;
        presence.tell(&endpoint, &topic);
    }
}

/// What a member is told of those who are present.
pub(crate) enum Told {
    /// How many there are.
    Count(Payload),
    /// All of them.
    All(State),
}

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
    topics: Topics,
    /// What refs begin with, and how many there were: those of different runs and nodes must differ, since clients
    /// compare them across a reconnect.
    refs: u32,
    next_ref: AtomicU64,
    settings: Settings,
}

#[derive(Clone, Default)]
struct Settings {
    leave_grace: Duration,
    members_max: Option<usize>,
    bytes_max: Option<usize>,
    counts_only: bool,
    hooks: Option<Arc<dyn AnyHooks>>,
}

impl Default for Presence {
    fn default() -> Self {
        Presence::new()
    }
}

impl Presence {
    /// A presence without hooks and without grace, whose members see each other.
    pub fn new() -> Self {
        Presence::with(Settings::default())
    }

    /// How long somebody stays present after the last of their joins has ended otherwise than by untrack or a leave, in
    /// case they come back: a lost connection that returns in time is then one diff that changes the meta, and no leave. Those who
    /// come back on another node have two metas until the time is over, and no leave either.
    pub fn leave_grace(self, grace: Duration) -> Self {
        Presence::with(Settings { leave_grace: grace, ..self.0.settings.clone() })
    }

    /// Calls these hooks, on each node for its own clients. A presence that [only counts](Presence::counts_only) has nothing to ask them.
    pub fn hooks(self, hooks: impl PresenceHooks) -> Self {
        Presence::with(Settings { hooks: Some(Arc::new(hooks)), ..self.0.settings.clone() })
    }

    /// Tells members how many they are, and not who: instead of `presence_state` and `presence_diff` they get `presence_count`
    /// with `{"count": n}`, n being the number of keys. After a change that comes at once, and then once a second at most. Metas are
    /// not kept. Other nodes tell their numbers only, so that a key that is present on two of them counts twice.
    ///
    /// For large topics: those who see each other cost the square of their number.
    pub fn counts_only(self) -> Self {
        Presence::with(Settings { counts_only: true, ..self.0.settings.clone() })
    }

    /// How many may be tracked in one topic, over all keys and nodes; more are refused. Nodes that cannot hear each other count for
    /// themselves. Default 20,000, or 1,000,000 if it
    /// [only counts](Presence::counts_only).
    pub fn members_max(self, members: usize) -> Self {
        Presence::with(Settings { members_max: Some(members), ..self.0.settings.clone() })
    }

    /// How many bytes all that is tracked in one topic may have, about as a `presence_state` has them; more is refused. It should
    /// stay well below [`Mount::outbox_bytes_max`](crate::Mount::outbox_bytes_max). Default 4 MiB, or 128 MiB if it
    /// [only counts](Presence::counts_only).
    pub fn bytes_max(self, bytes: usize) -> Self {
        Presence::with(Settings { bytes_max: Some(bytes), ..self.0.settings.clone() })
    }

    /// Who is present in a topic, as `presence_state` tells it. Empty if it [only counts](Presence::counts_only).
    pub async fn list(&self, topic: &str) -> JsonText {
        match (self.outlet(), &self.0.settings.hooks) {
            (Outlet::Counts, _) => JsonText::empty_object(),
            (Outlet::Hooks, Some(hooks)) => {
                let present = self.0.topics.of(topic).get(topic).map(|of_topic| of_topic.present.list());
                let Some(present) = present.filter(|present| !present.is_empty()) else {
                    return JsonText::empty_object();
                };
                let keys = present.iter().map(|(key, _)| key.to_owned()).collect();
                present.to_json(&hooks.fetch(topic, keys).await)
            }
            _ => self.0.topics.state(topic).to_json(),
        }
    }

    /// How many keys are present in a topic.
    pub fn count(&self, topic: &str) -> usize {
        self.0.topics.of(topic).get(topic).map_or(0, |of_topic| of_topic.present.keys())
    }

    fn with(settings: Settings) -> Self {
        let refs = getrandom::u32().unwrap_or_default();
        Presence(Arc::new(Inner { topics: Topics::new(), refs, next_ref: AtomicU64::new(0), settings }))
    }

    pub(crate) fn get(&self, topic: &str, key: &str) -> JsonText {
        let metas = self.0.topics.of(topic).get(topic).map(|of_topic| of_topic.present.get(key)).unwrap_or_default();
        let metas: Vec<_> = metas.iter().filter_map(|meta| meta.as_json().to::<Value>().ok()).collect();
        JsonText::from(Value::Array(metas))
    }

    pub(crate) fn track(
        &self,
        endpoint: &Endpoint,
        topic: &Arc<str>,
        id: TrackerId,
        key: &str,
        fields: Map<String, Value>,
    ) -> Result<String, Error> {
        let phx_ref = self.new_ref();
        let meta = self.meta(fields, &phx_ref, None);
        let mut stripe = self.0.topics.of(topic);
        let tracked = self.enter(endpoint, &mut stripe, topic, id.shard).present.track(id, key, meta, self.bounds());
        // Without a change the topic may be one that was made in vain.
        let (diff, refused) = match tracked {
            Ok(diff) => (diff, None),
            Err(refused) => (Diff::default(), Some(refused)),
        };
        self.changed(endpoint, stripe, topic, diff);
        refused.map_or(Ok(phx_ref), |refused| Err(self.refused(endpoint, topic, key, refused)))
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
        let refused = |refused| self.refused(endpoint, topic, key, refused);
        // The join does one thing at a time, so that what it tracks is the same when its code has run.
        let tracked = |topics: &Topics| topics.of(topic).get(topic)?.present.tracked(id, key).cloned();
        let old = tracked(&self.0.topics).ok_or_else(|| refused(Untracked::Never))?;
        let meta = self.meta(change(old.fields()), &phx_ref, Some(old.phx_ref()));
        let mut stripe = self.0.topics.of(topic);
        let of_topic = stripe.get_mut(topic).ok_or(Untracked::Never);
        match of_topic.and_then(|of_topic| of_topic.present.update(id, key, meta, self.bounds())) {
            Ok(diff) => self.changed(endpoint, stripe, topic, diff),
            Err(error) => {
                drop(stripe);
                return Err(refused(error));
            }
        }
        Ok(phx_ref)
    }

    pub(crate) fn untrack(&self, endpoint: &Endpoint, topic: &Arc<str>, id: TrackerId, key: &str) {
        let mut stripe = self.0.topics.of(topic);
        let Some(diff) = stripe.get_mut(topic).and_then(|of_topic| of_topic.present.untrack(id, key)) else { return };
        self.changed(endpoint, stripe, topic, diff);
    }

    /// The join has ended. With `lost` its keys stay for the grace.
    pub(crate) fn end(&self, endpoint: &Endpoint, topic: &Arc<str>, id: TrackerId, lost: bool) {
        let grace = self.0.settings.leave_grace;
        let mut stripe = self.0.topics.of(topic);
        let Some(of_topic) = stripe.get_mut(topic) else { return };
        if lost && !grace.is_zero() {
            let due_ms = endpoint.clock().after(grace);
            of_topic.present.depart(id, due_ms);
            let home = of_topic.home;
            drop(stripe);
            return self
                .at(endpoint, home, due_ms, topic, |presence, endpoint, topic| presence.expire(endpoint, topic));
        }
        let diff = of_topic.present.untrack_all(id);
        self.changed(endpoint, stripe, topic, diff);
    }

    /// What a member is told of all who are present, as an event and its payload: all that changes from now on is told
    /// afterwards. Not with hooks, which have to be waited for.
    pub(crate) fn state(&self, topic: &str) -> (&'static str, Told) {
        match self.outlet() {
            Outlet::Counts => ("presence_count", Told::Count(json!({ "count": self.count(topic) }).into())),
            Outlet::Diffs | Outlet::Hooks => (STATE, Told::All(self.0.topics.state(topic))),
        }
    }

    /// Whether a state has to wait for hooks.
    pub(crate) fn has_hooks(&self) -> bool {
        self.outlet() == Outlet::Hooks
    }

    fn expire(&self, endpoint: &Endpoint, topic: &Arc<str>) {
        let mut stripe = self.0.topics.of(topic);
        let Some(of_topic) = stripe.get_mut(topic) else { return };
        let diff = of_topic.present.expire(endpoint.clock().now_ms());
        self.changed(endpoint, stripe, topic, diff);
    }

    /// What this node's members have changed is told to all: members and other nodes.
    fn changed(&self, endpoint: &Endpoint, mut stripe: MutexGuard<'_, Stripe>, topic: &Arc<str>, diff: Diff) {
        if let Some(shared) = stripe.get_mut(topic).and_then(|of_topic| of_topic.shared.as_mut()) {
            shared.rows.changed(&diff);
        }
        endpoint.figures().presence.changed(&diff);
        self.merged(endpoint, stripe, topic, diff);
    }

    /// What has changed here or elsewhere is told to the members, and what the exchange has to say to other nodes.
    fn merged(&self, endpoint: &Endpoint, mut stripe: MutexGuard<'_, Stripe>, topic: &Arc<str>, diff: Diff) {
        let wake = stripe.changed(topic, diff, self.outlet());
        let due = self.exchange(endpoint, &mut stripe, topic);
        drop(stripe);
        self.wake(endpoint, topic, wake);
        self.exchanged(endpoint, topic, due);
    }

    /// Lets those know who tell of a change.
    fn wake(&self, endpoint: &Endpoint, topic: &Arc<str>, wake: Wake) {
        match (wake, &self.0.settings.hooks) {
            (Wake::Home(home), _) => {
                let tell = Command::TellPresent(Untold(self.clone(), endpoint.clone(), topic.clone()));
                endpoint.shards()[usize::from(home)].send_promptly(tell);
            }
            (Wake::HomeAtOnce(home), _) if endpoint.shards()[usize::from(home)].is_here() => self.tell(endpoint, topic),
            (Wake::Worker, Some(hooks)) => {
                let work = self.clone().work(endpoint.clone(), self.0.topics.number_of(topic), hooks.clone());
                drop(endpoint.runtime().spawn(work));
            }
            _ => {}
        }
    }

    /// A topic's home tells its members of all that has changed.
    fn tell(&self, endpoint: &Endpoint, topic: &Arc<str>) {
        if self.outlet() == Outlet::Counts {
            let untold = self.0.topics.of(topic).take_untold_count(topic);
            if let Some((home, count)) = untold {
                send(endpoint, topic, "presence_count", json!({ "count": count }).into());
                let due_ms = endpoint.clock().after(COUNT_INTERVAL);
                self.at(endpoint, home, due_ms, topic, |presence, endpoint, topic| presence.tell(endpoint, topic));
            }
            return;
        }
        let diff = self.0.topics.of(topic).take_untold(topic);
        send_diff(endpoint, topic, diff, &Extras::new());
    }

    /// Looks at a topic again when a time has come.
    fn at(&self, endpoint: &Endpoint, home: u16, due_ms: u64, topic: &Arc<str>, look: fn(&Self, &Endpoint, &Arc<str>)) {
        let (presence, later, topic) = (self.clone(), endpoint.downgrade(), topic.clone());
        let run = Box::new(move || {
            if let Some(endpoint) = later.upgrade() {
                look(&presence, &endpoint, &topic);
            }
        });
        endpoint.shards()[usize::from(home)].send(Command::RunAt { due_ms, run });
    }

    fn outlet(&self) -> Outlet {
        match (self.0.settings.counts_only, &self.0.settings.hooks) {
            (true, _) => Outlet::Counts,
            (false, Some(_)) => Outlet::Hooks,
            (false, None) => Outlet::Diffs,
        }
    }

    fn bounds(&self) -> Bounds {
        let Settings { members_max, bytes_max, counts_only, .. } = self.0.settings;
        let default = if counts_only { COUNTS_BOUNDS } else { BOUNDS };
        Bounds {
            members_max: members_max.unwrap_or(default.members_max),
            bytes_max: bytes_max.unwrap_or(default.bytes_max),
        }
    }

    fn meta(&self, fields: Map<String, Value>, phx_ref: &str, previous_ref: Option<&str>) -> Meta {
        Meta::new(if self.0.settings.counts_only { Map::new() } else { fields }, phx_ref, previous_ref)
    }

    fn refused(&self, endpoint: &Endpoint, topic: &str, key: &str, refused: Untracked) -> Error {
        let bound = match refused {
            Untracked::Already => {
                return Error::invalid(format!("{key:?} is already_tracked by this join: use update to change it"));
            }
            Untracked::Never => return Error::invalid(format!("{key:?} is not tracked by this join: track it first")),
            Untracked::TooMany { .. } => "members_max",
            Untracked::TooLarge { .. } => "bytes_max",
        };
        let instead = if self.0.settings.counts_only { "" } else { ", or let it tell their number only" };
        let reason =
            format!("{key:?} is not tracked in {topic:?}, where {refused}: raise the presence's {bound}{instead}");
        let (kind, event, topic) = (Kind::Dropped, Event::PresenceFull, Some(topic));
        let fact = Fact { kind, event, who: Who::default(), topic, code: None, detail: format_args!("{reason}") };
        fact.tell(endpoint.own_counters());
        Error::unavailable(reason)
    }

    fn new_ref(&self) -> String {
        format!("{:08x}{:08x}", self.0.refs, self.0.next_ref.fetch_add(1, Ordering::Relaxed))
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presence")
    }
}

/// In parts, where others have brought or taken many at once.
fn send_diff(endpoint: &Endpoint, topic: &Arc<str>, diff: Diff, extras: &Extras) {
    for part in diff.into_parts(DIFF_SIZE_MAX) {
        endpoint.figures().presence.diffs.fetch_add(1, Ordering::Relaxed);
        send(endpoint, topic, "presence_diff", Payload::Json(part.to_json(extras)));
    }
}

fn send(endpoint: &Endpoint, topic: &Arc<str>, event: &str, payload: Payload) {
    let message = Message::new(topic.clone(), event, payload).expect("what a presence tells is an object");
    endpoint.dispatch(&message, None);
}
