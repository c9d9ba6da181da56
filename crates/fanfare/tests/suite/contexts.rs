//! What a channel can do while it handles something, and what comes of it afterwards.

use std::sync::Arc;
use std::time::Duration;

use fanfare::testing::{TestEndpoint, TestJoin, TestSocket};
use fanfare::{
    Broadcast, Channel, Context, Endpoint, Error, Flow, JoinSender, Joined, Mount, Payload, Refused, Reply, ReplyHandle,
};
use parking_lot::Mutex;
use serde_json::{Value, json};

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

    async fn join(&self, cx: &mut Context, _: Value) -> Result<Joined<Vec<Value>>, Refused> {
        self.0.lock().senders.push(cx.sender());
        Ok(Joined::new(Vec::new()).reply(json!({ "join_ref": cx.join_ref() })))
    }

    async fn handle_in(
        &self,
        infos: &mut Vec<Value>,
        cx: &mut Context,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, Error> {
        let Payload::Json(json) = payload else { return Ok(Reply::ok(payload)) };
        let told: Value = json.to()?;
        match event {
            "later" => self.0.lock().replies.push(cx.reply_later()),
            "status" => return Ok(Reply::status("partial", told)),
            "error" => return Ok(Reply::error(told)),
            "infos" => return Ok(Reply::ok(json!(infos))),
            "send" => cx.send(told),
            "send_after" => cx.send_after(Duration::from_millis(told["ms"].as_u64().unwrap_or_default()), told),
            "subscribe" => cx.subscribe(told["topic"].as_str().unwrap_or_default())?,
            "unsubscribe" => cx.unsubscribe(told["topic"].as_str().unwrap_or_default()),
            "say" => cx.broadcast("say", told).await?,
            "push anything" => {
                let refused = cx.push("any", told).is_err_and(|error| error.is_invalid());
                return Ok(Reply::ok(json!({ "refused": refused })));
            }
            _ => return Err(Error::new("unknown event")),
        }
        Ok(Reply::none())
    }

    async fn handle_info(&self, infos: &mut Vec<Value>, _: &mut Context, info: Value) -> Result<Flow, Error> {
        infos.push(info);
        Ok(Flow::Continue)
    }

    async fn handle_broadcast(&self, infos: &mut Vec<Value>, _: &mut Context, heard: Broadcast) -> Result<Flow, Error> {
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
    handles[1].send(Reply::ok(json!({"n": 2})));
    handles[0].send(Reply::ok(json!({"n": 1})));
    handles[0].send(Reply::error(json!({"n": 3})));
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
    handle.send(Reply::ok(json!({"too": "late"})));
    let old = kit.desk.0.lock().senders[0].clone();
    old.send(json!("too late"));
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
        sender.send(json!(n));
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

/// What a binary frame cannot carry is said in a text reply, and the join lives.
#[tokio::test]
async fn a_reply_that_does_not_fit_a_binary_frame_says_which_field() {
    let served = serve_mount(Mount::new().channel("*", Desk::default())).await;
    let mut client = served.client().await;
    let long = "7".repeat(300);
    client.send_json(&json!([long, "1", "desk:1", "phx_join", {}])).await;
    assert_eq!(client.frame().await[4]["status"], "ok");
    client.send_json(&json!([long, "2", "desk:1", "status", {"still": "text"}])).await;
    assert_eq!(client.frame().await[4]["status"], "partial");
    let mut binary = vec![0, 0, 1, 6, 1];
    binary.extend_from_slice(b"3desk:1edata");
    // An empty join_ref is the string "", which is not this join's: such a push is stale.
    client.send(fanfare_proto::websocket::frame::Opcode::Binary, &binary, true).await;
    client.assert_untouched().await;
    assert_eq!(served.counter("drops", "stale_join_ref"), 1);

    client.send_json(&json!([null, "4", "desk:2", "phx_join", {}])).await;
    client.frame().await;
    client.send_json(&json!([null, "r".repeat(300), "desk:2", "infos", {}])).await;
    assert_eq!(client.frame().await[1], "r".repeat(300), "a text reply has no such bound");
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
    let mut small = crate::support::client::Client::connect(served.address, target, &deflate).await.unwrap();
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
