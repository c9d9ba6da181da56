//! A connection to a server with a thread of its own: what is put in goes out in its order, with all else that waits, and each is told
//! once what became of it.
//!
//! The thread works as shards do: one read, all of it handled, one write of all that waits. So commands are put together by load,
//! never by a timer. When the connection breaks, whoever waits is told, and it is made again. `link/` has the parts: `connected` (a
//! connection from its beginning to its end), `standing` (what is asked of the server at the beginning and every few seconds).

mod connected;
pub(super) mod standing;

use std::io;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use fanfare_proto::resp::Value;
use hashbrown::HashMap;
use mio::{Poll, Waker};

use self::connected::Connected;
use super::moves::Moves;
use super::request::{Request, Subscribed};
use super::sentinel;
use super::server::Server;
use super::url::{CLUSTER_TLS, SENTINEL_TLS, TLS, Url};
use crate::broker::queue::{Command as _, Queue};
use crate::broker::turns::{self, End, WAKER};
use crate::broker::wire::MAY_HAVE_NO_TLS;
use crate::broker::{Deliver, Incarnation, LinkId, LinkState, Undone};

/// What a link is for.
pub(super) enum Role {
    /// Appends, subscriptions and the reads that go with them: their order is the server's.
    Ordered {
        /// Which one it is.
        id: LinkId,
        /// Told of what arrives.
        deliver: Arc<dyn Deliver>,
        /// Who it is.
        node: Incarnation,
        /// The bytes of a canary with this number.
        canary: Box<dyn Fn(u64) -> Bytes + Send>,
    },
    /// What may take long, so that it stands in nobody's way.
    Bulk,
}

/// How to reach a server.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) url: Url,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    /// In a cluster, who is told what the server does not have.
    pub(super) moves: Option<Arc<dyn Moves>>,
}

impl Target {
    /// What an address begins with that leads here with TLS.
    fn tls_scheme(&self) -> &'static str {
        match (&self.url.sentinels, &self.moves) {
            (Some(_), _) => SENTINEL_TLS,
            (None, Some(_)) => CLUSTER_TLS,
            (None, None) => TLS,
        }
    }
}

/// A link. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Link {
    queue: Arc<Queue<Request>>,
}

impl Link {
    /// Starts the thread, which connects and attaches these topics.
    ///
    /// # Errors
    /// The system gives no thread or no place to wait for events.
    pub(super) fn start(
        name: &str,
        role: Role,
        target: Target,
        server: Arc<Server>,
        attached: Attached,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let queue = Arc::new(Queue::new(server.name.clone(), "spread topics over more servers", waker));
        let thread = Thread { queue: queue.clone(), server, role, target, poll, attached, failures: 0 };
        thread::Builder::new().name(name.to_owned()).spawn(move || thread.run())?;
        Ok(Link { queue })
    }

    /// Puts a command in line, or says that it is refused.
    pub(super) fn put(&self, request: Request) {
        self.queue.put(request);
    }

    /// The same with several that follow one another.
    pub(super) fn put_all<const N: usize>(&self, requests: [Request; N]) {
        self.queue.put_all(requests);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

/// The topics that are to be subscribed to whenever there is a connection, and whether their heads are wanted.
pub(super) type Attached = HashMap<Arc<str>, bool, foldhash::fast::RandomState>;

struct Thread {
    queue: Arc<Queue<Request>>,
    server: Arc<Server>,
    role: Role,
    target: Target,
    poll: Poll,
    attached: Attached,
    /// Tries to connect without success, one after the other.
    failures: u32,
}

impl Thread {
    fn run(mut self) {
        let mut told = None;
        loop {
            let why: Arc<str> = match self.connect_and_serve() {
                End::Stopped => return self.stop(),
                End::Broken(why) => Arc::from(format!("{}: {why}", self.server.name)),
            };
            // What broke was told the node.
            if self.failures > 0 && told.as_ref() != Some(&why) {
                tracing::warn!(why = &*why, "no connection to the broker");
                told = Some(why.clone());
            }
            if let Role::Ordered { .. } = self.role {
                self.server.pulse.is_down(&why);
            }
            self.queue.refuse(Some(why.clone()));
            if let Some(moves) = &self.target.moves {
                moves.look();
            }
            let wait = turns::backoff(self.failures, self.server.draw());
            let (queue, attached) = (&self.queue, &mut self.attached);
            if turns::wait(&mut self.poll, queue, wait, |requests| refuse(queue, attached, requests, &why)) {
                return self.stop();
            }
        }
    }

    /// Everything from the connection's beginning to its end.
    fn connect_and_serve(&mut self) -> End {
        let Target { url, tls, .. } = &self.target;
        let timeout = self.server.timeout;
        let place = match &url.sentinels {
            None => Ok((url.host.clone(), url.port)),
            Some(sentinels) => sentinel::master(sentinels, tls.as_ref(), timeout),
        };
        let connect = |(host, port): (String, u16)| turns::connect(&self.poll, (&host, port), timeout, tls.as_ref());
        let wire = match place.and_then(connect) {
            Ok(wire) => wire,
            Err(error) => {
                self.failures += 1;
                return End::Broken(error);
            }
        };
        let mut connected =
            Connected::new(&self.queue, &self.server, &self.role, &self.target, &mut self.attached, wire);
        let end = match turns::drive(&mut self.poll, || connected.turn()) {
            End::Broken(why) if connected.may_want_tls() => {
                let scheme = self.target.tls_scheme();
                End::Broken(format!("{why}; if the server speaks TLS, write {scheme} in the broker's address"))
            }
            End::Broken(why) if connected.may_have_no_tls() && !why.starts_with("TLS") => {
                End::Broken(format!("{why}{MAY_HAVE_NO_TLS}"))
            }
            End::Broken(why) => End::Broken(format!("{why}{}", connected.hint())),
            End::Stopped => End::Stopped,
        };
        let was_up = connected.was_up();
        self.failures = if was_up { 0 } else { self.failures + 1 };
        let why: Arc<str> = match &end {
            End::Broken(why) => format!("{}: {why}", self.server.name).into(),
            End::Stopped => "the engine has ended".into(),
        };
        // Nothing more comes in before those that have are told.
        self.queue.refuse(Some(why.clone()));
        connected.give_up(&why);
        let requests = self.queue.take(true).commands;
        refuse(&self.queue, &mut self.attached, requests, &why);
        if let (Role::Ordered { id, deliver, .. }, true) = (&self.role, was_up) {
            deliver.link(*id, LinkState::Down { why });
        }
        end
    }

    fn stop(mut self) {
        let requests = self.queue.take(true).commands;
        refuse(&self.queue, &mut self.attached, requests, &"the engine has ended".into());
    }
}

/// Refuses what has not been sent, except for detaching, which is done, and for what the next connection attaches.
fn refuse(queue: &Queue<Request>, attached: &mut Attached, requests: Vec<Request>, why: &Arc<str>) {
    for request in requests {
        match &request {
            Request::Unsubscribe { topic, .. } => {
                attached.remove(topic);
                queue.settled(request.size());
                request.answer(Ok(Value::Null));
            }
            Request::Subscribe { topic, with_head, told: Subscribed::Moved } => {
                *attached.entry(topic.clone()).or_default() |= with_head;
                queue.settled(request.size());
            }
            _ => queue.undone(request, Undone::Refused(why.clone())),
        }
    }
}
