//! What docs/cluster.md promises for each outage of the broker, row by row, with real brokers between two servers: what a publisher is
//! told, what members get, and that nobody's socket is closed.

use std::thread;

use serde_json::{Value, json};

use crate::services::Service;
use crate::services::{nats, redis};
use crate::support::{Answer, Client, Server, eventually};

/// Two nodes, and on each a member of a topic with a history and one of a topic without, who want to be told of gaps.
struct Stage {
    broker: Service,
    nodes: Vec<Server>,
    kept: Vec<Client>,
    plain: Vec<Client>,
}

impl Stage {
    fn new(broker: Service, url: &str) -> Self {
        let config = format!(
            "[broker]\nurl = '{url}'\ntimeout = '500ms'\n[[endpoint]]\n\
             [[channel]]\ntopic = 'kept'\njoin = 'open'\npublish = 'open'\nhistory = {{}}\n\
             [[channel]]\ntopic = 'plain'\njoin = 'open'\npublish = 'open'\n"
        );
        let nodes: Vec<_> = (0..2).map(|_| Server::serve(&config)).collect();
        let mut stage = Stage { broker, nodes, kept: Vec::new(), plain: Vec::new() };
        stage.is_connected();
        let member = |node: &Server, topic: &str| {
            let mut client = node.connect("");
            client.join_ok_with(topic, json!({ "resume": true, "gap": true }));
            client
        };
        stage.kept = stage.nodes.iter().map(|node| member(node, "kept")).collect();
        stage.plain = stage.nodes.iter().map(|node| member(node, "plain")).collect();
        stage
    }

    /// Waits until all nodes reach all others, and can read what is kept.
    fn is_connected(&self) {
        for node in &self.nodes {
            eventually(|| node.publish("nobody is here", 0).status == 200);
            eventually(|| node.api("GET", "/api/history/kept", &Value::Null).status == 200);
        }
    }

    /// Publishes to both topics, and reads what all members get up to there.
    fn hear(&mut self, number: u64) -> [Vec<String>; 4] {
        let end = format!("n {number}");
        ["kept", "plain"].iter().for_each(|topic| assert_eq!(self.nodes[1].publish(topic, number).status, 200));
        let mut members = self.kept.iter_mut().chain(&mut self.plain);
        std::array::from_fn(|_| {
            let member = members.next().expect("there are two of each");
            let mut heard: Vec<String> = Vec::new();
            while heard.last() != Some(&end) {
                let frame = member.receive();
                heard.push(match frame[3].as_str() {
                    Some("gap") => format!("gap {}", frame[4]["reason"].as_str().unwrap()),
                    _ => format!("n {}", frame[4]["n"]),
                });
            }
            heard.pop();
            heard
        })
    }

    /// Pushes to a topic from a client of its own: what it is told.
    fn pushes(&self, topic: &str, number: u64) -> Value {
        let mut client = self.nodes[0].connect("");
        let join_ref = client.join_ok(topic);
        client.push(&join_ref, topic, "n", json!({ "n": number }))["response"].clone()
    }

    /// Joins where messages behind a position are missed: whether it was recovered, or `None` for a refusal.
    fn resumes(&self, position: &str) -> (Client, Option<bool>) {
        let mut client = self.nodes[1].connect("");
        let reply = client.join("kept", json!({ "resume": position }));
        (client, reply["response"]["resume"]["recovered"].as_bool())
    }

    /// Publishes a message that is kept: its position.
    fn keep(&mut self, number: u64) -> String {
        let answer = self.nodes[0].publish("kept", number);
        assert_eq!(answer.status, 200, "{answer:?}");
        for member in &mut self.kept {
            assert_eq!(member.receive()[4]["n"], number);
        }
        answer.json()["messages"][0]["position"].as_str().unwrap().to_owned()
    }
}

/// How a publisher is answered: status, code, and who has the message all the same.
fn told(answer: &Answer) -> (u16, String, Value) {
    let error = &answer.json()["error"];
    (answer.status, error["code"].as_str().unwrap_or_default().to_owned(), error["delivered"].clone())
}

fn list<const N: usize>(items: [&str; N]) -> Vec<String> {
    items.map(str::to_owned).to_vec()
}

/// It is gone, and comes back with all that it had.
fn gone(stage: &mut Stage) {
    let position = stage.keep(1);
    stage.broker.kill();
    eventually(|| stage.nodes[0].publish("kept", 2).status == 503);
    assert_eq!(told(&stage.nodes[0].publish("kept", 2)), (503, "unavailable".to_owned(), Value::Null));
    let (kept, plain) = (stage.nodes[0].publish("kept", 2), stage.nodes[0].publish("plain", 3));
    assert_eq!(told(&plain), (503, "unavailable".to_owned(), json!("local")));
    // What would come twice is not asked for again.
    let retry_after = |answer: &Answer| answer.headers.get("retry-after").cloned();
    assert_eq!((retry_after(&kept).as_deref(), retry_after(&plain)), (Some("1"), None));
    assert_eq!(stage.pushes("kept", 2), json!({ "reason": "unavailable" }));
    assert_eq!(stage.pushes("plain", 3), json!({ "reason": "unknown", "delivered": "local" }));
    assert_eq!(stage.resumes(&position).1, None, "what was missed cannot be read");
    stage.nodes[1].connect("").join_ok("kept");
    stage.broker.restart();
    stage.is_connected();
    let gap = "gap broker";
    assert_eq!(stage.hear(4), [list([]), list([]), list(["n 3", "n 3", gap]), list([gap])]);
    let (mut client, recovered) = stage.resumes(&position);
    assert_eq!(recovered, Some(true), "positions hold");
    assert_eq!(client.receive_event("n")["n"], 4);
}

/// It takes what is sent to it, and does not answer.
fn silent(stage: &mut Stage) {
    let hanging = stage.broker.hang();
    let (kept, pushed) = thread::scope(|scope| {
        let pushed = scope.spawn(|| stage.pushes("kept", 10));
        (stage.nodes[0].publish("plain", 12), pushed.join().unwrap())
    });
    assert_eq!((kept.status, pushed), (504, json!({ "reason": "unknown" })));
    assert_eq!(told(&stage.nodes[0].publish("kept", 11)), (504, "unknown".to_owned(), Value::Null));
    assert_eq!(stage.plain[0].receive()[4]["n"], 12, "those on the node need no broker");
    drop(hanging);
    stage.is_connected();
    let [one, two, _, other] = stage.hear(13);
    assert_eq!([one, two], [(); 2].map(|()| list(["n 10", "n 11"])), "the unknown ones, once");
    // On a busy machine the link was cut meanwhile.
    assert!([list(["n 12"]), list(["gap broker"])].contains(&other), "{other:?}");
}

/// Its connections break.
fn cut(stage: &mut Stage) {
    ["normal", "pubsub"].iter().for_each(|kind| drop(stage.broker.redis(&["CLIENT", "KILL", "TYPE", kind])));
    let keyed = json!({ "topic": "kept", "event": "n", "payload": { "n": 21 }, "idempotency_key": "a" });
    eventually(|| stage.nodes[0].api("POST", "/api/publish", &keyed).status == 200);
    stage.is_connected();
    let gap = list(["gap broker"]);
    assert_eq!(
        stage.hear(22),
        [list(["n 21"]), list(["n 21"]), gap.clone(), gap],
        "once, however often it was published"
    );
}

/// It forgets all that it had.
fn flushed(stage: &mut Stage) {
    let position = stage.keep(31);
    stage.broker.redis(&["FLUSHALL"]);
    for member in &mut stage.kept {
        let frame = member.receive();
        assert_eq!((&frame[3], &frame[4]["reason"]), (&json!("gap"), &json!("broker")), "{frame}");
    }
    stage.is_connected();
    assert_eq!(stage.resumes(&position).1, Some(false));
    let [kept @ .., one, other] = stage.hear(32);
    assert_eq!(kept, [(); 2].map(|()| list([])));
    // Nothing of theirs is lost: they are told when their node has made its links again, before or after the next message.
    for plain in [one, other] {
        assert!([list([]), list(["gap broker"])].contains(&plain), "{plain:?}");
    }
}

/// A node is gone, and its clients come to another.
fn node_killed(stage: &mut Stage) {
    let position = stage.keep(41);
    stage.nodes[0].signal("-KILL");
    let answer = stage.nodes[1].publish("kept", 42);
    assert_eq!(answer.status, 200, "{answer:?}");
    let (mut client, recovered) = stage.resumes(&position);
    assert_eq!((recovered, client.receive_event("n")["n"].as_u64()), (Some(true), Some(42)));
    assert_eq!(stage.kept[1].receive()[4]["n"], 42);
}

/// Tries the rows one after the other. Whoever was there at the beginning still is.
fn run(mut stage: Stage, rows: &[fn(&mut Stage)]) {
    for row in rows {
        row(&mut stage);
        stage.kept.iter_mut().chain(&mut stage.plain).for_each(Client::heartbeat);
    }
    node_killed(&mut stage);
}

#[test]
fn outages_of_a_redis() {
    let redis = redis::start();
    let url = redis.redis_url();
    run(Stage::new(redis, &url), &[gone, silent, cut, flushed]);
}

#[test]
fn outages_of_a_nats() {
    let nats = nats::start_jetstream();
    let url = nats.nats_url();
    run(Stage::new(nats, &url), &[gone, silent]);
}

#[test]
fn a_source_waits_for_the_broker_and_members_get_its_messages_once() {
    let (mut broker, source) = (redis::start(), redis::start());
    let config = format!(
        "[broker]\nurl = '{}'\n[source.s]\nkind = 'redis'\nurl = '{}'\nchannels = 'plain'\nroute = 'channel'\nevent = 'n'\n\
         [[endpoint]]\n[[channel]]\ntopic = 'plain'\njoin = 'open'\n",
        broker.redis_url(),
        source.redis_url()
    );
    let node = Server::serve(&config);
    eventually(|| node.publish("nobody is here", 0).status == 200);
    let mut member = node.connect("");
    member.join_ok("plain");
    eventually(|| source.redis_publish("plain", r#"{"n": 1}"#) == 1);
    assert_eq!(member.receive_event("n")["n"], 1);
    // Behind that, so that the broker has answered: what it has not, a source publishes again.
    assert_eq!(node.publish("nobody is here", 0).status, 200);
    broker.kill();
    eventually(|| node.publish("nobody is here", 0).status == 503);
    source.redis_publish("plain", r#"{"n": 2}"#);
    // As long as it may take to try several times.
    member.expect_silence();
    broker.restart();
    assert_eq!(member.receive_event("n")["n"], 2);
    source.redis_publish("plain", r#"{"n": 3}"#);
    assert_eq!(member.receive_event("n")["n"], 3);
}
