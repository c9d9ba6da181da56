//! A node and the several servers of its broker: what becomes of the topics of one that goes away, what probes are told, and that
//! the topics of the others notice nothing.

use serde_json::{Value, json};

use crate::services::Service;
use crate::services::redis;
use crate::support::{Client, Server, eventually, http};

fn config(servers: &[Service], more: &str) -> String {
    let urls: Vec<_> = servers.iter().map(Service::redis_url).collect();
    format!(
        r#"
[broker]
url = "{}"
{more}
[[endpoint]]
[[channel]]
topic = "room:*"
join = "open"
history = {{ messages = 50 }}
[[channel]]
topic = "plain:*"
join = "open"
"#,
        urls.join(",")
    )
}

fn receive(client: &mut Client) -> u64 {
    client.receive_event("n")["n"].as_u64().unwrap()
}

fn ready(node: &Server) -> (u16, Value) {
    let answer = http(&node.admin(), "GET", "/readyz", &[], "");
    (answer.status, answer.json())
}

fn health(node: &Server) -> Value {
    http(&node.admin(), "GET", "/api/health", &[], "").json()
}

/// A topic of each server, by where their messages are kept.
fn topics(node: &Server, servers: &[Service]) -> Vec<String> {
    for number in 0..16 {
        eventually(|| node.publish(&format!("room:{number}"), 0).status == 200);
    }
    let keeps = |server: &Service| {
        let key = server.redis(&["--scan", "--pattern", "ff:s:{room:*}"]);
        let key = key.lines().next().expect("each has its share").to_owned();
        key.strip_prefix("ff:s:{").unwrap().strip_suffix('}').unwrap().to_owned()
    };
    servers.iter().map(keeps).collect()
}

#[test]
fn topics_of_a_server_that_is_back_are_repaired_and_others_notice_nothing() {
    let mut servers = [redis::start(), redis::start()];
    let [node, other] = [(); 2].map(|()| Server::serve(&config(&servers, "")));
    let topics = topics(&node, &servers);
    let [mut healthy, mut broken] = [0, 1].map(|number: usize| {
        let mut client = node.connect("");
        client.join(&topics[number], json!({ "resume": true }));
        client
    });
    servers[1].kill();
    eventually(|| node.publish(&topics[1], 1).status == 503);
    assert_eq!(node.publish(&topics[0], 1).status, 200);
    assert_eq!(receive(&mut healthy), 1);
    let name = format!("redis 2 of 2 (127.0.0.1:{})", servers[1].port);
    let told = health(&node);
    assert_eq!(
        (&told["status"], &told["broker"][&name]["state"]),
        (&json!("degraded"), &json!("unavailable")),
        "{told}"
    );
    eventually(|| ready(&node).0 == 503);
    let (_, told) = ready(&node);
    let reason = told["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with(&format!("deaf: {name}: last canary ")), "{reason}");
    assert_eq!(told["reasons"].as_array().unwrap().len(), 1);

    servers[1].restart();
    eventually(|| other.publish(&topics[1], 2).status == 200);
    assert_eq!(receive(&mut broken), 2);
    eventually(|| ready(&node) == (200, json!({ "ready": true, "reasons": [] })));
    let told = health(&node);
    let healthy_name = format!("redis 1 of 2 (127.0.0.1:{})", servers[0].port);
    let [one, two] = [&healthy_name, &name].map(|name| told["broker"][name].clone());
    assert_eq!(
        (&one["state"], &one["ups"], &one["gaps"], &one["repairs"]),
        (&json!("ok"), &json!(1), &json!(0), &json!(0))
    );
    assert_eq!((&two["state"], &two["ups"], &two["gaps"]), (&json!("ok"), &json!(2), &json!(0)), "{told}");
    healthy.expect_silence();
    broken.expect_silence();
}

#[test]
fn a_node_that_reports_stays_ready_and_says_why_it_should_not() {
    let mut servers = [redis::start()];
    let node = Server::serve(&config(&servers, "readiness = \"report\""));
    eventually(|| node.publish("room:1", 1).status == 200);
    servers[0].kill();
    eventually(|| ready(&node).1["reasons"] != json!([]));
    let (status, told) = ready(&node);
    assert_eq!((status, &told["ready"]), (200, &json!(true)));
    let reason = told["reasons"][0].as_str().unwrap();
    assert!(reason.starts_with(&format!("deaf: redis 127.0.0.1:{}: last canary", servers[0].port)), "{reason}");
}
