//! One connection from its beginning to its end.
//!
//! The server says who it is, the node says who it is, and a `PONG` that it may stay. Then all topics are attached, and once another `PONG`
//! has confirmed that, commands are taken. What was written in a turn is confirmed by the `PONG` that answers the `PING` behind it.
//! `connection/` has the parts: `incoming` (what the server says), `asked` (what is answered by messages), `streams` (those of logs),
//! `clock` (what is due).

mod asked;
mod clock;
mod incoming;
mod streams;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_proto::nats::{write_line, write_message};
use hashbrown::{HashMap, HashSet};

use self::asked::Asked;
use super::super::request::Request;
use super::super::server::Server;
use super::super::url::Url;
use super::greeting::{self, Info};
use super::{Attached, Role, Target};
use crate::broker::buffered::Buffered;
use crate::broker::canary::Canary;
use crate::broker::queue::{Command as _, Queue, Taken};
use crate::broker::turns::ATTACHING_MAX;
use crate::broker::wire::Wire;
use crate::broker::{ATTACHMENTS_MAX, Undone};

/// What a server puts before a message, at most.
const HEADERS_MAX: usize = 64 * 1024;

/// The subscription of the node's inbox, and that of answers. Those of topics follow.
const INBOX: u64 = 1;
const ANSWERS: u64 = 2;

/// A connection.
pub(super) struct Connection<'a> {
    queue: &'a Queue<Request>,
    server: &'a Server,
    role: &'a Role,
    target: &'a Target,
    url: &'a Url,
    attached: &'a mut Attached,
    buffered: Buffered,
    info: Option<Info>,
    /// Subscriptions of topics by their numbers.
    topics: Map<u64, Subscription>,
    /// Those that are there only for what is appended.
    appending: Map<Arc<str>, u64>,
    /// Topics of which it is known that they have begun.
    begun: HashSet<Arc<str>, foldhash::fast::RandomState>,
    /// The last number of a subscription.
    numbered: u64,
    /// What is answered by messages, by its number.
    asked: Map<u64, Asked>,
    /// When each of those is late, in order. What is answered may still stand here.
    deadlines: VecDeque<(Instant, u64)>,
    next_look: Instant,
    waiting: VecDeque<Waiting>,
    /// So many at the front of `waiting` have been told that there was no answer in time.
    expired: usize,
    stage: Stage,
    canary: Canary,
}

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// That of a topic.
struct Subscription {
    topic: Arc<str>,
    /// Whether somebody is told what comes.
    is_wanted: bool,
    /// So many messages have been appended without an answer.
    appends: u32,
}

/// How far a connection is.
enum Stage {
    /// The server is to say who it is, and that the node may stay.
    Greeting { since: Instant },
    /// The streams that keep logs are looked for.
    Preparing { since: Instant },
    /// Topics are attached: of these it was not yet asked.
    Attaching { since: Instant, topics: Option<Vec<Arc<str>>> },
    /// Commands are taken.
    Up,
}

/// Something that was written and is not confirmed.
struct Waiting {
    what: What,
    deadline: Instant,
}

enum What {
    /// Somebody's command with its number; nobody's any more if it has taken too long.
    Theirs { request: Option<Request>, number: u64, size: usize },
    /// A topic is attached again.
    Attach(Arc<str>),
    /// All before this is confirmed.
    Ping(Ping),
}

/// What a `PONG` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ping {
    /// The node may stay.
    Greeted,
    /// As many topics as were asked for are attached.
    Attached,
    /// Commands were taken.
    Taken,
}

impl<'a> Connection<'a> {
    pub(super) fn new(
        queue: &'a Queue<Request>,
        server: &'a Server,
        role: &'a Role,
        target: &'a Target,
        url: &'a Url,
        attached: &'a mut Attached,
        wire: Wire,
    ) -> Self {
        Connection {
            queue,
            server,
            role,
            target,
            url,
            attached,
            buffered: Buffered::new(wire),
            info: None,
            topics: Map::default(),
            appending: Map::default(),
            begun: HashSet::default(),
            numbered: ANSWERS,
            asked: Map::default(),
            deadlines: VecDeque::new(),
            next_look: Instant::now() + streams::LOOK_EVERY,
            waiting: VecDeque::new(),
            expired: 0,
            stage: Stage::Greeting { since: Instant::now() },
            canary: Canary::default(),
        }
    }

    /// Whether it got so far that commands were taken.
    pub(super) fn was_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// What to try where the server has not said who it is.
    pub(super) fn hint(&self) -> &'static str {
        match self.stage {
            Stage::Greeting { .. } if self.info.is_none() && self.buffered.may_want_tls() => {
                "; if it has handshake_first in its tls section, take that out: a node begins TLS behind the server's first line. If it is no \
                 NATS, correct the broker's address: a Redis is named by redis://"
            }
            _ => "",
        }
    }

    /// Tells all who wait that they will have no answer.
    pub(super) fn give_up(&mut self, why: &Arc<str>) {
        for waiting in std::mem::take(&mut self.waiting) {
            if let What::Theirs { request, size, .. } = waiting.what {
                self.queue.settled(size);
                if let Some(request) = request {
                    request.end(Err(Undone::Unknown(why.clone())));
                }
            }
        }
        self.give_up_asked(why);
    }

    /// Takes commands, writes, reads once: how long nothing else is to be done. `None` when the link is to stop.
    pub(super) fn turn(&mut self) -> Result<Option<Duration>, String> {
        let takes = self.was_up() && self.buffered.has_room();
        let Taken { commands, stop } = self.queue.take(takes);
        if stop {
            return Ok(None);
        }
        if !commands.is_empty() {
            commands.into_iter().for_each(|request| self.send(request));
            self.ping(Ping::Taken);
        }
        self.attach_more();
        self.buffered.write()?;
        let more = self.read()?;
        let now = Instant::now();
        self.look_at_the_clock(now)?;
        self.buffered.write()?;
        Ok(Some(if more { Duration::ZERO } else { self.next(now) }))
    }

    /// Writes a command of somebody else.
    fn send(&mut self, request: Request) {
        let size = request.size();
        let number = match &request {
            Request::Subscribe { topic, .. } if self.attached.contains_key(topic) => {
                // It is already; what confirms that is the same.
                return self.wait_for(request, 0, size);
            }
            Request::Subscribe { .. } if self.attached.len() >= ATTACHMENTS_MAX => {
                let why = format!("this node is attached to {ATTACHMENTS_MAX} topics; add nodes");
                return self.queue.undone(request, Undone::refused(why));
            }
            Request::Subscribe { topic, .. } => match self.appending.remove(topic) {
                Some(number) => {
                    self.attached.insert(topic.clone(), number);
                    self.topics.entry(number).and_modify(|subscription| subscription.is_wanted = true);
                    return self.wait_for(request, 0, size);
                }
                None => self.number_for(topic.clone()),
            },
            Request::Unsubscribe { topic, .. } => match self.attached.remove(topic) {
                Some(number) => match self.topics.get_mut(&number).filter(|subscription| subscription.appends > 0) {
                    Some(subscription) => {
                        // It ends with what is appended.
                        subscription.is_wanted = false;
                        self.appending.insert(topic.clone(), number);
                        return self.wait_for(request, 0, size);
                    }
                    None => number,
                },
                None => return self.wait_for(request, 0, size),
            },
            Request::Publish { .. } => 0,
            Request::Send { .. } => self.server.number(),
            Request::Ask { number, .. } => {
                let number = *number;
                return self.ask(number, request, size);
            }
            Request::Append(_) => {
                let Request::Append(append) = request else { return };
                return self.append(append, size);
            }
        };
        request.write(self.server, self.letter(), number, &mut self.buffered.out);
        self.wait_for(request, number, size);
    }

    fn wait_for(&mut self, request: Request, number: u64, size: usize) {
        let deadline = Instant::now() + self.server.timeout;
        self.waiting.push_back(Waiting { what: What::Theirs { request: Some(request), number, size }, deadline });
    }

    /// Gives a topic a number for its subscription.
    fn number_for(&mut self, topic: Arc<str>) -> u64 {
        self.numbered += 1;
        self.attached.insert(topic.clone(), self.numbered);
        self.topics.insert(self.numbered, Subscription { topic, is_wanted: true, appends: 0 });
        self.numbered
    }

    /// What the link's answers have in their subjects.
    fn letter(&self) -> char {
        if self.role.is_live() { 'l' } else { 'b' }
    }

    /// Has the server say when it has handled all so far.
    fn ping(&mut self, ping: Ping) {
        write_line(&["PING"], &mut self.buffered.out);
        let deadline = Instant::now() + self.server.timeout;
        self.waiting.push_back(Waiting { what: What::Ping(ping), deadline });
    }

    /// Says who the node is.
    fn greet(&mut self, info: Info) -> Result<(), String> {
        info.check()?;
        let is_tls = self.url.tls || info.needs_tls;
        if is_tls {
            if !info.offers_tls {
                return Err(
                    "it offers no TLS: write nats:// in the broker's address, or give it a certificate".to_owned()
                );
            }
            let tls = (self.target.trust)().map_err(|error| error.to_string())?;
            self.buffered.wire.begin_tls(tls, &self.url.host).map_err(|error| format!("TLS: {error}"))?;
        }
        if let Some(bytes) = info.payload_max {
            self.server.set_payload_max(bytes);
        }
        let name = if self.role.is_live() { "fanfare" } else { "fanfare-bulk" };
        // One that asks for no proof lets everybody in, or nobody who has a key.
        let proof = self.target.key.as_ref().zip(info.nonce.as_deref()).map(|(key, nonce)| key.prove(nonce));
        let connect = greeting::connect(name, &self.url.login, proof.as_ref(), is_tls);
        write_line(&["CONNECT", &connect], &mut self.buffered.out);
        self.ping(Ping::Greeted);
        self.info = Some(info);
        Ok(())
    }

    /// The node may stay: the streams of logs are looked for.
    fn begin_to_prepare(&mut self) {
        let subjects = &self.server.subjects;
        let answers = (subjects.answers(self.letter()), ANSWERS);
        let inbox = self.role.is_live().then(|| (subjects.own_inbox(), INBOX));
        for (subject, number) in inbox.into_iter().chain([answers]) {
            write_line(&["SUB", &subject, &number.to_string()], &mut self.buffered.out);
        }
        self.stage = Stage::Preparing { since: Instant::now() };
        self.prepare(0);
    }

    /// All topics are attached, as far as there is room for what is on its way.
    fn begin_to_attach(&mut self) {
        let topics = Some(self.attached.keys().cloned().collect());
        self.stage = Stage::Attaching { since: Instant::now(), topics };
    }

    fn attach_more(&mut self) {
        let Stage::Attaching { topics, .. } = &mut self.stage else { return };
        if !self.waiting.is_empty() {
            return;
        }
        let Some(mut topics) = topics.take() else { return };
        for topic in topics.split_off(topics.len().saturating_sub(ATTACHING_MAX)) {
            let number = self.number_for(topic.clone());
            let subject = self.server.subjects.live(&topic);
            write_line(&["SUB", &subject, &number.to_string()], &mut self.buffered.out);
            let deadline = Instant::now() + self.server.timeout;
            self.waiting.push_back(Waiting { what: What::Attach(topic), deadline });
        }
        let left = (!topics.is_empty()).then_some(topics);
        if let Stage::Attaching { topics, .. } = &mut self.stage {
            *topics = left;
        }
        self.ping(Ping::Attached);
    }

    fn send_canary(&mut self, bytes: &[u8]) {
        let inbox = self.server.subjects.own_inbox();
        write_message(&inbox, None, &[], bytes, &mut self.buffered.out);
    }
}
