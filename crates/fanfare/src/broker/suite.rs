//! What every broker promises, as tables of cases that run against each: `transport`, `log` and `registers` have the cases of the three
//! traits, and `brokers` the brokers, a row each. What only one broker has is tested beside it.
//!
//! Cases share a broker, one after the other, so each has topics of its own. A failure shows the case that began last.

mod brokers;
mod log;
#[cfg(any(feature = "nats", feature = "redis"))]
#[path = "../../../fanfare-server/tests/server/services/process.rs"]
#[allow(dead_code, reason = "shared with the tests of the server, which use more of it")]
pub(super) mod process;
mod registers;
mod transport;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare_proto::history::Retention;
use fanfare_proto::position::Since;
use parking_lot::Mutex;

use crate::broker::{
    Append, Appended, Attached, Deliver, Done, Incarnation, LinkId, LinkState, Log, Page, Parts, Read, Registers,
    Stamp, Undone,
};

/// How long anything may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that is tried.
pub(super) trait Subject: Sync {
    /// Connects a node.
    fn open(&self, incarnation: Incarnation, deliver: Arc<dyn Deliver>) -> Parts;

    /// How many links a node has to it.
    fn links(&self) -> usize {
        1
    }

    /// Whether it knows how many nodes a message has reached.
    fn counts_receivers(&self) -> bool {
        true
    }

    /// Whether nodes are given the messages of a log in its order. Where not, the chain above puts them right.
    fn keeps_the_order_of_logs(&self) -> bool {
        true
    }

    /// The largest envelope that it carries, if it has a limit of its own.
    fn envelope_size_max(&self) -> Option<usize> {
        None
    }

    /// Ends the connections over which a node is told what comes, so that it makes others. Whether it can.
    fn ends_connections_of(&self, _node: Incarnation) -> bool {
        false
    }

    /// Has it forget the messages of a topic, or all that it knows of it, without a word. Whether it can.
    fn evict(&self, _topic: &str, _only_messages: bool) -> bool {
        false
    }
}

/// A case: what is promised, and how it is tried.
pub(super) type Case = (&'static str, fn(&dyn Subject));

fn run(subject: &dyn Subject, cases: &[Case]) {
    for (promise, case) in cases {
        eprintln!("case: {promise}");
        case(subject);
    }
}

/// What a node was told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Live(String, Bytes, Option<Stamp>),
    Inbox(Bytes),
    Up,
    Down(String),
    Doubtful(String),
}

/// Writes down what a node is told.
pub(super) struct Recorder(Mutex<Sender<Told>>);

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

    fn doubtful(&self, topic: &str) {
        self.tell(Told::Doubtful(topic.to_owned()));
    }
}

/// A node's side of a broker.
pub(super) struct Node {
    pub(super) parts: Parts,
    pub(super) told: Receiver<Told>,
    pub(super) incarnation: Incarnation,
}

impl Node {
    /// Connects, and waits until it is.
    fn up(subject: &dyn Subject) -> Node {
        let node = Node::with(|incarnation, deliver| subject.open(incarnation, deliver));
        for _ in 0..subject.links() {
            assert_eq!(node.next(), Told::Up);
        }
        node.warm_up();
        node
    }

    pub(super) fn with(open: impl FnOnce(Incarnation, Arc<dyn Deliver>) -> Parts) -> Node {
        let (sender, told) = mpsc::channel();
        let incarnation = Incarnation::new(rand()).unwrap();
        let parts = open(incarnation, Arc::new(Recorder(Mutex::new(sender))));
        Node { parts, told, incarnation }
    }

    /// Waits for the connections of which nobody is told.
    pub(super) fn warm_up(&self) {
        let topics: Vec<_> = (0..16).map(|number| topic(&format!("warm-up:{number}"))).collect();
        if let Some(log) = &self.parts.log {
            let deadline = Instant::now() + PATIENCE;
            while let Err(undone) = answer(|done| log.heads(topics.clone(), done)) {
                assert!(Instant::now() < deadline, "its logs cannot be read: {undone}");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    pub(super) fn log(&self) -> &Arc<dyn Log> {
        self.parts.log.as_ref().expect("the broker keeps logs")
    }

    fn registers(&self) -> &Arc<dyn Registers> {
        self.parts.registers.as_ref().expect("the broker has registers")
    }

    pub(super) fn next(&self) -> Told {
        self.told.recv_timeout(PATIENCE).expect("the node is told something")
    }

    /// Nothing comes any more: an own message in the inbox comes behind all that was on its way.
    pub(super) fn rest(&self) -> Vec<Told> {
        let last = Bytes::from(rand().to_string());
        answer(|done| self.parts.transport.send(self.incarnation, last.clone(), done)).unwrap();
        let mut all = Vec::new();
        loop {
            match self.next() {
                Told::Inbox(bytes) if bytes == last => return all,
                told => all.push(told),
            }
        }
    }

    pub(super) fn attach(&self, name: &str, wants_head: bool) -> Result<Attached, Undone> {
        answer(|done| self.parts.transport.attach(&topic(name), wants_head, done))
    }

    pub(super) fn detach(&self, name: &str) {
        answer(|done| self.parts.transport.detach(name, done)).unwrap();
    }

    /// How many nodes it has reached, as far as the broker says.
    pub(super) fn publish(&self, name: &str, content: &str) -> Result<Option<u64>, Undone> {
        answer(|done| self.parts.transport.publish(&topic(name), envelope(content), done))
    }

    pub(super) fn append(&self, name: &str, content: &str) -> Result<Appended, Undone> {
        self.append_with(name, content, Retention::default(), None, None)
    }

    pub(super) fn append_with(
        &self,
        name: &str,
        content: &str,
        retention: Retention,
        key: Option<&str>,
        expected: Option<Since>,
    ) -> Result<Appended, Undone> {
        answer(|done| {
            self.log().append(Append {
                topic: topic(name),
                envelope: envelope(content),
                retention,
                key: key.map(Into::into),
                expected,
                done,
            });
        })
    }

    pub(super) fn stamp(&self, name: &str, content: &str) -> Stamp {
        match self.append(name, content) {
            Ok(Appended::New(stamp)) => stamp,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn read(&self, name: &str, since: Since) -> Page {
        let read = Read { since, limit: 1_000, bytes_max: usize::MAX, newest: 0, retention: Retention::default() };
        self.read_with(name, read)
    }

    pub(super) fn read_with(&self, name: &str, read: Read) -> Page {
        answer(|done| self.log().read(&topic(name), read, done)).unwrap()
    }
}

/// Calls, and waits for what it is told.
pub(super) fn answer<T: Send + 'static>(call: impl FnOnce(Done<T>)) -> Result<T, Undone> {
    let (sender, receiver) = mpsc::channel();
    call(Box::new(move |outcome| {
        let _ = sender.send(outcome);
    }));
    receiver.recv_timeout(PATIENCE).expect("every call is told what became of it, once")
}

pub(super) fn topic(name: &str) -> Arc<str> {
    name.into()
}

/// Something that begins like an envelope.
pub(super) fn envelope(content: &str) -> Bytes {
    [b"\x01", content.as_bytes()].concat().into()
}

pub(super) fn live(name: &str, content: &str) -> Told {
    Told::Live(name.to_owned(), envelope(content), None)
}

/// The contents of a page.
pub(super) fn contents(page: &Page) -> Vec<String> {
    page.entries.iter().map(|entry| String::from_utf8(entry.envelope[1..].to_vec()).unwrap()).collect()
}

pub(super) fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come to that");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(super) fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0).max(1)
}
