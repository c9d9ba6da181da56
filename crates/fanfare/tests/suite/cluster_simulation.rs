//! Three nodes on one broker under virtual time, with everything going wrong between them that can: messages that are lost, late
//! and out of order, links that break or carry one way only, servers that lose their tail, are two at once, forget everything or a
//! topic, nodes that stall, die and start again. Clients resume on any node, and are never told anything but the truth.
//!
//! `FANFARE_SIMULATIONS=10000 cargo test -p fanfare --all-features --test suite cluster_simulation` runs more of them,
//! `FANFARE_SIMULATION=SEED` one; a failure says its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use fanfare::testing::Misbehaviour;
use fanfare::{Endpoint, Policy, Position, Publish, Retention, Since};
use fanfare_proto::envelope::{Content, Envelope};
use fanfare_proto::payload::Payload;
use serde_json::{Value, json};

use crate::simulation::Dice;
use crate::support::nodes::{Member, Nodes, Publishing};
use crate::support::stage;

const STEPS: usize = 120;
const NODES: usize = 3;
const CLIENTS: usize = 6;
const PUBLISHERS: usize = 3;
const LOGS: [&str; 2] = ["room:kept:a", "room:kept:b"];
const PLAIN: &str = "room:plain";

struct World {
    seed: u64,
    dice: Dice,
    nodes: Nodes,
    clients: Vec<Client>,
    /// What the broker has ever appended: of each topic and position the one before it, and the message.
    appended: BTreeMap<(String, String), (String, Said)>,
    underway: Vec<(&'static str, Said, Publishing)>,
    refused: BTreeSet<(&'static str, Said)>,
    next: BTreeMap<(usize, &'static str), u64>,
    next_incarnation: u64,
    replayed: usize,
    gaps: usize,
}

/// Who said it, and which of its messages it is.
type Said = (u64, u64);

/// A client that resumes, as a stock one with a few lines of code does.
#[derive(Default)]
struct Client {
    member: Option<Member>,
    next_ref: usize,
    /// Of each log, where it stands; none before it has joined for the first time.
    positions: BTreeMap<&'static str, String>,
    /// The ref of its last join of a topic, and whether that was answered.
    joins: BTreeMap<&'static str, (String, bool)>,
    /// Of the topic without a log.
    heard: BTreeMap<u64, u64>,
}

impl World {
    fn new(seed: u64, misbehaviour: Option<Misbehaviour>) -> Self {
        let nodes = Nodes::new(seed, NODES, 1 + seed as usize % 2, || {
            let kept = Policy::new().history(Retention { messages_max: 40, ..Retention::default() });
            Endpoint::builder().policy("room:kept:*", kept).mount("/socket", stage())
        });
        if let Some(misbehaviour) = misbehaviour {
            nodes.broker.misbehave(misbehaviour);
        }
        World {
            seed,
            dice: Dice(seed),
            nodes,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            appended: BTreeMap::new(),
            underway: Vec::new(),
            refused: BTreeSet::new(),
            next: BTreeMap::new(),
            next_incarnation: NODES as u64 + 1,
            replayed: 0,
            gaps: 0,
        }
    }

    fn step(&mut self) {
        let (node, client) = (self.dice.below(NODES), self.dice.below(CLIENTS));
        let incarnation = self.nodes.incarnations[node];
        let is_now = self.dice.one_in(2);
        match self.dice.below(40) {
            0..=13 => self.publish(node),
            14..=18 => self.connect(client),
            19..=20 => self.join_again(client),
            21..=22 => self.clients[client].member = None,
            23 => {
                let (lost, reordered, delay) =
                    (self.dice.below(200) as u64, self.dice.below(300) as u64, self.dice.below(20) as u64);
                self.nodes.broker.disturb(if is_now { lost } else { 0 }, reordered, delay);
            }
            24 => self.nodes.broker.break_link(incarnation, is_now),
            25 => self.nodes.broker.let_back(incarnation),
            26 => self.nodes.broker.cut(incarnation, is_now, self.dice.one_in(2)),
            27 => self.nodes.broker.cut(incarnation, false, false),
            28 => self.nodes.broker.stall(incarnation, is_now),
            29..=30 => self.nodes.broker.replicate(),
            31 if is_now => self.nodes.broker.fail_over(),
            32 if is_now => self.nodes.broker.split(|number| number % 2 == 0),
            33 => self.nodes.broker.heal(),
            34 if self.dice.one_in(6) => self.nodes.broker.flush(),
            35 if self.dice.one_in(3) => {
                let topic = LOGS[self.dice.below(LOGS.len())];
                self.nodes.broker.evict(topic, is_now);
            }
            36 if self.dice.one_in(3) => self.kill(node),
            _ => {}
        }
        let by_ms = if self.dice.one_in(20) { self.dice.below(1_500) } else { self.dice.below(30) };
        self.nodes.advance(by_ms as u64);
        self.look();
    }

    fn publish(&mut self, node: usize) {
        let by = self.dice.below(PUBLISHERS);
        let topic = [LOGS[0], LOGS[0], LOGS[1], PLAIN][self.dice.below(4)];
        for _ in 0..=self.dice.below(4) {
            // One publisher of a topic without a log is on one node, or there is no order.
            let by = if topic == PLAIN { node } else { by };
            let n = self.next.entry((by, topic)).or_default();
            *n += 1;
            // A node that starts again is another one.
            let said = (self.nodes.incarnations[node] * 10 + by as u64, *n);
            let message = Publish::new(topic, "n", json!({ "by": said.0, "n": said.1 }));
            let publishing = self.nodes.begin_publishing(node, message);
            self.underway.push((topic, said, publishing));
        }
    }

    /// Comes to any node, to go on in all topics.
    fn connect(&mut self, client: usize) {
        let node = self.dice.below(NODES);
        let this = &mut self.clients[client];
        this.member = Some(Member::connect(&mut self.nodes, node));
        this.joins.clear();
        this.heard.clear();
        for topic in [LOGS[0], LOGS[1], PLAIN] {
            this.join(&mut self.nodes, topic);
        }
    }

    fn join_again(&mut self, client: usize) {
        let topic = LOGS[self.dice.below(LOGS.len())];
        let this = &mut self.clients[client];
        if this.joins.get(topic).is_none_or(|(_, is_answered)| *is_answered) {
            this.join(&mut self.nodes, topic);
        }
    }

    /// A node dies without a word, and another takes its place.
    fn kill(&mut self, node: usize) {
        self.clients.iter_mut().for_each(|client| {
            client.member.take_if(|member| member.node == node);
        });
        let incarnation = self.nodes.incarnations[node];
        // Nobody is there who could answer.
        self.underway.retain(|(_, said, _)| said.0 / 10 != incarnation);
        self.nodes.broker.kill(incarnation);
        self.nodes.start(node, self.next_incarnation);
        self.next_incarnation += 1;
    }

    /// Takes what has come: into the record of the broker, to publishers, to clients.
    fn look(&mut self) {
        let seed = self.seed;
        for (topic, prev, position, envelope) in self.nodes.broker.take_appended() {
            let Ok(Envelope { content: Content::Message(message), .. }) = Envelope::read(&envelope) else {
                panic!("seed {seed}: what nodes append are messages")
            };
            let Payload::Json(json) = message.payload else { panic!("seed {seed}: payloads are JSON") };
            let payload: Value = json.to().unwrap();
            let said = (payload["by"].as_u64().unwrap(), payload["n"].as_u64().unwrap());
            let at = (topic, position.to_string());
            let was = self.appended.insert(at.clone(), (prev.to_string(), said));
            assert!(was.is_none(), "seed {seed}: two messages at {at:?}: {was:?} and {said:?}");
        }
        let mut underway = std::mem::take(&mut self.underway);
        underway.retain_mut(|(topic, said, publishing)| match publishing.poll() {
            Poll::Pending => true,
            Poll::Ready(Ok(published)) => {
                if let Some(position) = published.position() {
                    let found = self.appended.get(&((*topic).to_owned(), position.to_string()));
                    assert_eq!(found.map(|(_, said)| said), Some(&*said), "seed {seed}: the answer is where it stands");
                }
                false
            }
            Poll::Ready(Err(error)) => {
                if !error.is_unknown() && *topic != PLAIN {
                    assert!(error.is_unavailable(), "seed {seed}: {error}");
                    self.refused.insert((topic, *said));
                }
                false
            }
        });
        self.underway = underway;
        for (number, client) in self.clients.iter_mut().enumerate() {
            let Some(member) = &mut client.member else { continue };
            for frame in member.frames() {
                let who = format!("seed {seed}: client {number} on node {}", client.member.as_ref().unwrap().node);
                let (replayed, gap) = client.hear(&frame, &self.appended, &who);
                self.replayed += usize::from(replayed);
                self.gaps += usize::from(gap);
            }
            if client.member.as_ref().is_some_and(|member| member.pipe.has_ended()) {
                client.member = None;
            }
        }
    }

    /// Everything is well again, all links have been made anew, and everybody is where the logs are within five seconds.
    fn check(mut self) -> [usize; 2] {
        self.nodes.broker.disturb(0, 0, 5);
        self.nodes.broker.heal();
        for incarnation in self.nodes.incarnations.clone() {
            self.nodes.broker.cut(incarnation, false, false);
            self.nodes.broker.stall(incarnation, false);
            self.nodes.broker.let_back(incarnation);
        }
        self.nodes.advance(100);
        self.look();
        for incarnation in self.nodes.incarnations.clone() {
            self.nodes.broker.break_link(incarnation, false);
        }
        self.nodes.advance(3_000);
        self.look();
        for client in 0..CLIENTS {
            if !self.clients[client].is_in_all() {
                self.connect(client);
            }
        }
        self.nodes.advance(2_000);
        self.look();
        let seed = self.seed;
        for topic in LOGS {
            for node in 0..NODES {
                let head = self.head(topic, node);
                for (number, client) in self.clients.iter().enumerate() {
                    if client.member.as_ref().is_some_and(|member| member.node == node) {
                        let at = client.positions.get(topic);
                        let head = head.to_string();
                        assert_eq!(at, Some(&head), "seed {seed}: client {number} on node {node} in {topic}");
                    }
                }
            }
        }
        assert!(self.clients.iter().all(Client::is_in_all), "seed {seed}: everybody is back");
        let left: Vec<_> = self.underway.iter().map(|(topic, said, _)| (topic, said)).collect();
        assert!(left.is_empty(), "seed {seed}: every publisher is answered: {left:?}");
        for (topic, said) in &self.refused {
            let is_there = self.appended.iter().any(|((of, _), (_, found))| of == topic && found == said);
            assert!(!is_there, "seed {seed}: {said:?} in {topic} was refused, and was published");
        }
        [self.replayed, self.gaps]
    }

    fn head(&mut self, topic: &'static str, node: usize) -> Position {
        let endpoint = self.nodes.node(node).endpoint().clone();
        let mut history = Box::pin(async move { endpoint.history(topic, Since::Now, 1).await });
        for _ in 0..200 {
            if let Poll::Ready(replay) = history.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return replay.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed)).position();
            }
            self.nodes.advance(10);
        }
        panic!("seed {}: the history of {topic} cannot be read on node {node}", self.seed)
    }
}

impl Client {
    fn is_in_all(&self) -> bool {
        self.member.is_some() && self.joins.len() == 3 && self.joins.values().all(|(_, is_answered)| *is_answered)
    }

    fn join(&mut self, nodes: &mut Nodes, topic: &'static str) {
        let Some(member) = &self.member else { return };
        self.next_ref += 1;
        let join_ref = format!("{topic}/{}", self.next_ref);
        let resume = self.positions.get(topic).map_or(json!(true), |position| json!(position));
        self.joins.insert(topic, (join_ref.clone(), false));
        member.send(nodes, &json!([join_ref, join_ref, topic, "phx_join", { "resume": resume, "gap": true }]));
    }

    /// A frame: the position moves on to the next message of the log, or the server says that it does not. Says whether it is a recovery
    /// or a gap.
    fn hear(
        &mut self,
        frame: &Value,
        appended: &BTreeMap<(String, String), (String, Said)>,
        who: &str,
    ) -> (bool, bool) {
        let topics = [LOGS[0], LOGS[1], PLAIN];
        let topic = topics.into_iter().find(|topic| frame[2] == *topic);
        let (Some(topic), Some(event)) = (topic, frame[3].as_str()) else { return (false, false) };
        match event {
            "phx_reply" => {
                let Some((join_ref, is_answered)) = self.joins.get_mut(topic) else { return (false, false) };
                if frame[1] != **join_ref {
                    return (false, false);
                }
                if frame[4]["status"] != "ok" {
                    self.joins.remove(topic);
                    return (false, false);
                }
                *is_answered = true;
                let resume = &frame[4]["response"]["resume"];
                let Some(position) = resume["position"].as_str() else { return (false, false) };
                let recovered = resume["recovered"].as_bool().unwrap();
                if let Some(was) = self.positions.get(topic).filter(|_| recovered) {
                    assert_eq!(was, position, "{who} goes on where it was in {topic}");
                }
                let was_there = self.positions.insert(topic, position.to_owned()).is_some();
                (was_there && recovered, was_there && !recovered)
            }
            "phx_error" | "phx_close" => {
                if self.joins.get(topic).is_some_and(|(join_ref, _)| frame[0] == **join_ref) {
                    self.joins.remove(topic);
                }
                (false, false)
            }
            "n" if topic == PLAIN => {
                let (by, n) = (frame[4]["by"].as_u64().unwrap(), frame[4]["n"].as_u64().unwrap());
                let last = self.heard.insert(by, n).unwrap_or_default();
                assert!(last < n, "{who}: {n} of {by} comes after {last}");
                (false, false)
            }
            "n" => {
                let position = frame[1].as_str().unwrap().to_owned();
                let said = (frame[4]["by"].as_u64().unwrap(), frame[4]["n"].as_u64().unwrap());
                let found = appended.get(&(topic.to_owned(), position.clone()));
                let Some((prev, appended)) = found else { panic!("{who}: nothing stands at {position} in {topic}") };
                assert_eq!(*appended, said, "{who}: what stands at {position} in {topic}");
                let was = self.positions.insert(topic, position.clone());
                assert_eq!(was.as_ref(), Some(prev), "{who}: {position} in {topic} follows what it had");
                (false, false)
            }
            "gap" if topic != PLAIN => {
                let to = frame[4]["to"].as_str().unwrap_or_else(|| panic!("{who}: a gap of a log says its end"));
                let was = self.positions.insert(topic, to.to_owned());
                if let Some(from) = frame[4]["from"].as_str() {
                    assert_eq!(was.as_deref(), Some(from), "{who}: the gap in {topic} begins where it was");
                }
                (false, true)
            }
            _ => (false, false),
        }
    }
}

fn run(seed: u64, misbehaviour: Option<Misbehaviour>) -> [usize; 2] {
    let mut world = World::new(seed, misbehaviour);
    (0..STEPS).for_each(|_| world.step());
    world.check()
}

#[test]
fn whatever_goes_wrong_between_nodes_nothing_is_lost_or_doubled_in_silence() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let (first, count) = match number("FANFARE_SIMULATION") {
        Some(seed) => (seed, 1),
        None => (1, number("FANFARE_SIMULATIONS").unwrap_or(500)),
    };
    let mut figures = [0; 2];
    for seed in first..first + count {
        figures.iter_mut().zip(run(seed, None)).for_each(|(sum, more)| *sum += more);
    }
    let [recovered, gaps] = figures;
    println!("{count} seeds from {first}: {recovered} recoveries and {gaps} gaps told");
    assert!(count < 500 || (recovered > 1_000 && gaps > 500), "the runs try what they are for");
}

/// Nodes that would not hold to one of the rules, or a broker that breaks one, are found out.
#[test]
fn the_simulation_fails_where_a_rule_is_broken() {
    for misbehaviour in [
        Misbehaviour::NoChain,
        Misbehaviour::KeepsEpochs,
        Misbehaviour::DerivesEpochs,
        Misbehaviour::NoRepair,
        Misbehaviour::Doubles,
    ] {
        let failed = (1..=20).filter(|seed| catch_unwind(AssertUnwindSafe(|| run(*seed, Some(misbehaviour)))).is_err());
        let failed = failed.count();
        println!("{misbehaviour:?}: {failed} of 20 seeds fail");
        assert!(failed > 0, "nobody notices {misbehaviour:?}");
    }
}

/// A client that joins a topic while something is published on another node, the last for long, has it within five seconds.
fn is_there_soon(seed: u64, misbehaviour: Option<Misbehaviour>) -> bool {
    let mut world = World::new(seed, misbehaviour);
    world.nodes.broker.disturb(0, 0, 9);
    let client = &mut world.clients[0];
    client.member = Some(Member::connect(&mut world.nodes, 0));
    client.join(&mut world.nodes, LOGS[0]);
    for _ in 0..8 {
        world.publish(1);
        world.nodes.advance(1 + seed % 4);
        world.look();
    }
    world.nodes.advance(5_000);
    world.look();
    let head = world.head(LOGS[0], 0).to_string();
    world.clients[0].positions.get(LOGS[0]) == Some(&head)
}

#[test]
fn what_is_published_while_a_topic_is_attached_arrives() {
    assert!((1..=100).all(|seed| is_there_soon(seed, None)));
    let reads_first = Some(Misbehaviour::ReadsBeforeSubscribing);
    let missed = (1..=100).filter(|seed| !is_there_soon(*seed, reads_first)).count();
    println!("{missed} of 100 miss something where the head is read before the subscription");
    assert!(missed > 0);
}
