//! Taps: somebody watches what is published to topics, what clients send, and what they are answered.
//!
//! Without a tap all of this costs one look at a number for each message that is published, received or sent to one socket; nothing is
//! added to what a delivery costs. Taps of single topics cost those of other topics one look more, however many they are. A tap that is
//! not read in time, or that gets more than its rate, is told how much it has missed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use fanfare_proto::frame::Outgoing;
use fanfare_proto::message::Incoming;
use fanfare_proto::payload::Payload;
use fanfare_proto::topic::Pattern;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::event::HeldBack;
use crate::fact::Who;
use crate::key::SocketId;
use crate::message::Message;

/// So many taps there can be at a time.
const TAPS_MAX: usize = 16;

/// So many messages wait for whoever reads a tap.
const QUEUE_MAX: usize = 256;

/// Of longer payloads only the length is told, so that what waits has a bound in bytes as well.
const PAYLOAD_SIZE_MAX: usize = 16 * 1024;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A client has sent it.
    In,
    /// It was published to its topic, or sent to one client.
    Out,
}

/// What a tap is told of. Given together, all of it holds.
#[derive(Debug, Clone, Default)]
pub struct TapFilter {
    /// Topics of this pattern.
    pub topic: Option<Pattern>,
    /// What sockets with this id send and are sent alone: what is published to their topics is told by the topics.
    pub user: Option<String>,
    /// The same of sockets of this address.
    pub address: Option<IpAddr>,
    /// The same of one socket.
    pub socket: Option<SocketId>,
    /// One direction only.
    pub direction: Option<Direction>,
    /// These events only; all if there are none.
    pub events: Vec<String>,
}

/// A message that a tap has seen.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Tapped {
    /// When.
    pub at: SystemTime,
    /// Which way it goes.
    pub direction: Direction,
    /// The id of the socket, where it is of one socket and its id is no credential.
    pub user: Option<String>,
    /// That socket's address.
    pub address: Option<SocketAddr>,
    /// Its name.
    pub socket: Option<SocketId>,
    /// The topic.
    pub topic: String,
    /// The event.
    pub event: String,
    /// The status of a reply.
    pub status: Option<String>,
    /// How many bytes the payload has.
    pub bytes: usize,
    /// The payload as it is, with all its secrets, unless it is long.
    pub payload: Option<Payload>,
    /// How many messages before it were left out.
    pub left_out: u64,
}

/// Tells what happens, for as long as it is kept: see [`Endpoint::tap`](crate::Endpoint::tap).
pub struct Tap {
    messages: mpsc::Receiver<Tapped>,
    watcher: Arc<Watcher>,
    taps: Arc<Taps>,
}

/// All taps of a node.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    /// How many there are.
    count: AtomicUsize,
    watchers: RwLock<Watchers>,
    /// Messages that were told, and those that were left out.
    told: AtomicU64,
    left_out: AtomicU64,
}

#[derive(Debug, Default)]
struct Watchers {
    /// Those of one topic each, by that.
    by_topic: HashMap<String, Vec<Arc<Watcher>>, RandomState>,
    /// Those that each message is held against.
    others: Vec<Arc<Watcher>>,
}

impl Watchers {
    fn count(&self) -> usize {
        self.by_topic.values().map(Vec::len).sum::<usize>() + self.others.len()
    }

    /// Where one with this filter has its place.
    fn beside(&mut self, filter: &TapFilter) -> &mut Vec<Arc<Watcher>> {
        // A star stands at the end of a pattern, or nowhere.
        match filter.topic.as_ref().map(Pattern::to_string).filter(|pattern| !pattern.ends_with('*')) {
            Some(topic) => self.by_topic.entry(topic).or_default(),
            None => &mut self.others,
        }
    }

    fn remove(&mut self, watcher: &Arc<Watcher>) {
        self.beside(&watcher.filter).retain(|other| !Arc::ptr_eq(other, watcher));
        self.by_topic.retain(|_, watchers| !watchers.is_empty());
    }

    /// Those that may want a message of this topic.
    fn of(&self, topic: &str) -> impl Iterator<Item = &Arc<Watcher>> {
        self.by_topic.get(topic).into_iter().flatten().chain(&self.others)
    }
}

#[derive(Debug)]
struct Watcher {
    filter: TapFilter,
    rate: HeldBack,
    /// Messages for which there was no room.
    lost: AtomicU64,
    queue: mpsc::Sender<Tapped>,
}

/// What is known of a message before anything of it is copied.
struct Seen<'m> {
    direction: Direction,
    who: Option<(SocketId, Who<'m>)>,
    topic: &'m str,
    event: &'m str,
    status: Option<&'m str>,
    payload: &'m Payload,
}

impl Tap {
    /// The next message; `None` once the engine has ended.
    pub async fn recv(&mut self) -> Option<Tapped> {
        self.messages.recv().await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut watchers = self.taps.watchers.write();
        watchers.remove(&self.watcher);
        self.taps.count.store(watchers.count(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("filter", &self.watcher.filter).finish_non_exhaustive()
    }
}

impl Taps {
    /// # Errors
    /// There are as many as there can be.
    pub(crate) fn open(self: &Arc<Self>, filter: TapFilter, rate: u32) -> Result<Tap, Error> {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let rate = HeldBack::new(u64::from(rate.max(1)), 1);
        let watcher = Arc::new(Watcher { filter, rate, lost: AtomicU64::new(0), queue });
        let mut watchers = self.watchers.write();
        if watchers.count() >= TAPS_MAX {
            return Err(Error::unavailable(format!(
                "there are {TAPS_MAX} taps, as many as there can be: end one first"
            )));
        }
        watchers.beside(&watcher.filter).push(watcher.clone());
        self.count.store(watchers.count(), Ordering::Relaxed);
        Ok(Tap { messages, watcher, taps: self.clone() })
    }

    /// Whether there is any. Nearly always there is none.
    #[inline(always)]
    pub(crate) fn is_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// How many taps there are, how many messages were told, and how many left out.
    #[cfg(feature = "metrics")]
    pub(crate) fn figures(&self) -> (usize, u64, u64) {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (self.count.load(Ordering::Relaxed), of(&self.told), of(&self.left_out))
    }

    /// A message is on its way to the members of its topic.
    #[cold]
    pub(crate) fn published(&self, message: &Message) {
        let Message { topic, event, payload, .. } = message;
        self.tell(&Seen { direction: Direction::Out, who: None, topic, event, status: None, payload });
    }

    /// A client has sent something.
    #[cold]
    pub(crate) fn received(&self, socket: SocketId, who: Who<'_>, message: &Incoming<'_>) {
        let Incoming { topic, event, payload, .. } = message;
        self.tell(&Seen { direction: Direction::In, who: Some((socket, who)), topic, event, status: None, payload });
    }

    /// A client is sent something by itself.
    #[cold]
    pub(crate) fn sent(&self, socket: SocketId, who: Who<'_>, frame: &Outgoing<'_>) {
        let nothing = Payload::default();
        let (topic, event, status, payload) = match *frame {
            Outgoing::Reply { topic, status, response, .. } => (topic, "phx_reply", Some(status), response),
            Outgoing::Push { topic, event, payload, .. } => (topic, event, None, payload),
            Outgoing::Close { topic, .. } => (topic, "phx_close", None, &nothing),
            Outgoing::Error { topic, .. } => (topic, "phx_error", None, &nothing),
        };
        self.tell(&Seen { direction: Direction::Out, who: Some((socket, who)), topic, event, status, payload });
    }

    fn tell(&self, seen: &Seen<'_>) {
        for watcher in self.watchers.read().of(seen.topic).filter(|watcher| watcher.filter.lets(seen)) {
            let Some(left_out) = watcher.rate.pass() else {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let left_out = left_out + watcher.lost.swap(0, Ordering::Relaxed);
            if let Err(mpsc::error::TrySendError::Full(lost)) = watcher.queue.try_send(seen.told(left_out)) {
                watcher.lost.fetch_add(1 + lost.left_out, Ordering::Relaxed);
                self.left_out.fetch_add(1, Ordering::Relaxed);
            } else {
                self.told.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl TapFilter {
    /// What is published to topics is of no socket.
    fn is_of_sockets(&self) -> bool {
        self.user.is_some() || self.address.is_some() || self.socket.is_some()
    }

    fn lets(&self, seen: &Seen<'_>) -> bool {
        let is_its = |(socket, who): &(SocketId, Who<'_>)| {
            self.user.as_deref().is_none_or(|user| who.user == Some(user))
                && self.socket.is_none_or(|wanted| wanted == *socket)
                && self.address.is_none_or(|address| who.address.is_some_and(|other| other.ip() == address))
        };
        self.direction.is_none_or(|direction| direction == seen.direction)
            && seen.who.as_ref().map_or(!self.is_of_sockets(), is_its)
            && self.topic.as_ref().is_none_or(|pattern| pattern.matches(seen.topic))
            && (self.events.is_empty() || self.events.iter().any(|event| event == seen.event))
    }
}

impl Seen<'_> {
    fn told(&self, left_out: u64) -> Tapped {
        let bytes = self.payload.size();
        Tapped {
            at: SystemTime::now(),
            direction: self.direction,
            user: self.who.and_then(|(_, who)| who.user.map(str::to_owned)),
            address: self.who.and_then(|(_, who)| who.address),
            socket: self.who.map(|(socket, _)| socket),
            topic: self.topic.to_owned(),
            event: self.event.to_owned(),
            status: self.status.map(str::to_owned),
            bytes,
            payload: (bytes <= PAYLOAD_SIZE_MAX).then(|| self.payload.clone()),
            left_out,
        }
    }
}
