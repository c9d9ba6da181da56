//! The broker over a real NATS, started for each test. What every broker promises is tried by `broker/suite`; here is what only NATS has:
//! `breaks` (connections that break, servers that stop or end), `keys` (servers that check keys), `logs` (what a JetStream keeps and loses), `refusals` (servers that refuse, or are
//! none).

mod breaks;
mod keys;
mod logs;
#[path = "../../../../fanfare-server/tests/server/services/nats_server.rs"]
mod nats_server;
mod refusals;
pub(in crate::broker) mod subject;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_proto::history::Retention;
use rustls::ClientConfig;

use super::NatsBroker;
use crate::broker::suite::process::{self, Folder, Service};
use crate::broker::suite::{Node, PATIENCE, Told, answer, envelope, eventually, live, topic};
use crate::broker::{Appended, Logs, Undone};

/// The largest message of the nodes here.
const MESSAGE_SIZE_MAX: usize = 500_000;

fn broker(service: &Service) -> NatsBroker {
    at_url(&format!("nats://127.0.0.1:{}", service.port))
}

fn at_url(url: &str) -> NatsBroker {
    NatsBroker::new(url).message_size_max(MESSAGE_SIZE_MAX)
}

/// No topic has a history.
fn no_logs() -> Logs {
    Logs { kinds: Vec::new(), of: Arc::new(|_| None) }
}

/// All topics have one.
fn logs() -> Logs {
    let kept = Retention { messages_max: 1_000, bytes_max: 1 << 20, age_max_ms: 3_600_000 };
    Logs { kinds: vec![kept], of: Arc::new(move |_| Some(kept)) }
}

/// Connects, and waits until it is.
fn up(broker: &NatsBroker) -> Node {
    let node = open(broker);
    assert_eq!(node.next(), Told::Up);
    node
}

fn open(broker: &NatsBroker) -> Node {
    Node::with(|incarnation, deliver| broker.open(incarnation, deliver, no_logs()).unwrap())
}

/// The same with logs.
fn up_with_logs(broker: &NatsBroker) -> Node {
    let node = open_with_logs(broker);
    assert_eq!(node.next(), Told::Up);
    node.warm_up();
    node
}

fn open_with_logs(broker: &NatsBroker) -> Node {
    Node::with(|incarnation, deliver| broker.open(incarnation, deliver, logs()).unwrap())
}

fn open_with_tls(broker: &NatsBroker, tls: &Arc<ClientConfig>) -> Node {
    let tls = tls.clone();
    Node::with(|incarnation, deliver| {
        broker.start(incarnation, deliver, no_logs(), Arc::new(move || Ok(tls.clone()))).unwrap()
    })
}

/// Waits until commands are refused for a reason that has this in it.
fn refused_since(node: &Node, part: &str) {
    let mut last = String::new();
    let deadline = Instant::now() + PATIENCE;
    while !last.contains(part) {
        assert!(Instant::now() < deadline, "{last}");
        match node.publish("room", "m") {
            Err(Undone::Refused(why)) => last = why.to_string(),
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}
