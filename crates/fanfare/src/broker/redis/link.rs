//! A connection to a server with a thread of its own: what is put in goes out in its order, with all else that waits, and each is told
//! once what became of it.
//!
//! The thread works as shards do: one read, all of it handled, one write of all that waits. So commands are put together by load,
//! never by a timer. When the connection breaks, whoever waits is told, and it is made again. `link/` has the parts: `connected` (a
//! connection from its beginning to its end), `standing` (what is asked of the server at the beginning and every few seconds).

mod connected;
mod standing;

use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_proto::resp::Value;
use hashbrown::HashMap;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;

use self::connected::{Connected, End};
use super::request::Request;
use super::server::Server;
use super::url::Url;
use crate::broker::wire::Wire;
use crate::broker::{COMMANDS_WAITING_BYTES_MAX, COMMANDS_WAITING_MAX, Deliver, LinkId, LinkState, Undone};

const WAKER: Token = Token(0);
const SOCKET: Token = Token(1);

/// The first wait before the next try to connect, which doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What a link is for.
pub(super) enum Role {
    /// Appends, subscriptions and the reads that go with them: their order is the server's.
    Ordered {
        /// Told of what arrives.
        deliver: Arc<dyn Deliver>,
        /// The channel of this node.
        inbox: Box<[u8]>,
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
}

/// A link. It ends when this is dropped.
pub(super) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    server: Arc<Server>,
    queue: Mutex<Queue>,
    waker: Waker,
    /// What waits in the queue and for answers.
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
}

struct Queue {
    requests: Vec<Request>,
    /// Why commands are refused, if they are.
    refused: Option<Arc<str>>,
    renew: bool,
    stop: bool,
}

impl Link {
    /// Starts the thread, which connects.
    ///
    /// # Errors
    /// The system gives no thread or no place to wait for events.
    pub(super) fn start(name: &str, role: Role, target: Target, server: Arc<Server>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let queue = Queue {
            requests: Vec::new(),
            refused: Some(format!("redis {} is not connected yet", server.address).into()),
            renew: false,
            stop: false,
        };
        let shared = Arc::new(Shared {
            server,
            queue: Mutex::new(queue),
            waker: Waker::new(poll.registry(), WAKER)?,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
        });
        let thread = Thread { shared: shared.clone(), role, target, poll, attached: HashMap::default(), failures: 0 };
        thread::Builder::new().name(name.to_owned()).spawn(move || thread.run())?;
        Ok(Link { shared })
    }

    /// Puts a command in line, or says that it is refused.
    pub(super) fn put(&self, request: Request) {
        self.put_all([request]);
    }

    /// The same with several that follow one another.
    pub(super) fn put_all<const N: usize>(&self, requests: [Request; N]) {
        let Shared { queue, waker, waiting, waiting_bytes, server } = &*self.shared;
        let size: usize = requests.iter().map(Request::size).sum();
        let mut queue = queue.lock();
        let full = waiting.load(Ordering::Relaxed) + N > COMMANDS_WAITING_MAX
            || waiting_bytes.load(Ordering::Relaxed) + size > COMMANDS_WAITING_BYTES_MAX;
        let is_detach = matches!(requests[..], [Request::Unsubscribe { .. }]);
        let refused = if queue.stop {
            Some("the engine has ended".into())
        } else if is_detach {
            // Always possible: also without a connection there is something that is not to be made again.
            None
        } else if full {
            Some(Arc::from(format!(
                "{COMMANDS_WAITING_MAX} commands or {COMMANDS_WAITING_BYTES_MAX} bytes wait for redis {}; publish less, or spread \
                 topics over more servers",
                server.address
            )))
        } else {
            queue.refused.clone()
        };
        if let Some(why) = refused {
            drop(queue);
            requests.into_iter().for_each(|request| request.answer(Err(Undone::Refused(why.clone()))));
            return;
        }
        waiting.fetch_add(N, Ordering::Relaxed);
        waiting_bytes.fetch_add(size, Ordering::Relaxed);
        let wakes = queue.requests.is_empty();
        queue.requests.extend(requests);
        drop(queue);
        if wakes {
            let _ = waker.wake();
        }
    }

    /// Makes the connection again.
    pub(super) fn renew(&self) {
        self.shared.queue.lock().renew = true;
        let _ = self.shared.waker.wake();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.queue.lock().stop = true;
        let _ = self.shared.waker.wake();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.shared.server.address).finish_non_exhaustive()
    }
}

impl Shared {
    /// What has been put in since the last time; commands only if they are wanted.
    fn take(&self, wants_requests: bool) -> Taken {
        let mut queue = self.queue.lock();
        Taken {
            requests: if wants_requests { std::mem::take(&mut queue.requests) } else { Vec::new() },
            renew: std::mem::take(&mut queue.renew),
            stop: queue.stop,
        }
    }

    /// Refuses what comes from now on, or takes it.
    fn refuse(&self, why: Option<Arc<str>>) {
        self.queue.lock().refused = why;
    }

    /// Hands over the answer of a command that was counted.
    fn answer(&self, request: Request, size: usize, answer: Result<Value<'_>, Undone>) {
        self.settled(size);
        request.answer(answer);
    }

    /// A command of this size does not wait any more.
    fn settled(&self, size: usize) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
    }

    fn refuse_all(&self, requests: Vec<Request>, why: &Arc<str>) {
        for request in requests {
            let size = request.size();
            self.answer(request, size, Err(Undone::Refused(why.clone())));
        }
    }
}

struct Taken {
    requests: Vec<Request>,
    renew: bool,
    stop: bool,
}

/// The topics that are to be subscribed to whenever there is a connection, and whether their heads are wanted.
type Attached = HashMap<Arc<str>, bool, foldhash::fast::RandomState>;

struct Thread {
    shared: Arc<Shared>,
    role: Role,
    target: Target,
    poll: Poll,
    attached: Attached,
    /// Tries to connect without success, one after the other.
    failures: u32,
}

impl Thread {
    fn run(mut self) {
        let address = self.shared.server.address.clone();
        let mut told = None;
        loop {
            let why: Arc<str> = match self.connect_and_serve() {
                End::Stopped => return self.stop(),
                End::Broken(why) => Arc::from(format!("redis {address}: {why}")),
            };
            // What broke was told the node.
            if self.failures > 0 && told.as_ref() != Some(&why) {
                tracing::warn!(why = &*why, "no connection to the broker");
                told = Some(why.clone());
            }
            self.shared.refuse(Some(why.clone()));
            let wait = self.backoff();
            if self.wait(wait, &why) {
                return self.stop();
            }
        }
    }

    /// Everything from the connection's beginning to its end.
    fn connect_and_serve(&mut self) -> End {
        let wire = match self.connect() {
            Ok(wire) => wire,
            Err(error) => {
                self.failures += 1;
                return End::Broken(error);
            }
        };
        let mut connected = Connected::new(&self.shared, &self.role, &self.target, &mut self.attached, wire);
        let end = connected.drive(&mut self.poll);
        let was_up = connected.was_up();
        self.failures = if was_up { 0 } else { self.failures + 1 };
        let why: Arc<str> = match &end {
            End::Broken(why) => format!("redis {}: {why}", self.shared.server.address).into(),
            End::Stopped => "the engine has ended".into(),
        };
        // Nothing more comes in before those that have are told.
        self.shared.refuse(Some(why.clone()));
        connected.give_up(&why);
        let requests = self.shared.take(true).requests;
        self.refuse(requests, &why);
        if let (Role::Ordered { deliver, .. }, true) = (&self.role, was_up) {
            deliver.link(LinkId(0), LinkState::Down { why });
        }
        end
    }

    fn connect(&mut self) -> Result<Wire, String> {
        let Target { url, tls } = &self.target;
        let timeout = self.shared.server.timeout;
        let addresses = (&*url.host, url.port).to_socket_addrs().map_err(|error| format!("its name: {error}"))?;
        let mut last = "its name has no addresses".to_owned();
        for address in addresses {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(tcp) => {
                    let wire = Wire::new(tcp, tls.as_ref().map(|tls| (tls.clone(), &*url.host)));
                    let mut wire = wire.map_err(|error| error.to_string())?;
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let registered = self.poll.registry().register(wire.source(), SOCKET, interest);
                    registered.map_err(|error| error.to_string())?;
                    return Ok(wire);
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    }

    fn backoff(&self) -> Duration {
        let longest = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16)).min(BACKOFF_MAX);
        // Up to a half less, so that nodes do not come all at once.
        longest - longest.mul_f64((self.shared.server.draw() % 1_000) as f64 / 2_000.0)
    }

    /// Waits before the next try; whether to stop. What is put in meanwhile is told.
    fn wait(&mut self, time: Duration, why: &Arc<str>) -> bool {
        let until = Instant::now() + time;
        let mut events = Events::with_capacity(4);
        loop {
            let Taken { requests, stop, .. } = self.shared.take(true);
            self.refuse(requests, why);
            let left = until.saturating_duration_since(Instant::now());
            if stop || left.is_zero() {
                return stop;
            }
            let _ = self.poll.poll(&mut events, Some(left));
        }
    }

    /// Refuses what has not been sent, except for detaching: that is done.
    fn refuse(&mut self, requests: Vec<Request>, why: &Arc<str>) {
        let mut refused = Vec::new();
        for request in requests {
            if let Request::Unsubscribe { topic, .. } = &request {
                self.attached.remove(topic);
                let size = request.size();
                self.shared.answer(request, size, Ok(Value::Null));
            } else {
                refused.push(request);
            }
        }
        self.shared.refuse_all(refused, why);
    }

    fn stop(mut self) {
        let requests = self.shared.take(true).requests;
        self.refuse(requests, &"the engine has ended".into());
    }
}
