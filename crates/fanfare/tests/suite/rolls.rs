//! Rolls: what is with any of several nodes is told by one of them, also if that ends, is cut off, or the broker forgets.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fanfare::testing::Lockstep;
use fanfare::{Broker, Endpoint, Herald, MemoryBroker, News, Policy, Retention, Roll};
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::brokers::AnyBroker;
use crate::support::eventually;

/// What was lost with a node is gone after so long.
const GRACE: Duration = Duration::from_secs(1);

/// After so long a lost node is known to be lost, and its grace is over.
const LOST_MS: u64 = 15_000;

fn builder(broker: Broker) -> fanfare::Builder {
    // A NATS has registers where topics have a history.
    Endpoint::builder().broker(broker).policy("kept", Policy::new().history(Retention::default()))
}

/// Keeps what it is told.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<News>>>);

impl Herald for Heard {
    fn tell(&self, news: News) {
        self.0.lock().push(news);
    }
}

struct Node {
    lockstep: Lockstep,
    roll: Roll,
    heard: Heard,
    /// It tells what it hears.
    tells: bool,
}

struct Nodes {
    broker: MemoryBroker,
    nodes: Vec<Option<Node>>,
    now_ms: u64,
}

impl Nodes {
    fn new(count: u64) -> Self {
        let broker = MemoryBroker::stepped(1);
        let node = |number| {
            let lockstep = Lockstep::new(builder(Broker::memory(&broker)).incarnation(number), 1);
            let heard = Heard::default();
            let roll = lockstep.endpoint().roll("people", GRACE, heard.clone()).unwrap();
            Some(Node { lockstep, roll, heard, tells: true })
        };
        let mut nodes = Nodes { nodes: (1..=count).map(node).collect(), broker, now_ms: 0 };
        nodes.advance(LOST_MS);
        nodes
    }

    fn node(&mut self, number: usize) -> &mut Node {
        self.nodes[number - 1].as_mut().unwrap()
    }

    fn set(&mut self, number: usize, name: &str, is_here: bool) {
        self.node(number).roll.set(name, is_here, SystemTime::now());
    }

    /// What is told within this time, as `1+ann` if the first node tells that ann has come, and the ids.
    fn advance(&mut self, ms: u64) -> (Vec<String>, Vec<String>) {
        let (mut told, mut ids) = (Vec::new(), Vec::new());
        for _ in 0..ms / 10 {
            self.now_ms += 10;
            self.nodes.iter_mut().flatten().for_each(|node| node.lockstep.advance(Duration::from_millis(10)));
            self.broker.step(self.now_ms);
            for (number, node) in (1..).zip(&self.nodes).filter_map(|(number, node)| Some((number, node.as_ref()?))) {
                for news in std::mem::take(&mut *node.heard.0.lock()) {
                    let sign = if news.is_here { '+' } else { '-' };
                    told.push(format!("{number}{sign}{}", news.name));
                    ids.push(news.id);
                    if node.tells {
                        node.roll.told(&news.name);
                    }
                }
            }
        }
        told.sort();
        (told, ids)
    }

    #[track_caller]
    fn tells(&mut self, ms: u64, expected: &[&str]) {
        assert_eq!(self.advance(ms).0, expected);
    }
}

#[test]
fn what_comes_first_and_goes_last_is_told_once() {
    let mut nodes = Nodes::new(3);
    for number in [2, 1, 3] {
        nodes.set(number, "ann", true);
        nodes.tells(50, if number == 2 { &["2+ann"] } else { &[] });
    }
    for number in [2, 3] {
        nodes.set(number, "ann", false);
        nodes.tells(50, &[]);
    }
    nodes.set(1, "ann", false);
    nodes.tells(50, &["1-ann"]);
    // At once, on all of them.
    (1..=3).for_each(|number| nodes.set(number, "bob", true));
    assert_eq!(nodes.advance(50).0.len(), 1);
    (1..=3).for_each(|number| nodes.set(number, "bob", false));
    assert_eq!(nodes.advance(50).0.len(), 1);
    nodes.set(1, &"x".repeat(Roll::NAME_SIZE_MAX + 1), true);
    nodes.tells(50, &[]);
    assert!((1..=3).all(|number| nodes.node(number).roll.is_empty()));
}

#[test]
fn one_thing_is_told_after_the_other() {
    let mut nodes = Nodes::new(2);
    nodes.node(1).tells = false;
    nodes.set(1, "ann", true);
    nodes.tells(50, &["1+ann"]);
    // Until that is told nothing else is, and then what is so.
    nodes.set(1, "ann", false);
    nodes.tells(50, &[]);
    nodes.set(2, "ann", true);
    nodes.set(2, "ann", false);
    nodes.tells(50, &[]);
    nodes.node(1).tells = true;
    nodes.node(1).roll.told("ann");
    nodes.tells(50, &["1-ann"]);
    assert!(nodes.node(1).roll.is_empty() && nodes.node(2).roll.is_empty());
}

#[test]
fn what_a_killed_node_had_and_was_telling_is_told_by_another() {
    let mut nodes = Nodes::new(3);
    nodes.set(1, "ann", true);
    nodes.set(3, "bob", true);
    nodes.tells(50, &["1+ann", "3+bob"]);
    nodes.set(1, "bob", true);
    nodes.node(1).tells = false;
    nodes.set(1, "cy", true);
    let (told, before) = nodes.advance(50);
    assert_eq!(told, ["1+cy"]);
    nodes.broker.kill(1);
    nodes.nodes[0] = None;
    let (told, after) = nodes.advance(LOST_MS);
    // The one with the lowest number looks after it.
    assert_eq!(told, ["2+cy", "2-ann", "2-cy"]);
    assert!(after.contains(&before[0]), "what is told again has its id: {after:?}");
    nodes.set(3, "bob", false);
    nodes.tells(50, &["3-bob"]);
}

#[test]
fn what_a_node_has_that_is_cut_off_is_gone_and_comes_back() {
    let mut nodes = Nodes::new(2);
    nodes.set(2, "ann", true);
    nodes.tells(50, &["2+ann"]);
    nodes.broker.cut(2, true, true);
    nodes.tells(LOST_MS, &["1-ann"]);
    nodes.broker.cut(2, false, false);
    nodes.tells(LOST_MS, &["2+ann"]);
}

#[test]
fn what_the_broker_forgets_is_told_again_and_what_it_cannot_be_told_when_it_is_back() {
    let mut nodes = Nodes::new(2);
    nodes.set(1, "ann", true);
    nodes.set(2, "bob", true);
    nodes.tells(50, &["1+ann", "2+bob"]);
    nodes.broker.flush();
    nodes.tells(LOST_MS, &["1+ann", "2+bob"]);
    [1, 2].into_iter().for_each(|number| nodes.broker.break_link(number, true));
    nodes.set(1, "ann", false);
    nodes.set(1, "cy", true);
    nodes.set(2, "dee", true);
    nodes.set(2, "dee", false);
    nodes.tells(2_000, &[]);
    [1, 2].into_iter().for_each(|number| nodes.broker.let_back(number));
    nodes.tells(LOST_MS, &["1+cy", "1-ann"]);
}

/// Hands on what it is told, with the number of its node.
struct Sends(usize, UnboundedSender<(usize, News)>);

impl Herald for Sends {
    fn tell(&self, news: News) {
        let _ = self.1.send((self.0, news));
    }
}

async fn next(rolls: &[Roll; 2], heard: &mut UnboundedReceiver<(usize, News)>) -> (usize, String) {
    let (number, news) = tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.unwrap().unwrap();
    rolls[number].told(&news.name);
    (number, format!("{}{}", if news.is_here { '+' } else { '-' }, news.name))
}

#[tokio::test]
async fn rolls_are_kept_by_each_broker() {
    let mut brokers = vec![AnyBroker::memory()];
    #[cfg(feature = "nats")]
    brokers.push(AnyBroker::jetstream());
    #[cfg(feature = "redis")]
    brokers.push(AnyBroker::redis());
    for broker in &brokers {
        let (sender, mut heard) = unbounded_channel();
        let nodes = [builder(broker.broker()).build().await.unwrap(), builder(broker.broker()).build().await.unwrap()];
        let rolls = [0, 1].map(|at: usize| nodes[at].roll("people", GRACE, Sends(at, sender.clone())).unwrap());
        let at = SystemTime::now();
        rolls[0].set("ann/ß*>", true, at);
        assert_eq!(next(&rolls, &mut heard).await, (0, "+ann/ß*>".into()));
        rolls[1].set("ann/ß*>", true, at);
        // What a node asks the broker is answered in order.
        for (is_here, sign) in [(true, '+'), (false, '-')] {
            rolls[1].set("bob", is_here, at);
            assert_eq!(next(&rolls, &mut heard).await, (1, format!("{sign}bob")));
        }
        rolls[0].set("ann/ß*>", false, at);
        eventually("nothing is left to be done", async || rolls[0].is_empty()).await;
        rolls[1].set("ann/ß*>", false, at);
        assert_eq!(next(&rolls, &mut heard).await, (1, "-ann/ß*>".into()));
        eventually("nothing is left to be told", async || rolls[1].is_empty()).await;
        assert!(heard.try_recv().is_err());
    }
}
