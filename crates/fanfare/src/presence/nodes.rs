//! A presence over nodes: what others have is merged into what members are told, and others are told what changes here.
//!
//! A topic is shared from when somebody here tracks something there or asks who is present, or another node tells of it, until the node has no
//! members of it any more. The rules are `fanfare_proto::presence::Rows`; what leaves goes through the [`Exchange`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::envelope::{Envelope, Incarnation};
use fanfare_proto::presence::{Body, Event, Rows, Tell};
use tokio::sync::oneshot;

use super::Presence;
use super::exchange::{Exchange, Sending};
use super::topics::{Outlet, Stripe, Topic};
use crate::broker::{Done, Undone};
use crate::endpoint::Endpoint;
use crate::event;
use crate::mailbox::Command;

/// After a link has come up, this many topics are asked for at once, and this long apart.
const REPAIRED_AT_ONCE: usize = 500;
const REPAIR_INTERVAL_MS: u64 = 100;

/// What was asked for somebody who is no member is kept for this long.
const STRANGER_KEPT: Duration = Duration::from_secs(1);

/// What a topic exchanges with other nodes.
pub(super) struct Shared {
    pub(super) rows: Rows,
    /// Joins that want to know who is present, and wait for what others have.
    waiting: Vec<oneshot::Sender<()>>,
    /// When the topic's home looks at it: the next thing that is due, and perhaps others later.
    timers: Vec<u64>,
}

/// The shard that looks at a topic, and when.
pub(super) type Due = Option<(u16, u64)>;

/// Something has come of another node: for the topic on whose channel it came, or for one that stands in it.
pub(crate) fn heard(endpoint: &Endpoint, channel: Option<&str>, envelope: &Envelope<'_>) {
    let Some(exchange) = endpoint.exchange() else { return };
    let (topic, body) = match Body::of_content(&envelope.content) {
        Some(Ok(read)) => read,
        Some(Err(unread)) => return event::presence_unread(endpoint.own_counters(), envelope.origin, unread),
        None => return,
    };
    if !alive(endpoint, exchange, envelope.origin) {
        return;
    }
    let topic = channel.unwrap_or(&topic);
    if topic.is_empty() {
        return endpoint.presences_all().iter().for_each(|presence| presence.tell_digests(endpoint));
    }
    endpoint.presence_of(topic).take(endpoint, exchange, topic, envelope.origin, body, channel.is_some());
}

/// Whether a node is alive, as far as is known.
pub(crate) fn is_alive(endpoint: &Endpoint, node: Incarnation) -> bool {
    endpoint.exchange().is_some_and(|exchange| exchange.leases(|leases| leases.is_alive(node)))
}

/// Whether a node is certainly not alive.
pub(crate) fn is_lost(endpoint: &Endpoint, node: Incarnation) -> bool {
    let now_ms = endpoint.clock().now_ms();
    endpoint.exchange().is_none_or(|exchange| exchange.leases(|leases| leases.is_lost(node, now_ms)))
}

/// The other nodes that are alive, once this one has heard itself for a lease.
pub(crate) fn alive_nodes(endpoint: &Endpoint) -> Option<BTreeSet<Incarnation>> {
    let now_ms = endpoint.clock().now_ms();
    endpoint.exchange()?.leases(|leases| leases.knows_all(now_ms).then(|| leases.alive().collect()))
}

/// For how long a node of a cluster has not heard itself.
pub(crate) fn deaf_for_ms(endpoint: &Endpoint) -> Option<u64> {
    let now_ms = endpoint.clock().now_ms();
    Some(endpoint.exchange()?.leases(|leases| leases.deaf_for_ms(now_ms)))
}

/// A heartbeat has come, perhaps the node's own.
pub(crate) fn heard_beat(endpoint: &Endpoint, origin: Incarnation) {
    let Some(exchange) = endpoint.exchange() else { return };
    if origin == exchange.node.incarnation() {
        if exchange.leases(|leases| leases.canary(endpoint.clock().now_ms())) {
            repair(endpoint);
        }
    } else {
        alive(endpoint, exchange, origin);
    }
}

/// A node was heard. Whether what comes of it counts.
fn alive(endpoint: &Endpoint, exchange: &Exchange, origin: Incarnation) -> bool {
    if origin == exchange.node.incarnation() {
        return true;
    }
    let heard = exchange.heard(origin, endpoint.clock().now_ms());
    if let Some(Some(Event::Appeared(node))) = heard {
        // It may have been away for so long that something was missed.
        let tell = Tell::One(node, exchange.node.ask_for_digests());
        exchange.put(Sending { topic: "".into(), tell, done: None });
        exchange.send();
    }
    heard.is_some()
}

/// The node is attached to a topic. What was asked before may not have been heard by all.
pub(crate) fn attached(endpoint: &Endpoint, topic: &str) {
    let presence = endpoint.presence_of(topic);
    presence.ask(endpoint, topic, Rows::has_asked);
}

/// The node has no members of a topic any more, and nothing is kept of it. False if it has to stay attached: somebody is still present
/// here, for the grace of those who were lost.
pub(crate) fn lets_go(endpoint: &Endpoint, topic: &str) -> bool {
    let presence = endpoint.presence_of(topic);
    let mut stripe = presence.0.topics.of(topic);
    let is_over = stripe.get(topic).is_none_or(|of_topic| of_topic.present.own_len() == 0);
    if is_over {
        stripe.forget(topic);
    }
    is_over
}

/// What other nodes said may have been lost: all of it is asked for, and they are told what they should have. They may have believed that
/// this one is lost.
pub(crate) fn repair(endpoint: &Endpoint) {
    endpoint.check_rolls();
    if let Some(exchange) = endpoint.exchange() {
        exchange.leases(|leases| leases.renew(endpoint.clock().now_ms()));
        let topics = |presence: &Presence| {
            let names = presence.0.topics.stripes().flat_map(|stripe| stripe.lock().names());
            names.map(|topic| (presence.clone(), topic)).collect::<Vec<_>>()
        };
        repair_some(endpoint, endpoint.presences_all().iter().flat_map(topics).collect());
    }
}

/// Looks who is silent. To be called about once a second.
pub(crate) fn look(endpoint: &Endpoint) {
    let Some(exchange) = endpoint.exchange() else { return };
    let (events, was_stalled) = exchange.leases(|leases| leases.look(endpoint.clock().now_ms()));
    if was_stalled {
        repair(endpoint);
    }
    events.into_iter().for_each(|event| became(endpoint, event));
}

/// A node says goodbye.
pub(crate) fn bye(endpoint: &Endpoint, node: Incarnation) {
    let now_ms = endpoint.clock().now_ms();
    let event = endpoint.exchange().and_then(|exchange| exchange.leases(|leases| leases.bye(node, now_ms)));
    if let Some(event) = event {
        became(endpoint, event);
    }
}

fn became(endpoint: &Endpoint, event: Event) {
    if let Event::Hidden(node) = event {
        event::node_hidden(endpoint.own_counters(), node);
    }
    for presence in endpoint.presences_all() {
        presence.each(endpoint, |of_topic| {
            let Topic { present, shared: Some(shared), .. } = of_topic else { return Default::default() };
            match event {
                Event::Appeared(_) => Default::default(),
                Event::Hidden(node) => shared.rows.hide(present, node),
                Event::Dropped(node) => shared.rows.drop_row(present, node),
            }
        });
    }
}

fn repair_some(endpoint: &Endpoint, mut topics: Vec<(Presence, Arc<str>)>) {
    let later = topics.split_off(REPAIRED_AT_ONCE.min(topics.len()));
    for (presence, topic) in topics {
        presence.ask(endpoint, &topic, |_| true);
    }
    if !later.is_empty() {
        let (due_ms, weak) = (endpoint.clock().now_ms() + REPAIR_INTERVAL_MS, endpoint.downgrade());
        let run = Box::new(move || {
            if let Some(endpoint) = weak.upgrade() {
                repair_some(&endpoint, later);
            }
        });
        endpoint.any_shard().send(Command::RunAt { due_ms, run });
    }
}

impl Presence {
    /// Waits until what other nodes have of a topic is there, or long enough: a join that is told who is present.
    pub(crate) async fn ready(&self, endpoint: &Endpoint, topic: &Arc<str>, shard: u16) {
        if endpoint.exchange().is_none() {
            return;
        }
        let waits = {
            let mut stripe = self.0.topics.of(topic);
            let of_topic = self.enter(endpoint, &mut stripe, topic, shard);
            let waits = of_topic.shared.as_mut().filter(|shared| !shared.is_complete(endpoint)).map(|shared| {
                let (sender, waits) = oneshot::channel();
                shared.waiting.push(sender);
                waits
            });
            self.merged(endpoint, stripe, topic, Default::default());
            waits
        };
        if let Some(waits) = waits {
            // An error says that the topic is not shared any more.
            let _ = waits.await;
        }
    }

    /// The same for one who is no member, and may be told what was so a second ago.
    pub(crate) async fn ready_for_stranger(&self, endpoint: &Endpoint, topic: &str) {
        let topic = topic.into();
        self.ready(endpoint, &topic, 0).await;
        if endpoint.exchange().is_some() {
            let due_ms = endpoint.clock().after(STRANGER_KEPT);
            self.at(endpoint, 0, due_ms, &topic, |presence, endpoint, topic| {
                if !endpoint.has_members(topic) && presence.is(&endpoint.presence_of(topic)) {
                    lets_go(endpoint, topic);
                }
            });
        }
    }

    /// A topic, which may be new; where there are other nodes it is shared with them. `merged` must follow.
    pub(super) fn enter<'a>(
        &self,
        endpoint: &Endpoint,
        stripe: &'a mut Stripe,
        topic: &Arc<str>,
        home: u16,
    ) -> &'a mut Topic {
        let counts_only = self.outlet() == Outlet::Counts;
        let of_topic = stripe.entry(topic, home);
        if let Some(exchange) = endpoint.exchange()
            && of_topic.shared.as_ref().is_none_or(|shared| !shared.rows.has_asked())
            && self.is(&endpoint.presence_of(topic))
        {
            let node = &exchange.node;
            let shared = of_topic.shared.get_or_insert_with(|| Shared::new(Rows::new(node.clone(), counts_only)));
            shared.rows.ask(endpoint.clock().now_ms());
        }
        of_topic
    }

    /// Does what is due of the exchange of a topic. [`exchanged`](Self::exchanged) must follow, without the lock.
    pub(super) fn exchange(&self, endpoint: &Endpoint, stripe: &mut Stripe, topic: &Arc<str>) -> Due {
        let exchange = endpoint.exchange()?;
        let Topic { present, shared: Some(shared), home, .. } = stripe.get_mut(topic)? else { return None };
        let now_ms = endpoint.clock().now_ms();
        shared.rows.act(present, now_ms);
        for tell in shared.rows.take_tells() {
            let done = match &tell {
                Tell::Everyone(Body::Ask(ask)) => Some(self.done(endpoint, topic, ask.number)),
                _ => None,
            };
            exchange.put(Sending { topic: topic.clone(), tell, done });
        }
        if shared.is_complete(endpoint) {
            shared.waiting.drain(..).for_each(|waits| _ = waits.send(()));
        }
        let due_ms = shared.rows.due_ms(present)?;
        let is_sooner = shared.timers.iter().all(|timer_ms| *timer_ms > due_ms);
        is_sooner.then(|| {
            shared.timers.push(due_ms);
            (*home, due_ms)
        })
    }

    /// Sends what the exchange had to say.
    pub(super) fn exchanged(&self, endpoint: &Endpoint, topic: &Arc<str>, due: Due) {
        let Some(exchange) = endpoint.exchange() else { return };
        exchange.send();
        if let Some((home, due_ms)) = due {
            self.at(endpoint, home, due_ms, topic, |presence, endpoint, topic| presence.due(endpoint, topic));
        }
    }

    fn due(&self, endpoint: &Endpoint, topic: &Arc<str>) {
        let now_ms = endpoint.clock().now_ms();
        let mut stripe = self.0.topics.of(topic);
        if let Some(shared) = stripe.get_mut(topic).and_then(|of_topic| of_topic.shared.as_mut()) {
            shared.timers.retain(|timer_ms| *timer_ms > now_ms);
            self.merged(endpoint, stripe, topic, Default::default());
        }
    }

    fn take(
        &self,
        endpoint: &Endpoint,
        exchange: &Exchange,
        topic: &str,
        origin: Incarnation,
        body: Body,
        is_live: bool,
    ) {
        let is_own = origin == exchange.node.incarnation();
        let topic: Arc<str> = topic.into();
        let mut stripe = self.0.topics.of(&topic);
        let is_shared = stripe.get(&topic).is_some_and(|of_topic| of_topic.shared.is_some());
        if !is_shared {
            match body {
                Body::Ask(ask) if !is_own => {
                    let tell = Tell::One(origin, exchange.node.nothing(&ask));
                    exchange.put(Sending { topic, tell, done: None });
                    drop(stripe);
                    return exchange.send();
                }
                // Members that never asked are told as well.
                Body::Delta(_) | Body::Digest(_) if is_live && !is_own => {
                    let home = self.0.topics.number_of(&topic) % endpoint.shards().len();
                    let rows = Rows::new(exchange.node.clone(), self.outlet() == Outlet::Counts);
                    stripe.entry(&topic, home as u16).shared = Some(Shared::new(rows));
                }
                _ => return,
            }
        }
        let is_alive = exchange.leases(|leases| leases.is_alive(origin));
        let Some(Topic { present, shared: Some(shared), .. }) = stripe.get_mut(&topic) else { return };
        let diff = shared.rows.take(present, origin, body, is_alive, endpoint.clock().now_ms());
        self.merged(endpoint, stripe, &topic, diff);
    }

    /// Asks all for their rows of a topic, and tells them which one is here.
    fn ask(&self, endpoint: &Endpoint, topic: &str, asks: impl FnOnce(&Rows) -> bool) {
        let now_ms = endpoint.clock().now_ms();
        let mut stripe = self.0.topics.of(topic);
        let Some(shared) = stripe.get_mut(topic).and_then(|of_topic| of_topic.shared.as_mut()) else { return };
        if asks(&shared.rows) {
            shared.rows.ask(now_ms);
            shared.rows.tell_digest(now_ms);
            self.merged(endpoint, stripe, &topic.into(), Default::default());
        }
    }

    fn tell_digests(&self, endpoint: &Endpoint) {
        self.each(endpoint, |of_topic| {
            if let Some(shared) = &mut of_topic.shared {
                shared.rows.tell_digest(endpoint.clock().now_ms());
            }
            Default::default()
        });
    }

    /// Changes all topics, and tells of it.
    fn each(&self, endpoint: &Endpoint, change: impl Fn(&mut Topic) -> fanfare_proto::presence::Diff) {
        for lock in self.0.topics.stripes() {
            let names = lock.lock().names();
            for topic in names {
                let mut stripe = lock.lock();
                if let Some(of_topic) = stripe.get_mut(&topic) {
                    let diff = change(of_topic);
                    self.merged(endpoint, stripe, &topic, diff);
                }
            }
        }
    }

    /// What the broker says of a question to all.
    fn done(&self, endpoint: &Endpoint, topic: &Arc<str>, number: u64) -> Done<Option<u64>> {
        let (presence, endpoint, topic) = (self.clone(), endpoint.downgrade(), topic.clone());
        Box::new(move |reached: Result<Option<u64>, Undone>| {
            let Some(endpoint) = endpoint.upgrade() else { return };
            let mut stripe = presence.0.topics.of(&topic);
            let Some(shared) = stripe.get_mut(&topic).and_then(|of_topic| of_topic.shared.as_mut()) else { return };
            match reached {
                Ok(nodes) => shared.rows.receivers(number, nodes),
                Err(_) => shared.rows.not_asked(number),
            }
            presence.merged(&endpoint, stripe, &topic, Default::default());
        })
    }

    pub(crate) fn is(&self, other: &Presence) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Shared {
    fn new(rows: Rows) -> Box<Self> {
        Box::new(Shared { rows, waiting: Vec::new(), timers: Vec::new() })
    }

    fn is_complete(&self, endpoint: &Endpoint) -> bool {
        self.rows.is_complete(endpoint.clock().now_ms())
    }
}
