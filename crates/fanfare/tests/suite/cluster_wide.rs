//! What is done on all nodes of a cluster, whichever is told, and whichever broker is between them.

use std::time::Duration;

use fanfare::testing::Lockstep;
use fanfare::{
    Broker, Connect, ConnectRequest, Connected, Drain, Endpoint, MemoryBroker, Mount, NodeSummary, Presence, Rejected,
};
use serde_json::{Value, json};

use crate::support::brokers::{AnyBroker, on_each_broker};
use crate::support::guest::Guest;
use crate::support::http::request;
use crate::support::stage::Stage;
use crate::support::{Served, eventually, serve};

/// All clients are the same user.
struct Ada;

impl Connect for Ada {
    async fn connect(&self, _: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(Connected::new().id("user_socket:ada"))
    }
}

on_each_broker! {
    a_disconnect_closes_the_sockets_of_all_nodes,
    those_of_a_node_that_ends_leave_at_once,
    a_node_without_members_tells_who_is_present_elsewhere,
    a_session_that_is_polled_may_be_reached_by_any_node,
    tokens_that_name_no_session_begin_a_new_one,
    nodes_know_each_other,
}

fn node(broker: Broker) -> fanfare::Builder {
    let mount = Mount::new().connect(Ada).channel("room:*", Stage::default());
    // Whoever is lost stays present.
    let presence = Presence::new().leave_grace(Duration::from_secs(3_600));
    Endpoint::builder().shards(2).presence(presence).mount("/socket", mount).broker(broker)
}

/// Two that know each other.
async fn two_nodes(broker: &AnyBroker) -> [Served; 2] {
    let [a, b] = [serve(node(broker.broker())).await, serve(node(broker.broker())).await];
    eventually("they know each other", async || a.endpoint.nodes().len() == 2 && b.endpoint.nodes().len() == 2).await;
    [a, b]
}

async fn keys(endpoint: &Endpoint, topic: &str) -> Vec<String> {
    let present: Value = endpoint.presences(topic).await.to().unwrap();
    present.as_object().unwrap().keys().cloned().collect()
}

async fn a_disconnect_closes_the_sockets_of_all_nodes([a, b]: [Served; 2]) {
    let (mut here, mut there) = (a.client().await, b.client().await);
    here.join("room:1").await;
    there.join("room:1").await;
    a.endpoint.disconnect("user_socket:ada").await;
    here.assert_closed(1001).await;
    there.assert_closed(1001).await;
    assert_eq!((a.counter("closes", "disconnect"), b.counter("closes", "disconnect")), (1, 1));
}

#[test]
fn a_node_that_was_cut_off_disconnects_when_it_is_back() {
    let broker = MemoryBroker::stepped(1);
    let nodes = [1, 2].map(|number| Lockstep::new(node(Broker::memory(&broker)).incarnation(number), 1));
    let [mut a, mut b] = nodes;
    let mut now_ms = 0;
    let mut advance = |a: &mut Lockstep, b: &mut Lockstep, ms: u64| {
        for _ in 0..ms / 10 {
            now_ms += 10;
            a.advance(Duration::from_millis(10));
            b.advance(Duration::from_millis(10));
            broker.step(now_ms);
        }
    };
    advance(&mut a, &mut b, 100);
    let mut guest = Guest::connect(&mut b);
    advance(&mut a, &mut b, 2_000);
    broker.break_link(2, true);
    advance(&mut a, &mut b, 1_000);
    let endpoint = a.endpoint().clone();
    a.run(endpoint.disconnect("user_socket:ada"));
    advance(&mut a, &mut b, 3_000);
    assert!(guest.frames().is_empty());
    broker.let_back(2);
    advance(&mut a, &mut b, 1_000);
    assert_eq!(guest.frames(), [json!(1001)]);
}

async fn those_of_a_node_that_ends_leave_at_once([a, b]: [Served; 2]) {
    let (mut here, mut there) = (a.client().await, b.client().await);
    here.try_join("room:1", json!({"track": "here"})).await;
    there.try_join("room:1", json!({"track": "there"})).await;
    eventually("both are present", async || keys(&a.endpoint, "room:1").await.len() == 2).await;
    b.endpoint.drain(Drain { every: Duration::ZERO, limit: Duration::from_millis(500), ..Drain::default() }).await;
    eventually("one has gone", async || keys(&a.endpoint, "room:1").await == ["here"]).await;
}

async fn a_node_without_members_tells_who_is_present_elsewhere([a, b]: [Served; 2]) {
    let mut client = a.client().await;
    client.try_join("room:1", json!({"track": "ada"})).await;
    eventually("ada is present", async || keys(&a.endpoint, "room:1").await == ["ada"]).await;
    assert_eq!(keys(&b.endpoint, "room:1").await, ["ada"]);
    assert_eq!(b.endpoint.presence_count("room:1"), 1);
    assert_eq!(keys(&b.endpoint, "room:2").await, [""; 0]);
    eventually("it is forgotten", async || b.endpoint.presence_count("room:1") == 0).await;
}

/// What a client that polls gets of a node.
async fn poll(node: &Served, token: &str) -> Value {
    let target = format!("/socket/longpoll?vsn=2.0.0&token={token}");
    request(node.address, "GET", &target, &[], b"").await.json()
}

async fn post(node: &Served, token: &str, frames: Value) -> Value {
    let target = format!("/socket/longpoll?vsn=2.0.0&token={token}");
    let headers = [("content-type", "application/x-ndjson")];
    request(node.address, "POST", &target, &headers, frames.to_string().as_bytes()).await.json()
}

fn token(answer: &Value) -> String {
    answer["token"].as_str().expect("a token").to_owned()
}

async fn a_session_that_is_polled_may_be_reached_by_any_node([a, b]: [Served; 2]) {
    let begun = request(a.address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.json();
    assert_eq!(begun["status"], 410);
    let mut session = token(&begun);
    assert_eq!(post(&b, &session, json!(["1", "1", "room:1", "phx_join", {}])).await["status"], 200);
    let reply = poll(&b, &session).await;
    assert_eq!((&reply["status"], reply["messages"].as_array().unwrap().len()), (&json!(200), 1));
    session = token(&reply);
    // A large answer comes in parts.
    let text = "x".repeat(600_000);
    for node in [&a, &b] {
        assert_eq!(post(node, &session, json!(["1", "2", "room:1", "echo", {"text": "hello"}])).await["status"], 200);
        for _ in 0..2 {
            a.endpoint.broadcast("room:1", "large", json!({ "text": text })).await.unwrap();
        }
        let mut got = 0;
        while got < 3 {
            let answer = poll(&b, &session).await;
            // It is given again where it got lost, by whichever node.
            let again = poll(&a, &session).await;
            let messages = answer["messages"].as_array().cloned().unwrap_or_default();
            assert!(again["messages"].as_array().is_some_and(|again| again.starts_with(&messages)));
            got += messages.len();
            session = token(&answer);
        }
    }
    // The node ends: a new session, at once.
    a.endpoint.drain(Drain { every: Duration::ZERO, limit: Duration::from_millis(500), ..Drain::default() }).await;
    eventually("it is known to have gone", async || b.endpoint.nodes().len() == 1).await;
    let answer = poll(&b, &session).await;
    assert_eq!(answer["status"], 410);
    assert_eq!(post(&b, &token(&answer), json!(["1", "1", "room:1", "phx_join", {}])).await["status"], 200);
}

#[tokio::test]
async fn a_session_is_reached_by_a_node_that_has_not_heard_of_its_node_yet() {
    let broker = MemoryBroker::new().unwrap();
    let a = serve(node(Broker::memory(&broker))).await;
    let session = token(&request(a.address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.json());
    let b = serve(node(Broker::memory(&broker))).await;
    assert_eq!(post(&b, &session, json!(["1", "1", "room:1", "phx_join", {}])).await["status"], 200);
    assert_eq!(poll(&b, &session).await["status"], 200);
}

#[cfg(feature = "nats")]
#[tokio::test]
async fn a_request_for_another_node_is_carried_in_parts_and_refused_above_the_bound() {
    let nats = AnyBroker::nats_with("max_payload: 4096");
    let [a, b] = two_nodes(&nats).await;
    let begun = request(a.address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.json();
    let mut session = token(&begun);
    assert_eq!(post(&b, &session, json!(["1", "1", "room:1", "phx_join", {}])).await["status"], 200);
    let echo = |text: &str| json!(["1", "2", "room:1", "echo", { "text": text }]).to_string();
    let lines = (0..20).map(|_| echo(&"x".repeat(3_000))).collect::<Vec<_>>().join("\n");
    let send = async |session: &str, body: &str| {
        let target = format!("/socket/longpoll?vsn=2.0.0&token={session}");
        request(b.address, "POST", &target, &[("content-type", "application/x-ndjson")], body.as_bytes()).await
    };
    assert_eq!(send(&session, &lines).await.json()["status"], 200);
    let mut got = 0;
    while got < 21 {
        let answer = poll(&b, &session).await;
        got += answer["messages"].as_array().map_or(0, Vec::len);
        session = token(&answer);
    }
    // 256 parts of 2048 bytes, with the token and what stands around it.
    let refused = send(&session, &echo(&"x".repeat(256 * 2048))).await;
    assert!(refused.status == 413 && refused.text().contains("the body is larger than 524"), "{refused:?}");
    assert_eq!(post(&b, &session, json!(["1", "3", "room:1", "echo", {}])).await["status"], 200);
}

async fn tokens_that_name_no_session_begin_a_new_one([a, b]: [Served; 2]) {
    let begun = request(a.address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.json();
    let session = token(&begun);
    let (node, _) = session.split_once('.').unwrap();
    for forged in [format!("{node}.forged"), "0000000000000007.forged".to_owned(), ".".to_owned(), "x.y".to_owned()] {
        assert_eq!(poll(&b, &forged).await["status"], 410, "{forged}");
        assert_eq!(post(&b, &forged, json!(["1", "1", "room:1", "phx_join", {}])).await["status"], 410, "{forged}");
    }
}

async fn nodes_know_each_other([a, b]: [Served; 2]) {
    let mut client = b.client().await;
    client.join("room:1").await;
    eventually("they are heard", async || {
        let nodes = a.endpoint.nodes();
        let sums = |of: fn(&NodeSummary) -> u64| nodes.iter().map(of).sum::<u64>();
        nodes.len() == 2 && (sums(|node| node.sockets), sums(|node| node.topics), sums(|node| node.joins)) == (1, 1, 1)
    })
    .await;
    assert!(a.endpoint.gone_nodes().is_empty());
    let version = env!("CARGO_PKG_VERSION").split('-').next();
    assert!(a.endpoint.nodes().iter().all(|node| node.version.as_deref() == version));
    let is_self: Vec<_> = a.endpoint.nodes().into_iter().filter(|node| node.is_self).collect();
    assert_eq!(is_self.len(), 1);
    let alone = serve(Endpoint::builder().mount("/socket", Mount::new())).await;
    assert!(alone.endpoint.nodes().is_empty(), "it is no node of a cluster");
}
