//! The configurations of the guides on moving here, each with the database of the system that it replaces and clients of its protocol.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::thread;

use serde_json::{Value, json};

use crate::services::{mongo, postgres, redis};
use crate::support::{PATIENCE, Server, eventually, http};

/// The block of a guide that is marked with `file:`, with other addresses in it.
fn config(page: &str, addresses: &[(&str, &str)]) -> String {
    let (_, block) = page.split_once("```toml file:").unwrap();
    let (_, block) = block.split_once('\n').unwrap();
    let (text, _) = block.split_once("\n```").unwrap();
    addresses.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from} is not in the guide");
        text.replace(from, to)
    })
}

#[test]
fn hub_1_to_8_the_guide_on_moving_with_the_hubs_own_table() {
    let service = postgres::start();
    service.wait_for_sql();
    service.sql(
        "CREATE TABLE apikeys (id serial PRIMARY KEY, domain varchar(64) UNIQUE, username varchar(254), \
         apikey varchar(36) UNIQUE, insert_ts timestamp DEFAULT now(), active boolean DEFAULT false); \
         INSERT INTO apikeys (domain, username, apikey, active) VALUES ('example.com', 'ada', 'old-key', true)",
    );
    let page = include_str!("../../../../docs/moving/hub.md");
    let url = service.postgres_url();
    let server = Server::serve(&config(page, &[("postgres://fanfare@127.0.0.1/hub", &url)]));
    assert_eq!(server.upgrade("/ws/pub/other-key/example.com/news", &[]).err(), Some(403));
    assert_eq!(server.upgrade("/ws/pub/old-key/example.org/news", &[]).err(), Some(403));
    assert_eq!(server.upgrade("/ws/sub/example.com/news", &[]).err(), Some(404));
    let mut publisher = server.upgrade("/ws/pub/old-key/example.com/news", &[]).unwrap();
    assert_eq!(server.upgrade("/ws/pub/old-key/example.com/news", &[]).err(), Some(409));
    let mut subscriber = server.upgrade("/ws/sub/example.com/news", &[]).unwrap();
    publisher.send_text("hello");
    publisher.send_binary(&[0, 255]);
    assert_eq!(subscriber.receive_text(), "hello");
    assert_eq!(subscriber.receive_frame(), Err(vec![0, 255]));
}

#[test]
fn bridge_1_to_9_the_guide_on_moving_with_redis_and_the_bridges_own_documents() {
    let (redis, mongo) = (redis::start(), mongo::start());
    mongo.mongo("keys.insert_many([{'_id': 'ada'}, {'_id': 'bob'}, {'_id': 'cy'}])");
    let page = include_str!("../../../../docs/moving/bridge.md");
    let store = format!("store = \"mongo\", url = \"{}\"", mongo.mongo_url());
    let addresses = [("store = \"mongo\"", store.as_str()), ("redis://127.0.0.1:6379", &redis.redis_url())];
    let server = Server::serve(&config(page, &addresses));
    eventually(|| server.api("GET", "/api/health", &Value::Null).json()["status"] == "ok");
    assert_eq!(server.upgrade("/websocket?nobody", &[]).err(), Some(403));

    let mut socket = server.upgrade("/websocket?ada", &[]).unwrap();
    socket.send_text("ping");
    assert_eq!(socket.receive_text(), "heartbeat message");
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /websocket?bob HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n").unwrap();
    let mut stream = BufReader::new(stream).lines().map(Result::unwrap);
    let upstream = server.http("POST", "/websocket?cy", &[], "status");
    assert_eq!((upstream.status, upstream.body.as_str()), (200, "status checked"));

    let all_are_there = || {
        let topics = server.api("GET", "/api/topics", &Value::Null).json();
        topics["topics"].as_array().unwrap().iter().any(|entry| *entry == json!({"topic": "bridge", "members": 3}))
    };
    let address = server.address.clone();
    let poll = thread::spawn(move || http(&address, "GET", "/websocket?cy", &[], ""));
    eventually(all_are_there);
    let told = json!({"recipients": ["ada", "bob", "cy", "offline"], "data": {"text": "hello"}}).to_string();
    redis.redis_publish("my_channel", &told);
    redis.redis_publish("my_channel", r#"{"data": {"text": "everybody"}}"#);
    let polls = [poll.join().unwrap(), server.http("GET", "/websocket?cy", &[], "")];
    for (text, poll) in ["hello", "everybody"].into_iter().zip(polls) {
        let data = json!({"data": {"text": text}});
        assert_eq!(serde_json::from_str::<Value>(&socket.receive_text()).unwrap(), data);
        let event = stream.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&event).unwrap(), data);
        assert_eq!((poll.status, poll.json()), (200, data));
    }
}
