//! Heartbeats, broadcasts, pushes, and events that channels intercept.

use std::time::Duration;

use fanfare::testing::TestEndpoint;
use fanfare::{BoxError, Channel, Context, Endpoint, Flow, Joined, Mount, Payload, Refused, Reply};
use fanfare_proto::websocket::frame::Opcode;
use serde_json::{Value, json};

use crate::support::client::Received;
use crate::support::{serve_mount, stage};

#[tokio::test]
async fn phoenix_5_heartbeats_are_answered_joined_or_not() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.assert_untouched().await;
    client.send_json(&json!(["x", 7, "phoenix", "heartbeat", [1]])).await;
    assert_eq!(client.frame().await, json!([null, 7, "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    client.send_json(&json!([null, "8", "phoenix", "phx_join", {}])).await;
    assert_eq!(client.frame().await[4]["response"]["reason"], "unmatched topic");
}

#[tokio::test]
async fn phoenix_5_a_silent_socket_is_closed_1002_and_a_talking_one_stays() {
    let served = serve_mount(stage().idle_timeout(Duration::from_millis(600))).await;
    let mut silent = served.client().await;
    let mut talking = served.client().await;
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        if round % 2 == 0 {
            talking.send(Opcode::Ping, b"still here", true).await;
            assert_eq!(talking.receive().await, Received::Pong(b"still here".to_vec()));
        } else {
            talking.assert_untouched().await;
        }
    }
    silent.assert_closed(1002).await;
    talking.assert_untouched().await;
    assert_eq!(served.counter("closes", "idle"), 1);
}

#[tokio::test]
async fn phoenix_12_broadcast_broadcast_from_push_and_from_anywhere() {
    let served = serve_mount(stage()).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = served.client().await;
        client.join("room:1").await;
        client.join("room:2").await;
        clients.push(client);
    }
    let mut outsider = served.client().await;
    outsider.join("room:3").await;

    clients[0].push("room:1", "room:1", "shout", json!({"n": 1})).await;
    for client in &mut clients {
        assert_eq!(client.frame().await, json!([null, null, "room:1", "shout", {"n": 1}]));
    }
    clients[0].push("room:1", "room:1", "shout_others", json!({"n": 2})).await;
    for client in &mut clients[1..] {
        assert_eq!(client.frame().await, json!([null, null, "room:1", "shout", {"n": 2}]));
    }
    clients[0].push("room:1", "room:1", "whisper", json!({"n": 3})).await;
    assert_eq!(clients[0].frame().await, json!(["room:1", null, "room:1", "whisper", {"n": 3}]));
    served.endpoint.broadcast("room:2", "news", json!({"n": 4})).await.unwrap();
    for client in &mut clients {
        client.assert_event("room:2", "news", json!({"n": 4})).await;
        client.assert_untouched().await;
    }
    outsider.assert_untouched().await;
}

#[tokio::test]
async fn phoenix_12_the_sender_sees_what_it_did_in_order() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    for n in 0..50 {
        client.push("room:1", "room:1", "all_three", json!({"n": n})).await;
        let events = [client.frame().await, client.frame().await, client.frame().await].map(|frame| frame[3].clone());
        assert_eq!(events, [json!("broadcast"), json!("push"), json!("phx_reply")]);
    }
}

#[tokio::test]
async fn phoenix_12_binary_goes_to_everybody_in_their_own_form() {
    let served = serve_mount(stage()).await;
    let mut new = served.client().await;
    new.join("room:1").await;
    let mut old = served.client_at("/socket?vsn=1.0.0").await;
    old.send_json(&json!({"topic": "room:1", "event": "phx_join", "payload": {}, "ref": 1})).await;
    old.frame().await;
    served.endpoint.broadcast("room:1", "data", Payload::Binary(vec![1, 2, 255].into())).await.unwrap();
    assert_eq!(new.receive().await, Received::Binary(b"\x02\x06\x04room:1data\x01\x02\xff".to_vec()));
    let in_json = json!({"topic": "room:1", "event": "data", "payload": {"binary": "AQL/"}, "ref": null});
    assert_eq!(old.frame().await, in_json);
}

/// Members name words that they do not want to read; whole messages by their sender are left out.
struct Filtered;

impl Channel for Filtered {
    type State = String;
    type Params = Value;
    type Info = ();

    const INTERCEPT: &'static [&'static str] = &["said"];

    async fn join(&self, _: &mut Context, params: Value) -> Result<Joined<String>, Refused> {
        Ok(Joined::new(params["ignore"].as_str().unwrap_or_default().to_owned()))
    }

    async fn handle_in(
        &self,
        _: &mut String,
        cx: &mut Context,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, BoxError> {
        cx.broadcast(event, payload).await?;
        Ok(Reply::none())
    }

    async fn handle_out(
        &self,
        ignored: &mut String,
        cx: &mut Context,
        event: &str,
        payload: Payload,
    ) -> Result<Flow, BoxError> {
        let Payload::Json(json) = payload else { return Ok(Flow::Continue) };
        let said: Value = json.to()?;
        if said["by"] != **ignored {
            cx.push(event, json!({ "by": said["by"], "for": ignored }))?;
        }
        Ok(Flow::Continue)
    }
}

#[tokio::test]
async fn phoenix_13_intercepted_events_are_rewritten_or_dropped_for_each_subscriber() {
    let mount = Mount::new().channel("room:*", Filtered);
    let test = TestEndpoint::start(Endpoint::builder().shards(2).mount("/socket", mount)).await;
    let mut joins = Vec::new();
    for ignore in ["ada", "bob", "eve"] {
        let socket = test.connect("/socket", json!({})).await.unwrap();
        joins.push((ignore, socket.join("room:1", json!({ "ignore": ignore })).await.unwrap()));
    }
    joins[0].1.push("said", json!({"by": "bob"})).await;
    joins[0].1.push("plain", json!({"by": "bob"})).await;
    for (ignore, join) in &joins {
        join.assert_push("plain", json!({"by": "bob"})).await;
        match *ignore {
            "bob" => join.refute_push("said").await,
            other => drop(join.assert_push("said", json!({"by": "bob", "for": other})).await),
        }
    }
}

/// Handles intercepted events as `Filtered` does, and takes its time.
struct Slow;

impl Channel for Slow {
    type State = String;
    type Params = Value;
    type Info = ();

    const INTERCEPT: &'static [&'static str] = &["said"];

    async fn join(&self, _: &mut Context, _: Value) -> Result<Joined<String>, Refused> {
        Ok(Joined::new(String::new()))
    }

    async fn handle_in(&self, _: &mut String, _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }

    async fn handle_out(
        &self,
        ignored: &mut String,
        cx: &mut Context,
        event: &str,
        said: Payload,
    ) -> Result<Flow, BoxError> {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        Filtered.handle_out(ignored, cx, event, said).await
    }
}

#[tokio::test]
async fn phoenix_13_intercepted_events_keep_their_place() {
    for mount in [Mount::new().channel("room:*", Filtered), Mount::new().channel("room:*", Slow)] {
        intercepted_events_keep_their_place(mount).await;
    }
}

async fn intercepted_events_keep_their_place(mount: Mount) {
    let served = serve_mount(mount).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    for n in 0..40 {
        let event = if n % 3 == 0 { "said" } else { "plain" };
        served.endpoint.broadcast("room:1", event, json!({ "by": n })).await.unwrap();
    }
    for n in 0..40 {
        let frame = client.frame().await;
        assert_eq!(frame[4]["by"], n, "{frame}");
        let join_ref = if n % 3 == 0 { json!("room:1") } else { json!(null) };
        assert_eq!((&frame[0], &frame[1]), (&join_ref, &json!(null)), "{frame}");
    }
}
