//! Invariant 4: everything that grows has a bound with a name, a default, and a test that reaches it.
//!
//! Outboxes are in `slow_reader_is_closed_1013_and_delays_nobody`, sizes of messages and bodies in `bad_input`.

use std::time::Duration;

use fanfare::serve::{Limits, Server};
use fanfare::{BoxError, Channel, Context, Endpoint, Flow, Joined, Mount, Payload, Refused, Reply};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::http::request;
use crate::support::{counter, serve, serve_mount, stage};

#[tokio::test]
async fn joins_max() {
    for (mount, max) in [(stage(), 100), (stage().joins_max(3), 3)] {
        let served = serve_mount(mount).await;
        let mut client = served.client().await;
        for n in 0..max {
            client.join(&format!("room:{n}")).await;
        }
        let reply = client.try_join("room:one more", json!({})).await;
        assert_eq!(reply, json!({"status": "error", "response": {"reason": "too many channels joined"}}));
        assert_eq!(served.counter("joins", "too_many"), 1);
        // Joining again does not count, and leaving makes room.
        client.send_json(&json!(["again", "again", "room:0", "phx_join", {}])).await;
        let mut frames = [client.frame().await, client.frame().await];
        frames.sort_by_key(|frame| frame[3].to_string());
        assert_eq!(frames[1][4]["status"], "ok");
        client.send_json(&json!(["again", "x", "room:0", "phx_leave", {}])).await;
        client.frame().await;
        client.frame().await;
        client.join("room:one more").await;
    }
}

#[tokio::test]
async fn waiting_frames_max() {
    let served = serve_mount(stage().waiting_frames_max(5)).await;
    let mut other = served.client().await;
    other.join("room:1").await;
    // Behind a join that is not answered, and behind a channel that is busy.
    for (topic, busy) in [("room:joining", "phx_join"), ("room:1", "wait_ms")] {
        let mut client = served.client().await;
        if busy == "wait_ms" {
            client.join(topic).await;
        }
        client.send_json(&json!([topic, "busy", topic, busy, {"wait_ms": 600, "ms": 600}])).await;
        for n in 0..8 {
            client.send_json(&json!([topic, n, topic, "echo", {}])).await;
        }
        for n in 5..8 {
            let frame = client.frame().await;
            assert_eq!((&frame[1], &frame[4]["status"]), (&json!(n), &json!("error")), "{frame}");
            assert!(frame[4]["response"]["reason"].as_str().unwrap().contains("at most 5"), "{frame}");
        }
        other.assert_untouched().await;
        assert_eq!(client.frame().await[1], "busy");
        for n in 0..5 {
            let frame = client.frame().await;
            assert_eq!((&frame[1], &frame[4]["status"]), (&json!(n), &json!("ok")), "{frame}");
        }
    }
    assert_eq!(served.counter("drops", "waiting_full"), 6);
}

#[tokio::test]
async fn waiting_bytes_max() {
    let served = serve_mount(stage().waiting_bytes_max(1_000)).await;
    let mut client = served.client().await;
    client.send_json(&json!(["1", "join", "room:1", "phx_join", {"wait_ms": 400}])).await;
    for n in 0..4 {
        client.send_json(&json!(["1", n, "room:1", "echo", {"x": "x".repeat(400)}])).await;
    }
    for n in 2..4 {
        let frame = client.frame().await;
        assert_eq!((&frame[1], &frame[4]["status"]), (&json!(n), &json!("error")));
    }
    for answered in [json!("join"), json!(0), json!(1)] {
        assert_eq!(client.frame().await[1], answered);
    }
    // What has been handled makes room.
    client.call_ok_as("1", "room:1", json!({"x": "x".repeat(900)})).await;
}

/// What a channel pushes before its join is answered counts like what its client sends; and what was refused, or never came to be
/// pushed, counts no more.
#[tokio::test]
async fn pushes_before_an_answer_have_the_bounds_of_what_waits() {
    for (mount, size, fits) in [(stage().waiting_frames_max(4), 1, 4), (stage().waiting_bytes_max(1_000), 200, 4)] {
        let served = serve_mount(mount).await;
        let mut client = served.client().await;
        let pushes = |count: usize| vec![json!({ "x": "x".repeat(size) }); count];
        for round in 0..3 {
            let topic = &*format!("room:joined-{round}");
            let refused = client.try_join(topic, json!({ "push": pushes(fits), "refuse": "no" })).await;
            assert_eq!(refused["status"], "error");
            client.join_with(topic, json!({ "push": pushes(fits) })).await;
            for payload in pushes(fits) {
                client.assert_event(topic, "pushed", payload).await;
            }
            client.send_json(&json!(["2", "2", "room:2", "phx_join", { "push": pushes(fits + 1) }])).await;
            let ended = client.frame().await;
            assert_eq!(json!([ended[0], ended[2], ended[3]]), json!(["2", "room:2", "phx_error"]), "{round}: {ended}");
            assert_eq!(served.counter("drops", "waiting_full"), round + 1);
        }
    }
}

/// A leave that waits behind a join takes nothing of the room for others when that is refused.
#[tokio::test]
async fn a_leave_behind_a_refused_join_costs_no_room() {
    let served = serve_mount(stage().waiting_bytes_max(1_000)).await;
    let mut client = served.client().await;
    client.send_json(&json!(["1", "1", "room:1", "phx_join", { "wait_ms": 100, "refuse": "no" }])).await;
    client.send_json(&json!(["1", "2", "room:1", "phx_leave", {}])).await;
    for expected in ["error", "ok"] {
        assert_eq!(client.frame().await[4]["status"], expected);
    }
    client.send_json(&json!(["1", "3", "room:1", "phx_join", { "wait_ms": 100 }])).await;
    client.push("1", "room:1", "echo", json!({ "x": "x".repeat(900) })).await;
    for _ in 0..2 {
        let frame = client.frame().await;
        assert_eq!(frame[4]["status"], "ok", "{frame}");
    }
}

impl Client {
    async fn join_with(&mut self, topic: &str, params: Value) {
        assert_eq!(self.try_join(topic, params).await["status"], "ok");
    }

    async fn call_ok_as(&mut self, join_ref: &str, topic: &str, payload: Value) {
        self.push(join_ref, topic, "echo", payload).await;
        assert_eq!(self.frame().await[4]["status"], "ok");
    }
}

/// Listens to another topic, and is slow about it.
struct Listener;

impl Channel for Listener {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        cx.subscribe("source")?;
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }

    async fn handle_broadcast(&self, _: &mut (), _: &mut Context, _: fanfare::Broadcast) -> Result<Flow, BoxError> {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok(Flow::Continue)
    }
}

/// Invariant 6: what was lost is said. Nobody can be told to publish later, so the join is told that it has a gap.
#[tokio::test]
async fn a_channel_that_falls_behind_its_subscription_is_ended() {
    let served = serve_mount(Mount::new().channel("room:*", Listener).waiting_frames_max(10)).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    for n in 0..20 {
        served.endpoint.broadcast("source", "tick", json!({ "n": n })).await.unwrap();
    }
    assert_eq!(client.frame().await[3], "phx_error");
    client.assert_untouched().await;
    assert_eq!(served.counter("drops", "waiting_full"), 1);
}

/// Invariant 6, again: a socket of this process that does not read loses messages, and they are counted.
#[tokio::test]
async fn a_local_sockets_queue_is_bounded_and_what_it_loses_is_counted() {
    let endpoint = Endpoint::builder().shards(1).build().await.unwrap();
    let mut socket = endpoint.subscribe("room").await.unwrap();
    for n in 0..5_000 {
        endpoint.broadcast("room", "tick", json!({ "n": n })).await.unwrap();
    }
    crate::support::eventually("the rest is counted", async || {
        counter(&endpoint, "drops", "local_queue_full") == 5_000 - 4_096
    })
    .await;
    for n in 0..4_096 {
        let heard: Value = match socket.recv().await.unwrap().payload() {
            Payload::Json(json) => json.to().unwrap(),
            Payload::Text(_) | Payload::Binary(_) => panic!("JSON was sent"),
        };
        assert_eq!(heard["n"], n);
    }
    assert!(socket.try_recv().is_none());
}

#[tokio::test]
async fn long_poll_sessions_per_address_are_bounded() {
    let served = serve(Endpoint::builder().sessions_per_address_max(2).mount("/socket", stage())).await;
    for status in [200, 200, 429, 429] {
        assert_eq!(request(served.address, "GET", "/socket/longpoll", &[], b"").await.status, status);
    }
    assert_eq!(served.counter("connections", "refused_limit"), 2);
    // WebSockets are another matter.
    served.client().await.assert_untouched().await;
}

#[tokio::test]
async fn sessions_are_bounded_in_total() {
    let served = serve(Endpoint::builder().sessions_max(2).mount("/socket", stage())).await;
    for status in [200, 200, 503, 503] {
        assert_eq!(request(served.address, "GET", "/socket/longpoll", &[], b"").await.status, status);
    }
    let facts = served.endpoint.facts();
    let told = facts.iter().find(|fact| fact.reason == "refused_limit").expect("it can be asked why");
    assert!(told.detail.contains("all of its 2 sessions") && told.detail.contains("(sessions_max)"), "{told:?}");
    served.client().await.assert_untouched().await;
}

#[tokio::test]
async fn connections_are_bounded_in_total_and_per_address() {
    let total = Limits { connections_max: 2, ..Limits::default() };
    let per_address = Limits { connections_per_address_max: 2, ..Limits::default() };
    for (limits, status) in [(total, 503), (per_address, 429)] {
        let endpoint = Endpoint::builder().mount("/socket", stage()).build().await.unwrap();
        let address = serve_within(limits, &endpoint).await;
        let connect = || Client::connect(address, "/socket?vsn=2.0.0", &[]);
        let (mut first, second) = (connect().await.unwrap(), connect().await.unwrap());
        for _ in 0..2 {
            let refused = connect().await.err().expect("an upgraded connection counts until it ends");
            assert_eq!(refused.status, status);
        }
        assert_eq!(counter(&endpoint, "connections", "refused_limit"), 2);
        first.assert_untouched().await;
        drop(second);
        crate::support::eventually("there is room again", async || connect().await.is_ok()).await;
    }
}

async fn serve_within(limits: Limits, endpoint: &Endpoint) -> std::net::SocketAddr {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits);
    let address = server.local_addr().unwrap();
    let served = endpoint.clone();
    tokio::spawn(async move { server.serve(served.clone(), &served, std::future::pending()).await });
    address
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_is_let_go() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let endpoint = Endpoint::builder().mount("/socket", stage()).build().await.unwrap();
    let limits = Limits { handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let address = serve_within(limits, &endpoint).await;
    for begun in [&b""[..], b"GET /socket HTTP/1.1\r\nhost: x\r\n", &[b'x'; 64 * 1024]] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(begun).await;
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open behind {} bytes", begun.len());
    }
    // Nothing was asked for on the first.
    assert_eq!(counter(&endpoint, "connections", "refused_request"), 2);
}
