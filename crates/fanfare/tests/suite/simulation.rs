//! The engine under virtual time with everything going wrong that can: connections that break, stall and fill, publishers and
//! clients that flood shards which have room for little, reads of the history that fail or are late, messages that are refused,
//! and crashes. A seed makes a run repeatable.
//!
//! `FANFARE_SIMULATIONS=10000 cargo test -p fanfare --all-features --test suite simulation` runs more of them,
//! `FANFARE_SIMULATION=SEED` one; a failure says its seed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::ops::ControlFlow;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use fanfare::testing::{Faults, Lockstep, Peer, Pipe};
use fanfare::{Endpoint, Policy, Position, Publish, Retention, Since, Slow};
use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role, Scratch};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use serde_json::{Value, json};

use crate::support::stage;

const STEPS: usize = 250;
const CLIENTS: usize = 5;
const PUBLISHERS: usize = 3;
const TOPICS: [&str; 2] = ["room:a", "room:b"];

/// A generator that a seed makes repeatable.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What a publisher knows of its messages.
#[derive(Debug, Default)]
struct Published {
    /// Who published what, by position.
    accepted: HashMap<(String, String), (usize, u64)>,
    /// Of each topic the position of the last.
    heads: HashMap<String, String>,
    /// Topics with messages of which no publisher knows.
    is_pushed_to: BTreeSet<&'static str>,
}

/// A client that resumes, as a stock one with a few lines of code does.
struct Client {
    connection: Option<Connection>,
    /// Of each topic, where it stands; none before it has joined for the first time.
    positions: BTreeMap<&'static str, String>,
    /// Of each topic the ref of its last join; none while it is not there.
    joins: BTreeMap<&'static str, String>,
    /// Of each, where it was when it asked, and whether it was told of a gap since.
    asked: BTreeMap<&'static str, (String, bool)>,
    /// Those of them that were answered.
    answered: BTreeSet<&'static str>,
    /// What it has left, and waits for the answer.
    leaves: BTreeSet<&'static str>,
    seen: Vec<(&'static str, String, usize, u64)>,
    recovered: usize,
    gaps: usize,
    /// Gaps within a connection.
    left_out: usize,
}

struct Connection {
    /// As whom it pushes. A client's next connection is another publisher: what the last one had sent may still wait for room.
    publisher: usize,
    peer: Peer,
    pipe: Pipe,
    decoder: Decoder,
    next_ref: usize,
}

struct World {
    seed: u64,
    dice: Dice,
    lockstep: Lockstep,
    faults: Faults,
    clients: Vec<Client>,
    published: Published,
    next: BTreeMap<(usize, &'static str), u64>,
    publishers: usize,
}

/// The seed chooses the policy for slow readers, how soon a reader is one, and how much may wait to be handed out.
fn lockstep(faults: &Faults, seed: u64) -> Lockstep {
    let policy = Policy::new().history(Retention { messages_max: 30, ..Retention::default() });
    let slow = [Slow::Disconnect, Slow::DropOldest, Slow::Resync][seed as usize % 3].clone();
    let outbox_frames_max = if seed.is_multiple_of(2) { 10 } else { 40 };
    let mount = stage().outbox_frames_max(outbox_frames_max).write_timeout(Duration::from_secs(5));
    let waiting_max = [2, 16, 4_096][seed as usize / 3 % 3];
    let builder = Endpoint::builder().policy("room:*", policy.slow(slow)).publishing_waiting_max(waiting_max);
    Lockstep::new(builder.mount("/socket", mount).faulty_history(faults), 2)
}

impl World {
    fn new(seed: u64) -> Self {
        let faults = Faults::new(seed);
        let client = || Client {
            connection: None,
            positions: BTreeMap::new(),
            joins: BTreeMap::new(),
            asked: BTreeMap::new(),
            answered: BTreeSet::new(),
            leaves: BTreeSet::new(),
            seen: Vec::new(),
            recovered: 0,
            gaps: 0,
            left_out: 0,
        };
        World {
            seed,
            dice: Dice(seed),
            lockstep: lockstep(&faults, seed),
            faults,
            clients: (0..CLIENTS).map(|_| client()).collect(),
            published: Published::default(),
            next: BTreeMap::new(),
            publishers: PUBLISHERS,
        }
    }

    fn step(&mut self) {
        let client = self.dice.below(CLIENTS);
        match self.dice.below(26) {
            24 => self.flood(),
            25 => self.push_flood(client),
            0..=8 => self.publish(),
            9..=10 => self.connect(client),
            11..=12 => self.join(client),
            13 => self.cut(client),
            14 => self.stall(client),
            15 | 22 => self.make_room(client),
            16 => self.leave(client),
            17 => {
                let fail = self.dice.one_in(3);
                self.faults.fail_appends(fail);
            }
            18 => {
                let fail = self.dice.one_in(3);
                self.faults.fail_reads(fail);
            }
            19 => {
                let delay = self.dice.one_in(2);
                self.faults.delay_reads(delay);
            }
            20 if self.dice.one_in(4) => self.crash(),
            21 => {
                let by = Duration::from_millis(self.dice.below(3_000) as u64);
                self.lockstep.advance(by);
            }
            _ => self.lockstep.turn(),
        }
        self.receive_all();
    }

    /// Publishes more than there may be room for, without waiting for one before the next.
    fn flood(&mut self) {
        let (by, topic) = (self.dice.below(PUBLISHERS), TOPICS[self.dice.below(TOPICS.len())]);
        let mut waiting = VecDeque::new();
        for _ in 0..self.dice.below(60) {
            let n = self.next.entry((by, topic)).or_default();
            *n += 1;
            let (n, endpoint) = (*n, self.lockstep.endpoint().clone());
            let message = Publish::new(topic, "n", json!({ "by": by, "n": n }));
            waiting.push_back((n, Box::pin(async move { endpoint.publish(message).await })));
        }
        while !waiting.is_empty() {
            let mut context = Context::from_waker(Waker::noop());
            let mut done = Vec::new();
            waiting.retain_mut(|(n, publishing)| match publishing.as_mut().poll(&mut context) {
                Poll::Ready(published) => {
                    done.extend(published.ok().map(|published| (*n, published)));
                    false
                }
                Poll::Pending => true,
            });
            done.into_iter().for_each(|(n, published)| self.accept(topic, by, n, &published));
            self.lockstep.turn();
        }
    }

    /// A client pushes as much in one piece. It is told of none of it but by what it receives.
    fn push_flood(&mut self, client: usize) {
        let topic = TOPICS[self.dice.below(TOPICS.len())];
        let count = self.dice.below(400);
        let this = &self.clients[client];
        let (Some(connection), Some(join_ref)) = (&this.connection, this.joins.get(topic)) else { return };
        let by = connection.publisher;
        let mut bytes = Vec::new();
        for _ in 0..count {
            let n = self.next.entry((by, topic)).or_default();
            *n += 1;
            let push = json!([join_ref, null, topic, "shout", { "by": by, "n": *n }]).to_string();
            encode_masked(Opcode::Text, push.as_bytes(), [1, 2, 3, 4], true, false, &mut bytes);
        }
        self.lockstep.send(connection.peer, &bytes);
        self.published.is_pushed_to.insert(topic);
    }

    fn accept(&mut self, topic: &str, by: usize, n: u64, published: &fanfare::Published) {
        let position = published.position().expect("the topic keeps a history").to_string();
        let was = self.published.accepted.insert((topic.to_owned(), position.clone()), (by, n));
        assert_eq!(was, None, "seed {}: two messages at {position}", self.seed);
        self.published.heads.insert(topic.to_owned(), position);
    }

    fn publish(&mut self) {
        let (by, topic) = (self.dice.below(PUBLISHERS), TOPICS[self.dice.below(TOPICS.len())]);
        for _ in 0..=self.dice.below(6) {
            let n = self.next.entry((by, topic)).or_default();
            *n += 1;
            let n = *n;
            let endpoint = self.lockstep.endpoint().clone();
            let message = Publish::new(topic, "n", json!({ "by": by, "n": n }));
            if let Ok(published) = self.lockstep.run(endpoint.publish(message)) {
                self.accept(topic, by, n, &published);
            }
        }
    }

    fn connect(&mut self, client: usize) {
        self.cut(client);
        let pipe = Pipe::keeping();
        let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
        let peer = self.lockstep.connect(request, &pipe).unwrap();
        let decoder = Decoder::new(Role::Client);
        let publisher = self.publishers;
        self.publishers += 1;
        self.clients[client].connection = Some(Connection { publisher, peer, pipe, decoder, next_ref: 0 });
        self.clients[client].joins.clear();
        self.clients[client].leaves.clear();
        TOPICS.iter().for_each(|topic| self.join_topic(client, topic));
    }

    fn join(&mut self, client: usize) {
        let topic = TOPICS[self.dice.below(TOPICS.len())];
        self.join_topic(client, topic);
    }

    /// Joins, a topic that is joined again as well.
    fn join_topic(&mut self, client: usize, topic: &'static str) {
        let Client { connection: Some(connection), positions, joins, asked, answered, leaves, .. } =
            &mut self.clients[client]
        else {
            return;
        };
        // It waits for what it has asked for; stock clients do so for ten seconds.
        let waits = joins.contains_key(topic) && !answered.contains(topic);
        if waits || leaves.contains(topic) {
            return;
        }
        let resume = positions.get(topic).map_or(json!(true), |position| json!(position));
        connection.next_ref += 1;
        let join_ref = format!("{topic}/{}", connection.next_ref);
        joins.insert(topic, join_ref.clone());
        asked.insert(topic, (positions.get(topic).cloned().unwrap_or_default(), false));
        answered.remove(topic);
        connection.send(&mut self.lockstep, json!([join_ref, join_ref, topic, "phx_join", { "resume": resume }]));
    }

    fn leave(&mut self, client: usize) {
        let topic = TOPICS[self.dice.below(TOPICS.len())];
        let client = &mut self.clients[client];
        if let Some(connection) = &client.connection
            && client.joins.remove(topic).is_some()
        {
            client.leaves.insert(topic);
            connection.send(&mut self.lockstep, json!([null, "leave", topic, "phx_leave", {}]));
        }
    }

    /// The connection breaks, before or after the client has read what it was sent.
    fn cut(&mut self, client: usize) {
        if self.dice.one_in(2) {
            self.receive(client);
        }
        if let Some(connection) = self.clients[client].connection.take() {
            connection.pipe.break_off();
            if self.dice.one_in(2) {
                self.lockstep.hang_up(connection.peer);
            }
        }
    }

    fn stall(&mut self, client: usize) {
        let room = self.dice.below(400);
        if let Some(connection) = &self.clients[client].connection {
            connection.pipe.limit(room);
        }
    }

    fn make_room(&mut self, client: usize) {
        let room = if self.dice.one_in(2) { usize::MAX } else { self.dice.below(2_000) };
        if let Some(Connection { peer, pipe, .. }) = &self.clients[client].connection {
            self.lockstep.make_room(*peer, pipe, room);
        }
    }

    /// The process ends and another begins, with what was kept or without.
    fn crash(&mut self) {
        self.clients.iter_mut().for_each(|client| client.connection = None);
        if self.dice.one_in(3) {
            self.faults = Faults::new(self.dice.0);
            self.published.heads.clear();
        }
        self.lockstep = lockstep(&self.faults, self.seed);
    }

    fn receive_all(&mut self) {
        (0..CLIENTS).for_each(|client| self.receive(client));
    }

    fn receive(&mut self, client: usize) {
        let seed = self.seed;
        let this = &mut self.clients[client];
        let Some(connection) = &mut this.connection else { return };
        let mut frames = Vec::new();
        let mut has_ended = connection.pipe.has_ended();
        let mut sink = |item: Item<'_>| {
            match item {
                Item::Text(text) => frames.push(serde_json::from_str::<Value>(text).unwrap()),
                Item::Close(_) => has_ended = true,
                _ => {}
            }
            ControlFlow::Continue(())
        };
        let mut bytes = connection.pipe.take();
        let (limits, mut scratch) = (Limits::default(), Scratch::default());
        connection.decoder.decode(&mut bytes, &limits, false, &mut scratch, &mut sink).unwrap();
        for frame in frames {
            this.hear(&frame, seed, client);
        }
        if has_ended {
            this.connection = None;
        }
    }

    /// Everything is well again, everybody comes back, and nobody is told anything but the truth.
    fn check(mut self) -> [usize; 3] {
        self.faults.fail_appends(false);
        self.faults.fail_reads(false);
        self.faults.delay_reads(false);
        // Those that are still there take what waits for them.
        for Connection { peer, pipe, .. } in self.clients.iter().filter_map(|client| client.connection.as_ref()) {
            self.lockstep.make_room(*peer, pipe, usize::MAX);
        }
        self.lockstep.settle();
        self.receive_all();
        for client in 0..CLIENTS {
            self.connect(client);
        }
        self.lockstep.advance(Duration::from_secs(1));
        self.receive_all();
        for topic in TOPICS {
            let endpoint = self.lockstep.endpoint().clone();
            let replay = self.lockstep.run(endpoint.history(topic, Since::Now, 1)).unwrap();
            let head: Position = replay.position();
            if let Some(last) = self.published.heads.get(topic).filter(|_| !self.published.is_pushed_to.contains(topic))
            {
                assert_eq!(*last, head.to_string(), "seed {}: the last accepted is the last of {topic}", self.seed);
            }
            for (number, client) in self.clients.iter().enumerate() {
                let position = &client.positions[topic];
                assert_eq!(*position, head.to_string(), "seed {}: client {number} in {topic}", self.seed);
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            for (topic, position, by, n) in client.seen.iter().filter(|seen| seen.2 < PUBLISHERS) {
                let accepted = self.published.accepted.get(&((*topic).to_owned(), position.clone()));
                assert_eq!(accepted, Some(&(*by, *n)), "seed {}: client {number}, {topic} {position}", self.seed);
            }
            for by in 0..self.publishers {
                for topic in TOPICS {
                    let of = |seen: &&(&str, String, usize, u64)| (seen.0, seen.2) == (topic, by);
                    let numbers: Vec<u64> = client.seen.iter().filter(of).map(|seen| seen.3).collect();
                    let is_rising = numbers.windows(2).all(|pair| pair[0] < pair[1]);
                    assert!(is_rising, "seed {}: client {number}, publisher {by} on {topic}: {numbers:?}", self.seed);
                }
            }
        }
        let sum = |figure: fn(&Client) -> usize| self.clients.iter().map(figure).sum();
        [sum(|client| client.recovered), sum(|client| client.gaps), sum(|client| client.left_out)]
    }
}

impl Connection {
    fn send(&self, lockstep: &mut Lockstep, frame: Value) {
        let mut bytes = Vec::new();
        encode_masked(Opcode::Text, frame.to_string().as_bytes(), [1, 2, 3, 4], true, false, &mut bytes);
        lockstep.send(self.peer, &bytes);
    }
}

impl Client {
    /// A frame: the position moves on by one, or the server says that it does not.
    fn hear(&mut self, frame: &Value, seed: u64, number: usize) {
        let topic = TOPICS.into_iter().find(|topic| frame[2] == *topic);
        let (Some(topic), Some(event)) = (topic, frame[3].as_str()) else { return };
        match event {
            "phx_reply" if frame[1] == "leave" => drop(self.leaves.remove(topic)),
            // As stock clients do, it passes over answers to earlier joins.
            "phx_reply" if self.joins.get(topic).is_some_and(|join_ref| frame[0] == **join_ref) => {
                let resume = &frame[4]["response"]["resume"];
                let Some(position) = resume["position"].as_str() else { return };
                self.answered.insert(topic);
                let asked = &self.asked[topic];
                match (self.positions.get(topic), resume["recovered"].as_bool().unwrap()) {
                    // Whoever joins anew may want what an earlier join of the same connection had to leave out: it gets all
                    // from where it asked again.
                    (Some(_), true) if asked.1 && asked.0 == position => {
                        self.seen.retain(|(of, at, ..)| *of != topic || !is_behind(at, position));
                        self.recovered += 1;
                    }
                    (Some(was), true) => {
                        assert_eq!(was, position, "seed {seed}: client {number} goes on where it was in {topic}");
                        self.recovered += 1;
                    }
                    (Some(_), false) => self.gaps += 1,
                    (None, recovered) => assert!(recovered, "seed {seed}: a newcomer has missed nothing"),
                }
                self.positions.insert(topic, position.to_owned());
            }
            // What is on its way when a client leaves is nobody's.
            "n" | "shout" if self.joins.contains_key(topic) => {
                let position = frame[1].as_str().unwrap().to_owned();
                let was = &self.positions[topic];
                assert_eq!(next(was), position, "seed {seed}: client {number} in {topic}");
                let (by, n) = (frame[4]["by"].as_u64().unwrap(), frame[4]["n"].as_u64().unwrap());
                self.seen.push((topic, position.clone(), by as usize, n));
                self.positions.insert(topic, position);
            }
            // What has given way is told, from where to where.
            "gap" if self.joins.contains_key(topic) => {
                let [from, to] = ["from", "to"].map(|end| frame[4][end].as_str().unwrap());
                assert_eq!(self.positions[topic], from, "seed {seed}: client {number} in {topic}");
                self.positions.insert(topic, to.to_owned());
                self.left_out += 1;
                self.asked.get_mut(topic).expect("it has joined").1 = true;
            }
            _ => {}
        }
    }
}

/// Whether a position is behind another of the same epoch.
fn is_behind(position: &str, other: &str) -> bool {
    match (position.parse(), other.parse()) {
        (Ok(Since::Position(one)), Ok(Since::Position(other))) => one.epoch == other.epoch && one.offset > other.offset,
        _ => panic!("{position} and {other} are positions"),
    }
}

fn next(position: &str) -> String {
    let (epoch, offset) = position.split_once(':').unwrap();
    format!("{epoch}:{}", offset.parse::<u64>().unwrap() + 1)
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_or_doubled_in_silence() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (first, count) = match number("FANFARE_SIMULATION") {
        Some(seed) => (seed, 1),
        None => (1, number("FANFARE_SIMULATIONS").unwrap_or(500)),
    };
    let mut figures = [0; 3];
    for seed in first..first + count {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        figures.iter_mut().zip(world.check()).for_each(|(sum, more)| *sum += more);
    }
    let [recovered, gaps, left_out] = figures;
    println!("{count} seeds from {first}: {recovered} recoveries, {gaps} gaps and {left_out} within connections told");
    assert!(count < 500 || (recovered > 1_000 && gaps > 100 && left_out > 50), "the runs try what they are for");
}
