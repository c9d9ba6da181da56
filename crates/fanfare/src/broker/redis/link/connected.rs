//! One connection from its beginning to its end.
//!
//! It is asked how the server stands, then all topics are attached, and once the server has confirmed that, commands are taken. Answers
//! come in the order of the commands; confirmations of subscriptions, which RESP3 pushes, stand in that order as well. Pushed
//! messages stand anywhere. `connected/` has the parts: `incoming` (what the server sends), `clock` (what is due).

mod clock;
mod incoming;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_proto::resp::{Scanner, write_command};

use super::super::moves::Moves;
use super::super::names::Kind;
use super::super::request::{REQUEST_SIZE, Redirected, Request};
use super::super::scripts::{Script, Shas};
use super::super::server::Server;
use super::super::slots::tag_within;
use super::standing::{Question, something_else};
use super::{Attached, Role, Target};
use crate::broker::buffered::Buffered;
use crate::broker::canary::Canary;
use crate::broker::queue::{Command as _, Queue, Taken};
use crate::broker::turns::{ATTACHING_MAX, BEGINNING_MAX};
use crate::broker::wire::Wire;
use crate::broker::{ATTACHMENTS_MAX, Undone};

/// A string that a server sends is never larger than the largest envelope and this.
const STRING_OVERHEAD_MAX: usize = 1024 * 1024;

/// How often it is looked whether the server's session, life and time are still the same.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A connection.
pub(super) struct Connected<'a> {
    queue: &'a Queue<Request>,
    server: &'a Server,
    role: &'a Role,
    moves: Option<&'a dyn Moves>,
    /// The channel of this node, by which the canary comes.
    inbox: Vec<u8>,
    /// The cell that tells whether the server was flushed.
    life_key: Vec<u8>,
    attached: &'a mut Attached,
    buffered: Buffered,
    scanner: Scanner,
    waiting: VecDeque<Waiting>,
    /// So many at the front of `waiting` have been told that there was no answer in time.
    expired: usize,
    stage: Stage,
    shas: Shas,
    life: Option<Vec<u8>>,
    /// Commands whose script the server did not have, in their order. While there are some, no others are taken.
    unloaded: Vec<Request>,
    canary: Canary,
    next_look: Instant,
}

/// How far a connection is.
enum Stage {
    /// It is asked how the server stands.
    Asking { since: Instant },
    /// Topics are attached: of these it was not yet asked.
    Attaching { since: Instant, topics: Option<Vec<Arc<str>>> },
    /// Commands are taken.
    Up,
}

/// A command without an answer.
struct Waiting {
    what: What,
    deadline: Instant,
}

enum What {
    /// Somebody's; nobody's any more if it has taken too long.
    Theirs { request: Option<Request>, size: usize, confirmation: Confirmation, hops: u8 },
    /// Attaches a topic again, or this node's inbox.
    Attach(Confirmation, Option<Arc<str>>),
    /// The next command is for a slot that is on its way here.
    Asking,
    /// Attaching is over.
    AllAttached,
    /// The answer says how the server stands.
    Question(Question),
    /// The canary has left.
    Canary,
}

/// What says that a command was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confirmation {
    Answer,
    Subscribed,
    Unsubscribed,
}

impl<'a> Connected<'a> {
    pub(super) fn new(
        queue: &'a Queue<Request>,
        server: &'a Server,
        role: &'a Role,
        target: &'a Target,
        attached: &'a mut Attached,
        wire: Wire,
    ) -> Self {
        let now = Instant::now();
        let moves = target.moves.as_deref();
        let (inbox, life_key) = homes(server, role, moves);
        let mut connected = Connected {
            queue,
            server,
            role,
            moves,
            inbox,
            life_key,
            attached,
            buffered: Buffered::new(wire),
            scanner: Scanner::new(server.envelope_size_max + STRING_OVERHEAD_MAX),
            waiting: VecDeque::new(),
            expired: 0,
            stage: Stage::Asking { since: now },
            shas: Shas::default(),
            life: None,
            unloaded: Vec::new(),
            canary: Canary::default(),
            next_look: now + LOOK_EVERY,
        };
        connected.greet(target);
        connected
    }

    /// Whether it got so far that commands were taken.
    pub(super) fn was_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// Whether the server has not said anything that makes sense, and may want TLS.
    pub(super) fn may_want_tls(&self) -> bool {
        matches!(self.stage, Stage::Asking { .. }) && self.buffered.may_want_tls()
    }

    /// Whether the server has not said anything, and may have no TLS.
    pub(super) fn may_have_no_tls(&self) -> bool {
        self.buffered.may_have_no_tls()
    }

    /// What else the server may be, whose first words make no sense.
    pub(super) fn hint(&self) -> &'static str {
        if let Stage::Asking { .. } = self.stage { something_else(self.buffered.first()) } else { "" }
    }

    /// Tells all who wait that they will have no answer.
    pub(super) fn give_up(&mut self, why: &Arc<str>) {
        for waiting in std::mem::take(&mut self.waiting) {
            if let What::Theirs { request, size, .. } = waiting.what {
                self.queue.settled(size);
                if let Some(request) = request {
                    request.answer(Err(Undone::Unknown(why.clone())));
                }
            }
        }
        // These the server has not carried out.
        for request in std::mem::take(&mut self.unloaded) {
            self.queue.undone(request, Undone::Refused(why.clone()));
        }
    }

    /// Takes commands, writes, reads once: how long nothing else is to be done. `None` when the link is to stop.
    pub(super) fn turn(&mut self) -> Result<Option<Duration>, String> {
        let takes = self.unloaded.is_empty() && self.buffered.has_room();
        let Taken { commands, stop } = self.queue.take(takes);
        self.send_all(commands);
        if stop {
            return Ok(None);
        }
        self.attach_more();
        self.buffered.write()?;
        let more = self.read()?;
        let now = Instant::now();
        self.look_at_the_clock(now)?;
        self.buffered.write()?;
        let is_idle = !more && self.unloaded.is_empty();
        Ok(Some(if is_idle { self.next(now) } else { Duration::ZERO }))
    }

    fn send_all(&mut self, requests: Vec<Request>) {
        let mut last: Option<Request> = None;
        for request in requests {
            match &mut last {
                Some(one) => match one.merge(request) {
                    // It goes with the one before: one command, one answer.
                    Ok(()) => self.queue.settled(REQUEST_SIZE),
                    Err(request) => {
                        if let Some(request) = last.replace(request) {
                            self.send(request);
                        }
                    }
                },
                None => last = Some(request),
            }
        }
        if let Some(request) = last {
            self.send(request);
        }
    }

    /// Sends a command of somebody else.
    fn send(&mut self, request: Request) {
        let (request, hops) = match request {
            Request::Redirected(redirected) => {
                let Redirected { request, hops, asks } = *redirected;
                if asks {
                    self.send_own(What::Asking, &[b"ASKING"]);
                }
                (request, hops)
            }
            request => (request, 0),
        };
        let size = request.size();
        let confirmation = match &request {
            Request::Subscribe { topic, with_head, .. } => {
                if self.attached.len() >= ATTACHMENTS_MAX && !self.attached.contains_key(topic) {
                    let why = format!("this node is attached to {ATTACHMENTS_MAX} topics; add nodes");
                    return self.queue.undone(request, Undone::refused(why));
                }
                let wants_head = self.attached.entry(topic.clone()).or_default();
                *wants_head |= with_head;
                Confirmation::Subscribed
            }
            Request::Unsubscribe { topic, .. } => {
                self.attached.remove(topic);
                Confirmation::Unsubscribed
            }
            _ => Confirmation::Answer,
        };
        request.write(self.server, &self.shas, &mut self.buffered.out);
        let deadline = Instant::now() + self.server.timeout;
        let what = What::Theirs { request: Some(request), size, confirmation, hops };
        self.waiting.push_back(Waiting { what, deadline });
    }

    /// Sends a command of our own.
    fn send_own(&mut self, what: What, parts: &[&[u8]]) {
        write_command(parts, &mut self.buffered.out);
        self.waiting.push_back(Waiting { what, deadline: Instant::now() + BEGINNING_MAX });
    }

    fn greet(&mut self, target: &Target) {
        let name = match self.role {
            Role::Ordered { .. } => &b"fanfare-ordered"[..],
            Role::Bulk => b"fanfare-bulk",
        };
        let user = target.url.user.as_deref().unwrap_or("default").as_bytes();
        let hello = What::Question(Question::Hello);
        match &target.url.password {
            Some(password) => {
                self.send_own(hello, &[b"HELLO", b"3", b"AUTH", user, password.as_bytes(), b"SETNAME", name])
            }
            None => self.send_own(hello, &[b"HELLO", b"3", b"SETNAME", name]),
        }
        self.send_own(What::Question(Question::Role), &[b"ROLE"]);
        self.ask_part_max();
        if let Role::Ordered { .. } = self.role {
            self.ask_how_it_stands();
        }
        self.load_scripts();
    }

    fn ask_how_it_stands(&mut self) {
        self.send_own(What::Question(Question::Session), &[b"INFO", b"replication"]);
        let (key, life) = (self.life_key.clone(), self.server.draw());
        let what = What::Question(Question::Life(life));
        self.send_own(what, &[b"SET", &key, life.to_string().as_bytes(), b"NX", b"GET"]);
        self.send_own(What::Question(Question::Time(Instant::now())), &[b"TIME"]);
        if self.server.tells_part_max() {
            self.ask_part_max();
        }
    }

    fn ask_part_max(&mut self) {
        self.send_own(What::Question(Question::PartMax), &[b"CONFIG", b"GET", b"proto-max-bulk-len"]);
    }

    fn load_scripts(&mut self) {
        for script in Script::ALL {
            let what = What::Question(Question::Load(script));
            self.send_own(what, &[b"SCRIPT", b"LOAD", script.text().as_bytes()]);
        }
    }

    /// The server stands well: all topics are attached, as far as there is room for what is on its way.
    fn begin_to_attach(&mut self, since: Instant) {
        if let Role::Ordered { .. } = self.role {
            let inbox = self.inbox.clone();
            self.send_own(What::Attach(Confirmation::Subscribed, None), &[b"SSUBSCRIBE", &inbox]);
        }
        self.stage = Stage::Attaching { since, topics: Some(self.attached.keys().cloned().collect()) };
        self.attach_more();
    }

    fn attach_more(&mut self) {
        let Stage::Attaching { topics: Some(topics), .. } = &mut self.stage else { return };
        let mut topics = std::mem::take(topics);
        while self.waiting.len() < ATTACHING_MAX
            && let Some(topic) = topics.pop()
        {
            // It may have been detached meanwhile.
            let Some(&with_head) = self.attached.get(&topic) else { continue };
            let server = self.server;
            let channel = server.names.of(Kind::Live, &topic);
            let meta = server.names.of(Kind::Meta, &topic);
            let [session, fresh] = [server.session(), server.draw()].map(u64::to_le_bytes);
            self.send_own(What::Attach(Confirmation::Subscribed, Some(topic.clone())), &[b"SSUBSCRIBE", &channel]);
            if with_head {
                // So that a log that the server does not know begins again, and that once.
                let sha = self.shas.of(Script::Heads).to_vec();
                let what = What::Attach(Confirmation::Answer, Some(topic));
                self.send_own(what, &[b"EVALSHA", &sha, b"1", &meta, &session, &fresh]);
            }
        }
        let left = (!topics.is_empty()).then_some(topics);
        if left.is_none() {
            self.send_own(What::AllAttached, &[b"PING"]);
        }
        if let Stage::Attaching { topics, .. } = &mut self.stage {
            *topics = left;
        }
    }
}

/// The names that a connection has for itself: that of its canary's channel, and that of the server's life. In a cluster they are in slots that
/// the server has.
fn homes(server: &Server, role: &Role, moves: Option<&dyn Moves>) -> (Vec<u8>, Vec<u8>) {
    let Role::Ordered { node, .. } = role else { return Default::default() };
    match moves {
        None => (server.names.inbox(*node), server.names.life()),
        Some(moves) => {
            let slots = moves.slots();
            let canary = tag_within(&format!("{node}-"), &slots);
            (server.names.canary_with(&canary), server.names.life_with(&tag_within("", &slots)))
        }
    }
}
