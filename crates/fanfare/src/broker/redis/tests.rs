//! The broker over a real Redis, started for each test. What `redis/tests/` has: `appends` and `reads` (every outcome of the scripts), `live`
//! (subscriptions and inboxes), `breaks` (connections that break, servers that stop, forget or refuse), `cost`.

mod appends;
mod breaks;
mod cost;
mod live;
#[path = "../../../../fanfare-server/tests/server/services/process.rs"]
#[allow(dead_code, reason = "shared with the tests of the server, which use more of it")]
mod process;
mod reads;
#[path = "../../../../fanfare-server/tests/server/services/redis_server.rs"]
mod redis_server;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_proto::history::Retention;
use fanfare_proto::position::{Epoch, Position, Since};
use parking_lot::Mutex;
use rustls::ClientConfig;

use self::process::Service;
use super::{Redis, RedisBroker};
use crate::broker::{
    Append, Appended, Attached, Deliver, Done, Incarnation, LinkId, LinkState, Log, Page, Read, Stamp, Transport,
    Undone,
};
use crate::error::Error;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a node was told.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Live(String, Bytes, Option<Stamp>),
    Inbox(Bytes),
    Up,
    Down(String),
}

struct Recorder(Mutex<Sender<Told>>);

impl Recorder {
    fn tell(&self, told: Told) {
        let _ = self.0.lock().send(told);
    }
}

impl Deliver for Recorder {
    fn live(&self, topic: &str, envelope: Bytes, stamp: Option<Stamp>) {
        self.tell(Told::Live(topic.to_owned(), envelope, stamp));
    }

    fn inbox(&self, envelope: Bytes) {
        self.tell(Told::Inbox(envelope));
    }

    fn link(&self, _link: LinkId, state: LinkState) {
        self.tell(match state {
            LinkState::Up { .. } => Told::Up,
            LinkState::Down { why } => Told::Down(why.to_string()),
        });
    }

    fn doubtful(&self, _topic: &str) {}
}

/// A node's side of a broker.
struct Node {
    redis: Arc<Redis>,
    told: Receiver<Told>,
    incarnation: Incarnation,
}

impl Node {
    /// Connects, and waits until it is.
    fn up(service: &Service) -> Node {
        let node = Node::with(&broker(service));
        assert_eq!(node.next(), Told::Up);
        // The other link comes up by itself.
        eventually(|| answer(|done| node.redis.heads(vec![topic("warm-up")], done)).is_ok());
        node
    }

    fn with(broker: &RedisBroker) -> Node {
        Node::with_tls(broker, super::client_tls)
    }

    fn with_tls(broker: &RedisBroker, tls: impl FnOnce() -> Result<Arc<ClientConfig>, Error>) -> Node {
        let (sender, told) = mpsc::channel();
        let incarnation = Incarnation::new(rand()).unwrap();
        let redis = broker.start(incarnation, Arc::new(Recorder(Mutex::new(sender))), tls).unwrap();
        Node { redis, told, incarnation }
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the node is told something")
    }

    /// Nothing comes any more: an own message in the inbox comes behind all that was on its way.
    fn rest(&self) -> Vec<Told> {
        let last = Bytes::from(rand().to_string());
        answer(|done| self.redis.send(self.incarnation, last.clone(), done)).unwrap();
        let mut all = Vec::new();
        loop {
            match self.next() {
                Told::Inbox(bytes) if bytes == last => return all,
                told => all.push(told),
            }
        }
    }

    fn attach(&self, name: &str, wants_head: bool) -> Result<Attached, Undone> {
        answer(|done| self.redis.attach(&topic(name), wants_head, done))
    }

    fn append(&self, name: &str, content: &str) -> Result<Appended, Undone> {
        self.append_with(name, content, Retention::default(), None, None)
    }

    fn append_with(
        &self,
        name: &str,
        content: &str,
        retention: Retention,
        key: Option<&str>,
        expected: Option<Since>,
    ) -> Result<Appended, Undone> {
        answer(|done| {
            self.redis.append(Append {
                topic: topic(name),
                envelope: envelope(content),
                retention,
                key: key.map(Into::into),
                expected,
                done,
            });
        })
    }

    fn stamp(&self, name: &str, content: &str) -> Stamp {
        match self.append(name, content) {
            Ok(Appended::New(stamp)) => stamp,
            other => panic!("{other:?}"),
        }
    }

    fn read(&self, name: &str, since: Since) -> Page {
        self.read_with(
            name,
            Read { since, limit: 1_000, bytes_max: usize::MAX, newest: 0, retention: Retention::default() },
        )
    }

    fn read_with(&self, name: &str, read: Read) -> Page {
        answer(|done| self.redis.read(&topic(name), read, done)).unwrap()
    }
}

/// The largest message of the nodes here.
const MESSAGE_SIZE_MAX: usize = 1024 * 1024;

fn broker(service: &Service) -> RedisBroker {
    at_url(&format!("redis://127.0.0.1:{}", service.port))
}

fn at_url(url: &str) -> RedisBroker {
    RedisBroker::new(url).message_size_max(MESSAGE_SIZE_MAX)
}

/// Calls, and waits for what it is told.
fn answer<T: Send + 'static>(call: impl FnOnce(Done<T>)) -> Result<T, Undone> {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |outcome| {
        let _ = sender.send(outcome);
    }));
    receiver.recv_timeout(PATIENCE).expect("every call is told what became of it, once")
}

fn topic(name: &str) -> Arc<str> {
    name.into()
}

/// Something that begins like an envelope.
fn envelope(content: &str) -> Bytes {
    [b"\x01", content.as_bytes()].concat().into()
}

/// The contents of a page.
fn contents(page: &Page) -> Vec<String> {
    page.entries.iter().map(|entry| String::from_utf8(entry.envelope[1..].to_vec()).unwrap()).collect()
}

fn at(epoch: Epoch, offset: u64) -> Since {
    Since::Position(Position { epoch, offset })
}

fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that");
        thread::sleep(Duration::from_millis(10));
    }
}

fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0).max(1)
}
