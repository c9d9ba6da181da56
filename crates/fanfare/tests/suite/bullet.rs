//! What bullet.js clients rely on: three transports at one address, told apart by what they ask for.

use std::sync::Arc;
use std::time::Duration;

use fanfare::{Body, Connect, ConnectRequest, Connected, Endpoint, Mount, Rejected};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::http::{Answer, head, request};
use crate::support::{Served, eventually, serve};

/// Lets in keys that begin with `good`, and is unavailable for `down`.
struct Keys;

impl Connect for Keys {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        match request.params.str("key") {
            Some("down") => Err(Rejected::reason("unavailable")),
            Some(key) if key.starts_with("good") => Ok(Connected::new().id(key).topic(key).topic("all")),
            _ => Err(Rejected::new()),
        }
    }
}

fn mount() -> Mount {
    Mount::bullet().connect(Keys).on_reject(|_| {
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    })
}

async fn bridge(mount: Mount) -> Served {
    serve(Endpoint::builder().shards(2).mount("/websocket", mount)).await
}

impl Served {
    async fn bullet(&self, query: &str) -> Client {
        self.client_at(&format!("/websocket?{query}")).await
    }

    async fn ask(&self, method: &str, query: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        request(self.address, method, &format!("/websocket?{query}"), headers, body.as_bytes()).await
    }

    async fn publish(&self, topic: &str, n: u32) {
        self.endpoint.broadcast(topic, "message", json!({ "n": n })).await.unwrap();
    }
}

#[tokio::test]
async fn bridge_1_bridge_3_the_query_is_the_key() {
    let bridge = bridge(mount()).await;
    for query in ["good", "key=good", "good&_=1700000000", "_=17&key=good", "good=1&x"] {
        bridge.bullet(query).await.assert_closed_by_nobody().await;
    }
    let refused = async |query: &str| {
        let target = format!("/websocket?{query}");
        let upgrade = Client::connect(bridge.address, &target, &[]).await.err().expect("refused").status;
        let poll = bridge.ask("GET", query, &[], "").await.status;
        let stream = bridge.ask("GET", query, &[("accept", "text/event-stream")], "").await.status;
        let post = bridge.ask("POST", query, &[], "ping").await.status;
        [upgrade, poll, stream, post]
    };
    for query in ["", "bad", "key=", "%7B%22$ne%22:null%7D", "%27%20OR%201=1"] {
        assert_eq!(refused(query).await, [403; 4], "{query}");
    }
    assert_eq!(refused("down").await, [503; 4]);
    assert_eq!(refused(&format!("good{}", "x".repeat(255))).await[..3], [403; 3], "too long for a topic");
}

impl Client {
    async fn assert_closed_by_nobody(&mut self) {
        self.send_text("ping").await;
        self.assert_text("heartbeat message").await;
    }
}

#[tokio::test]
async fn bridge_7_one_key_many_times() {
    let bridge = bridge(mount()).await;
    let (mut one, mut two) = (bridge.bullet("good").await, bridge.bullet("good").await);
    bridge.has_members("good", 2).await;
    bridge.publish("good", 1).await;
    for client in [&mut one, &mut two] {
        client.assert_text(r#"{"n":1}"#).await;
    }
    // Two browsers poll, and one of them in two tabs.
    let polls = [("A", "good"), ("B", "good"), ("B", "good")].map(|(agent, key)| {
        let address = bridge.address;
        tokio::spawn(async move {
            request(address, "GET", &format!("/websocket?{key}"), &[("user-agent", agent)], b"").await.body
        })
    });
    bridge.has_members("good", 4).await;
    // The third poll shares a session, which nothing shows from outside.
    tokio::time::sleep(Duration::from_millis(200)).await;
    bridge.publish("good", 2).await;
    for poll in polls {
        assert_eq!(poll.await.unwrap(), br#"{"n":2}"#);
    }
}

#[tokio::test]
async fn bridge_8_two_words_are_answered_and_the_rest_is_the_applications() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let diary = heard.clone();
    let mount = mount().on_text(move |id, text| {
        assert_ne!(text, "panic", "a panic of the application's hurts nobody");
        diary.lock().push(format!("{} {text}", id.unwrap_or("?")));
    });
    let bridge = bridge(mount).await;
    let mut client = bridge.bullet("good").await;
    for (sent, answer) in [("ping", "heartbeat message"), ("panic", ""), ("status", "status checked"), ("more", "")] {
        client.send_text(sent).await;
        if !answer.is_empty() {
            client.assert_text(answer).await;
        }
        let posted = bridge.ask("POST", "good", &[], sent).await;
        let status = if answer.is_empty() { 204 } else { 200 };
        assert_eq!((posted.status, &*posted.body), (status, answer.as_bytes()), "{sent}");
    }
    eventually("both were heard", async || *heard.lock() == ["good more", "good more"]).await;
}

#[tokio::test]
async fn bridge_9_polls_get_one_message_each_and_lose_none() {
    let bridge = bridge(mount().longpoll_window(Duration::from_millis(300))).await;
    assert_eq!(bridge.ask("GET", "good", &[], "").await.status, 204, "nothing came in time");
    for n in 1..=3 {
        bridge.publish("good", n).await;
        bridge.publish("all", n + 10).await;
    }
    let mut got = Vec::new();
    for _ in 0..6 {
        let answer = bridge.ask("GET", "good", &[], "").await;
        assert_eq!((answer.status, &*answer.headers["cache-control"]), (200, "no-store"));
        got.push(answer.json()["n"].as_u64().unwrap());
    }
    let (of_key, of_all): (Vec<_>, Vec<_>) = got.into_iter().partition(|n| *n < 10);
    assert_eq!((of_key, of_all), (vec![1, 2, 3], vec![11, 12, 13]));
    assert_eq!(bridge.endpoint.socket_count().await, 1, "one session");
    eventually("nobody polls it", async || bridge.endpoint.socket_count().await == 0).await;
    assert_eq!(bridge.ask("GET", "good", &[], "").await.status, 204, "and a new one begins");
}

#[tokio::test]
async fn bridge_9_a_stream_ends_with_its_client_and_with_the_server() {
    let bridge = bridge(mount()).await;
    let open = async || {
        let mut stream = TcpStream::connect(bridge.address).await.unwrap();
        let head = head("GET", "/websocket?good", &[("accept", "text/event-stream, */*;q=0.1")]);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let first = open().await;
    bridge.has_members("good", 1).await;
    drop(first);
    bridge.has_members("good", 0).await;

    let mut second = open().await;
    let mut begun = Vec::new();
    while !begun.ends_with(b":\n\n\r\n") {
        begun.push(second.read_u8().await.unwrap());
    }
    bridge.publish("good", 7).await;
    bridge.endpoint.drain(fanfare::Drain::default()).await;
    let mut text = String::from_utf8(begun).unwrap();
    second.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("content-type: text/event-stream"), "{text}");
    assert!(text.contains("data: {\"n\":7}\n\n"), "{text}");
    assert_eq!(bridge.ask("GET", "good", &[], "").await.status, 503, "it is being drained");
}

#[tokio::test]
async fn bridge_9_other_methods_are_refused() {
    let bridge = bridge(mount()).await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(bridge.ask(method, "good", &[], "").await.status, 405, "{method}");
    }
    let preflight = bridge.ask("OPTIONS", "good", &[("origin", "http://x")], "").await;
    assert_eq!(preflight.status, 200, "a page of another origin asks before it polls");
    let answer = bridge.ask("POST", "good", &[], "\u{e9}").await;
    assert_eq!(answer.status, 204);
    let answer = request(bridge.address, "POST", "/websocket?good", &[], b"\xff").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_reader_of_a_stream_that_takes_nothing_is_given_up() {
    let mount = mount().write_timeout(Duration::from_millis(300)).outbox_bytes_max(100_000);
    let bridge = bridge(mount).await;
    let mut stalled = TcpStream::connect(bridge.address).await.unwrap();
    let head = head("GET", "/websocket?good", &[("accept", "text/event-stream")]);
    stalled.write_all(head.as_bytes()).await.unwrap();
    bridge.has_members("good", 1).await;
    let big = json!({ "x": "x".repeat(50_000) });
    eventually("it is given up", async || {
        bridge.endpoint.broadcast("good", "e", big.clone()).await.unwrap();
        bridge.endpoint.socket_count().await == 0
    })
    .await;
}
