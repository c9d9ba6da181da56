//! Two servers on one Redis: chat, histories, clients that resume on the other one, and a Redis that goes away; and on one NATS.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::services::Service;
use crate::services::{nats, nats_server, redis};
use crate::support::{Client, Folder, Server, eventually, run};

/// The file of each node.
fn config(redis: &Service) -> String {
    config_of(&redis.redis_url())
}

fn config_of(url: &str) -> String {
    format!(
        r#"
[broker]
url = "{url}"
[[endpoint]]
[[channel]]
topic = "room:*"
join = "open"
publish = "open"
history = {{ messages = 1000 }}
[[channel]]
topic = "plain"
join = "open"
publish = "open"
"#
    )
}

/// Two nodes that are connected.
fn nodes(redis: &Service) -> [Server; 2] {
    let nodes = [(); 2].map(|()| Server::serve(&config(redis)));
    for node in &nodes {
        is_connected(node);
    }
    nodes
}

fn is_connected(node: &Server) {
    eventually(|| node.api("POST", "/api/publish", &message("plain", 0)).status == 200);
}

fn message(topic: &str, n: u64) -> Value {
    json!({ "topic": topic, "event": "n", "payload": { "n": n } })
}

/// Publishes one: what is said of it.
fn publish(node: &Server, message: Value) -> Value {
    let answer = node.api("POST", "/api/publish", &message);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["messages"][0].clone()
}

fn receive(client: &mut Client) -> u64 {
    client.receive_event("n")["n"].as_u64().unwrap()
}

/// What a node reads of the history. Reads have a link of their own, which may come up after that of the messages.
fn history(node: &Server, query: &str) -> Value {
    let read = || node.api("GET", &format!("/api/history/room:1{query}"), &Value::Null);
    eventually(|| read().status != 503);
    read().json()
}

fn numbers(history: &Value) -> Vec<u64> {
    history["messages"].as_array().unwrap().iter().map(|message| message["payload"]["n"].as_u64().unwrap()).collect()
}

#[test]
fn members_chat_whichever_node_they_are_on() {
    let redis = redis::start();
    let nodes = nodes(&redis);
    // Each closes its own, and says how many others were asked to.
    let disconnect = || nodes[0].api("POST", "/api/disconnect", &json!({"id": "nobody"})).json();
    eventually(|| disconnect() == json!({"ok": true, "closed": 0, "other_nodes": 1}));
    for topic in ["room:1", "plain"] {
        let [mut one, mut two] = [0, 1].map(|node: usize| nodes[node].connect(""));
        let refs = [one.join_ok(topic), two.join_ok(topic)];
        one.send(json!([refs[0], "7", topic, "n", { "n": 1 }]));
        assert_eq!((receive(&mut one), receive(&mut two)), (1, 1));
        two.send(json!([refs[1], "7", topic, "n", { "n": 2 }]));
        assert_eq!((receive(&mut one), receive(&mut two)), (2, 2));
        publish(&nodes[0], message(topic, 3));
        assert_eq!((receive(&mut one), receive(&mut two)), (3, 3));
        // The reply to a push can come after the message itself.
        two.send(json!([null, "8", "phoenix", "heartbeat", {}]));
        while let frame = two.receive()
            && frame[1] != "8"
        {
            assert_ne!(frame[3], "n", "{frame}");
        }
        two.expect_silence();
    }
}

#[test]
fn members_chat_over_a_redis_cluster_whose_slots_move_and_only_topics_of_a_master_that_is_gone_wait() {
    let mut servers = redis::start_cluster(0);
    let url = format!("redis+cluster://127.0.0.1:9,127.0.0.1:{}", servers[0].port);
    let nodes = [(); 2].map(|()| Server::serve(&config_of(&url)));
    nodes.iter().for_each(is_connected);
    // At least one at each master.
    let topics: Vec<_> = (0..12).map(|number| format!("room:{number}")).collect();
    let mut members = [0, 1].map(|node: usize| nodes[node].connect(""));
    for topic in &topics {
        eventually(|| nodes.iter().all(|node| node.publish(topic, 0).status == 200));
        members.iter_mut().for_each(|member| drop(member.join(topic, json!({}))));
    }
    for (number, topic) in (1..).zip(&topics) {
        publish(&nodes[number as usize % 2], message(topic, number));
        assert_eq!(members.each_mut().map(receive), [number; 2], "{topic}");
    }
    let all = history(&nodes[0], "?since=0:0");
    assert_eq!((&all["recovered"], numbers(&all).last()), (&json!(true), Some(&2)));
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", &config_of(&url));
    let (is_ok, said, _) = run(&["check", "--connect", "--config", file.to_str().unwrap()]);
    assert!(is_ok && said.matches("ok: broker redis cluster 127.0.0.1:").count() == 3, "{said}");
    a_slot_moves_to_and_fro(&nodes, &servers, &mut members);
    servers[2].kill();
    let fares = || {
        let statuses: Vec<u16> = topics.iter().map(|topic| nodes[0].publish(topic, 9).status).collect();
        let fine = statuses.iter().filter(|status| **status == 200).count();
        (fine, statuses.iter().filter(|status| **status == 503).count())
    };
    eventually(|| {
        let (fine, refused) = fares();
        fine > 0 && refused > 0 && fine + refused == topics.len()
    });
    servers[2].restart();
    eventually(|| fares().0 == topics.len());
}

/// Whoever repeats with a key what was refused loses nothing, and members get each message once and in order.
fn a_slot_moves_to_and_fro(nodes: &[Server; 2], servers: &[Service], members: &mut [Client; 2]) {
    let topic = "room:0";
    let slot = servers[0].redis(&["CLUSTER", "KEYSLOT", topic]).parse().unwrap();
    let from = [5_461, 10_922, 16_384].iter().position(|end| slot < *end).unwrap();
    let to = (from + 1) % servers.len();
    let is_over = AtomicBool::new(false);
    let last = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let (mut number, mut left) = (100, 20);
            while left > 0 {
                let mut keyed = message(topic, number);
                keyed["idempotency_key"] = number.to_string().into();
                match nodes[number as usize % 2].api("POST", "/api/publish", &keyed).status {
                    200 => (number, left) = (number + 1, left - usize::from(is_over.load(Ordering::Relaxed))),
                    503 | 504 => {}
                    status => panic!("{number}: {status}"),
                }
            }
            number
        });
        for [from, to] in [[from, to], [to, from]] {
            // As long as several messages take, in which it is not moved on.
            let pause = || thread::sleep(Duration::from_millis(50));
            redis::move_slot(servers, [from, to], slot, pause);
            pause();
        }
        is_over.store(true, Ordering::Relaxed);
        publisher.join().unwrap()
    });
    for number in 100..last {
        assert_eq!(members.each_mut().map(receive), [number; 2], "each once and in order, up to {last}");
    }
    assert_eq!(
        numbers(&nodes[1].api("GET", "/api/history/room:0?limit=20", &Value::Null).json()),
        (last - 20..last).collect::<Vec<_>>()
    );
}

#[test]
fn members_chat_over_a_nats_and_go_on_when_it_is_back() {
    let mut nats = nats::start();
    let config = format!(
        "[broker]\nurl = '{}'\n[[endpoint]]\n[[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'",
        nats.nats_url()
    );
    let nodes = [(); 2].map(|()| Server::serve(&config));
    nodes.iter().for_each(is_connected);
    let [mut one, mut two] = [0, 1].map(|node: usize| nodes[node].connect(""));
    for client in [&mut one, &mut two] {
        client.join_ok("a.b");
    }
    publish(&nodes[0], message("a.b", 1));
    publish(&nodes[1], message("a.>", 2));
    publish(&nodes[1], message("a.b", 3));
    for client in [&mut one, &mut two] {
        assert_eq!((receive(client), receive(client)), (1, 3));
    }
    nats.kill();
    // Whoever is on the same node gets it all the same, and the publisher is told that the others do not.
    eventually(|| nodes[0].api("POST", "/api/publish", &message("elsewhere", 0)).status == 503);
    assert_eq!(nodes[0].api("POST", "/api/publish", &message("a.b", 4)).status, 503);
    assert_eq!(receive(&mut one), 4);
    nats.restart();
    nodes.iter().for_each(is_connected);
    publish(&nodes[0], message("a.b", 5));
    assert_eq!((receive(&mut one), receive(&mut two)), (5, 5));
}

#[test]
fn a_history_in_a_jetstream_is_one_for_all_and_clients_resume_from_it() {
    let mut nats = nats::start_jetstream();
    let nodes = [(); 2].map(|()| Server::serve(&config_of(&nats.nats_url())));
    nodes.iter().for_each(is_connected);
    let mut client = nodes[0].connect("");
    client.join("room:1", json!({ "resume": true }));
    let keyed = json!({ "topic": "room:1", "event": "n", "payload": { "n": 1 }, "idempotency_key": "order-1" });
    let (first, again) = (publish(&nodes[1], keyed.clone()), publish(&nodes[0], keyed));
    assert_eq!((&first["repeated"], &again["repeated"]), (&json!(false), &json!(true)));
    let position = client.receive()[1].clone();
    assert_eq!((&position, &again["position"]), (&first["position"], &first["position"]));
    drop(client);
    let mut expecting = message("room:1", 2);
    expecting["expect"] = position.clone();
    publish(&nodes[0], expecting.clone());
    assert_eq!(nodes[1].api("POST", "/api/publish", &expecting).status, 409);
    publish(&nodes[1], message("room:1", 3));
    for node in &nodes {
        let all = history(node, "?since=0:0");
        assert_eq!((&all["recovered"], numbers(&all)), (&json!(true), vec![1, 2, 3]));
        assert_eq!(numbers(&history(node, "?limit=2")), [2, 3]);
    }
    let mut client = nodes[1].connect("");
    let reply = client.join("room:1", json!({ "resume": position }))["response"].clone();
    assert_eq!(reply["resume"]["recovered"], true, "{reply}");
    assert_eq!([(); 2].map(|()| receive(&mut client)), [2, 3]);
    nats.kill();
    eventually(|| nodes[0].api("POST", "/api/publish", &message("room:1", 4)).status == 503);
    client.expect_silence();
    nats.restart();
    nodes.iter().for_each(is_connected);
    publish(&nodes[0], message("room:1", 5));
    assert_eq!(receive(&mut client), 5);
    assert_eq!(numbers(&history(&nodes[1], "?since=0:0")), [1, 2, 3, 5]);
}

/// Too large for its broker, it is nobody's.
fn refuses_what_is_too_large(service: &Service, url: &str, most: usize, next: &str) {
    let nodes = [(); 2].map(|()| Server::serve(&config_of(url)));
    nodes.iter().for_each(is_connected);
    for topic in ["room:1", "plain"] {
        let mut members = [0, 1].map(|node: usize| nodes[node].connect(""));
        let [join_ref, _] = [0, 1].map(|member: usize| members[member].join_ok(topic));
        let large = json!({ "n": 1, "body": "x".repeat(most) });
        let answer = nodes[0].api("POST", "/api/publish", &json!({ "topic": topic, "event": "n", "payload": &large }));
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["code"], answer.headers.get("retry-after")), (422, &json!("invalid"), None));
        let pushed = members[0].push(&join_ref, topic, "n", large);
        for told in [&error["message"], &pushed["response"]["reason"]] {
            let told = told.as_str().unwrap();
            assert!(told.contains("bytes on its way, more than ") && told.contains(next), "{told}");
        }
        publish(&nodes[0], message(topic, 2));
        assert_eq!(members.each_mut().map(receive), [2, 2], "{topic} on port {}", service.port);
    }
}

#[test]
fn what_the_broker_cannot_carry_is_told_and_reaches_nobody() {
    let prepare = |folder: &Folder| {
        drop(folder.write("nats.conf", &format!("max_payload: 10000\n{}", nats_server::jetstream(folder))));
    };
    let nats = Service::start(prepare, nats_server::command);
    refuses_what_is_too_large(
        &nats,
        &format!("nats://127.0.0.1:{}", nats.port),
        10_000,
        "raise max_payload in the configuration of the NATS server",
    );
    let redis = redis::start_with("proto-max-bulk-len 1mb");
    refuses_what_is_too_large(&redis, &redis.redis_url(), 1024 * 1024, "raise proto-max-bulk-len of the Redis server");
}

#[test]
fn what_the_broker_does_not_allow_is_not_asked_for_again() {
    let redis = redis::start_with("user chat on >secret ~* &* +@all -config");
    let url = format!("redis://chat:secret@127.0.0.1:{}", redis.port);
    let node = Server::serve(&config_of(&url));
    is_connected(&node);
    let mut member = node.connect("");
    let join_ref = member.join_ok("room:1");
    redis.redis(&["ACL", "SETUSER", "chat", "-xadd"]);
    let answer = node.api("POST", "/api/publish", &message("room:1", 1));
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status, &error["code"], answer.headers.get("retry-after")), (500, &json!("internal"), None));
    assert!(error["message"].as_str().unwrap().contains("docs/cluster.md has what the user of a node"), "{error}");
    assert_eq!(member.push(&join_ref, "room:1", "n", json!({}))["response"], json!({ "reason": "failed" }));
    let is_told = |log: &str| log.contains("not taken by the broker: redis").then_some(());
    assert!(node.wait_for_stderr(is_told).is_some(), "{}", node.stderr());
    redis.redis(&["ACL", "SETUSER", "chat", "+xadd"]);
    assert_eq!(member.push(&join_ref, "room:1", "n", json!({ "n": 2 }))["status"], "ok");
}

#[test]
fn a_history_is_one_for_all_and_is_read_from_any_node() {
    let redis = redis::start();
    let nodes = nodes(&redis);
    let positions: Vec<_> =
        (1..=6).map(|n| publish(&nodes[n as usize % 2], message("room:1", n))["position"].clone()).collect();
    for node in &nodes {
        let all = history(node, "?since=0:0");
        assert_eq!(
            (&all["recovered"], numbers(&all), &all["position"]),
            (&json!(true), vec![1, 2, 3, 4, 5, 6], &positions[5])
        );
        let some = history(node, &format!("?since={}", positions[2].as_str().unwrap()));
        assert_eq!((&some["recovered"], numbers(&some)), (&json!(true), vec![4, 5, 6]));
        assert_eq!(numbers(&history(node, "?limit=2")), [5, 6]);
    }
}

#[test]
fn a_client_resumes_on_the_other_node() {
    let redis = redis::start();
    let nodes = nodes(&redis);
    let mut client = nodes[0].connect("");
    client.join("room:1", json!({ "resume": true }));
    publish(&nodes[0], message("room:1", 1));
    let frame = client.receive();
    assert_eq!(frame[3], "n", "{frame}");
    let position = frame[1].clone();
    drop(client);
    for n in 2..=4 {
        publish(&nodes[n as usize % 2], message("room:1", n));
    }
    let mut client = nodes[1].connect("");
    let reply = client.join("room:1", json!({ "resume": position }))["response"].clone();
    assert_eq!(reply["resume"]["recovered"], true, "{reply}");
    assert_eq!([(); 3].map(|()| receive(&mut client)), [2, 3, 4]);
    publish(&nodes[0], message("room:1", 5));
    assert_eq!(receive(&mut client), 5);
}

#[test]
fn a_publish_is_repeated_and_expects_across_nodes() {
    let redis = redis::start();
    let [one, two] = nodes(&redis);
    let keyed = json!({ "topic": "room:1", "event": "n", "payload": { "n": 1 }, "idempotency_key": "order-1" });
    let (first, again) = (publish(&one, keyed.clone()), publish(&two, keyed));
    assert_eq!((&first["repeated"], &again["repeated"]), (&json!(false), &json!(true)));
    assert_eq!(first["position"], again["position"]);
    let mut expecting = message("room:1", 2);
    expecting["expect"] = first["position"].clone();
    let second = publish(&two, expecting.clone());
    let conflict = one.api("POST", "/api/publish", &expecting);
    assert_eq!(conflict.status, 409, "{conflict:?}");
    expecting["expect"] = second["position"].clone();
    publish(&one, expecting);
    assert_eq!(numbers(&history(&two, "?since=0:0")), [1, 2, 2]);
}

#[test]
fn a_message_is_one_command_at_one_and_at_many_members() {
    let redis = redis::start();
    let nodes = nodes(&redis);
    let mut clients: Vec<_> = (0..20).map(|number| nodes[number % 2].connect("")).collect();
    let scripts = || {
        let stats = redis.redis(&["INFO", "commandstats"]);
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        calls.map_or(0, |rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    for members in [1, 20] {
        clients[..members].iter_mut().for_each(|client| drop(client.join("room:1", json!({}))));
        redis.redis(&["CONFIG", "RESETSTAT"]);
        for n in 0..50 {
            publish(&nodes[0], message("room:1", n));
        }
        for client in &mut clients[..members] {
            (0..50).for_each(|n| assert_eq!(receive(client), n));
        }
        assert_eq!(scripts(), 50, "{members} members");
    }
}

#[test]
fn without_its_broker_a_node_refuses_to_keep_and_goes_on_when_it_is_back() {
    let mut redis = redis::start();
    let nodes = nodes(&redis);
    let mut client = nodes[1].connect("");
    client.join_ok("room:1");
    publish(&nodes[0], message("room:1", 1));
    assert_eq!(receive(&mut client), 1);
    redis.kill();
    eventually(|| nodes[0].api("POST", "/api/publish", &message("room:1", 2)).status == 503);
    client.expect_silence();
    // A server starts without it as well.
    let late = Server::serve(&config(&redis));
    assert_eq!(late.api("POST", "/api/publish", &message("room:1", 2)).status, 503);
    redis.restart();
    is_connected(&late);
    eventually(|| nodes[0].api("POST", "/api/publish", &message("room:1", 3)).status == 200);
    assert_eq!(receive(&mut client), 3);
    assert_eq!(numbers(&history(&nodes[1], "?since=0:0")), [1, 3]);
}

#[test]
fn a_broker_that_cannot_be_is_found_by_check() {
    let check = |broker: &str| {
        let folder = Folder::new();
        let file = folder.write("fanfare.toml", &format!("[broker]\n{broker}\n[[channel]]\npreset = 'lobby'\n"));
        let (is_ok, printed, error) = run(&["check", "--config", file.to_str().unwrap()]);
        (is_ok, printed + &error)
    };
    assert!(check("url = 'rediss://chat:secret@redis.example:7000'").0);
    for (broker, said) in [
        ("", "broker.url: the address is missing: give url_env, url_file or url"),
        ("url = 'http://secret@localhost'", "broker.url: the scheme \"http\" is not Redis: write it as redis://"),
        ("url = 'redis://:secret@h/7'", "broker.url: the database \"7\" has no effect on channels"),
        ("url = 'redis+sentinel://h'", "broker.url: it does not say what the sentinels call the master: write it as"),
        (
            "url = 'redis+sentinel://h/chat?password=secret'",
            "broker.url: what stands behind its \"?\" is not sentinel=user",
        ),
        ("url = 'nats://h'\ncredentials = 'secret'", "broker.credentials: the credentials: its key is no seed of NATS"),
        ("url = 'nats://secret@h/x'", "broker.url: the path \"x\" has no meaning: write it as nats://"),
        ("url = 'redis://h'\nnamespace = 'a b'", "broker.namespace: \"a b\" is not accepted: it takes 1 to 64 letters"),
        ("url = 'redis://h'\ntimeout = '0s'", "broker.timeout: \"0s\" is not accepted: it takes"),
        ("url = 'redis://h'\nreplicas = 3", "broker.replicas"),
        ("url_env = 'NOBODY_SETS_THIS'", "broker.url_env"),
    ] {
        let (is_ok, printed) = check(broker);
        assert!(!is_ok && printed.contains(said), "{broker}: {printed}");
        assert!(!printed.contains("secret@"), "{printed}");
    }
    assert!(check("url = 'nats://chat:secret@a:4222,tls://b'").0);
    let kept = "url = 'redis://h'\n[history]\ndir = 'x'\n[[channel]]\ntopic = 'a'\nhistory = {}";
    let (is_ok, printed) = check(kept);
    assert!(!is_ok && printed.contains("history.dir: has no effect with a [broker]"), "{printed}");
}
