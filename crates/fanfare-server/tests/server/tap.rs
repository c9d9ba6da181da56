//! `GET /api/tap` and `fanfare tap`: what they show, what they hide, and that nobody else notices.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::{Client, PATIENCE, Server, TOKEN, eventually};
use crate::users::{endpoint_with, token};

const CHANNELS: &str = "
[[channel]]
topic = 'room:*'
join = 'open'
publish = 'open'
";

/// A running `fanfare tap`. Killed when dropped.
struct Tap {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Tap {
    /// Returns once the server watches.
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut command = server.command(&[&["tap"], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut told).unwrap();
        assert_eq!(told, "watching\n");
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// Direction, user and event of the next ones.
    fn next_of(&mut self, count: usize) -> Vec<String> {
        let one = |tapped: Value| {
            let text = |name: &str| tapped[name].as_str().unwrap_or("-").to_owned();
            format!("{} {} {}", text("direction"), text("user"), text("event"))
        };
        (0..count).map(|_| one(self.next())).collect()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(server: &Server, sub: &str) -> Client {
    server.upgrade(&format!("/socket/websocket?vsn=2.0.0&token={}", token(sub)), &[]).unwrap()
}

/// The head of the answer to a tap, and its connection.
fn open(server: &Server, query: &str) -> (String, TcpStream) {
    let admin = server.admin();
    let mut stream = TcpStream::connect(&admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /api/tap?{query} HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\n\r\n").unwrap();
    let (mut head, mut buffer) = (String::new(), [0; 1024]);
    while !head.contains("\r\n\r\n") {
        let n = stream.read(&mut buffer).unwrap();
        assert!(n > 0, "{head}");
        head.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    (head, stream)
}

#[test]
fn a_topic_is_watched_without_being_joined() {
    let server = Server::serve(&endpoint_with(CHANNELS));
    let mut tap = Tap::start(&server, &["--topic", "room:*"]);
    let mut client = connect(&server, "7");
    let joined = client.join_ok("room:1");
    client.push(
        &joined,
        "room:1",
        "new_msg",
        json!({"body": "hi", "token": "m4rk3r", "list": [{"api_key": "m4rk3r"}]}),
    );
    server.api("POST", "/api/publish", &json!({"topic": "other", "event": "e"}));
    server.api("POST", "/api/publish", &json!({"topic": "room:1", "event": "told", "payload": {"n": 1}}));
    let expected = [
        "in user:7 phx_join",
        "out user:7 phx_reply",
        "in user:7 new_msg",
        "out - new_msg",
        "out user:7 phx_reply",
        "out - told",
    ];
    let mut lines: Vec<Value> = (0..6).map(|_| tap.next()).collect();
    let text = |line: &Value| {
        let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", text("direction"), text("user"), text("event"))
    };
    let mut seen: Vec<String> = lines.iter().map(text).collect();
    // The reply and the broadcast of a push are told by two threads.
    seen[3..5].sort();
    assert_eq!(seen, expected);
    assert_eq!(lines[2]["payload"], json!({"body": "hi", "token": "•••", "list": [{"api_key": "•••"}]}));
    assert_eq!(lines[2]["topic"], "room:1");
    assert_eq!(lines[1]["status"], "ok");
    assert_eq!(lines.swap_remove(5)["payload"], json!({"n": 1}));
    assert!(!format!("{lines:?}").contains("m4rk3r"));
    let topics = server.api("GET", "/api/topics", &Value::Null).json();
    assert_eq!((&topics["total"], &topics["topics"][0]["members"]), (&json!(1), &json!(1)));
}

#[test]
fn one_user_one_direction_and_one_event_are_chosen() {
    let server = Server::serve(&endpoint_with(CHANNELS));
    let mut user = Tap::start(&server, &["--user", "user:8", "--address", "127.0.0.1"]);
    let mut sent = Tap::start(
        &server,
        &["--topic", "room:1", "--direction", "in", "--event", "a", "--event", "b", "--payload", "none"],
    );
    let mut full =
        Tap::start(&server, &["--topic", "room:1", "--event", "b", "--payload", "full", "--direction", "out"]);
    let (mut clients, mut one) = (Vec::new(), None);
    for id in ["7", "8"] {
        let mut client = connect(&server, id);
        if id == "8" {
            let sockets = server.api("GET", "/api/sockets?user=user:8", &Value::Null).json();
            let name = sockets["sockets"][0]["socket"].as_str().unwrap().to_owned();
            one = Some((Tap::start(&server, &["--socket", &name, "--event", "c"]), name));
        }
        let joined = client.join_ok("room:1");
        client.push(&joined, "room:1", "b", json!({"token": "seen"}));
        clients.push((client, joined));
        // Those that are there already say something as well.
        for (client, joined) in &mut clients {
            client.push(joined, "room:1", "c", json!({}));
        }
        server.api("POST", "/api/publish", &json!({"topic": "room:1", "event": "c"}));
    }
    let (mut one, name) = one.unwrap();
    let seen = one.next();
    assert_eq!((&seen["socket"], &seen["direction"], &seen["event"]), (&json!(name), &json!("in"), &json!("c")));
    assert_eq!(user.next_of(3), ["in user:8 phx_join", "out user:8 phx_reply", "in user:8 b"]);
    let (first, second) = (sent.next(), sent.next());
    assert_eq!((&first["user"], &second["user"]), (&json!("user:7"), &json!("user:8")));
    assert_eq!((&first["payload"], &first["bytes"]), (&Value::Null, &json!(16)));
    assert_eq!(full.next()["payload"], json!({"token": "seen"}));
}

#[test]
fn more_than_a_rate_is_left_out_and_counted() {
    let server = Server::serve(&endpoint_with(CHANNELS));
    let mut tap = Tap::start(&server, &["--topic", "room:1", "--rate", "1", "--count", "2"]);
    let messages: Vec<_> = (0..50).map(|n| json!({"topic": "room:1", "event": "e", "payload": {"n": n}})).collect();
    server.api("POST", "/api/publish", &json!({ "messages": messages }));
    assert_eq!(tap.next()["payload"], json!({"n": 0}));
    // It is told with the first of another second.
    eventually(|| {
        server.api("POST", "/api/publish", &json!({"topic": "room:1", "event": "last"}));
        tap.child.try_wait().unwrap().is_some()
    });
    let second = tap.next();
    assert!(second["left_out"].as_u64().is_some_and(|n| n >= 1), "{second}");
    assert!(tap.child.wait().unwrap().success());
}

#[test]
fn taps_have_a_bound_and_end_with_their_readers() {
    let server = Server::serve(&endpoint_with(CHANNELS));
    let mut taps: Vec<_> = (0..16).map(|_| open(&server, "topic=room:*")).collect();
    assert!(taps[0].0.starts_with("HTTP/1.1 200") && taps[0].0.contains("text/event-stream"), "{}", taps[0].0);
    assert!(open(&server, "topic=a").0.starts_with("HTTP/1.1 429"));
    taps.pop();
    eventually(|| open(&server, "topic=a").0.starts_with("HTTP/1.1 200"));
    for (query, part) in [
        ("", "name what to watch"),
        ("topic=a&rate=201", "1 to 200"),
        ("topic=a&payload=x", "full"),
        ("socket=7", "0-17-3"),
    ] {
        let answer = server.api("GET", &format!("/api/tap?{query}"), &Value::Null);
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(answer.body.contains(part), "{answer:?}");
    }
    // A server that is watched ends all the same.
    assert!(server.terminate().success());
}
