//! What bullet.js clients rely on: three transports at one address, told apart by what they ask for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare::{
    Body, Connect, ConnectRequest, Connected, Endpoint, Mount, OriginPolicy, Policy, Rejected, Retention, Slow,
};
use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::http::{Answer, head, request};
use crate::support::{PATIENCE, Served, eventually, serve};

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
    Mount::bullet().connect(Keys).origin(OriginPolicy::Any).on_reject(|_| {
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
    let nothing = bridge.ask("GET", "good", &[], "").await;
    assert_eq!((nothing.status, nothing.body), (200, Vec::new()), "nothing came in time");
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
    assert_eq!(bridge.endpoint.sockets(), 1, "one session");
    eventually("nobody polls it", async || bridge.endpoint.sockets() == 0).await;
    let told = bridge.ask("GET", "good", &[], "").await;
    assert!(told.status == 410 && told.body.starts_with(b"gap: this client has not polled"), "{told:?}");
    assert_eq!(bridge.ask("GET", "good", &[], "").await.body, b"", "a new one has begun");
    assert_eq!(bridge.ask("GET", "good2", &[], "").await.status, 200, "a new client has missed nothing");
}

/// Messages that give way by the policy of their topic leave a gap, of which the client is told in its place.
#[tokio::test]
async fn bridge_9_a_poller_is_told_of_messages_that_gave_way() {
    let by_number = Slow::Latest { key: Some("n".into()) };
    let by_event = Slow::Latest { key: None };
    for (slow, dropped, expected) in [
        (Slow::DropOldest, 12, vec![0, 13, 14, 15, 16, 17, 18, 19, 20, 21]),
        (by_number, 12, vec![0, 13, 14, 15, 16, 17, 18, 19, 20, 21]),
        (Slow::Resync, 20, vec![0, 21]),
        // An older value of the same key is nobody's loss.
        (by_event, 19, vec![20, 21]),
    ] {
        let builder = Endpoint::builder().policy("good", Policy::new().slow(slow.clone()));
        let bridge = serve(builder.mount("/websocket", mount().outbox_frames_max(8))).await;
        let first = tokio::spawn(request_of(bridge.address));
        bridge.has_members("good", 1).await;
        bridge.publish("good", 0).await;
        assert_eq!(first.await.unwrap().json(), json!({"n": 0}));
        for n in 1..=20 {
            bridge.publish("good", n).await;
        }
        let has_dropped = async || bridge.counter("drops", slow.name()) == dropped;
        eventually("all are handled", has_dropped).await;
        let mut got = Vec::new();
        while got.last() != Some(&21) {
            if got.last() == Some(expected.iter().rev().nth(1).unwrap()) {
                bridge.publish("good", 21).await;
            }
            let answer = bridge.ask("GET", "good", &[], "").await;
            let text = String::from_utf8_lossy(&answer.body);
            match answer.status {
                410 if text.starts_with("gap: messages were dropped by the policy") => got.push(0),
                200 => got.push(answer.json()["n"].as_u64().unwrap()),
                status => panic!("{slow:?}: {status}, {text}"),
            }
        }
        assert_eq!(got, expected, "{slow:?}, where 0 is a gap");
    }
}

async fn request_of(address: SocketAddr) -> Answer {
    request(address, "GET", "/websocket?good", &[], b"").await
}

#[tokio::test]
async fn bridge_9_what_was_too_much_between_two_polls_is_told_by_the_next() {
    let bridge = bridge(mount().outbox_frames_max(8)).await;
    let first = tokio::spawn(request_of(bridge.address));
    bridge.has_members("good", 1).await;
    bridge.publish("good", 0).await;
    assert_eq!(first.await.unwrap().json(), json!({"n": 0}));
    for n in 1..=20 {
        bridge.publish("good", n).await;
    }
    eventually("it was too much", async || bridge.counter("drops", "slow_consumer") >= 9).await;
    let told = bridge.ask("GET", "good", &[], "").await;
    let text = String::from_utf8(told.body).unwrap();
    assert!(told.status == 410 && text.starts_with("gap: ") && text.contains(" or more messages"), "{text}");
    // It goes on with what was not dropped, and in order.
    bridge.publish("good", 21).await;
    let mut last = 8;
    while last < 21 {
        let answer = bridge.ask("GET", "good", &[], "").await;
        assert_eq!(answer.status, 200);
        let n = answer.json()["n"].as_u64().unwrap();
        assert!(n > last, "{n} after {last}");
        last = n;
    }
    assert_eq!(bridge.endpoint.sockets(), 1, "the same session");
}

/// An event of a stream.
#[derive(Default)]
struct Event {
    name: String,
    id: String,
    data: String,
}

/// The events of a stream until the messages with these numbers have come, in whatever order: they may be of two topics.
async fn events_until(stream: &mut TcpStream, numbers: &[u32]) -> Vec<Event> {
    let mut text = String::new();
    let awaited: Vec<_> = numbers.iter().map(|n| format!("data: {{\"n\":{n}}}\n\n")).collect();
    let read = async {
        while !awaited.iter().all(|message| text.contains(message)) {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "it ended: {text}");
            text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("{awaited:?} did not come"));
    let (mut events, mut event) = (Vec::new(), Event::default());
    // The sizes of chunks stand in lines of their own, and are no fields.
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("event", name)) => event.name = name.to_owned(),
            Some(("id", id)) => event.id = id.to_owned(),
            Some(("data", data)) => event.data = data.to_owned(),
            _ if line.is_empty() && !event.data.is_empty() => events.push(std::mem::take(&mut event)),
            _ => {}
        }
    }
    events
}

/// The messages among events.
fn messages(events: &[Event]) -> Vec<String> {
    events.iter().filter(|event| event.name.is_empty()).map(|event| event.data.clone()).collect()
}

/// For each topic with a history, whether its client has got what it missed.
fn recovered(events: &[Event]) -> Vec<bool> {
    let joined = events.iter().filter(|event| event.name == "joined");
    joined.map(|event| event.data.contains(r#""recovered":true"#)).collect()
}

#[tokio::test]
async fn bridge_9_a_stream_goes_on_behind_the_last_event_in_each_of_its_topics() {
    let policy = || Policy::new().history(Retention { messages_max: 5, ..Retention::default() });
    let builder = Endpoint::builder().shards(2).policy("good", policy()).policy("all", policy());
    let bridge = serve(builder.mount("/websocket", mount())).await;
    let open = async |last: &str| {
        let mut stream = TcpStream::connect(bridge.address).await.unwrap();
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(Some(("last-event-id", last)).filter(|_| !last.is_empty()));
        stream.write_all(head("GET", "/websocket?good", &headers).as_bytes()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H', "it is a member once it is answered");
        stream
    };
    bridge.publish("good", 0).await;
    let mut stream = open("").await;
    let mut events = Vec::new();
    for (n, topic) in [(1, "good"), (2, "all"), (3, "good")] {
        bridge.publish(topic, n).await;
        events.extend(events_until(&mut stream, &[n]).await);
    }
    assert_eq!(messages(&events), [1, 2, 3].map(|n| format!(r#"{{"n":{n}}}"#)));
    assert_eq!(recovered(&events).len(), 2);
    drop(stream);
    bridge.has_members("all", 0).await;

    // From the second message on: of the other topic it had got the first.
    let second = events.iter().find(|event| event.data == r#"{"n":2}"#).unwrap();
    for (n, topic) in [(4, "all"), (5, "good"), (6, "all")] {
        bridge.publish(topic, n).await;
    }
    let mut stream = open(&second.id).await;
    bridge.publish("good", 7).await;
    let events = events_until(&mut stream, &[3, 4, 5, 6, 7]).await;
    let mut got = messages(&events);
    got.sort();
    assert_eq!(got, [3, 4, 5, 6, 7].map(|n| format!(r#"{{"n":{n}}}"#)), "none lost, none twice");
    assert_eq!(recovered(&events), [true, true]);
    drop(stream);

    // What is gone, and what was never an id of ours, is a gap that is told; the stream is there all the same.
    for n in 10..30 {
        bridge.publish(if n % 2 == 0 { "good" } else { "all" }, n).await;
    }
    for last in [&*second.id, "nonsense", "1:1,2:2,3:3"] {
        let mut stream = open(last).await;
        bridge.publish("all", 40).await;
        assert_eq!(recovered(&events_until(&mut stream, &[40]).await), [false, false], "{last}");
    }
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
        bridge.endpoint.sockets() == 0
    })
    .await;
}
