//! What topics keep, as the binary gives it: to members that come back, over HTTP, on streams, by the commands.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{Folder, PATIENCE, Server, TOKEN, fanfare};

const CONFIG: &str = r#"
[[endpoint]]
[[endpoint]]
path = "/events"
protocol = "sse"
[[channel]]
topic = "room:*"
join = "open"
publish = "open"
history = { messages = 5 }
catch_up = 2
[[channel]]
topic = "plain"
join = "open"
"#;

fn publish(server: &Server, message: Value) -> Value {
    let answer = server.api("POST", "/api/publish", &message);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn n(n: u64) -> Value {
    json!({ "topic": "room:1", "event": "n", "payload": { "n": n } })
}

fn history(server: &Server, query: &str) -> Value {
    server.api("GET", &format!("/api/history/room:1{query}"), &Value::Null).json()
}

fn numbers(messages: &Value) -> Vec<u64> {
    messages.as_array().unwrap().iter().map(|message| message["payload"]["n"].as_u64().unwrap()).collect()
}

#[test]
fn publishes_have_positions_by_which_the_history_is_read() {
    let server = Server::serve(CONFIG);
    let first = publish(&server, n(1));
    assert_eq!((&first["published"], &first["messages"][0]["repeated"]), (&json!(1), &json!(false)));
    let position = first["messages"][0]["position"].as_str().unwrap().to_owned();
    let batch = publish(&server, json!({ "messages": [n(2), { "topic": "plain", "event": "n" }, n(3)] }));
    let offsets: Vec<Option<&str>> = batch["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["position"].as_str().and_then(|position| position.split(':').nth(1)))
        .collect();
    assert_eq!(offsets, [Some("2"), None, Some("3")]);

    let since = history(&server, &format!("?since={position}"));
    assert_eq!((&since["recovered"], numbers(&since["messages"])), (&json!(true), vec![2, 3]));
    assert_eq!(numbers(&history(&server, "?limit=1")["messages"]), [3], "the newest");
    for number in 4..=7 {
        publish(&server, n(number));
    }
    let late = history(&server, &format!("?since={position}"));
    assert_eq!((&late["recovered"], numbers(&late["messages"])), (&json!(false), vec![3, 4, 5, 6, 7]));
    let big = json!({ "topic": "room:2", "event": "n", "payload": { "n": 1 } });
    publish(&server, big);
    let raw =
        server.http_api("POST", r#"{"topic":"room:2","event":"n","payload":{"n":123456789012345678901234567890}}"#);
    assert!(raw.contains("\"published\":1"), "{raw}");
    let text = server.api("GET", "/api/history/room:2?limit=1", &Value::Null).body;
    assert!(text.contains("{\"n\":123456789012345678901234567890}"), "{text}");

    for (path, status, part) in [
        ("/api/history/plain", 422, "keeps no history"),
        ("/api/history/room:1?since=x", 422, "since: \\\"x\\\" is not a position"),
        ("/api/history/room:1?limit=0", 422, "limit: 0 is not accepted: it takes 1 to 1000"),
        ("/api/info?page=1", 422, "page: there is no such parameter: it takes nothing in its query"),
        ("/api/config?page=1", 422, "page: there is no such parameter: it takes nothing in its query"),
        ("/api/log?page=1", 422, "page: there is no such parameter: it takes nothing in its query"),
        ("/api/counters?page=1", 422, "page: there is no such parameter: it takes nothing in its query"),
        ("/api/nodes?page=1", 422, "page: there is no such parameter: it takes nothing in its query"),
        ("/api/history/room:1?page=1", 422, "page: there is no such parameter: it takes limit, since"),
        ("/api/history/room:1?limit=x", 422, "limit: \\\"x\\\" is not accepted: it takes 1 to 1000"),
        ("/api/history/room:1?limit=1&limit=2", 422, "limit: it is given more than once: give it once"),
        ("/api/history/room:1?limit=%FF", 422, "is not accepted: it takes 1 to 1000"),
        ("/api/topics?sort=size", 422, "sort: \\\"size\\\" is not accepted: it takes name, members or rate"),
        ("/api/sockets?address=me", 422, "address: \\\"me\\\" is not accepted: it takes an IP address"),
        ("/api/tap?topic=a&rate=many", 422, "rate: \\\"many\\\" is not accepted: it takes 1 to 200"),
    ] {
        let answer = server.api("GET", path, &Value::Null);
        assert!(answer.status == status && answer.body.contains(part), "{path}: {answer:?}");
    }
}

#[test]
fn a_publish_can_be_repeated_and_can_expect() {
    let server = Server::serve(CONFIG);
    let keyed = json!({ "topic": "room:1", "event": "n", "payload": { "n": 1 }, "idempotency_key": "order-1" });
    let first = publish(&server, keyed.clone());
    let again = publish(&server, keyed);
    assert_eq!((&first["published"], &again["published"]), (&json!(1), &json!(0)));
    assert_eq!(first["messages"][0]["position"], again["messages"][0]["position"]);
    assert_eq!(again["messages"][0]["repeated"], true);

    let expecting =
        |position: &Value| json!({ "topic": "room:1", "event": "n", "payload": { "n": 2 }, "expect": position });
    let at = &first["messages"][0]["position"];
    publish(&server, expecting(at));
    let conflict = server.api("POST", "/api/publish", &json!({ "messages": [expecting(at), n(3)] }));
    assert_eq!(conflict.status, 409);
    let body = conflict.json();
    assert_eq!((&body["error"]["code"], &body["published"]), (&json!("conflict"), &json!(1)), "{body}");
    assert_eq!(body["messages"][0]["error"]["code"], "conflict");
    assert!(body["messages"][1]["position"].as_str().unwrap().ends_with(":3"), "the other stands for itself");
    let unkept = json!({ "topic": "plain", "event": "n", "idempotency_key": "k" });
    assert_eq!(server.api("POST", "/api/publish", &unkept).status, 422);
}

#[test]
fn phoenix_11_members_catch_up_and_resume() {
    let server = Server::serve(CONFIG);
    for number in 1..=3 {
        publish(&server, n(number));
    }
    let mut client = server.connect("");
    let reply = client.join("room:1", json!({ "resume": true }))["response"].clone();
    assert_eq!(numbers(&reply["messages"]), [2, 3]);
    let position = reply["resume"]["position"].clone();
    drop(client);
    publish(&server, n(4));
    let mut client = server.connect("");
    let reply = client.join("room:1", json!({ "resume": position }))["response"].clone();
    assert_eq!(reply["resume"]["recovered"], true);
    let frame = client.receive();
    assert_eq!((&frame[3], &frame[4]), (&json!("n"), &json!({ "n": 4 })));
    assert!(frame[1].as_str().unwrap().ends_with(":4"), "{frame}");
}

impl Server {
    /// A body as it is, without a detour by a number type.
    fn http_api(&self, method: &str, body: &str) -> String {
        let token = format!("Bearer {TOKEN}");
        crate::support::http(&self.admin(), method, "/api/publish", &[("authorization", &token)], body).body
    }
}

#[test]
fn streams_are_read_with_nothing_but_http() {
    let server = Server::serve(CONFIG);
    publish(&server, n(1));
    let open = |headers: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /events/room:1?since=0:0 HTTP/1.1\r\nhost: {}\r\n{headers}\r\n", server.address).unwrap();
        BufReader::new(stream).lines().map(Result::unwrap)
    };
    let line = open("").find(|line| line.contains("\"n\":1")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["topic"], "room:1");
    let mut lines = open("accept: text/event-stream\r\n").skip_while(|line| line != "event: n");
    assert_eq!(lines.nth(1).unwrap(), "data: {\"n\":1}");
    let refused = server.http("GET", "/events/other", &[], "");
    assert_eq!((refused.status, refused.json()), (403, json!({ "reason": "unmatched topic" })));
}

/// A member's line breaks are none of the stream's, nor those of somebody in rooms.
#[test]
fn no_message_breaks_out_of_its_line() {
    let server =
        Server::serve(&format!("{CONFIG}publish = 'open'\n[[endpoint]]\npath = '/rooms'\nprotocol = 'rooms'\n"));
    let mut members = (server.connect(""), server.upgrade("/rooms", &[]).unwrap());
    for topic in ["room:1", "plain"] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /events/{topic}?since=0:0 HTTP/1.1\r\nhost: {}\r\n\r\n", server.address).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        // A chunk of the answer that is a line of the stream.
        let mut next = || serde_json::from_str::<Value>(&lines.find(|line| line.contains("topic")).unwrap()).unwrap();
        let forged = r#"{"topic":"other","event":"admin","payload":{"n":0},"position":"1:1"}"#;
        let payload = |line_break| format!("{{\"x\":{line_break}{forged}{line_break}}}");
        let join_ref = members.0.join_ok(topic);
        members.1.send(json!({ "join": topic }));
        let joined = next();
        assert_eq!(joined["event"], "joined");
        assert_eq!(joined["payload"]["recovered"], topic == "room:1", "the other keeps nothing");
        crate::support::eventually(|| server.api("GET", "/api/topics", &Value::Null).body.contains("\"members\":3"));
        for line_break in ["\n", "\r", "\r\n"] {
            let payload = payload(line_break);
            members.0.send_text(&format!(r#"["{join_ref}","9","{topic}","n",{payload}]"#));
            let line = next();
            assert_eq!((&line["topic"], &line["event"]), (&json!(topic), &json!("n")), "{line}");
            members.1.send_text(&format!(r#"{{"say":{payload},"to":"{topic}"}}"#));
            let line = next();
            assert_eq!((&line["topic"], &line["payload"]["x"]["event"]), (&json!(topic), &json!("admin")), "{line}");
        }
    }
}

/// Whether a command against the HTTP API has succeeded, and what it has printed.
fn run(server: &Server, args: &[&str]) -> (bool, String, String) {
    let output = server.command(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// More than a request can ask for is read in pages, over HTTP and by the command.
#[test]
fn what_is_kept_is_read_in_pages() {
    let server = Server::serve(&CONFIG.replace("messages = 5", "messages = 10000"));
    for first in [1, 1_001, 2_001] {
        publish(&server, json!({ "messages": (first..first + 1_000).map(n).collect::<Vec<_>>() }));
    }
    let (mut since, mut seen) = ("0:0".to_owned(), Vec::new());
    loop {
        let page = history(&server, &format!("?since={since}&limit=700"));
        assert_eq!(page["recovered"], true);
        seen.extend(numbers(&page["messages"]));
        since = page["messages"].as_array().unwrap().last().unwrap()["position"].as_str().unwrap().to_owned();
        if page["position"] == since {
            break;
        }
    }
    assert_eq!(seen, (1..=3_000).collect::<Vec<_>>());
    for (args, expected) in [
        (&["--since", "0:0"][..], 1..=3_000),
        (&["--since", "0:0", "--limit", "1500"], 1..=1_500),
        (&["--limit", "3"], 2_998..=3_000),
        (&[], 2_901..=3_000),
    ] {
        let (is_ok, printed, error) = run(&server, &[&["history", "room:1"], args].concat());
        let messages: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(is_ok && numbers(&json!(messages)) == expected.clone().collect::<Vec<_>>(), "{args:?}: {error}");
    }
}

#[test]
fn commands_publish_with_a_key_and_print_what_is_kept() {
    let server = Server::serve(CONFIG);
    let run = |args: &[&str]| run(&server, args);
    let publish = |extra: &[&str]| run(&[&["pub", "room:1", "n", r#"{"n":1.50}"#], extra].concat());
    let (_, first, _) = publish(&["--key", "k", "--expect", "0:0"]);
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["published"], 1);
    let (_, again, _) = publish(&["--key", "k"]);
    assert_eq!(
        serde_json::from_str::<Value>(&again).unwrap(),
        json!({ "published": 0, "position": first["position"] })
    );
    let (is_ok, _, error) = publish(&["--expect", "0:0"]);
    assert!(!is_ok && error.contains("the topic is at"), "{error}");
    let (is_ok, printed, _) = run(&["history", "room:1", "--since", "0:0"]);
    let expected = format!("{{\"event\":\"n\",\"payload\":{{\"n\":1.50}},\"position\":{}}}\n", first["position"]);
    assert_eq!((is_ok, printed), (true, expected));
    let (is_ok, _, error) = run(&["history", "room:1", "--since", "1:1"]);
    assert!(!is_ok && error.contains("messages are missing before these"), "{error}");
    let (is_ok, _, error) = run(&["history", "room:1", "--since", "yesterday"]);
    assert!(!is_ok && error.contains("not a position"), "{error}");
}

/// A server that is killed in the midst of publishing: what was answered is there, and clients go on where they were.
#[test]
fn with_a_directory_the_history_outlives_the_server() {
    let folder = Folder::new();
    let config =
        format!("[history]\ndir = {:?}\n{}", folder.path("history"), CONFIG.replace("messages = 5", "messages = 1000"));
    let mut position = json!("0:0");
    let mut seen = 0;
    for round in 1..=3 {
        let server = Server::serve(&config);
        let mut client = server.connect("");
        let reply = client.join("room:1", json!({ "resume": position }))["response"].clone();
        assert_eq!(reply["resume"]["recovered"], true, "{reply}");
        for number in round * 20 - 19..=round * 20 {
            publish(&server, n(number));
        }
        // The last five it has not seen when the server is killed.
        while seen < round * 20 - 5 {
            let frame = client.receive();
            seen += 1;
            assert_eq!(frame[4], json!({ "n": seen }));
            position = frame[1].clone();
        }
        if round == 1 {
            let second = folder.write("second.toml", &config);
            let mut second = fanfare(&["serve", "--config", second.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
            let output = second.output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && error.contains("in use by another process"), "{error}");
        }
        drop(server);
    }
    let server = Server::serve(&config);
    assert_eq!(numbers(&history(&server, "?since=0:0&limit=1000")["messages"]), (1..=60).collect::<Vec<_>>());
}

#[test]
fn a_message_that_is_larger_than_the_bound_of_its_topic_is_kept_alone() {
    let server = Server::serve("[[channel]]\ntopic = '*'\nhistory = { bytes = '1KB' }\n");
    let message = |n: u64, size: usize| json!({ "topic": "room:1", "event": "n", "payload": { "n": n, "pad": "p".repeat(size) } });
    for (n, size, kept) in [(1, 10, vec![1]), (2, 10, vec![1, 2]), (3, 5_000, vec![3]), (4, 10, vec![4])] {
        publish(&server, message(n, size));
        assert_eq!(numbers(&history(&server, "")["messages"]), kept);
    }
}
