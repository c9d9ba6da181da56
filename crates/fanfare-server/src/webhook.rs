//! A `[[webhook]]`: the user's own back end, which is told over HTTP what happens on this node, or on all nodes of a cluster.
//!
//! The engine's threads leave what they have seen in the `tracker`, under a lock that is held for a moment. A task takes it
//! from there through the `queue` to the back end; `delivery` is one request with its repetitions. In a cluster what the tracker says goes on a
//! roll instead, which has one node tell of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use fanfare::{Endpoint, HeldBack, Herald, News, Observer, Roll, SocketHandle};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::config::webhook::{EventKind, UserName, Webhook as Settings};
use crate::health::{self, Counted, Part, State};
use crate::http_client::Client;
use crate::identity::Identity;
use crate::signature::Signer;

mod delivery;
mod event;
mod queue;
mod tracker;

use event::{Event, Subject};
use queue::Queue;
use tracker::Tracker;

/// How long [`finish`] lets them send what waits.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// How often a webhook that stops looks whether its roll is empty.
const LOOK: Duration = Duration::from_millis(50);

/// More losses than these in a second are counted rather than logged one by one.
const LINES_PER_SECOND_MAX: u64 = 1;

/// One back end.
pub(crate) struct Webhook {
    name: String,
    client: Client,
    current: ArcSwap<Current>,
    seen: Mutex<Seen>,
    /// There is something to do.
    wake: Notify,
    /// Where nodes tell as one.
    roll: OnceLock<Roll>,
    /// Other nodes tell what has gone with this one.
    is_left_to_others: AtomicBool,
    stop: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    counts: Counts,
    /// How many requests in a row have failed.
    failures: AtomicU32,
    /// Whether events were given up since the last one that was sent.
    has_given_up: AtomicBool,
    brake: HeldBack,
}

/// What can be exchanged while it runs.
struct Current {
    settings: Settings,
    signer: Signer,
}

/// Other settings for one that runs.
pub(crate) struct Replacement(Current);

/// What the engine's threads leave for the task.
struct Seen {
    tracker: Tracker,
    queue: Queue,
    /// Whose the sockets were when they opened: a renewed credential may have other claims.
    users: HashMap<SocketHandle, Subject>,
}

/// What it counts, in this order.
pub(crate) const COUNTED: [Counted; 4] = [
    ("sent", "Events that were taken."),
    ("retries", "Requests that repeated one that had failed."),
    ("given_up", "Events that were never taken, after all repetitions."),
    ("queue_full", "Events beyond `queue_max`, which were not kept."),
];

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    retries: AtomicU64,
    given_up: AtomicU64,
    queue_full: AtomicU64,
}

impl Webhook {
    /// Starts its task.
    ///
    /// # Errors
    /// There are no random bytes.
    pub(crate) fn start(settings: Settings, client: Client) -> Result<Arc<Self>, String> {
        let webhook = Arc::new(Self {
            name: settings.name.clone().unwrap_or_default(),
            client,
            seen: Mutex::new(Seen {
                tracker: Tracker::new(settings.grace.0, settings.queue_max.0 as usize),
                queue: Queue::new(settings.queue_max.0 as usize),
                users: HashMap::new(),
            }),
            current: ArcSwap::from_pointee(Current { signer: Signer::new(settings.secret.as_ref())?, settings }),
            wake: Notify::new(),
            roll: OnceLock::new(),
            is_left_to_others: AtomicBool::new(false),
            stop: watch::Sender::new(false),
            ended: watch::Sender::new(false),
            counts: Counts::default(),
            failures: AtomicU32::new(0),
            has_given_up: AtomicBool::new(false),
            brake: HeldBack::new(LINES_PER_SECOND_MAX, 1),
        });
        tokio::spawn(webhook.clone().run());
        Ok(webhook)
    }

    /// Tells as one with the other nodes, where there are some. To be called before anything happens.
    pub(crate) fn enroll(self: &Arc<Self>, endpoint: &Endpoint, name: &str) {
        let grace = self.current.load().settings.grace.0;
        if let Some(roll) = endpoint.roll(name, grace, Teller(Arc::downgrade(self))) {
            // It is called once.
            let _ = self.roll.set(roll);
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What [`replace`](Self::replace) takes.
    ///
    /// # Errors
    /// There are no random bytes.
    pub(crate) fn replacement(settings: Settings) -> Result<Replacement, String> {
        Ok(Replacement(Current { signer: Signer::new(settings.secret.as_ref())?, settings }))
    }

    /// Goes on with other settings, which are about the same events. What waits is sent by them.
    pub(crate) fn replace(&self, Replacement(current): Replacement) {
        self.current.store(Arc::new(current));
        self.wake.notify_one();
    }

    /// What is to be told to the engine's observers.
    pub(crate) fn observer(self: &Arc<Self>) -> impl Observer + use<> {
        let Current { settings, .. } = &**self.current.load();
        Watching {
            topics: settings.wants(EventKind::TopicOccupied) || settings.wants(EventKind::TopicVacated),
            users: settings.wants(EventKind::UserOnline) || settings.wants(EventKind::UserOffline),
            webhook: self.clone(),
        }
    }

    /// Sends what is to be sent, until it is told to stop and nothing is left.
    async fn run(self: Arc<Self>) {
        let (mut requests, mut stop) = (JoinSet::new(), self.stop.subscribe());
        loop {
            let stops = *stop.borrow_and_update();
            let room = (self.current.load().settings.concurrency_max.0 as usize).saturating_sub(requests.len());
            let (batches, due) = self.next(room, stops);
            for batch in batches {
                requests.spawn(self.clone().deliver(batch));
            }
            let is_over = self.is_left_to_others.load(Ordering::Relaxed) || self.roll.get().is_none_or(Roll::is_empty);
            if stops && requests.is_empty() && is_over {
                break;
            }
            let due = if stops { Some(Instant::now() + LOOK) } else { due };
            tokio::select! {
                () = self.wake.notified() => {}
                _ = stop.changed() => {}
                () = until(due) => {}
                Some(Ok(batch)) = requests.join_next() => self.done(&batch),
            }
        }
        self.ended.send_replace(true);
    }

    /// The next batches to send, at most so many, and when to look again even if nothing happens.
    fn next(&self, count_max: usize, stops: bool) -> (Vec<Vec<Event>>, Option<Instant>) {
        let mut seen = self.seen();
        let is_the_end = stops && !self.is_left_to_others.load(Ordering::Relaxed);
        let gone =
            if is_the_end { seen.tracker.all_gone(SystemTime::now()) } else { seen.tracker.gone(Instant::now()) };
        for (subject, at) in gone {
            self.tell(&mut seen, subject, false, at);
        }
        let batch_max = self.current.load().settings.batch_max.0 as usize;
        let take = || seen.queue.take(batch_max);
        let batches = std::iter::repeat_with(take).take(count_max).take_while(|batch| !batch.is_empty()).collect();
        (batches, seen.tracker.next_due())
    }

    /// Tells it, or has it told by the node that does.
    fn tell(&self, seen: &mut Seen, subject: Subject, is_here: bool, at: SystemTime) {
        let name = self.roll.get().map(|roll| (roll, subject.name()));
        match name.filter(|(_, name)| name.len() <= Roll::NAME_SIZE_MAX) {
            Some((roll, name)) => roll.set(&name, is_here, at),
            None => drop(self.queue(seen, Event { id: self.current.load().signer.id(), subject, is_here, at })),
        }
    }

    /// Queues an event: whether it is, since it is wanted and there is room.
    fn queue(&self, seen: &mut Seen, event: Event) -> bool {
        if !self.current.load().settings.wants(event.subject.kind(event.is_here)) {
            return false;
        }
        let is_queued = seen.queue.push(event);
        if !is_queued {
            self.counts.queue_full.fetch_add(1, Ordering::Relaxed);
            if let Some(held_back) = self.brake.pass() {
                tracing::warn!(webhook = self.name, held_back, "queue_max events wait, so that one is dropped");
            }
        }
        is_queued
    }

    /// These are sent, or given up.
    fn done(&self, batch: &[Event]) {
        self.seen().queue.done(batch);
        if let Some(roll) = self.roll.get() {
            batch.iter().for_each(|event| roll.told(&event.subject.name()));
        }
    }

    fn came(&self, subject: &Subject) {
        let mut seen = self.seen();
        if seen.tracker.enter(subject) {
            self.tell(&mut seen, subject.clone(), true, SystemTime::now());
            self.wake.notify_one();
        }
    }

    fn went(&self, subject: &Subject) {
        let (now, at) = (Instant::now(), SystemTime::now());
        let mut seen = self.seen();
        if !seen.tracker.leave(subject, now, at) {
            return;
        }
        // Without a grace the task must not miss it if the next one comes at once; and there may be no room for all who
        // leave.
        for (subject, at) in seen.tracker.gone(now) {
            self.tell(&mut seen, subject, false, at);
        }
        self.wake.notify_one();
    }

    /// A panic elsewhere leaves it as good as it was.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn user(&self, socket: &SocketHandle) -> Option<Subject> {
        let info = socket.info();
        let current = self.current.load();
        let name = current.settings.user.0.iter().find_map(|name| match name {
            UserName::Id => info.id().map(str::to_owned),
            UserName::Claim(claim) => info.assigns::<Identity>()?.text(claim),
        });
        name.map(|name| Subject::User(name.into()))
    }

    /// What is left when it has been stopped is lost.
    fn report_loss(&self) {
        let left = self.seen().queue.size();
        if left > 0 {
            tracing::warn!(webhook = self.name, events = left, "stopped before these were sent");
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells that everybody is gone, and gives what waits a few seconds. Where there are other nodes, these tell it: clients go on there.
pub(crate) async fn finish(webhooks: &[Arc<Webhook>], endpoint: &Endpoint) {
    let has_others = endpoint.nodes().iter().any(|node| !node.is_self);
    for webhook in webhooks {
        webhook.is_left_to_others.store(has_others && webhook.roll.get().is_some(), Ordering::Relaxed);
        webhook.stop.send_replace(true);
    }
    let all_sent = async {
        for webhook in webhooks {
            // The sender lives as long as the webhook.
            let _ = webhook.ended.subscribe().wait_for(|ended| *ended).await;
        }
    };
    // Too late is told of by `report_losses`.
    let _ = tokio::time::timeout(FINISH_MAX, all_sent).await;
}

/// Says what has not been sent.
pub(crate) fn report_losses(webhooks: &[Arc<Webhook>]) {
    webhooks.iter().for_each(|webhook| webhook.report_loss());
}

/// What a roll has this node tell.
struct Teller(Weak<Webhook>);

impl Herald for Teller {
    fn tell(&self, news: News) {
        let Some(webhook) = self.0.upgrade() else { return };
        let is_queued = Subject::named(&news.name).is_some_and(|subject| {
            let event = Event { id: news.id, subject, is_here: news.is_here, at: news.at };
            webhook.queue(&mut webhook.seen(), event)
        });
        match webhook.roll.get() {
            Some(roll) if !is_queued => roll.told(&news.name),
            _ => webhook.wake.notify_one(),
        }
    }
}

/// The observer of the engine's.
struct Watching {
    webhook: Arc<Webhook>,
    topics: bool,
    users: bool,
}

impl Watching {
    fn topic(&self, topic: &Arc<str>) -> Option<Subject> {
        let is_wanted =
            self.topics && self.webhook.current.load().settings.patterns().any(|pattern| pattern.matches(topic));
        is_wanted.then(|| Subject::Topic(topic.clone()))
    }
}

impl Observer for Watching {
    fn opened(&self, socket: &SocketHandle) {
        if let Some(user) = self.users.then(|| self.webhook.user(socket)).flatten() {
            self.webhook.came(&user);
            self.webhook.seen().users.insert(socket.clone(), user);
        }
    }

    /// Only the same user can renew a credential.
    fn renewed(&self, _: &SocketHandle, _: &SocketHandle) {}

    fn closed(&self, socket: &SocketHandle) {
        let user = self.webhook.seen().users.remove(socket);
        user.iter().for_each(|user| self.webhook.went(user));
    }

    fn occupied(&self, topic: &Arc<str>) {
        self.topic(topic).iter().for_each(|topic| self.webhook.came(topic));
    }

    fn vacated(&self, topic: &Arc<str>) {
        self.topic(topic).iter().for_each(|topic| self.webhook.went(topic));
    }
}

impl Part for Webhook {
    fn kind(&self) -> &'static str {
        "webhooks"
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// `stale`: the last request failed, and is repeated. `unavailable`: so often that its events were given up.
    fn state(&self) -> State {
        match self.failures.load(Ordering::Relaxed) {
            _ if self.has_given_up.load(Ordering::Relaxed) => State::Unavailable,
            0 => State::Ok,
            _ => State::Stale,
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let Counts { sent, retries, given_up, queue_full } = &self.counts;
        health::numbers(&COUNTED, [sent, retries, given_up, queue_full])
    }

    fn waiting(&self) -> Option<usize> {
        Some(self.seen().queue.size())
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}
