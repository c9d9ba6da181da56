//! Several nodes on one broker in memory, step by step, and clients that keep what they are sent.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fanfare::testing::{Lockstep, Peer, Pipe};
use fanfare::{Broker, Builder, Error, MemoryBroker, Publish, Published};
use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role, Scratch};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use serde_json::{Value, json};

/// The nodes, by their numbers from 1.
pub(crate) struct Nodes {
    pub(crate) broker: MemoryBroker,
    pub(crate) nodes: Vec<Option<Lockstep>>,
    pub(crate) now_ms: u64,
    build: Box<dyn Fn() -> Builder>,
    shards: usize,
    /// What a node was when it was started, by its number.
    pub(crate) incarnations: Vec<u64>,
}

/// A message on its way.
pub(crate) struct Publishing(Pin<Box<dyn Future<Output = Result<Published, Error>> + Send>>);

impl Publishing {
    pub(crate) fn poll(&mut self) -> Poll<Result<Published, Error>> {
        self.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl Nodes {
    pub(crate) fn new(seed: u64, count: usize, shards: usize, build: impl Fn() -> Builder + 'static) -> Self {
        let broker = MemoryBroker::stepped(seed);
        let mut nodes =
            Nodes { broker, nodes: Vec::new(), now_ms: 0, build: Box::new(build), shards, incarnations: Vec::new() };
        for node in 0..count {
            nodes.nodes.push(None);
            nodes.incarnations.push(node as u64 + 1);
            nodes.start(node, node as u64 + 1);
        }
        nodes.advance(0);
        nodes
    }

    /// Starts a node, in place of one that has ended.
    pub(crate) fn start(&mut self, node: usize, incarnation: u64) {
        let builder = (self.build)().broker(Broker::memory(&self.broker)).incarnation(incarnation);
        let mut started = Lockstep::new(builder, self.shards);
        started.advance(Duration::from_millis(self.now_ms));
        self.nodes[node] = Some(started);
        self.incarnations[node] = incarnation;
    }

    pub(crate) fn node(&mut self, node: usize) -> &mut Lockstep {
        self.nodes[node].as_mut().expect("the node runs")
    }

    /// Lets time pass, and everything happen that is due.
    pub(crate) fn advance(&mut self, by_ms: u64) {
        let target_ms = self.now_ms + by_ms;
        loop {
            let next_ms = self.broker.next_ms().filter(|next_ms| *next_ms <= target_ms);
            let at_ms = next_ms.unwrap_or(target_ms).max(self.now_ms);
            let by = Duration::from_millis(at_ms - self.now_ms);
            self.nodes.iter_mut().flatten().for_each(|node| node.advance(by));
            self.now_ms = at_ms;
            self.broker.step(at_ms);
            self.nodes.iter_mut().flatten().for_each(Lockstep::settle);
            if next_ms.is_none() && self.broker.next_ms().is_none_or(|next_ms| next_ms > target_ms) {
                return;
            }
        }
    }

    pub(crate) fn begin_publishing(&mut self, node: usize, publish: Publish) -> Publishing {
        let endpoint = self.node(node).endpoint().clone();
        let mut publishing = Publishing(Box::pin(async move { endpoint.publish(publish).await }));
        if let Poll::Ready(result) = publishing.poll() {
            publishing = Publishing(Box::pin(std::future::ready(result)));
        }
        publishing
    }

    /// Publishes, and waits for the answer as long as the broker takes at most.
    pub(crate) fn publish(&mut self, node: usize, publish: Publish) -> Result<Published, Error> {
        let mut publishing = self.begin_publishing(node, publish);
        for _ in 0..=30 {
            self.advance(0);
            if let Poll::Ready(result) = publishing.poll() {
                return result;
            }
            self.advance(100);
        }
        panic!("the publisher was not answered within 3 s")
    }

    pub(crate) fn counter(&self, node: usize, name: &str, reason: &str) -> u64 {
        super::counter(self.nodes[node].as_ref().expect("the node runs").endpoint(), name, reason)
    }
}

/// A client of one node.
pub(crate) struct Member {
    pub(crate) node: usize,
    pub(crate) peer: Peer,
    pub(crate) pipe: Pipe,
    decoder: Decoder,
}

impl Member {
    pub(crate) fn connect(nodes: &mut Nodes, node: usize) -> Self {
        let pipe = Pipe::keeping();
        let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
        let peer = nodes.node(node).connect(request, &pipe).unwrap();
        Member { node, peer, pipe, decoder: Decoder::new(Role::Client) }
    }

    pub(crate) fn send(&self, nodes: &mut Nodes, frame: &Value) {
        let mut bytes = Vec::new();
        encode_masked(Opcode::Text, frame.to_string().as_bytes(), [1, 2, 3, 4], true, false, &mut bytes);
        nodes.node(self.node).send(self.peer, &bytes);
    }

    pub(crate) fn join(&self, nodes: &mut Nodes, topic: &str, params: Value) {
        self.send(nodes, &json!(["1", "1", topic, "phx_join", params]));
    }

    /// What has come, frame by frame.
    pub(crate) fn frames(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        let mut sink = |item: Item<'_>| {
            if let Item::Text(text) = item {
                frames.push(serde_json::from_str(text).unwrap());
            }
            ControlFlow::Continue(())
        };
        let mut bytes = self.pipe.take();
        self.decoder.decode(&mut bytes, &Limits::default(), false, &mut Scratch::default(), &mut sink).unwrap();
        frames
    }

    /// The same as events with their payloads.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        self.frames().iter().map(|frame| format!("{} {}", frame[3].as_str().unwrap(), frame[4])).collect()
    }
}
