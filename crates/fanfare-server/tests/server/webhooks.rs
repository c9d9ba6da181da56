//! Webhooks: the user's back end is told of topics and users that come and go, in order, and again until it has it.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::back_end::{BackEnd, Reply, Request, signature_of, wait_for};
use crate::services::redis;
use crate::support::{SILENCE, Server, eventually, http};

const TAKEN: fn(&Request) -> Reply = |_| Reply::Json(json!({}));

/// A server that tells a back end, with more in its `[[webhook]]`.
fn config(back_end: &str, more: &str) -> String {
    format!(
        "[[webhook]]\nurl = '{back_end}'\n{more}\n[[channel]]\ntopic = '*'\njoin = 'open'\n\
         [auth.users]\nkind = 'jwt'\nsecret = '{JWT_SECRET}'\n\
         [[endpoint]]\n[[endpoint]]\npath = '/users'\nauth = 'users'\nsocket_id = 'user_socket:{{sub}}'\n\
         [[endpoint]]\npath = '/claims'\nauth = 'users'\n"
    )
}

const JWT_SECRET: &str = "a secret of the tests for tokens, of more than thirty-two bytes";

/// A socket of a user.
fn connect_as(server: &Server, path: &str, sub: &str) -> crate::support::Client {
    let key = jsonwebtoken::EncodingKey::from_secret(JWT_SECRET.as_bytes());
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512);
    let token = jsonwebtoken::encode(&header, &json!({"sub": sub, "exp": 4_000_000_000_u64}), &key).unwrap();
    server
        .upgrade(&format!("{path}/websocket?vsn=2.0.0&token={token}"), &[])
        .map_err(|status| status.to_string())
        .unwrap()
}

fn events(requests: &[Request]) -> Vec<Value> {
    let of = |request: &Request| request.json()["events"].as_array().unwrap().clone();
    requests.iter().flat_map(of).collect()
}

/// `topic_occupied room` and the like, in order.
fn told(back_end: &BackEnd) -> Vec<String> {
    let line = |event: &Value| {
        let subject = event["topic"].as_str().or(event["user"].as_str()).unwrap();
        format!("{} {subject}", event["type"].as_str().unwrap())
    };
    events(&back_end.requests()).iter().map(line).collect()
}

/// In any order: what is told of different topics and users has none.
#[track_caller]
fn expect(back_end: &BackEnd, expected: &[&str]) {
    wait_for(&format!("{expected:?}"), || told(back_end).len() >= expected.len());
    let (mut told, mut expected) = (told(back_end), expected.to_vec());
    told.sort();
    expected.sort_unstable();
    assert_eq!(told, expected);
}

fn counter(server: &Server, reason: &str) -> u64 {
    let counters = server.api("GET", "/api/counters", &Value::Null).json();
    let found = counters["counters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"].as_str().unwrap().starts_with("webhooks.") && c["reason"] == reason);
    found.unwrap_or_else(|| panic!("no {reason} in {counters}"))["value"].as_u64().unwrap()
}

fn health(server: &Server) -> Value {
    http(&server.admin(), "GET", "/api/health", &[], "").json()
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn topics_and_users_are_told_in_the_documented_form() {
    let back_end = BackEnd::new(TAKEN);
    let server = Server::serve(&config(&back_end.url(), "grace = '0s'"));
    let before = now_ms();
    let mut client = connect_as(&server, "/users", "7");
    client.join_ok("room:1");
    expect(&back_end, &["user_online user_socket:7", "topic_occupied room:1"]);
    drop(client);
    let all =
        ["user_online user_socket:7", "topic_occupied room:1", "topic_vacated room:1", "user_offline user_socket:7"];
    expect(&back_end, &all);
    let events = events(&back_end.requests());
    for event in &events {
        let at = event["at"].as_u64().unwrap();
        assert!((before..=now_ms()).contains(&at), "{event}");
        let names: HashSet<_> = event.as_object().unwrap().keys().map(String::as_str).collect();
        let subject = if event["type"].as_str().unwrap().starts_with("user") { "user" } else { "topic" };
        assert_eq!(names, HashSet::from(["at", "id", subject, "type"]));
    }
    let ids: HashSet<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 4);
    assert_eq!((health(&server)["webhooks"].clone(), counter(&server, "sent")), (json!({"1": "ok"}), 4));
}

#[test]
fn only_what_is_asked_for_is_told() {
    let back_end = BackEnd::new(TAKEN);
    let more =
        "grace = '0s'\nevents = ['topic_vacated', 'user_online']\ntopics = ['room:*', 'lobby']\nuser = 'claim:sub'";
    let server = Server::serve(&config(&back_end.url(), more));
    let mut nobody = server.connect("");
    for topic in ["room:1", "lobby", "lobby2", "other"] {
        nobody.join_ok(topic);
    }
    drop(nobody);
    expect(&back_end, &["topic_vacated lobby", "topic_vacated room:1"]);
    let (_one, _other) = (connect_as(&server, "/users", "7"), connect_as(&server, "/claims", "8"));
    let all = ["topic_vacated lobby", "topic_vacated room:1", "user_online 7", "user_online 8"];
    expect(&back_end, &all);
}

#[test]
fn who_is_back_within_the_grace_was_never_away() {
    let back_end = BackEnd::new(TAKEN);
    // So long that only a break of many seconds in this test could use it up.
    let server = Server::serve(&config(&back_end.url(), "grace = '30s'"));
    for _ in 0..20 {
        let mut client = connect_as(&server, "/users", "7");
        client.join_ok("room");
    }
    let mut inside = connect_as(&server, "/claims", "9");
    let join_ref = inside.join_ok("flapping");
    for _ in 0..20 {
        inside.send(json!([join_ref, "l", "flapping", "phx_leave", {}]));
        inside.join_ok("flapping");
    }
    let expected = ["user_online user_socket:7", "topic_occupied room", "user_online 9", "topic_occupied flapping"];
    expect(&back_end, &expected);
    thread::sleep(SILENCE);
    expect(&back_end, &expected);
}

#[test]
fn who_stays_away_is_told_after_the_grace() {
    let back_end = BackEnd::new(TAKEN);
    let server = Server::serve(&config(&back_end.url(), "grace = '1s'"));
    let (first, second) = (connect_as(&server, "/users", "7"), connect_as(&server, "/users", "7"));
    drop(first);
    expect(&back_end, &["user_online user_socket:7"]);
    let left = now_ms();
    drop(second);
    expect(&back_end, &["user_online user_socket:7", "user_offline user_socket:7"]);
    assert!(now_ms() - left >= 900);
    // `at` is when it went, not when that was certain.
    let at = events(&back_end.requests())[1]["at"].as_u64().unwrap();
    assert!(at + 500 < now_ms(), "{at}");
}

#[test]
fn order_holds_and_everything_arrives_while_the_back_end_fails_now_and_then() {
    let count = AtomicUsize::new(0);
    let taken: Arc<Mutex<Vec<Request>>> = Arc::default();
    let kept = taken.clone();
    let back_end = BackEnd::new(move |request| match count.fetch_add(1, Ordering::SeqCst) % 3 {
        0 => Reply::Status(500, String::new()),
        1 => Reply::HangUp,
        _ => {
            kept.lock().unwrap().push(request.clone());
            Reply::Json(json!({}))
        }
    });
    let more = "grace = '0s'\nretry_wait = '10ms'\nretry_max = 50\nbatch_max = 3\nconcurrency_max = 3";
    let server = Server::serve(&config(&back_end.url(), more));
    let mut client = server.connect("");
    for _ in 0..10 {
        for topic in ["a", "b", "c", "d"] {
            let join_ref = client.join_ok(topic);
            client.send(json!([join_ref, "l", topic, "phx_leave", {}]));
        }
    }
    wait_for("all events", || events(&taken.lock().unwrap()).len() >= 80);
    let mut by_topic = BTreeMap::<String, Vec<String>>::new();
    let mut ids = HashSet::new();
    for event in events(&taken.lock().unwrap()) {
        assert!(ids.insert(event["id"].clone()), "{event} was taken twice");
        let kind = event["type"].as_str().unwrap().to_owned();
        by_topic.entry(event["topic"].as_str().unwrap().to_owned()).or_default().push(kind);
    }
    assert_eq!(by_topic.len(), 4);
    for (topic, kinds) in by_topic {
        let pairs: Vec<_> = kinds.chunks(2).collect();
        assert!(pairs.iter().all(|pair| **pair == ["topic_occupied", "topic_vacated"]), "{topic}: {kinds:?}");
    }
    // Whatever is sent again has the ids that it had.
    let mut bodies = BTreeMap::new();
    for request in back_end.requests() {
        let earlier = bodies.insert(request.headers["webhook-id"].clone(), request.body.clone());
        assert!(earlier.is_none_or(|earlier| earlier == request.body));
    }
    assert!(bodies.len() < back_end.asked() && counter(&server, "retries") > 0);
    let most = back_end.requests().iter().map(|request| request.json()["events"].as_array().unwrap().len()).max();
    assert!(most <= Some(3), "{most:?}");
}

#[test]
fn topics_do_not_wait_for_each_other() {
    let back_end = BackEnd::new(|request| match request.body.contains("stuck") {
        true => Reply::Late(Duration::from_secs(30), json!({})),
        false => Reply::Json(json!({})),
    });
    let server = Server::serve(&config(&back_end.url(), "timeout = '60s'\nconcurrency_max = 2"));
    let mut client = server.connect("");
    client.join_ok("stuck");
    wait_for("the first", || back_end.asked() == 1);
    client.join_ok("free");
    wait_for("the second", || counter(&server, "sent") == 1);
}

#[test]
fn what_cannot_be_delivered_is_counted_and_told() {
    let back_end = BackEnd::new(|_| Reply::Status(404, String::new()));
    let more = "grace = '0s'\nretry_wait = '10ms'\nretry_max = 2\nname = 'presence'";
    let server = Server::serve(&config(&back_end.url(), more));
    let mut client = server.connect("");
    client.join_ok("a");
    wait_for("the loss", || counter(&server, "given_up") == 1);
    assert_eq!((back_end.asked(), counter(&server, "retries"), counter(&server, "sent")), (3, 2, 0));
    assert_eq!(health(&server), json!({"status": "degraded", "webhooks": {"presence": "unavailable"}}));
    let log = server.stderr();
    assert!(log.contains("the status 404") && log.contains("events are dropped"), "{log}");
    back_end.set(TAKEN);
    client.join_ok("b");
    wait_for("the recovery", || health(&server)["webhooks"]["presence"] == "ok");
    assert_eq!(counter(&server, "sent"), 1);
}

#[test]
fn the_queue_has_a_bound() {
    let back_end = BackEnd::new(|_| Reply::Status(503, String::new()));
    let more = "queue_max = 5\nretry_wait = '20ms'\nretry_max = 1000";
    let server = Server::serve(&config(&back_end.url(), more));
    let mut client = server.connect("");
    for n in 0..20 {
        client.join_ok(&format!("t{n}"));
    }
    wait_for("the overflow", || counter(&server, "queue_full") == 15);
    wait_for("the first failure", || health(&server)["webhooks"]["1"] == "stale");
    back_end.set(TAKEN);
    wait_for("what was kept", || counter(&server, "sent") == 5);
    assert!(server.stderr().contains("queue_max events wait"), "{}", server.stderr());
}

#[test]
fn who_leaves_has_a_bound_however_long_the_grace() {
    let back_end = BackEnd::new(TAKEN);
    let server = Server::serve(&config(&back_end.url(), "grace = '1h'\nqueue_max = 3\nevents = 'topic_vacated'"));
    let mut client = server.connect("");
    for n in 0..5 {
        let topic = format!("t{n}");
        let join_ref = client.join_ok(&topic);
        assert_eq!(client.push(&join_ref, &topic, "phx_leave", json!({}))["status"], "ok");
    }
    expect(&back_end, &["topic_vacated t0", "topic_vacated t1"]);
    // Whoever comes back is still within the grace.
    client.join_ok("t4");
    thread::sleep(SILENCE);
    expect(&back_end, &["topic_vacated t0", "topic_vacated t1"]);
}

#[test]
fn a_server_that_stops_says_who_is_gone() {
    let back_end = BackEnd::new(TAKEN);
    let config = format!(
        "drain.every = '0s'\n{}",
        config(&back_end.url(), "grace = '1h'\nevents = ['topic_vacated', 'user_offline']")
    );
    let server = Server::serve(&config);
    let mut client = connect_as(&server, "/users", "7");
    client.join_ok("room");
    let other = connect_as(&server, "/users", "8");
    drop(other);
    assert!(server.terminate().success());
    expect(&back_end, &["topic_vacated room", "user_offline user_socket:7", "user_offline user_socket:8"]);
}

#[test]
fn requests_are_signed_each_time() {
    let count = AtomicUsize::new(0);
    let back_end = BackEnd::new(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Status(500, String::new()),
        _ => Reply::Json(json!({})),
    });
    let secret = "another secret of the tests, which is long enough as well";
    let more = format!("secret = '{secret}'\nretry_wait = '1100ms'");
    let server = Server::serve(&config(&back_end.url(), &more));
    server.connect("").join_ok("r\u{f6}\u{f6}m");
    wait_for("both attempts", || counter(&server, "sent") == 1);
    let requests = back_end.requests();
    for request in &requests[..2] {
        assert_eq!(request.headers["webhook-signature"], signature_of(request, secret));
    }
    assert_eq!(requests[0].headers["webhook-id"], requests[1].headers["webhook-id"]);
}

#[test]
fn nodes_of_a_cluster_tell_a_topic_and_a_user_once() {
    let (redis, back_end) = (redis::start(), BackEnd::new(TAKEN));
    let broker = format!("[broker]\nurl = '{}'\n[drain]\nevery = '0s'\n", redis.redis_url());
    let node = || Server::serve(&(broker.clone() + &config(&back_end.url(), "grace = '300ms'")));
    let (a, b) = (node(), node());
    let nodes = |node: &Server| node.api("GET", "/api/nodes", &Value::Null).json()["nodes"].as_array().unwrap().len();
    eventually(|| nodes(&a) == 2 && nodes(&b) == 2);
    let mut expected = vec!["user_online user_socket:7", "topic_occupied room:1"];
    let mut on_a = connect_as(&a, "/users", "7");
    on_a.join_ok("room:1");
    expect(&back_end, &expected);
    let mut on_b = connect_as(&b, "/users", "7");
    on_b.join_ok("room:1");
    on_b.join_ok("room:2");
    expected.push("topic_occupied room:2");
    expect(&back_end, &expected);
    // The other node has them still. What a node had that ends is told by the others, if clients do not come back there.
    drop(on_a);
    let mut third = connect_as(&a, "/users", "8");
    third.join_ok("room:3");
    expected.extend(["user_online user_socket:8", "topic_occupied room:3"]);
    expect(&back_end, &expected);
    assert!(a.terminate().success());
    expected.extend(["user_offline user_socket:8", "topic_vacated room:3"]);
    expect(&back_end, &expected);
    drop(on_b);
    expected.extend(["topic_vacated room:1", "topic_vacated room:2", "user_offline user_socket:7"]);
    expect(&back_end, &expected);
    // The last one tells it itself.
    let mut fourth = connect_as(&b, "/claims", "9");
    fourth.join_ok("room:4");
    assert!(b.terminate().success());
    expected.extend(["user_online 9", "topic_occupied room:4", "topic_vacated room:4", "user_offline 9"]);
    expect(&back_end, &expected);
    let ids: HashSet<_> = events(&back_end.requests()).iter().map(|event| event["id"].to_string()).collect();
    assert_eq!(ids.len(), expected.len());
}
