//! What is promised of a node that is cut off from the broker or stops, and of a broker that stops, for longer than a lease: who is
//! shown as present, whose a hub's topic is, and what members have got in the end. Each row has a broker and three nodes; all run at once.
//!
//! Cuts are those of a proxy that swallows bytes. With `FANFARE_NAMESPACES=1` each node is in a network namespace, and they are cuts of the
//! network; that needs the rights of root.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::services::namespace::Namespace;
use crate::services::strait::Strait;
use crate::services::{Service, redis};
use crate::support::{Client, Server, eventually};

/// Nobody may be declared gone before: the last sign of life may have come two seconds before the cut, and the lease counts from that.
const LEASE_MIN: Duration = Duration::from_millis(7_500);

/// A user of each node, in the order of the nodes.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three nodes, a user on each, and a hub's topic whose publisher is on the second.
struct Stage {
    redis: Service,
    nodes: Vec<Server>,
    users: Vec<User>,
    subscribers: Vec<Client>,
    publisher: Client,
    /// That of the second node to the broker.
    way: Way,
}

/// A way that can be cut.
enum Way {
    Proxy(Strait),
    /// With the networks of the other nodes.
    Networks([Namespace; 3]),
}

impl Way {
    fn cut(&self, one_way: bool) {
        match self {
            Way::Proxy(strait) => strait.cut(one_way),
            Way::Networks([_, second, _]) => second.cut(one_way),
        }
    }

    fn heal(&self) {
        match self {
            Way::Proxy(strait) => strait.heal(),
            Way::Networks([_, second, _]) => second.heal(),
        }
    }
}

/// Present in one topic, a member of another one with a history.
struct User {
    client: Client,
    /// Whose leaving it was told.
    left: Vec<String>,
    /// What it got, with gaps as the reason.
    got: Vec<Value>,
}

impl User {
    fn new(node: &Server, name: &str) -> Self {
        let mut client = node.connect("");
        client.join_ok_with("people", json!({ "name": name }));
        client.join_ok_with("kept", json!({ "resume": true, "gap": true }));
        User { client, left: Vec::new(), got: Vec::new() }
    }

    /// Reads all that has come, which also shows that its connection has stayed.
    fn look(&mut self) {
        // Clients that send more are closed.
        thread::sleep(Duration::from_millis(200));
        self.client.send(json!([null, "look", "phoenix", "heartbeat", {}]));
        loop {
            let frame = self.client.receive();
            match frame[3].as_str().unwrap() {
                "phx_reply" if frame[1] == "look" => return,
                "presence_diff" => self.left.extend(frame[4]["leaves"].as_object().unwrap().keys().cloned()),
                "n" => self.got.push(frame[4]["n"].clone()),
                "gap" => self.got.push(frame[4]["reason"].clone()),
                _ => {}
            }
        }
    }

    /// Looks until it has got these and no others.
    fn gets(&mut self, numbers: &[u64]) {
        let expected: Vec<Value> = numbers.iter().map(|number| json!(number)).collect();
        eventually(|| {
            self.look();
            self.got.len() >= expected.len()
        });
        assert_eq!(self.got, expected);
    }
}

impl Stage {
    fn new() -> Self {
        let redis = redis::start();
        let config = |host: &str, port: u16| {
            format!(
                "[broker]\nurl = 'redis://{host}:{port}'\ntimeout = '500ms'\n[[endpoint]]\n\
                 [[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = 'none'\ngrace = '60s'\n\
                 [[channel]]\ntopic = 'people'\njoin = 'open'\npresence = true\npresence_key = 'param:name'\n\
                 [[channel]]\ntopic = 'kept'\njoin = 'open'\nhistory = {{}}\n"
            )
        };
        let (way, nodes) = match std::env::var_os("FANFARE_NAMESPACES") {
            None => {
                let strait = Strait::to(redis.port);
                let nodes = [redis.port, strait.port, redis.port].map(|port| Server::serve(&config("127.0.0.1", port)));
                (Way::Proxy(strait), nodes)
            }
            Some(_) => {
                redis.redis(&["CONFIG", "SET", "protected-mode", "no"]);
                redis.redis(&["CONFIG", "SET", "bind", "*"]);
                let networks = [(); 3].map(|()| Namespace::new());
                let node = |network: &Namespace| Server::serve_within(network, &config(&network.broker(), redis.port));
                let nodes = networks.each_ref().map(node);
                (Way::Networks(networks), nodes)
            }
        };
        let nodes = Vec::from(nodes);
        for node in &nodes {
            let is_connected = || node.publish("nobody is here", 0).status == 200;
            // Twelve servers begin at once.
            let deadline = Instant::now() + Duration::from_secs(30);
            while !is_connected() && Instant::now() < deadline {}
            eventually(is_connected);
            eventually(|| node.api("GET", "/api/history/kept", &Value::Null).status == 200);
        }
        let users: Vec<_> = nodes.iter().zip(NAMES).map(|(node, name)| User::new(node, name)).collect();
        let publisher = upgraded(&nodes[1], "/ws/pub/-/d/news");
        let subscribers = nodes.iter().map(|node| upgraded(node, "/ws/sub/d/news")).collect();
        let mut stage = Stage { redis, way, nodes, users, subscribers, publisher };
        for node in &stage.nodes {
            eventually(|| present(node) == NAMES.map(str::to_owned).into());
        }
        all_hear(&mut stage.publisher, stage.subscribers.iter_mut(), "from b");
        stage
    }

    /// The second node comes back after others have seen it go: nothing is missing, nobody is gone, and one has the topic.
    fn is_whole_again(&mut self, mut taken: Client) {
        for node in &self.nodes {
            eventually(|| present(node) == NAMES.map(str::to_owned).into());
        }
        self.users[1].gets(&[1, 2, 3]);
        assert_eq!(self.nodes[0].publish("kept", 4).status, 200);
        for user in &mut self.users {
            user.gets(&[1, 2, 3, 4]);
        }
        assert_eq!(self.users[1].left, [""; 0], "it has expired nobody");
        for node in &self.nodes {
            eventually(|| node.upgrade("/ws/pub/-/d/news", &[]).err() == Some(409));
        }
        all_hear(&mut taken, self.subscribers.iter_mut(), "from a again");
    }

    /// The first and third node do without the second: what is published, who is present, and who may take the topic, which it could give up
    /// or not.
    fn goes_on_without_the_second(&mut self, since: Instant, is_given_up: bool) -> Client {
        for number in 1..=3 {
            assert_eq!(self.nodes[0].publish("kept", number).status, 200);
        }
        thread::sleep(LEASE_MIN.saturating_sub(since.elapsed()));
        if !is_given_up {
            let claimed = self.nodes[0].upgrade("/ws/pub/-/d/news", &[]);
            assert_eq!(claimed.err(), Some(409), "it may still have its publisher");
        }
        for number in [0, 2] {
            self.users[number].gets(&[1, 2, 3]);
            assert_eq!(self.users[number].left, [""; 0], "too early");
        }
        for number in [0, 2] {
            eventually(|| {
                self.users[number].look();
                self.users[number].left == ["b"]
            });
            assert_eq!(present(&self.nodes[number]), ["a", "c"].map(str::to_owned).into());
        }
        let mut taken = upgraded(&self.nodes[0], "/ws/pub/-/d/news");
        eprintln!("{}: taken over after {:.1?}", thread::current().name().unwrap_or_default(), since.elapsed());
        all_hear(&mut taken, self.subscribers.iter_mut().step_by(2), "from a");
        taken
    }
}

/// All get what a publisher sends, as soon as their nodes get the topic: subscribers are let in before the broker knows of them.
fn all_hear<'a>(publisher: &mut Client, subscribers: impl Iterator<Item = &'a mut Client>, text: &str) {
    let (subscribers, are_there) = (subscribers.collect::<Vec<_>>(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                publisher.send_text(text);
                thread::sleep(Duration::from_millis(50));
                if are_there.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for subscriber in subscribers {
            while subscriber.receive_text() != text {}
        }
        are_there.store(true, Ordering::Relaxed);
    });
}

fn upgraded(node: &Server, path: &str) -> Client {
    let mut client = None;
    eventually(|| {
        client = node.upgrade(path, &[]).ok();
        client.is_some()
    });
    client.unwrap()
}

fn present(node: &Server) -> BTreeSet<String> {
    let told = node.api("GET", "/api/presence/people", &Value::Null).json();
    told["presence"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn cut_off(stage: &mut Stage, one_way: bool) {
    let since = Instant::now();
    stage.way.cut(one_way);
    assert_eq!(stage.publisher.receive_before_close(), None, "before others may have its topic");
    assert!(since.elapsed() < LEASE_MIN, "{:?}", since.elapsed());
    let taken = stage.goes_on_without_the_second(since, one_way);
    assert_eq!(present(&stage.nodes[1]), NAMES.map(str::to_owned).into(), "whoever hears nothing declares nobody gone");
    stage.way.heal();
    stage.is_whole_again(taken);
}

/// A node hears nothing and is not heard.
fn a_node_is_cut_off(stage: &mut Stage) {
    cut_off(stage, false);
}

/// What a node sends arrives, and no answer comes back.
fn a_node_is_cut_off_one_way(stage: &mut Stage) {
    cut_off(stage, true);
}

/// A node stops in the middle, and goes on later as if nothing had been.
fn a_node_stops(stage: &mut Stage) {
    let since = Instant::now();
    stage.nodes[1].signal("-STOP");
    let taken = stage.goes_on_without_the_second(since, false);
    stage.nodes[1].signal("-CONT");
    assert_eq!(stage.publisher.receive_before_close(), None, "another one has its topic");
    stage.is_whole_again(taken);
}

/// The broker stops in the middle: all are cut off, and nobody knows anything of anybody.
fn the_broker_stops(stage: &mut Stage) {
    let since = Instant::now();
    let hanging = stage.redis.hang();
    assert_eq!(stage.nodes[0].publish("kept", 1).status, 504);
    assert_eq!(stage.publisher.receive_before_close(), None);
    thread::sleep(Duration::from_millis(11_500).saturating_sub(since.elapsed()));
    for node in &stage.nodes {
        assert_eq!(present(node), NAMES.map(str::to_owned).into());
        assert_eq!(node.upgrade("/ws/pub/-/d/news", &[]).err(), Some(503), "nobody knows who may");
    }
    drop(hanging);
    let mut publisher = upgraded(&stage.nodes[2], "/ws/pub/-/d/news");
    for node in &stage.nodes {
        eventually(|| node.upgrade("/ws/pub/-/d/news", &[]).err() == Some(409));
        eventually(|| node.publish("nobody is here", 0).status == 200);
    }
    assert_eq!(stage.nodes[0].publish("kept", 2).status, 200);
    for user in &mut stage.users {
        user.gets(&[1, 2]);
    }
    all_hear(&mut publisher, stage.subscribers.iter_mut(), "from c");
    // For as long as it takes to be declared gone by a node that counts from before.
    thread::sleep(Duration::from_secs(2));
    for (user, node) in stage.users.iter_mut().zip(&stage.nodes) {
        user.look();
        assert_eq!((&user.left[..], present(node)), (&[][..], NAMES.map(str::to_owned).into()));
    }
}

/// What happens, and what is to come of it.
type Row = (&'static str, fn(&mut Stage));

#[test]
fn nodes_that_lose_sight_of_each_other_agree_again() {
    let rows: [Row; 4] = [
        ("a node is cut off", a_node_is_cut_off),
        ("a node is cut off one way", a_node_is_cut_off_one_way),
        ("a node stops", a_node_stops),
        ("the broker stops", the_broker_stops),
    ];
    thread::scope(|scope| {
        let run = |(name, row): Row| {
            let tried = move || {
                let mut stage = Stage::new();
                let outcome = catch_unwind(AssertUnwindSafe(|| row(&mut stage)));
                if outcome.is_err() {
                    stage
                        .nodes
                        .iter()
                        .zip(NAMES)
                        .for_each(|(node, user)| eprintln!("{name}, {user}:\n{}", node.stderr()));
                }
                outcome.is_ok()
            };
            thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, tried).unwrap()
        };
        let outcomes = rows.map(run).map(|row| row.join().is_ok_and(|is_ok| is_ok));
        assert!(outcomes == [true; 4], "see above: {outcomes:?}");
    });
}
