//! A connection to NATS with a thread of its own: what is put in goes out in its order, with all else that waits, and each is told once
//! what became of it.
//!
//! The thread works as shards do: one read, all of it handled, one write of all that waits. So what is put together is so by load, never
//! by a timer. When the connection breaks, whoever waits is told, and it is made again, with the next of the servers. `link/` has the
//! parts: `connection` (a connection from its beginning to its end), `greeting` (what is said at the beginning, and errors in words).

mod connection;
pub(super) mod greeting;

use std::io;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use hashbrown::HashMap;
use mio::{Poll, Waker};

use self::connection::Connection;
use super::key::Key;
use super::request::Request;
use super::server::Server;
use super::url::Url;
use crate::broker::queue::{Command as _, Queue};
use crate::broker::turns::{self, End, WAKER};
use crate::broker::{Deliver, LinkId, LinkState, Undone};
use crate::error::Error;

/// What a link is for.
pub(super) enum Role {
    /// Live messages, what is appended, and what goes with them: their order is that of the calls.
    Live {
        /// Told of what arrives.
        deliver: Arc<dyn Deliver>,
        /// The bytes of a canary with this number.
        canary: Box<dyn Fn(u64) -> Bytes + Send>,
    },
    /// What may take long, so that it stands in nobody's way.
    Bulk,
}

impl Role {
    fn is_live(&self) -> bool {
        matches!(self, Role::Live { .. })
    }
}

/// Whom TLS trusts: asked when it is needed, which may be for the server alone to say.
pub(super) type Trust = Arc<dyn Fn() -> Result<Arc<rustls::ClientConfig>, Error> + Send + Sync>;

/// How to reach the servers.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) urls: Vec<Url>,
    pub(super) trust: Trust,
    pub(super) key: Option<Key>,
}

/// A link. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Link {
    queue: Arc<Queue<Request>>,
}

impl Link {
    /// Starts the thread, which connects.
    ///
    /// # Errors
    /// The system gives no thread or no place to wait for events.
    pub(super) fn start(name: &str, role: Role, target: Target, server: Arc<Server>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let queue = Arc::new(Queue::new(server.name.clone(), "give it more processors", waker));
        let thread = Thread {
            queue: queue.clone(),
            server,
            role,
            target,
            poll,
            attached: HashMap::default(),
            failures: 0,
            tries: 0,
        };
        thread::Builder::new().name(name.to_owned()).spawn(move || thread.run())?;
        Ok(Link { queue })
    }

    /// Puts a command in line, or says that it is refused.
    pub(super) fn put(&self, request: Request) {
        self.queue.put(request);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

/// The topics that are to be subscribed to whenever there is a connection, and the numbers of their subscriptions in the last one.
type Attached = HashMap<Arc<str>, u64, foldhash::fast::RandomState>;

struct Thread {
    queue: Arc<Queue<Request>>,
    server: Arc<Server>,
    role: Role,
    target: Target,
    poll: Poll,
    attached: Attached,
    /// Tries to connect without success, one after the other.
    failures: u32,
    /// How often one of the servers was tried.
    tries: usize,
}

impl Thread {
    fn run(mut self) {
        let mut told = None;
        loop {
            let why: Arc<str> = match self.connect_and_serve() {
                End::Stopped => return self.stop(),
                End::Broken(why) => why.into(),
            };
            // What broke was told the node.
            if self.failures > 0 && told.as_ref() != Some(&why) {
                tracing::warn!(why = &*why, "no connection to the broker");
                told = Some(why.clone());
            }
            if self.role.is_live() {
                self.server.pulse.is_down(&why);
            }
            self.queue.refuse(Some(why.clone()));
            let wait = turns::backoff(self.failures, self.server.draw());
            let (queue, attached) = (&self.queue, &mut self.attached);
            if turns::wait(&mut self.poll, queue, wait, |requests| refuse(queue, attached, requests, &why)) {
                return self.stop();
            }
        }
    }

    /// Everything from the connection's beginning to its end.
    fn connect_and_serve(&mut self) -> End {
        let url = self.target.urls[self.tries % self.target.urls.len()].clone();
        self.tries += 1;
        let place = format!("nats {url}");
        // Where there is TLS, it begins behind the first line of the server.
        let wire = match turns::connect(&self.poll, (&url.host, url.port), self.server.timeout, None) {
            Ok(wire) => wire,
            Err(error) => {
                self.failures += 1;
                return End::Broken(format!("{place}: {error}"));
            }
        };
        let mut connection =
            Connection::new(&self.queue, &self.server, &self.role, &self.target, &url, &mut self.attached, wire);
        let end = match turns::drive(&mut self.poll, || connection.turn()) {
            End::Broken(why) => End::Broken(format!("{place}: {why}{}", connection.hint())),
            End::Stopped => End::Stopped,
        };
        let was_up = connection.was_up();
        self.failures = if was_up { 0 } else { self.failures + 1 };
        let why: Arc<str> = match &end {
            End::Broken(why) => why.as_str().into(),
            End::Stopped => "the engine has ended".into(),
        };
        // Nothing more comes in before those that have are told.
        self.queue.refuse(Some(why.clone()));
        connection.give_up(&why);
        let commands = self.queue.take(true).commands;
        refuse(&self.queue, &mut self.attached, commands, &why);
        if let (Role::Live { deliver, .. }, true) = (&self.role, was_up) {
            deliver.link(LinkId(0), LinkState::Down { why });
        }
        end
    }

    fn stop(mut self) {
        let commands = self.queue.take(true).commands;
        refuse(&self.queue, &mut self.attached, commands, &"the engine has ended".into());
    }
}

/// Refuses what has not been sent, except for detaching: that is done.
fn refuse(queue: &Queue<Request>, attached: &mut Attached, requests: Vec<Request>, why: &Arc<str>) {
    for request in requests {
        if let Request::Unsubscribe { topic, .. } = &request {
            attached.remove(topic);
            queue.settled(request.size());
            request.end(Ok(()));
        } else {
            queue.undone(request, Undone::Refused(why.clone()));
        }
    }
}
