//! What waits to be handed out has a bound: publishers wait, and are told in the end; what clients publish is not read
//! meanwhile; and nothing is lost.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::{Duration, Instant};

use fanfare::testing::{Faults, Lockstep, Peer, Pipe};
use fanfare::{
    BoxError, Builder, Channel, Context, Endpoint, Error, Flow, Joined, Mount, Payload, Policy, Refused, Relay, Reply,
    Slow,
};
use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role, Scratch};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use serde_json::{Value, json};

use crate::support::client::{Client, Received};
use crate::support::{Served, serve, serve_mount, stage};

type Publishing = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

fn publish(endpoint: &Endpoint, topic: &'static str, size: usize) -> Publishing {
    let endpoint = endpoint.clone();
    Box::pin(async move { endpoint.broadcast(topic, "e", json!({ "x": "x".repeat(size) })).await })
}

/// How many have ended, well.
fn count_done(publishing: &mut Vec<Publishing>) -> usize {
    let before = publishing.len();
    publishing.retain_mut(|publishing| match publishing.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(published) => {
            published.unwrap();
            false
        }
        Poll::Pending => true,
    });
    before - publishing.len()
}

fn counter(lockstep: &Lockstep, name: &str, reason: &str) -> u64 {
    crate::support::counter(lockstep.endpoint(), name, reason)
}

fn guest(lockstep: &mut Lockstep, target: &str) -> (Peer, Pipe) {
    let pipe = Pipe::keeping();
    let peer = lockstep.connect(Request::get(target).body(()).unwrap(), &pipe).unwrap();
    (peer, pipe)
}

fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frame);
    frame
}

fn member(lockstep: &mut Lockstep) -> (Peer, Pipe) {
    let (peer, pipe) = guest(lockstep, "/socket/websocket?vsn=2.0.0");
    lockstep.send(peer, &text_frame(r#"["1","1","room:1","phx_join",{}]"#));
    lockstep.settle();
    pipe.take();
    (peer, pipe)
}

fn texts(pipe: &Pipe) -> Vec<String> {
    let mut texts = Vec::new();
    let mut sink = |item: Item<'_>| {
        texts.extend(match item {
            Item::Text(text) => Some(text.to_owned()),
            _ => None,
        });
        std::ops::ControlFlow::Continue(())
    };
    let mut decoder = Decoder::new(Role::Client);
    decoder.decode(&mut pipe.take(), &Limits::default(), false, &mut Scratch::default(), &mut sink).unwrap();
    texts
}

/// Both bounds, with messages that no other has room beside as well.
#[test]
fn publishing_waiting_max() {
    let builder = || Endpoint::builder().mount("/socket", stage());
    for (builder, size, expected) in [
        (builder(), 10, 4_096),
        (builder().publishing_waiting_max(10), 10, 10),
        (builder().publishing_waiting_bytes_max(10_000), 991, 10),
        (builder().publishing_waiting_bytes_max(10_000), 992, 9),
        (builder().publishing_waiting_bytes_max(10_000), 100_000, 1),
    ] {
        let mut lockstep = Lockstep::new(builder, 1);
        let (_, pipe) = member(&mut lockstep);
        let count = expected * 2 + 1;
        let mut publishing: Vec<_> = (0..count).map(|_| publish(lockstep.endpoint(), "room:1", size)).collect();
        assert_eq!(count_done(&mut publishing), expected);
        assert_eq!(count_done(&mut publishing), 0, "no turn was taken");
        while !publishing.is_empty() {
            lockstep.turn();
            assert!(count_done(&mut publishing) <= expected);
        }
        lockstep.settle();
        let texts = texts(&pipe);
        assert_eq!((texts.len(), counter(&lockstep, "closes", "slow_consumer")), (count, 0), "nothing is lost");
    }
}

/// A shard that is full holds up nobody who publishes to another.
#[test]
fn a_full_shard_holds_up_no_other() {
    let builder = Endpoint::builder().mount("/socket", stage()).publishing_waiting_max(4);
    let mut lockstep = Lockstep::new(builder, 2);
    // Shards are taken by turns: the first has both topics, the second one of them.
    let join = |lockstep: &mut Lockstep, topics: &[&str]| {
        let (peer, pipe) = guest(lockstep, "/socket/websocket?vsn=2.0.0");
        for topic in topics {
            lockstep.send(peer, &text_frame(&format!(r#"["{topic}","1","{topic}","phx_join",{{}}]"#)));
        }
        lockstep.settle();
        pipe.take();
        pipe
    };
    let first = join(&mut lockstep, &["room:both", "room:first"]);
    let second = join(&mut lockstep, &["room:both", "room:second"]);
    let mut flood: Vec<_> = (0..10).map(|_| publish(lockstep.endpoint(), "room:first", 1)).collect();
    assert_eq!(count_done(&mut flood), 4);
    let mut both: Vec<_> = (0..10).map(|_| publish(lockstep.endpoint(), "room:both", 1)).collect();
    assert_eq!(count_done(&mut both), 0);
    let mut other: Vec<_> = (0..4).map(|_| publish(lockstep.endpoint(), "room:second", 1)).collect();
    assert_eq!(count_done(&mut other), 4, "those who wait for the first shard hold nothing of the second");
    while !(flood.is_empty() && both.is_empty()) {
        lockstep.turn();
        count_done(&mut flood);
        count_done(&mut both);
    }
    lockstep.settle();
    assert_eq!((texts(&first).len(), texts(&second).len()), (20, 14));
}

/// However many messages wait, and whatever the turns before were like, a turn queues no more of them for readers that take nothing
/// than keeps a heartbeat from waiting.
#[test]
fn a_turn_has_a_bound_where_readers_take_nothing() {
    const READERS: usize = 200;
    let policy = Policy::new().slow(Slow::DropOldest);
    let mount = Mount::new().channel("room:*", Relay).outbox_frames_max(64);
    let mut lockstep = Lockstep::new(Endpoint::builder().policy("room:1", policy).mount("/socket", mount), 1);
    for _ in 0..READERS {
        let (_, pipe) = member(&mut lockstep);
        pipe.limit(0);
    }
    let (mut publishing, mut lost) = (Vec::new(), 0);
    for round in 0..16 {
        // A pause now and then, and what is not for them.
        if round % 7 != 3 {
            publishing.extend((0..600).map(|_| publish(lockstep.endpoint(), "room:1", 10)));
        }
        publishing.push(publish(lockstep.endpoint(), "room:2", 10));
        lockstep.turn();
        count_done(&mut publishing);
        let now_lost = counter(&lockstep, "drops", "drop_oldest");
        assert!(now_lost - lost <= 60_000, "{} in turn {round}", now_lost - lost);
        lost = now_lost;
        if round % 7 == 3 {
            lockstep.settle();
            count_done(&mut publishing);
            lost = counter(&lockstep, "drops", "drop_oldest");
        }
    }
    assert!(lost > 500_000, "they were many: {lost}");
}

#[tokio::test]
async fn a_publisher_is_told_when_there_is_no_room_in_time() {
    let builder = Endpoint::builder().publishing_waiting_max(1).publishing_timeout(Duration::from_millis(50));
    let served = serve(builder.shards(1).mount("/socket", Mount::new().channel("room:*", Blocking))).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    client.push("room:1", "room:1", "block", json!({"ms": 1_000})).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.endpoint.broadcast("room:1", "e", json!({"n": 1})).await.unwrap();
    let error = served.endpoint.broadcast("room:1", "e", json!({"n": 2})).await.unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("publishing_waiting_max"), "{error}");
    assert_eq!(served.counter("drops", "publishing_full"), 1);
    client.assert_event("room:1", "e", json!({"n": 1})).await;
    client.assert_untouched().await;
}

/// Keeps its shard's thread, as no channel should.
struct Blocking;

impl Channel for Blocking {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, payload: Payload) -> Result<Reply, BoxError> {
        let Payload::Json(json) = payload else { return Ok(Reply::none()) };
        let told: Value = json.to()?;
        std::thread::sleep(Duration::from_millis(told["ms"].as_u64().unwrap_or_default()));
        Ok(Reply::none())
    }
}

/// Whatever a client sends in one piece is handled in its order and answered, though little of it has room at a time. Each
/// protocol by which clients publish, on one shard and from one to another.
#[test]
fn a_client_that_floods_is_read_no_faster_than_there_is_room() {
    const COUNT: usize = 3_000;
    let rooms =
        || Endpoint::builder().mount("/socket", Mount::new().channel("room:*", Relay)).publishing_waiting_max(8);
    let hub = || Endpoint::builder().mount("/ws", Mount::hub()).publishing_waiting_max(8);
    for (shards, kept) in [(1, false), (2, false), (1, true), (2, true)] {
        let policy = |builder: Builder| match kept {
            true => builder.policy("*", Policy::new().history(Default::default())),
            false => builder,
        };
        let mut lockstep = Lockstep::new(policy(rooms()), shards);
        let members = [member(&mut lockstep), member(&mut lockstep)];
        let frames = (0..COUNT).flat_map(|n| text_frame(&format!(r#"["1","{n}","room:1","said",{{"n":{n}}}]"#)));
        lockstep.send(members[0].0, &frames.collect::<Vec<_>>());
        lockstep.settle();
        let (publisher, reader) = (texts(&members[0].1), texts(&members[1].1));
        let said = |n: usize| format!(r#"[null,null,"room:1","said",{{"n":{n}}}]"#);
        assert!(reader.iter().cloned().eq((0..COUNT).map(said)), "{shards} shards");
        let replies: Vec<&String> = publisher.iter().filter(|text| text.contains("phx_reply")).collect();
        assert_eq!(replies.len(), COUNT, "{shards} shards");
        assert!(replies.iter().all(|reply| reply.contains(r#""ok""#)));
        assert!(publisher.iter().filter(|text| !text.contains("phx_reply")).cloned().eq((0..COUNT).map(said)));

        let mut lockstep = Lockstep::new(policy(hub()), shards);
        let (publisher, _) = guest(&mut lockstep, "/ws/pub/key/domain/news");
        let readers = [guest(&mut lockstep, "/ws/sub/domain/news"), guest(&mut lockstep, "/ws/sub/domain/news")];
        let frames = (0..COUNT).flat_map(|n| text_frame(&n.to_string()));
        lockstep.send(publisher, &frames.collect::<Vec<_>>());
        lockstep.settle();
        for (_, pipe) in readers {
            assert!(texts(&pipe).into_iter().eq((0..COUNT).map(|n| n.to_string())), "{shards} shards, a hub");
        }
    }
}

/// A channel that sends to itself for ever, or answers whoever publishes with another message.
struct Restless;

impl Channel for Restless {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        if cx.topic() == "restless:self" {
            cx.send(())?;
        } else {
            cx.subscribe("ball")?;
        }
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        cx.endpoint().broadcast("ball", "thrown", json!({})).await?;
        Ok(Reply::none())
    }

    async fn handle_info(&self, _: &mut (), cx: &mut Context, _: ()) -> Result<Flow, BoxError> {
        cx.send(())?;
        Ok(Flow::Continue)
    }

    async fn handle_broadcast(&self, _: &mut (), cx: &mut Context, _: fanfare::Broadcast) -> Result<Flow, BoxError> {
        cx.endpoint().broadcast("ball", "thrown", json!({})).await?;
        Ok(Flow::Continue)
    }
}

#[tokio::test]
async fn joins_that_never_come_to_rest_hold_up_nobody() {
    for topics in [&["restless:self"][..], &["restless:1", "restless:2"]] {
        let mount = Mount::new().channel("restless:*", Restless).channel("room:*", stage_channel());
        let served = serve(Endpoint::builder().shards(1).mount("/socket", mount)).await;
        let mut healthy = served.client().await;
        healthy.join("room:1").await;
        let mut restless = Vec::new();
        for topic in topics {
            let mut client = served.client().await;
            client.join(topic).await;
            restless.push(client);
        }
        restless[0].push(topics[0], topics[0], "throw", json!({})).await;
        let begun = Instant::now();
        for n in 0..50 {
            assert_eq!(healthy.call("room:1", "echo", json!({ "n": n }), "ok").await["n"], n);
            healthy.push("room:1", "room:1", "shout", json!({ "n": n })).await;
            healthy.assert_event("room:1", "shout", json!({ "n": n })).await;
        }
        // 100 round trips; without a budget the first would not end.
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

fn stage_channel() -> crate::support::stage::Stage {
    crate::support::stage::Stage::default()
}

/// The shard was busy for longer than clients may be silent: what they have sent meanwhile counts.
#[tokio::test]
async fn time_outs_are_judged_after_reading() {
    let mount = Mount::new().channel("room:*", Blocking).idle_timeout(Duration::from_millis(1_500));
    let served = serve(Endpoint::builder().shards(1).mount("/socket", mount)).await;
    let (mut healthy, mut blocking) = (served.client().await, served.client().await);
    blocking.join("room:1").await;
    healthy.join("room:2").await;
    for _ in 0..3 {
        blocking.push("room:1", "room:1", "block", json!({"ms": 2_500})).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        healthy.send_json(&json!([null, "h", "phoenix", "heartbeat", {}])).await;
        assert_eq!(healthy.frame().await[1], "h", "it was not closed");
    }
}

#[tokio::test]
async fn a_push_that_cannot_be_kept_is_answered_and_its_join_stays() {
    let faults = Faults::new(1);
    let mount = Mount::new().channel("room:*", Relay).channel("stage:*", stage_channel());
    let builder = Endpoint::builder().policy("*", Policy::new().history(Default::default())).faulty_history(&faults);
    let served = serve(builder.mount("/socket", mount)).await;
    let mut client = served.client().await;
    for topic in ["room:1", "stage:1"] {
        client.join(topic).await;
        faults.fail_appends(true);
        assert_eq!(client.call(topic, "shout", json!({"n": 1}), "error").await, json!({"reason": "unavailable"}));
        faults.fail_appends(false);
        client.push(topic, topic, "shout", json!({"n": 2})).await;
        client.assert_event(topic, "shout", json!({"n": 2})).await;
        if topic == "room:1" {
            client.frame().await;
        }
    }
    assert_eq!(served.counter("drops", "unavailable"), 2);
    assert_eq!(served.counter("channels", "crashed"), 0);
}

/// Clients act on these events, and the server on `disconnect`: no channel sends them by accident or at a client's wish.
#[tokio::test]
async fn channels_send_no_reserved_events() {
    let served = serve_mount(Mount::new().channel("*", Relay)).await;
    let (mut victim, mut eve) = (served.client().await, served.client().await);
    for client in [&mut victim, &mut eve] {
        client.join("room:1").await;
    }
    for event in ["phx_close", "phx_error", "phx_reply", "presence_state", "presence_diff", "disconnect"] {
        let response = eve.call("room:1", event, json!({}), "error").await;
        assert!(response["reason"].as_str().unwrap().contains("is reserved"), "{event}: {response}");
    }
    victim.assert_untouched().await;
    for event in ["phx_close", "presence_diff"] {
        served.endpoint.broadcast("room:1", event, json!({})).await.unwrap();
        assert_eq!(victim.frame().await[3], event, "the endpoint's own handle sends them");
    }
}

/// A disconnect is a command: those who have joined the topic of that name get nothing.
#[tokio::test]
async fn a_disconnect_is_no_message() {
    let served = serve_mount(Mount::new().channel("*", Relay)).await;
    let mut client = served.client().await;
    client.join("user_socket:7").await;
    served.endpoint.broadcast("user_socket:7", "disconnect", json!({})).await.unwrap();
    client.assert_untouched().await;
}

/// Acknowledged by one way, then sent by another: nobody gets the second first, whoever publishes and wherever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_not_overtaken() {
    const ROUNDS: u64 = 300;
    for (shards, kept) in [(1, false), (1, true), (2, false), (2, true)] {
        let mut builder = Endpoint::builder().shards(shards).mount("/socket", stage());
        if kept {
            builder = builder.policy("room:*", Policy::new().history(Default::default()));
        }
        let served = serve(builder).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = served.client().await;
            client.join("room:1").await;
            clients.push(client);
        }
        let readers: Vec<_> =
            clients.drain(2..).map(|reader| tokio::spawn(read_in_order(reader, 2 * ROUNDS))).collect();
        let mut writer = clients.remove(0);
        for n in 0..ROUNDS {
            served.endpoint.broadcast("room:1", "shout", json!({ "n": 2 * n })).await.unwrap();
            // Its own message tells the writer that the push is accepted.
            writer.push("room:1", "room:1", "shout", json!({ "n": 2 * n + 1 })).await;
            wait_for(&mut writer, 2 * n + 1).await;
        }
        for reader in readers {
            reader.await.unwrap();
        }
    }
}

async fn wait_for(client: &mut Client, n: u64) {
    while client.frame().await[4]["n"] != n {}
}

async fn read_in_order(mut reader: Client, count: u64) {
    for n in 0..count {
        let frame = reader.frame().await;
        assert_eq!(frame[4]["n"], n, "{frame}");
    }
}

/// Positions are the order in which members get messages, with several publishers of each kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_the_order_of_delivery() {
    const EACH: u64 = 200;
    const PUBLISHERS: u64 = 4;
    let builder = Endpoint::builder().shards(2).mount("/socket", stage());
    let served = serve(builder.policy("room:*", Policy::new().history(Default::default()))).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut reader = served.client().await;
        assert_eq!(reader.try_join("room:1", json!({"resume": true})).await["status"], "ok");
        readers.push(tokio::spawn(async move {
            for offset in 1..=2 * PUBLISHERS * EACH {
                let frame = reader.frame().await;
                let position = frame[1].as_str().unwrap().to_owned();
                assert_eq!(position.split(':').nth(1).unwrap(), offset.to_string(), "{frame}");
            }
        }));
    }
    let mut publishers = Vec::new();
    for by in 0..PUBLISHERS {
        publishers.push(tokio::spawn(push_all(pusher(&served).await, by, EACH)));
        let endpoint = served.endpoint.clone();
        publishers.push(tokio::spawn(async move {
            for n in 0..EACH {
                endpoint.broadcast("room:1", "shout", json!({ "n": n })).await.unwrap();
                tokio::task::yield_now().await;
            }
        }));
    }
    for task in publishers.into_iter().chain(readers) {
        task.await.unwrap();
    }
}

async fn pusher(served: &Served) -> Client {
    let mut client = served.client().await;
    client.join("room:1").await;
    client
}

async fn push_all(mut client: Client, by: u64, count: u64) {
    for n in 0..count {
        client.push("room:1", "room:1", "shout", json!({ "by": by, "n": n })).await;
    }
    // The connection lives until the last of them has come back, and what comes is read.
    loop {
        if let Received::Text(text) = client.receive().await
            && text.contains(&json!({ "by": by, "n": count - 1 }).to_string())
        {
            return;
        }
    }
}
