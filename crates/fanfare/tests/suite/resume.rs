//! Topics with a history: clients that come back get all that they missed, in order and once, or are told that they do not.

use std::time::Duration;

use fanfare::testing::Faults;
use fanfare::{
    BoxError, Channel, Context, Endpoint, Joined, JsonText, Mount, Payload, Policy, Publish, Refused, Reply, Retention,
    Since,
};
use serde_json::{Value, json};

use crate::support::client::{Client, Received};
use crate::support::http::request;
use crate::support::{Served, serve, stage};

fn retention(messages_max: usize) -> Retention {
    Retention { messages_max, ..Retention::default() }
}

async fn served(mount: Mount, messages_max: usize) -> Served {
    let policy = Policy::new().history(retention(messages_max));
    serve(Endpoint::builder().shards(2).policy("room:*", policy).mount("/socket", mount)).await
}

async fn publish(served: &Served, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        served.endpoint.broadcast("room:1", "n", json!({ "n": n })).await.unwrap();
    }
}

/// Joins room:1 with a `resume` param and returns what the reply says of it.
async fn resume(client: &mut Client, from: Value) -> (String, bool) {
    let reply = client.try_join("room:1", json!({ "resume": from })).await;
    assert_eq!(reply["status"], "ok", "{reply}");
    let resume = &reply["response"]["resume"];
    (resume["position"].as_str().unwrap().to_owned(), resume["recovered"].as_bool().unwrap())
}

/// The next message: its number, and its position from the ref slot.
async fn next(client: &mut Client) -> (u64, String) {
    let frame = client.frame().await;
    assert_eq!((&frame[0], &frame[3]), (&Value::Null, &json!("n")), "{frame}");
    (frame[4]["n"].as_u64().unwrap(), frame[1].as_str().unwrap_or_default().to_owned())
}

fn epoch(position: &str) -> &str {
    position.split_once(':').unwrap().0
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed() {
    let served = served(stage(), 100).await;
    let mut client = served.client().await;
    let (position, recovered) = resume(&mut client, json!(true)).await;
    assert!(recovered && position.ends_with(":0"), "{position}");
    publish(&served, 1..=2).await;
    assert_eq!(next(&mut client).await, (1, format!("{}:1", epoch(&position))));
    let (n, last) = next(&mut client).await;
    assert_eq!(n, 2);
    drop(client);

    publish(&served, 3..=5).await;
    let mut client = served.client().await;
    assert_eq!(
        resume(&mut client, json!(last)).await,
        (last.clone(), true),
        "what follows begins where the client was"
    );
    publish(&served, 6..=6).await;
    for n in 3..=6 {
        assert_eq!(next(&mut client).await, (n, format!("{}:{n}", epoch(&last))));
    }
    client.assert_untouched().await;
    assert_eq!((served.counter("resumes", "recovered"), served.counter("resumes", "not_recovered")), (1, 0));

    // Who did not ask sees what Phoenix would send.
    let mut other = served.client().await;
    assert_eq!(other.join("room:1").await, json!({}));
    publish(&served, 7..=7).await;
    assert_eq!(next(&mut other).await, (7, String::new()));
}

/// Stock clients join again with the params of their first join.
#[tokio::test]
async fn a_join_that_is_repeated_on_its_connection_goes_on_where_it_was() {
    let served = served(stage(), 100).await;
    let mut client = served.client().await;
    let (first, _) = resume(&mut client, json!(true)).await;
    publish(&served, 1..=2).await;
    assert_eq!((next(&mut client).await.0, next(&mut client).await.0), (1, 2));
    client.send_json(&json!(["9", "9", "room:1", "phx_join", { "resume": first }])).await;
    publish(&served, 3..=3).await;
    let mut came = Vec::new();
    while came.last() != Some(&3) {
        let frame = client.frame().await;
        came.extend(frame[4]["n"].as_u64());
    }
    assert_eq!(came, [3], "it was sent what came before on this connection");
}

/// The recovery table, through the wire.
#[tokio::test]
async fn all_or_nothing() {
    let served = served(stage(), 3).await;
    let epoch = {
        let (position, _) = resume(&mut served.client().await, json!(true)).await;
        epoch(&position).to_owned()
    };
    let check = async |what: &str, from: String, expected: Option<&[u64]>| {
        let mut client = served.client().await;
        let (position, recovered) = resume(&mut client, json!(from)).await;
        assert_eq!(recovered, expected.is_some(), "{what}: {position}");
        for n in expected.unwrap_or_default() {
            assert_eq!(next(&mut client).await.0, *n, "{what}");
        }
        client.assert_untouched().await;
    };
    check("empty stream", format!("{epoch}:0"), Some(&[])).await;
    check("empty stream, from the start", "0:0".into(), Some(&[])).await;
    publish(&served, 1..=3).await;
    check("zero position", format!("{epoch}:0"), Some(&[1, 2, 3])).await;
    check("from the start", "0:0".into(), Some(&[1, 2, 3])).await;
    publish(&served, 4..=5).await;
    check("from a position", format!("{epoch}:3"), Some(&[4, 5])).await;
    check("the oldest that is kept", format!("{epoch}:2"), Some(&[3, 4, 5])).await;
    check("trimmed", format!("{epoch}:1"), None).await;
    check("the start, trimmed", "0:0".into(), None).await;
    check("same position", format!("{epoch}:5"), Some(&[])).await;
    check("in the future", format!("{epoch}:6"), None).await;
    check("another epoch", "1:5".into(), None).await;
    assert_eq!((served.counter("resumes", "recovered"), served.counter("resumes", "not_recovered")), (7, 4));
}

/// While a history cannot be read nobody is told anything of it: whoever asks has to come again, from where it was.
#[tokio::test]
async fn who_meets_a_history_that_cannot_be_read_comes_again() {
    let faults = Faults::new(1);
    let builder = Endpoint::builder().shards(2).policy("*", Policy::new().history(retention(100)));
    let builder = builder.mount("/socket", stage()).mount("/ws", Mount::hub().waits_for_topic(true));
    let events = Mount::stream().channel("*", fanfare::Relay);
    let served = serve(builder.mount("/events", events).faulty_history(&faults)).await;
    publish(&served, 1..=1).await;
    let mut client = served.client().await;
    for is_down in [true, false] {
        faults.fail_reads(is_down);
        let reply = client.try_join("room:1", json!({ "resume": "0:0" })).await;
        let mut subscriber = served.client_at("/ws/sub/d/t?since=0:0").await;
        let (lines, events) = ([], [("accept", "text/event-stream")]);
        if is_down {
            assert_eq!(reply["status"], "error", "{reply}");
            let reason = reply["response"]["reason"].as_str().unwrap();
            assert_eq!(reason, "the history cannot be read now: join again");
            subscriber.assert_closed(1013).await;
            let refused = request(served.address, "GET", "/events/room:1?since=0:0", &lines, b"").await;
            assert_eq!(refused.status, 503);
            // A browser would give up after any other status than 200.
            let ended = request(served.address, "GET", "/events/room:1?since=0:0", &events, b"").await;
            assert!(ended.status == 200 && ended.body.starts_with(b"retry: "), "{ended:?}");
        } else {
            assert_eq!((&reply["status"], &reply["response"]["resume"]["recovered"]), (&json!("ok"), &json!(true)));
            assert_eq!(next(&mut client).await.0, 1);
            assert_eq!(subscriber.frame().await["payload"]["recovered"], true);
        }
    }
    assert_eq!((served.counter("resumes", "not_recovered"), served.counter("closes", "history_unavailable")), (0, 3));
}

#[tokio::test]
async fn what_is_no_position_is_refused_with_a_reason() {
    let served = served(stage(), 3).await;
    let mut client = served.client().await;
    for (value, reason) in [
        (json!("yesterday"), "resume: \"yesterday\" is not a position such as"),
        (json!(5), "resume: 5 is neither true nor a position"),
        (json!({}), "resume: {} is neither"),
    ] {
        let reply = client.try_join("room:1", json!({ "resume": value })).await;
        assert_eq!(reply["status"], "error");
        let told = reply["response"]["reason"].as_str().unwrap();
        assert!(told.starts_with(reason), "{told}");
    }
    for value in [json!(null), json!(false)] {
        assert_eq!(client.try_join("room:1", json!({ "resume": value })).await["response"], json!({}));
    }
    // Where nothing is kept the param is the application's.
    let mut other = serve(Endpoint::builder().mount("/socket", stage())).await.client().await;
    assert_eq!(other.try_join("room:1", json!({ "resume": true })).await["response"], json!({}));
}

/// Several publishers, and clients that are cut and come back all the time: each sees every message once, in the order of
/// the positions, and each publisher's in the order in which it published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_replay_and_live_nothing_is_lost_or_doubled() {
    const PUBLISHERS: u64 = 3;
    const EACH: u64 = 400;
    let served = served(stage(), 5_000).await;
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|by| {
            let endpoint = served.endpoint.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    endpoint.broadcast("room:1", "n", json!({ "by": by, "n": n })).await.unwrap();
                    if n % 8 == 0 {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..8_u64)
        .map(|reader| {
            let (address, endpoint) = (served.address, served.endpoint.clone());
            tokio::spawn(async move {
                let served = Served { endpoint, address };
                let (mut position, mut seen) = ("0:0".to_owned(), Vec::new());
                let mut session = 0;
                while (seen.len() as u64) < PUBLISHERS * EACH {
                    let mut client = served.client().await;
                    let (from, recovered) = resume(&mut client, json!(position)).await;
                    assert!(recovered, "reader {reader} at {position}");
                    assert!(position == "0:0" || from == position);
                    session += 1;
                    for _ in 0..(reader * 7 + session * 13) % 90 + 1 {
                        if seen.len() as u64 == PUBLISHERS * EACH {
                            break;
                        }
                        let frame = client.frame().await;
                        position = frame[1].as_str().unwrap().to_owned();
                        seen.push((
                            position.clone(),
                            frame[4]["by"].as_u64().unwrap(),
                            frame[4]["n"].as_u64().unwrap(),
                        ));
                    }
                }
                seen
            })
        })
        .collect();
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let mut first: Option<Vec<(String, u64, u64)>> = None;
    for reader in readers {
        let seen = reader.await.unwrap();
        for (index, (position, ..)) in seen.iter().enumerate() {
            assert!(position.ends_with(&format!(":{}", index + 1)), "{position} at {index}");
        }
        for by in 0..PUBLISHERS {
            let numbers: Vec<u64> = seen.iter().filter(|message| message.1 == by).map(|message| message.2).collect();
            assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "publisher {by}");
        }
        assert!(first.as_ref().is_none_or(|first| *first == seen), "all see the same order");
        first = Some(seen);
    }
}

/// A channel whose reply has the newest messages.
struct CatchesUp;

impl Channel for CatchesUp {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()).reply(json!({ "hello": 1 })).catch_up(2))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }
}

#[tokio::test]
async fn phoenix_11_a_join_is_answered_with_recent_messages() {
    let served = served(Mount::new().channel("*", CatchesUp), 100).await;
    publish(&served, 1..=3).await;
    let mut client = served.client().await;
    let reply = client.join("room:1").await;
    assert_eq!(reply["hello"], 1);
    let messages: Vec<Value> = serde_json::from_value(reply["messages"].clone()).unwrap();
    let numbers: Vec<u64> = messages.iter().map(|message| message["payload"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(messages[1]["event"], "n");
    let position = messages[1]["position"].as_str().unwrap();
    publish(&served, 4..=4).await;
    assert_eq!(next(&mut client).await, (4, String::new()), "it gets catch-up without asking to resume");

    let mut back = served.client().await;
    let reply = back.try_join("room:1", json!({ "resume": position })).await["response"].clone();
    assert_eq!(reply, json!({ "hello": 1, "resume": { "position": position, "recovered": true }, "messages": [] }));
    assert_eq!(next(&mut back).await.0, 4);
    let reply = served.client().await.try_join("room:1", json!({ "resume": "1:1" })).await["response"].clone();
    assert_eq!(reply["resume"]["recovered"], false);
    assert_eq!(reply["messages"].as_array().unwrap().len(), 2, "a gap is filled as for a newcomer");
    assert_eq!(served.client().await.join("other").await, json!({ "hello": 1, "messages": [] }));
}

/// What a client may send comes back in the reply to a join, and there it stands within something.
#[tokio::test]
async fn messages_nested_as_deeply_as_may_be_are_caught_up_with() {
    let served = served(Mount::new().channel("*", CatchesUp), 100).await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(511), "]".repeat(511));
    served.endpoint.broadcast("room:1", "n", JsonText::parse(deep.clone()).unwrap()).await.unwrap();
    let mut client = served.client().await;
    client.send_json(&json!(["1", "1", "room:1", "phx_join", {}])).await;
    let Received::Text(reply) = client.receive().await else { panic!("no reply") };
    assert!(reply.contains(&format!(r#""messages":[{{"event":"n","payload":{deep}"#)), "{} bytes", reply.len());
    client.assert_untouched().await;
}

/// Rewrites what it intercepts.
struct Rewrites;

impl Channel for Rewrites {
    type State = ();
    type Params = Payload;
    type Info = ();

    const INTERCEPT: &'static [&'static str] = &["n"];

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }

    async fn handle_out(
        &self,
        _: &mut (),
        cx: &mut Context,
        event: &str,
        payload: Payload,
    ) -> Result<fanfare::Flow, BoxError> {
        let Payload::Json(json) = &payload else { unreachable!("JSON is published") };
        let n = json.to::<Value>()?["n"].as_u64().unwrap_or_default();
        if n % 2 == 0 {
            cx.push(event, json!({ "n": n * 10 }))?;
        }
        Ok(fanfare::Flow::Continue)
    }
}

#[tokio::test]
async fn what_is_replayed_passes_handle_out_and_keeps_its_position() {
    let served = served(Mount::new().channel("*", Rewrites), 100).await;
    publish(&served, 1..=4).await;
    let mut client = served.client().await;
    resume(&mut client, json!("0:0")).await;
    publish(&served, 5..=8).await;
    for n in [2, 4, 6, 8] {
        let frame = client.frame().await;
        assert_eq!(frame[4]["n"], n * 10, "{frame}");
        assert!(frame[1].as_str().unwrap().ends_with(&format!(":{n}")), "{frame}");
    }
}

#[tokio::test]
async fn a_repeated_publish_is_answered_with_the_first_position() {
    let served = served(stage(), 100).await;
    let endpoint = &served.endpoint;
    let message = |key: &str| Publish::new("room:1", "n", json!({ "n": 1 })).idempotency_key(key);
    let first = endpoint.publish(message("a")).await.unwrap();
    assert!(!first.is_repeated());
    let other = endpoint.publish(message("b")).await.unwrap();
    assert_eq!(other.position().unwrap().offset, first.position().unwrap().offset + 1);
    let again = endpoint.publish(message("a")).await.unwrap();
    assert_eq!((again.is_repeated(), again.position()), (true, first.position()));
    assert_eq!(endpoint.history("room:1", Since::Start, 10).await.unwrap().messages().len(), 2);

    for (publish, part) in [
        (message(""), "has 0 bytes: use 1 to 255"),
        (message(&"k".repeat(256)), "has 256 bytes: use 1 to 255"),
        (Publish::new("other", "n", json!({})).idempotency_key("a"), "is kept in no history"),
        (Publish::new("room:1", "phx_close", json!({})).idempotency_key("a"), "is kept in no history"),
    ] {
        let error = endpoint.publish(publish).await.unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_publish_may_expect_where_its_topic_is() {
    let served = served(stage(), 100).await;
    let message = || Publish::new("room:1", "n", json!({ "n": 1 }));
    let first = served.endpoint.publish(message().expect(Since::Start)).await.unwrap().position().unwrap();
    let conflict = served.endpoint.publish(message().expect(Since::Start)).await.unwrap_err();
    assert!(conflict.is_conflict() && conflict.to_string().contains(&first.to_string()), "{conflict}");
    let second = served.endpoint.publish(message().expect(Since::Position(first))).await.unwrap().position().unwrap();
    assert_eq!(second.offset, 2);
    assert!(served.endpoint.publish(message().expect(Since::Position(first))).await.unwrap_err().is_conflict());

    // Of many who expect the same, one is right.
    let attempts = (0..20).map(|_| {
        let endpoint = served.endpoint.clone();
        tokio::spawn(async move { endpoint.publish(message().expect(Since::Position(second))).await.is_ok() })
    });
    let mut wins = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        wins += usize::from(attempt.await.unwrap());
    }
    assert_eq!(wins, 1);
}

/// What the protocol and the presence say of now is not history.
#[tokio::test]
async fn presence_is_not_replayed() {
    let served = served(stage(), 100).await;
    let mut tracked = served.client().await;
    tracked.try_join("room:1", json!({ "track": "a" })).await;
    publish(&served, 1..=1).await;
    let mut client = served.client().await;
    resume(&mut client, json!("0:0")).await;
    assert_eq!(next(&mut client).await.0, 1);
    client.assert_untouched().await;
}

/// An envelope without its position, and the offset of that.
fn opened(envelope: &Value) -> (Value, u64) {
    let (_, offset) = envelope["position"].as_str().unwrap().split_once(':').unwrap();
    (json!([envelope["topic"], envelope["event"], envelope["payload"]]), offset.parse().unwrap())
}

#[tokio::test]
async fn a_subscriber_of_a_hub_resumes() {
    let policy = Policy::new().history(retention(100));
    let hub = serve(Endpoint::builder().shards(2).policy("hub:*", policy).mount("/ws", Mount::hub())).await;
    let mut publisher = hub.client_at("/ws/pub/-/d/t").await;
    let mut subscriber = hub.client_at("/ws/sub/d/t?since=").await;
    let joined = subscriber.frame().await;
    let from = joined["position"].as_str().unwrap().to_owned();
    assert_eq!(joined["payload"], json!({ "position": from, "recovered": true }));
    publisher.send_text("{\"n\":1}").await;
    assert_eq!(opened(&subscriber.frame().await), (json!(["hub:d/t", "message", { "n": 1 }]), 1));
    drop(subscriber);
    publisher.send_text("two").await;
    let mut subscriber = hub.client_at(&format!("/ws/sub/d/t?since={from}")).await;
    assert_eq!(
        opened(&subscriber.frame().await),
        (json!(["hub:d/t", "joined", { "position": from, "recovered": true }]), 0)
    );
    assert_eq!(opened(&subscriber.frame().await), (json!(["hub:d/t", "message", { "n": 1 }]), 1));
    assert_eq!(opened(&subscriber.frame().await), (json!(["hub:d/t", "message", { "text": "two" }]), 2));
    publisher.send_text("3").await;
    assert_eq!(opened(&subscriber.frame().await), (json!(["hub:d/t", "message", { "value": 3 }]), 3));
    let refused = Client::connect(hub.address, "/ws/sub/d/t?since=x", &[]).await.err().unwrap();
    assert_eq!(refused.status, 400);

    // Without the parameter nothing is different.
    let mut plain = hub.client_at("/ws/sub/d/t").await;
    hub.has_members("hub:d/t", 2).await;
    publisher.send_text("4").await;
    plain.assert_text("4").await;
}

#[tokio::test]
async fn members_of_rooms_resume() {
    let policy = Policy::new().history(retention(100));
    let rooms = Mount::rooms().channel("*", fanfare::Relay);
    let served = serve(Endpoint::builder().shards(2).policy("room:*", policy).mount("/", rooms)).await;
    publish(&served, 1..=2).await;
    for (target, join) in
        [("/", json!({ "join": "room:1", "since": "0:0" })), ("/?since=0:0", json!({ "join": "room:1" }))]
    {
        let mut client = served.client_at(target).await;
        client.send_json(&join).await;
        let joined = client.frame().await;
        assert_eq!((&joined["event"], &joined["payload"]["recovered"]), (&json!("joined"), &json!(true)));
        for n in 1..=2 {
            assert_eq!(opened(&client.frame().await), (json!(["room:1", "n", { "n": n }]), n));
        }
    }
    let mut client = served.client_at("/").await;
    client.send_json(&json!({ "join": "room:1", "since": "yesterday" })).await;
    let refused = client.frame().await;
    assert_eq!(refused["refused"], "room:1", "{refused}");
}

/// A position is the same on every transport: a client moves from a WebSocket to polls and back.
#[tokio::test]
async fn a_client_moves_between_transports() {
    let served = served(stage(), 100).await;
    publish(&served, 1..=2).await;
    let mut client = served.client().await;
    resume(&mut client, json!("0:0")).await;
    next(&mut client).await;
    let (_, position) = next(&mut client).await;
    drop(client);

    publish(&served, 3..=4).await;
    let target = "/socket/longpoll?vsn=2.0.0";
    let token = request(served.address, "GET", target, &[], b"").await.json()["token"].as_str().unwrap().to_owned();
    let target = format!("{target}&token={token}");
    let join = json!(["1", "1", "room:1", "phx_join", { "resume": position }]).to_string();
    let ndjson = [("content-type", "application/x-ndjson")];
    assert_eq!(request(served.address, "POST", &target, &ndjson, join.as_bytes()).await.json()["status"], 200);
    let polled = request(served.address, "GET", &target, &[], b"").await.json();
    let frames: Vec<Value> = polled["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| serde_json::from_str(message.as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(frames[0][4]["response"]["resume"], json!({ "position": position, "recovered": true }));
    let numbers: Vec<&Value> = frames[1..].iter().map(|frame| &frame[4]["n"]).collect();
    assert_eq!(numbers, [3, 4]);
    let position = frames[2][1].as_str().unwrap().to_owned();

    publish(&served, 5..=5).await;
    let mut client = served.client_at("/socket/websocket?vsn=1.0.0").await;
    let join = json!({ "topic": "room:1", "event": "phx_join", "payload": { "resume": position }, "ref": "1" });
    client.send_json(&join).await;
    assert_eq!(client.frame().await["payload"]["response"]["resume"]["recovered"], true);
    let message = client.frame().await;
    assert_eq!(
        (&message["payload"]["n"], message["ref"].as_str()),
        (&json!(5), Some(&*format!("{}:5", epoch(&position))))
    );
}
