//! What a channel can do while it handles something, and what comes of it afterwards.

use std::sync::Arc;
use std::time::Duration;

use fanfare::testing::{TestEndpoint, TestJoin, TestSocket};
use fanfare::{
    BoxError, Broadcast, Channel, Context, Endpoint, Flow, JoinSender, Joined, Mount, Payload, Refused, Reply,
    ReplyHandle,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::client::{Client, Received};
use crate::support::{serve_mount, stage};

/// Keeps what outlives its callbacks where the test can reach it.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    replies: Vec<ReplyHandle>,
    senders: Vec<JoinSender<Value>>,
}

impl Channel for Desk {
    type State = Vec<Value>;
    type Params = Value;
    type Info = Value;

    async fn join(&self, cx: &mut Context<Value>, _: Value) -> Result<Joined<Vec<Value>>, Refused> {
        self.0.lock().senders.push(cx.sender());
        Ok(Joined::new(Vec::new()).reply(json!({ "join_ref": cx.join_ref() })))
    }

    async fn handle_in(
        &self,
        infos: &mut Vec<Value>,
        cx: &mut Context<Value>,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, BoxError> {
        let Payload::Json(json) = payload else { return Ok(Reply::ok(payload)) };
        let told: Value = json.to()?;
        match event {
            "later" => self.0.lock().replies.push(cx.reply_later()),
            "status" => return Ok(Reply::status("partial", told)),
            "error" => return Ok(Reply::error(told)),
            "infos" => return Ok(Reply::ok(json!(infos))),
            "send" => cx.send(told)?,
            "send_after" => cx.send_after(Duration::from_millis(told["ms"].as_u64().unwrap_or_default()), told),
            "subscribe" => cx.subscribe(told["topic"].as_str().unwrap_or_default())?,
            "unsubscribe" => cx.unsubscribe(told["topic"].as_str().unwrap_or_default()),
            "say" => cx.broadcast("say", told).await?,
            "binary" => {
                let pushed = cx.push("data", Payload::Binary(vec![1].into()));
                let data = if pushed.is_ok() { vec![1] } else { vec![0] };
                return Ok(Reply::ok(Payload::Binary(data.into())));
            }
            "push anything" => {
                let refused = cx.push("any", told).is_err_and(|error| error.is_invalid());
                return Ok(Reply::ok(json!({ "refused": refused })));
            }
            _ => return Err("unknown event".into()),
        }
        Ok(Reply::none())
    }

    async fn handle_info(&self, infos: &mut Vec<Value>, _: &mut Context<Value>, info: Value) -> Result<Flow, BoxError> {
        infos.push(info);
        Ok(Flow::Continue)
    }

    async fn handle_broadcast(
        &self,
        infos: &mut Vec<Value>,
        _: &mut Context<Value>,
        heard: Broadcast,
    ) -> Result<Flow, BoxError> {
        infos.push(json!([heard.topic(), heard.event()]));
        Ok(Flow::Continue)
    }
}

struct Kit {
    test: TestEndpoint,
    desk: Desk,
    socket: TestSocket,
    join: TestJoin,
}

async fn kit() -> Kit {
    let desk = Desk::default();
    let mount = Mount::new().channel("desk:*", desk.clone());
    let test = TestEndpoint::start(Endpoint::builder().shards(2).mount("/socket", mount)).await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let join = socket.join("desk:1", json!({})).await.unwrap();
    Kit { test, desk, socket, join }
}

impl Kit {
    async fn assert_infos(&self, expected: Value) {
        self.test.settle().await;
        let asked = self.join.push("infos", json!({})).await;
        self.join.assert_reply(&asked, "ok", expected).await;
    }
}

#[tokio::test]
async fn a_reply_may_come_later_more_than_once_or_never() {
    let kit = kit().await;
    assert_eq!(*kit.join.response(), json!({"join_ref": "\"1\""}));
    let first = kit.join.push("later", json!({})).await;
    let second = kit.join.push("later", json!({})).await;
    kit.join.refute_reply(&first).await;
    let handles = std::mem::take(&mut kit.desk.0.lock().replies);
    handles[1].send(Reply::ok(json!({"n": 2}))).unwrap();
    handles[0].send(Reply::ok(json!({"n": 1}))).unwrap();
    handles[0].send(Reply::error(json!({"n": 3}))).unwrap();
    kit.join.assert_reply(&second, "ok", json!({"n": 2})).await;
    kit.join.assert_reply(&first, "ok", json!({"n": 1})).await;
    kit.join.assert_reply(&first, "error", json!({"n": 3})).await;
    let status = kit.join.push("status", json!({"any": "thing"})).await;
    kit.join.assert_reply(&status, "partial", json!({"any": "thing"})).await;
    let error = kit.join.push("error", json!({})).await;
    kit.join.assert_reply(&error, "error", json!({})).await;
}

#[tokio::test]
async fn replies_and_infos_to_a_join_that_has_ended_go_nowhere() {
    let kit = kit().await;
    kit.join.push("later", json!({})).await;
    kit.join.leave().await;
    let again = kit.socket.join("desk:1", json!({})).await.unwrap();
    let handle = kit.desk.0.lock().replies.remove(0);
    handle.send(Reply::ok(json!({"too": "late"}))).unwrap();
    let old = kit.desk.0.lock().senders[0].clone();
    old.send(json!("too late")).unwrap();
    kit.socket.refute_push("desk:1", "phx_reply").await;
    let asked = again.push("infos", json!({})).await;
    again.assert_reply(&asked, "ok", json!([])).await;
}

#[tokio::test]
async fn infos_come_in_order_and_by_the_clock() {
    let kit = kit().await;
    kit.join.push("send_after", json!({"ms": 200})).await;
    kit.join.push("send_after", json!({"ms": 100})).await;
    kit.join.push("send", json!("at once")).await;
    let sender = kit.desk.0.lock().senders[0].clone();
    for n in 0..50 {
        sender.send(json!(n)).unwrap();
    }
    kit.test.advance(Duration::from_millis(150)).await;
    let mut expected = vec![json!("at once")];
    expected.extend((0..50).map(|n| json!(n)));
    expected.push(json!({"ms": 100}));
    kit.assert_infos(json!(expected)).await;
    kit.test.advance(Duration::from_millis(50)).await;
    expected.push(json!({"ms": 200}));
    kit.assert_infos(json!(expected)).await;
}

#[tokio::test]
async fn other_topics_are_heard_between_subscribe_and_unsubscribe() {
    let kit = kit().await;
    let say = async |topic: &str| kit.test.endpoint().broadcast(topic, "say", json!({})).await.unwrap();
    say("news").await;
    for _ in 0..2 {
        kit.join.push("subscribe", json!({"topic": "news"})).await;
    }
    say("news").await;
    kit.assert_infos(json!([["news", "say"]])).await;
    kit.join.refute_push("say").await;
    kit.join.push("unsubscribe", json!({"topic": "news"})).await;
    kit.join.push("unsubscribe", json!({"topic": "never"})).await;
    say("news").await;
    kit.assert_infos(json!([["news", "say"]])).await;
    assert!(kit.test.endpoint().topics().await.iter().all(|topic| topic.topic != "news"));
}

/// Its own topic as well: then the client gets the broadcast, and the channel hears it.
#[tokio::test]
async fn a_channel_may_listen_to_its_own_topic() {
    let kit = kit().await;
    let neighbour = kit.test.connect("/socket", json!({})).await.unwrap();
    let other = neighbour.join("desk:1", json!({})).await.unwrap();
    kit.join.push("subscribe", json!({"topic": "desk:1"})).await;
    other.push("say", json!({"n": 1})).await;
    kit.join.assert_push("say", json!({"n": 1})).await;
    kit.join.refute_push("say").await;
    kit.assert_infos(json!([["desk:1", "say"]])).await;
    kit.join.leave().await;
    other.assert_push("say", json!({"n": 1})).await;
    other.push("say", json!({"n": 2})).await;
    other.assert_push("say", json!({"n": 2})).await;
    other.leave().await;
    assert!(kit.test.endpoint().topics().await.is_empty());
}

#[tokio::test]
async fn only_objects_and_binary_can_be_pushed() {
    let kit = kit().await;
    for (payload, refused) in
        [(json!({}), false), (json!({"a": [1]}), false), (json!([1]), true), (json!("x"), true), (json!(null), true)]
    {
        let asked = kit.join.push("push anything", payload.clone()).await;
        kit.join.assert_reply(&asked, "ok", json!({ "refused": refused })).await;
        if !refused {
            kit.join.assert_push("any", payload).await;
        }
    }
    kit.join.refute_push("any").await;
}

/// What a binary frame cannot carry is said in a text reply, to the caller of a push, and the join lives.
#[tokio::test]
async fn what_does_not_fit_a_binary_frame_is_said() {
    let served = serve_mount(Mount::new().channel("*", Desk::default())).await;
    let mut client = served.client().await;
    let long = "7".repeat(300);
    client.send_json(&json!([long, "1", "desk:1", "phx_join", {}])).await;
    assert_eq!(client.frame().await[4]["status"], "ok");
    client.send_json(&json!([long, "2", "desk:1", "binary", {}])).await;
    let frame = client.frame().await;
    assert_eq!(json!([frame[0], frame[1], frame[3], frame[4]["status"]]), json!([long, "2", "phx_reply", "error"]));
    assert!(frame[4]["response"]["reason"].as_str().unwrap().contains("join_ref has 300 bytes"), "{frame}");
    assert_eq!(served.counter("drops", "field_too_long"), 1);
    client.send_json(&json!([long, "r".repeat(300), "desk:1", "status", {"still": "text"}])).await;
    assert_eq!(client.frame().await[4]["status"], "partial", "which has no such bound");
    client.join("desk:2").await;
    client.push("desk:2", "desk:2", "binary", json!({})).await;
    assert_eq!(client.receive().await, Received::Binary(b"\x00\x06\x06\x04desk:2desk:2data\x01".to_vec()));
    assert_eq!(client.receive().await, Received::Binary(b"\x01\x06\x02\x06\x02desk:2m1desk:2ok\x01".to_vec()));
}

/// What may be sent plainly may be sent compressed, however well it can be.
#[tokio::test]
async fn a_compressed_message_may_be_as_repetitive_as_it_likes() {
    let served = serve_mount(stage().compression(true).message_size_max(1_000_000)).await;
    let deflate = [("sec-websocket-extensions", "permessage-deflate")];
    let mut client = Client::connect(served.address, "/socket?vsn=2.0.0", &deflate).await.unwrap();
    client.join("room:1").await;
    for size in [100_000, 999_900] {
        let text = json!(["room:1", "2", "room:1", "echo", {"body": "a".repeat(size)}]).to_string();
        client.send_compressed(&text).await;
        assert_eq!(client.frame().await[4]["response"]["body"].as_str().unwrap().len(), size);
    }
    client
        .send_compressed(&json!(["room:1", "2", "room:1", "echo", {"body": "a".repeat(1_000_000)}]).to_string())
        .await;
    client.assert_closed(1009).await;
}

/// Sockets of every version and form share a room; each is sent its own encoding of one message.
#[tokio::test]
async fn everybody_gets_a_broadcast_in_the_form_that_they_speak() {
    let served = serve_mount(stage().compression(true)).await;
    let mut new = served.client().await;
    new.join("room:1").await;
    let mut old = served.client_at("/socket?vsn=1.0.0").await;
    old.send_json(&json!({"topic": "room:1", "event": "phx_join", "payload": {}, "ref": "1"})).await;
    old.frame().await;
    let deflate = [("sec-websocket-extensions", "permessage-deflate")];
    let target = "/socket?vsn=2.0.0";
    let mut small = Client::connect(served.address, target, &deflate).await.unwrap();
    small.join("room:1").await;
    for size in [1, 255, 256, 1_000_000] {
        let body: String = (0..size).map(|n| char::from(b'a' + (n % 7 * n % 23) as u8)).collect();
        served.endpoint.broadcast("room:1", "big", json!({ "body": body })).await.unwrap();
        new.assert_event("room:1", "big", json!({ "body": body })).await;
        small.assert_event("room:1", "big", json!({ "body": body })).await;
        let frame = old.frame().await;
        assert_eq!(frame, json!({"topic": "room:1", "event": "big", "payload": {"body": body}, "ref": null}));
    }
}
