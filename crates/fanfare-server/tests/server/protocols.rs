//! The other front doors, as the people use them who come from the systems that they replace: hub, rooms, bullet.

use serde_json::json;

use crate::support::{Answer, Server, http};

const CONFIG: &str = r#"
[[endpoint]]
path = "/socket"

[[endpoint]]
path = "/ws"
protocol = "hub"
auth = "none"
grace = "0s"

[[endpoint]]
path = "/websocket"
protocol = "bullet"
auth = "none"
longpoll_window = "2s"

[[endpoint]]
path = "/"
protocol = "rooms"
acks = true

[[channel]]
topic = ["hub:*", "bridge*", "lobby", "phoenix"]
join = "open"
publish = "open"
"#;

fn publish(server: &Server, topic: &str, payload: serde_json::Value) {
    let body = json!({"topic": topic, "event": "flash", "payload": payload});
    assert_eq!(server.api("POST", "/api/publish", &body).json(), json!({"published": 1}));
}

fn members(server: &Server, topic: &str) -> u64 {
    let topics = server.api("GET", "/api/topics?limit=1000", &json!(null)).json();
    let found = topics["topics"].as_array().unwrap().iter().find(|entry| entry["topic"] == topic).cloned();
    found.map_or(0, |entry| entry["members"].as_u64().unwrap())
}

#[track_caller]
fn has_members(server: &Server, topic: &str, count: u64) {
    crate::support::eventually(|| members(server, topic) == count);
}

#[test]
fn hub_1_to_12_as_its_instructions_say() {
    let server = Server::serve(CONFIG);
    assert_eq!(server.upgrade("/ws/sub/example.com/news", &[]).err(), Some(404), "nobody has started it");
    let mut publisher = server.upgrade("/ws/pub/any-key/example.com/news", &[]).unwrap();
    assert_eq!(server.upgrade("/ws/pub/any-key/example.com/news", &[]).err(), Some(409));
    assert_eq!(server.upgrade("/ws/pub/example.com/news", &[]).err(), Some(404));
    let mut subscriber = server.upgrade("/ws/sub/example.com/news", &[]).unwrap();
    let mut phoenix = server.connect("");
    phoenix.join_ok("hub:example.com/news");
    has_members(&server, "hub:example.com/news", 2);
    publisher.send_text("hello");
    assert_eq!(subscriber.receive_text(), "hello");
    assert_eq!(phoenix.receive_event("message"), json!({"text": "hello"}));
    publish(&server, "hub:example.com/news", json!({"by": "http"}));
    assert_eq!(subscriber.receive_text(), r#"{"by":"http"}"#);
    assert_eq!(phoenix.receive_event("flash"), json!({"by": "http"}));
    drop(publisher);
    assert_eq!(subscriber.receive_close(), 1000);
    phoenix.heartbeat();
}

#[test]
fn bridge_1_to_9_by_websocket_and_by_polls() {
    let server = Server::serve(CONFIG);
    let mut client = server.upgrade("/websocket?some-key", &[]).unwrap();
    client.send_text("ping");
    assert_eq!(client.receive_text(), "heartbeat message");
    has_members(&server, "bridge:some-key", 1);
    let poll = |server: &Server| -> Answer { server.http("GET", "/websocket?key=some-key&_=1", &[], "") };
    let nothing = poll(&server);
    assert_eq!((nothing.status, &*nothing.body), (200, ""));
    publish(&server, "bridge:some-key", json!({"data": {"n": 1}}));
    publish(&server, "bridge", json!({"data": {"n": 2}}));
    for n in [1, 2] {
        assert_eq!(client.receive_text(), format!(r#"{{"data":{{"n":{n}}}}}"#));
        assert_eq!(poll(&server).json(), json!({"data": {"n": n}}));
    }
    assert_eq!(server.http("POST", "/websocket?some-key", &[], "status").body, "status checked");
    assert_eq!(server.http("PUT", "/websocket?some-key", &[], "").status, 405);
    let answer = server.api("POST", "/api/disconnect", &json!({"id": "some-key"}));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(client.receive_close(), 1001, "a bullet socket is called by its key");
}

#[test]
fn rooms_1_to_5_at_any_path() {
    let server = Server::serve(CONFIG);
    let mut client = server.upgrade("/anything/at/all", &[]).unwrap();
    client.send(json!({"join": "lobby"}));
    assert_eq!(client.receive_text(), r#"{"joined":"lobby"}"#);
    client.send_text(r#"{"say":[1, 2],"to":"lobby"}"#);
    assert_eq!(client.receive_text(), "[1, 2]");
    client.send(json!({"say": "over 9000!", "to": "lobby", "id": 7}));
    assert_eq!(client.receive_text(), "over 9000!");
    client.send_binary(br#"{"join":"phoenix"}"#);
    assert_eq!(client.receive_text(), r#"{"joined":"phoenix"}"#);
    client.send(json!({"join": "elsewhere"}));
    assert_eq!(client.receive()["refused"], "elsewhere");
    client.send_text("nonsense");
    assert_eq!(client.receive_close_reason(), (3000, "invalid payload".into()));
    let mut client = server.upgrade("/", &[]).unwrap();
    client.send(json!({"say": "hi", "to": "lobby"}));
    assert_eq!(client.receive_close_reason(), (3000, "cannot send to channel".into()));
    let answer = http(&server.address, "GET", "/x", &[], "");
    assert_eq!((answer.status, answer.body.is_empty()), (400, false), "a refused handshake says why");
}
