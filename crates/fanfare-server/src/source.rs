//! Sources: messages from Redis, PostgreSQL and NATS. Here is what they share: a source is kept connected for as long as the
//! server runs, tells how it stands, counts, and hands what comes to the engine in order.
//!
//! How each kind connects and listens stands in its own file; `route` says what a message becomes, `publish` hands it to the
//! engine, and `inbox` holds what cannot wait elsewhere. Nothing that a source is sent ends it: what can never be published
//! is counted, told of in the log now and then without its content, and left out. What cannot be published now waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fanfare::{Endpoint, Error, HeldBack};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::source::{Kind, Route as RouteKind, Source as Settings};
use crate::contract::Contracts;
use crate::health::{self, Counted, Part, State};

mod backoff;
#[cfg(any(feature = "nats", feature = "redis"))]
mod inbox;
#[cfg(feature = "nats")]
pub(crate) mod nats;
#[cfg(feature = "postgres")]
mod outbox;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod publish;
#[cfg(feature = "redis")]
pub(crate) mod publisher;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "redis")]
mod redis_stream;
mod route;

pub(crate) use backoff::Backoff;
use publish::Publish;
use route::{Route, Skip};

/// How long a server may take to let somebody in, and to answer when nothing else shows that it is still there.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a connection on which nothing comes is looked at.
#[cfg(any(feature = "postgres", feature = "redis"))]
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The same few lines for many bad messages help nobody.
const LINES_PER_SECOND_MAX: u64 = 1;

/// Turns true when the server stops.
type Stop = watch::Receiver<bool>;

/// Waits for that. A server that is gone has stopped, too.
async fn stopped(stop: &mut Stop) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// How each source stands, by its name.
pub(crate) type Standings = BTreeMap<String, Arc<Standing>>;

/// How the sources of a configuration stand before they are started.
pub(crate) fn standings(settings: &BTreeMap<String, Settings>) -> Standings {
    settings.keys().map(|name| (name.clone(), Arc::new(Standing::new(name)))).collect()
}

/// All sources of a server.
pub(crate) struct Sources {
    all: Vec<(Settings, Arc<Standing>)>,
    contracts: Contracts,
    running: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Sources {
    /// Those of a configuration, not yet started.
    pub(crate) fn new(settings: BTreeMap<String, Settings>, standings: &Standings, contracts: Contracts) -> Self {
        let all = settings.into_iter().filter_map(|(name, settings)| Some((settings, standings.get(&name)?.clone())));
        Self { all: all.collect(), contracts, running: JoinSet::new(), stop: watch::Sender::new(false) }
    }

    /// What the health report and the counters tell of.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Arc<dyn Part>> {
        self.all.iter().map(|(_, standing)| standing.clone() as Arc<dyn Part>)
    }

    /// Starts all of them.
    pub(crate) fn start(&mut self, endpoint: &Endpoint) {
        for (settings, standing) in std::mem::take(&mut self.all) {
            let publish = Publish::new(endpoint.clone(), self.contracts.clone(), standing.clone(), &settings);
            let listener = self.listener(&settings, publish);
            self.running.spawn(keep(settings, listener, standing, self.stop.subscribe()));
        }
    }

    fn listener(&mut self, settings: &Settings, publish: Publish) -> Listener {
        match settings.kind {
            #[cfg(feature = "redis")]
            Kind::Redis => Listener::Redis(self.inbox(settings, publish)),
            #[cfg(feature = "redis")]
            Kind::RedisStream => Listener::RedisStream(publish, redis_stream::Reader::default()),
            #[cfg(feature = "postgres")]
            Kind::Postgres => Listener::Postgres(publish),
            #[cfg(feature = "postgres")]
            Kind::Outbox => Listener::Outbox(publish),
            #[cfg(feature = "nats")]
            Kind::Nats => Listener::Nats(self.inbox(settings, publish)),
            // The configuration does not let such a source through.
            #[cfg(not(all(feature = "redis", feature = "postgres", feature = "nats")))]
            _ => {
                drop(publish);
                Listener::Absent
            }
        }
    }

    #[cfg(any(feature = "nats", feature = "redis"))]
    fn inbox(&mut self, settings: &Settings, publish: Publish) -> Arc<inbox::Inbox> {
        let inbox = Arc::new(inbox::Inbox::new(settings, publish.standing.clone()));
        self.running.spawn(inbox.clone().empty(publish, self.stop.subscribe()));
        inbox
    }

    /// Lets each finish what it has begun, for so long at most.
    pub(crate) async fn stop(&mut self, limit: Duration) {
        self.stop.send_replace(true);
        let finished = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("a source was cut off in what it did");
        }
    }
}

/// All that a source counts, the reasons to skip a message among them.
#[cfg(test)]
pub(crate) fn counted() -> Vec<Counted> {
    COUNTED.into_iter().chain(Skip::ALL.iter().map(|skip| (skip.name(), skip.about()))).collect()
}

/// A source of a kind, with what it hands messages to.
enum Listener {
    #[cfg(feature = "redis")]
    Redis(Arc<inbox::Inbox>),
    #[cfg(feature = "redis")]
    RedisStream(Publish, redis_stream::Reader),
    #[cfg(feature = "postgres")]
    Postgres(Publish),
    #[cfg(feature = "postgres")]
    Outbox(Publish),
    #[cfg(feature = "nats")]
    Nats(Arc<inbox::Inbox>),
    #[cfg(not(all(feature = "redis", feature = "postgres", feature = "nats")))]
    Absent,
}

impl Listener {
    /// Connects and hands over what comes. `Ok`: the server stops.
    async fn listen(&mut self, settings: &Settings, stop: Stop) -> Result<(), String> {
        let url = settings.url.as_ref().map(|url| url.expose()).unwrap_or_default();
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(inbox) => redis::listen(url, settings, inbox, stop).await,
            #[cfg(feature = "redis")]
            Self::RedisStream(publish, reader) => redis_stream::listen(url, settings, reader, publish, stop).await,
            #[cfg(feature = "postgres")]
            Self::Postgres(publish) => postgres::listen(url, settings, publish, stop).await,
            #[cfg(feature = "postgres")]
            Self::Outbox(publish) => outbox::listen(url, settings, publish, stop).await,
            #[cfg(feature = "nats")]
            Self::Nats(inbox) => nats::listen(url, settings, inbox, stop).await,
            #[cfg(not(all(feature = "redis", feature = "postgres", feature = "nats")))]
            Self::Absent => {
                drop((url, stop));
                Err("this build cannot reach it".into())
            }
        }
    }
}

/// Keeps a source connected until the server stops.
async fn keep(settings: Settings, mut listener: Listener, standing: Arc<Standing>, mut stop: Stop) {
    let mut backoff = Backoff::default();
    while !*stop.borrow() {
        let reason = match listener.listen(&settings, stop.clone()).await {
            Ok(()) => break,
            Err(reason) => reason,
        };
        if standing.is_connected.swap(false, Ordering::Relaxed) {
            standing.losses.fetch_add(1, Ordering::Relaxed);
            backoff = Backoff::default();
        }
        let source = &standing.name;
        // Once is enough; the health report has it as long as it lasts.
        match backoff.failures() {
            0 => tracing::warn!(source, reason, "a source is lost; it is tried again until it is back"),
            failures => tracing::debug!(source, reason, failures, "a source is still lost"),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = stopped(&mut stop) => {}
        }
    }
}

/// What it counts, in this order.
const COUNTED: [Counted; 4] = [
    ("received", "Messages that were published or skipped."),
    ("published", "Messages that were published, one for each recipient."),
    ("lost_connections", "How often the connection was lost."),
    ("waits", "How often a message had to wait, because it could not be published then."),
];

/// How a source stands, and what it has done.
#[derive(Debug)]
pub(crate) struct Standing {
    name: String,
    is_connected: AtomicBool,
    /// The engine took nothing when it was last asked.
    is_waiting: AtomicBool,
    /// Messages were lost since all that waited was published.
    is_losing: AtomicBool,
    connects: AtomicU64,
    losses: AtomicU64,
    received: AtomicU64,
    published: AtomicU64,
    /// How often the engine took nothing.
    waits: AtomicU64,
    /// How old the last message was when it was published, in milliseconds; none where that is not known.
    lag_ms: AtomicU64,
    skipped: [AtomicU64; Skip::ALL.len()],
    brake: HeldBack,
}

impl Standing {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_connected: AtomicBool::new(false),
            is_waiting: AtomicBool::new(false),
            is_losing: AtomicBool::new(false),
            connects: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            received: AtomicU64::new(0),
            published: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            lag_ms: AtomicU64::new(u64::MAX),
            skipped: Default::default(),
            brake: HeldBack::new(LINES_PER_SECOND_MAX, 1),
        }
    }

    /// It listens: what is sent from now on comes.
    fn connected(&self) {
        if !self.is_connected.swap(true, Ordering::Relaxed) {
            let reconnects = self.connects.fetch_add(1, Ordering::Relaxed);
            tracing::info!(source = self.name, reconnects, "a source is connected");
        }
    }

    /// Whether what is sent now comes.
    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Whether it ever was.
    #[cfg(feature = "redis")]
    fn was_connected(&self) -> bool {
        self.connects.load(Ordering::Relaxed) > 0
    }

    /// The engine takes nothing now.
    fn waits(&self, why: &Error) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        if !self.is_waiting.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                source = self.name,
                reason = %why,
                "what a source has cannot be published now; it waits, and is tried again until it can be"
            );
        }
    }

    /// The engine has taken something.
    fn goes_on(&self) {
        if self.is_waiting.load(Ordering::Relaxed) && self.is_waiting.swap(false, Ordering::Relaxed) {
            tracing::info!(source = self.name, "what a source has can be published again");
        }
    }

    /// The engine has taken a message that was made at a time, in milliseconds since 1970.
    #[cfg(feature = "redis")]
    fn was_made_at(&self, made_ms: u64) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.lag_ms.store((now.as_millis() as u64).saturating_sub(made_ms), Ordering::Relaxed);
    }

    /// Messages are lost, since too many wait.
    #[cfg(any(feature = "nats", feature = "redis"))]
    fn overruns(&self, count: u64) {
        self.is_losing.store(true, Ordering::Relaxed);
        self.skip(Skip::Overrun, count);
    }

    /// Nothing waits.
    #[cfg(any(feature = "nats", feature = "redis"))]
    fn keeps_up(&self) {
        self.is_losing.store(false, Ordering::Relaxed);
    }

    /// Something was not published.
    fn skip(&self, why: Skip, count: u64) {
        self.skipped[why as usize].fetch_add(count, Ordering::Relaxed);
        if let Some(held_back) = self.brake.pass() {
            tracing::warn!(
                source = self.name,
                reason = why.reason(),
                held_back,
                "a message of a source was not published"
            );
        }
    }
}

impl Part for Standing {
    fn kind(&self) -> &'static str {
        "sources"
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        match () {
            () if !self.is_connected() => State::Unavailable,
            () if is(&self.is_losing) => State::Losing,
            () if is(&self.is_waiting) => State::Waiting,
            () => State::Ok,
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let skipped = Skip::ALL.iter().zip(&self.skipped);
        let skipped = skipped.map(|(skip, counter)| (skip.name(), counter.load(Ordering::Relaxed)));
        let own = health::numbers(&COUNTED, [&self.received, &self.published, &self.losses, &self.waits]);
        own.into_iter().chain(skipped).collect()
    }

    fn lag(&self) -> Option<Duration> {
        Some(self.lag_ms.load(Ordering::Relaxed)).filter(|&lag_ms| lag_ms < u64::MAX).map(Duration::from_millis)
    }
}

impl Route {
    fn new(settings: &Settings) -> Self {
        let topic = |default: &str| match &settings.topic {
            Some(topic) => topic.clone(),
            None => default.parse().expect("a default is a template"),
        };
        let event = settings.event.0.clone();
        match settings.route {
            RouteKind::Envelope => Self::Envelope,
            RouteKind::Channel => Self::Channel { topic: topic("{channel}"), event },
            RouteKind::Recipients => Self::Recipients {
                topic: topic("bridge:{recipient}"),
                broadcast_topic: settings.broadcast_topic.clone(),
                event,
                recipients_max: settings.recipients_max.0 as usize,
            },
        }
    }
}
