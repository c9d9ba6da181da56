//! What the HTTP API tells of topics, sockets and the node, and its streams of figures.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Server, TOKEN, eventually};

const CONFIG: &str = "
[[endpoint]]
[[channel]]
topic = 'kept:*'
join = 'open'
publish = 'open'
slow = 'drop_oldest'
history = { messages = 7 }
[[channel]]
topic = '*'
join = 'open'
publish = 'open'
";

fn ask(server: &Server, path: &str) -> Value {
    let answer = server.api("GET", path, &Value::Null);
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// Lines of a stream of figures, as JSON.
fn live(server: &Server, query: &str) -> (String, BufReader<TcpStream>) {
    let admin = server.admin();
    let mut stream = TcpStream::connect(&admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET /api/live?{query} HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\naccept: application/x-ndjson\r\n\r\n"
    )
    .unwrap();
    let mut stream = BufReader::new(stream);
    let mut status = String::new();
    stream.read_line(&mut status).unwrap();
    (status, stream)
}

fn sample(stream: &mut BufReader<TcpStream>) -> Value {
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream has ended");
        if line.starts_with('{') {
            return serde_json::from_str(&line).unwrap();
        }
    }
}

#[test]
fn topics_sockets_and_members_are_told() {
    let server = Server::serve(CONFIG);
    let (mut ann, mut bob) = (server.connect(""), server.connect(""));
    for topic in ["a:1", "a:2", "kept:1"] {
        ann.join_ok(topic);
    }
    bob.join_ok("a:2");
    let names = |answer: &Value| -> Vec<String> {
        answer["topics"].as_array().unwrap().iter().map(|row| row["topic"].as_str().unwrap().to_owned()).collect()
    };
    let by_members = ask(&server, "/api/topics?sort=members&limit=1");
    assert_eq!((names(&by_members), &by_members["total"]), (vec!["a:2".to_owned()], &json!(3)));
    let next = by_members["next"].as_str().unwrap();
    assert_eq!(names(&ask(&server, &format!("/api/topics?sort=members&limit=1&after={next}"))), ["a:1"]);
    assert_eq!(names(&ask(&server, "/api/topics?prefix=kept:")), ["kept:1"]);
    let with_rates = ask(&server, "/api/topics?sort=rate&window=100ms");
    assert_eq!(with_rates["topics"][0]["delivered_per_s"], json!(0.0));
    server.api("POST", "/api/publish", &json!({"topic": "kept:1", "event": "e", "payload": {}}));
    let topic = ask(&server, "/api/topic/kept:1");
    for (field, expected) in [("channel", json!("kept:*")), ("members", json!(1)), ("slow", json!("drop_oldest"))] {
        assert_eq!(topic[field], expected, "{topic}");
    }
    assert_eq!((&topic["history"]["messages_max"], topic["history"]["position"].is_string()), (&json!(7), true));
    let members = ask(&server, "/api/members/a:2");
    assert_eq!(members["members"].as_array().unwrap().len(), 2, "{members}");
    let sockets = ask(&server, "/api/sockets?topic=a:1&transport=websocket");
    assert_eq!((&sockets["total"], &sockets["sockets"][0]["topics"]), (&json!(1), &json!(3)));
    let id = sockets["sockets"][0]["socket"].as_str().unwrap();
    let one = ask(&server, &format!("/api/sockets/{id}"));
    assert_eq!((&one["joined"], &one["protocol"]), (&json!(["a:1", "a:2", "kept:1"]), &json!("phoenix")));
    let top = ask(&server, "/api/top?by=addresses&window=100ms");
    assert_eq!((&top["rows"][0]["name"], &top["rows"][0]["sockets"]), (&json!("127.0.0.1"), &json!(2)));
    assert_eq!(ask(&server, "/api/top?by=channels&window=100ms")["rows"][0]["name"], "kept:*");
    assert_eq!(ask(&server, "/api/top?window=100ms")["rows"].as_array().unwrap().len(), 3);
    let closed = server.api("DELETE", &format!("/api/sockets/{id}?code=4001&reason=enough"), &Value::Null);
    assert_eq!(closed.json(), json!({"closed": 1}));
    assert_eq!(ann.receive_close_reason(), (4001, "enough".to_owned()));
    assert_eq!(server.api("DELETE", &format!("/api/sockets/{id}"), &Value::Null).status, 404);
}

#[test]
fn wrong_questions_are_explained() {
    let server = Server::serve(CONFIG);
    for (method, path, part) in [
        ("GET", "/api/topics?sort=size", "name, members or rate"),
        ("GET", "/api/topics?window=1h", "window"),
        ("GET", "/api/sockets?address=here", "address"),
        ("GET", "/api/sockets?transport=pigeon", "websocket, longpoll or sse"),
        ("GET", "/api/sockets?after=1", "no `next` of this list"),
        ("GET", "/api/sockets/one", "0-17-3"),
        ("DELETE", "/api/sockets/0-0-0?code=1000", "3000 to 4999"),
        ("GET", "/api/members/a?after=x", "no `next` of this list"),
        ("GET", "/api/live?what=all", "overview, topics, shards and health"),
        ("GET", "/api/live?every=1h", "every"),
        ("GET", "/api/top?by=names", "topics, users, addresses or channels"),
        ("GET", "/api/top?sort=size", "published, delivered, bytes, received or waiting"),
        ("GET", "/api/top?by=users&sort=members", "they have name, sockets, received, waiting"),
        ("GET", "/api/health?part=keys", "part: there is no such parameter: it takes nothing in its query"),
        ("GET", "/api/presence/a?limit=1", "limit: there is no such parameter"),
        ("GET", "/api/topic/a?window=1s", "window: there is no such parameter"),
        ("GET", "/api/sockets/0-0-0?topics=1", "topics: there is no such parameter"),
        ("GET", "/api/connections/a?limit=1", "limit: there is no such parameter"),
        ("DELETE", "/api/connections/a?code=4001", "code: there is no such parameter"),
        ("GET", "/api/session?x", "x: there is no such parameter"),
        ("POST", "/api/drain?check=true", "check: there is no such parameter"),
        ("POST", "/api/upgrade?check=true", "check: there is no such parameter"),
    ] {
        let answer = server.api(method, path, &Value::Null);
        assert_eq!(answer.status, 422, "{path}: {answer:?}");
        assert!(answer.body.contains(part), "{path}: {answer:?}");
    }
    // Those that ask these add what they like.
    for path in ["/livez?x=1", "/readyz?x=1", "/metrics?x=1"] {
        assert_eq!(server.api("GET", path, &Value::Null).status, 200, "{path}");
    }
}

#[test]
fn figures_are_streamed() {
    let server = Server::serve(CONFIG);
    let mut client = server.connect("");
    let joined = client.join_ok("a");
    let (status, mut stream) = live(&server, "what=overview,topics,shards,health&every=500ms");
    assert!(status.starts_with("HTTP/1.1 200"), "{status}");
    let first = sample(&mut stream);
    assert_eq!((&first["overview"]["sockets"], &first["overview"]["members"]), (&json!(1), &json!(1)));
    assert!(first["overview"]["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{first}");
    assert_eq!(first["health"]["ready"], true);
    eventually(|| {
        client.push(&joined, "a", "e", json!({}));
        let next = sample(&mut stream);
        let is_told = next["overview"]["delivered_per_s"].as_f64().unwrap() > 0.0;
        assert!(!is_told || next["overview"]["p99_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{next}");
        is_told && next["topics"]["topics"][0]["topic"] == "a" && next["shards"][0]["sockets"].is_u64()
    });
    let info = ask(&server, "/api/info");
    assert_eq!((&info["generation"], info["shards"].as_u64() > Some(0)), (&json!(1), true));
    // A server that is looked at ends all the same.
    assert!(server.terminate().success());
}

#[test]
fn streams_have_a_bound_and_end_with_their_readers() {
    let server = Server::serve(CONFIG);
    let mut streams: Vec<_> = (0..32).map(|_| live(&server, "every=500ms")).collect();
    assert!(streams[31].0.starts_with("HTTP/1.1 200"), "{}", streams[31].0);
    assert!(live(&server, "").0.starts_with("HTTP/1.1 429"));
    streams.pop();
    eventually(|| live(&server, "").0.starts_with("HTTP/1.1 200"));
}
