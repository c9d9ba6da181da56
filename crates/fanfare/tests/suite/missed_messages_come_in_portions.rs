//! However much a client has missed, it gets all of it, as fast as it takes it, while others are served: nothing of it
//! waits in the outbox that a slow reader would be closed for.

use std::time::Duration;

use fanfare::testing::Lockstep;
use fanfare::{BoxError, Channel, Context, Endpoint, Flow, Joined, Mount, Payload, Policy, Refused, Reply, Retention};
use serde_json::{Value, json};

use crate::support::guest::Guest;
use crate::support::http::request;
use crate::support::{Served, serve, stage};

const MISSED: u64 = 20_000;

/// Histories that hold more than an outbox does, many times.
async fn served(mount: Mount) -> Served {
    let retention = Retention { messages_max: 100_000, bytes_max: 100_000_000, ..Retention::default() };
    let policy = Policy::new().history(retention);
    let mount = mount.outbox_frames_max(300).outbox_bytes_max(100_000);
    serve(Endpoint::builder().shards(2).policy("*", policy).mount("/socket", mount)).await
}

async fn publish(endpoint: &Endpoint, topic: &str, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        endpoint.broadcast(topic, "n", json!({ "n": n })).await.unwrap();
    }
}

/// While a client gets what it missed, more is published all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_websocket() {
    let served = served(stage()).await;
    publish(&served.endpoint, "room:1", 1..=MISSED).await;
    let mut client = served.client().await;
    let resume = client.try_join("room:1", json!({ "resume": "0:0" })).await["response"]["resume"].clone();
    assert_eq!(resume["recovered"], true, "{resume}");
    let endpoint = served.endpoint.clone();
    let live = tokio::spawn(async move {
        for n in MISSED + 1..=MISSED + 2_000 {
            publish(&endpoint, "room:1", [n]).await;
            if n % 50 == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for n in 1..=MISSED + 2_000 {
        let frame = client.frame().await;
        assert_eq!((&frame[3], &frame[4]["n"]), (&json!("n"), &json!(n)), "{frame}");
    }
    live.await.unwrap();
    client.assert_untouched().await;
    assert_eq!(served.counter("closes", "slow_consumer"), 0);
}

/// Each of them is more than a portion, and two are more than the outbox holds.
#[tokio::test]
async fn however_large_they_are() {
    let served = served(stage()).await;
    let filler = "x".repeat(60_000);
    for n in 1..=100 {
        served.endpoint.broadcast("room:1", "n", json!({ "n": n, "filler": filler })).await.unwrap();
    }
    let mut client = served.client().await;
    let reply = client.try_join("room:1", json!({ "resume": "0:0" })).await;
    assert_eq!(reply["response"]["resume"]["recovered"], true, "{reply}");
    publish(&served.endpoint, "room:1", [101]).await;
    for n in 1..=101 {
        assert_eq!(client.frame().await[4]["n"], n);
    }
    assert_eq!(served.counter("closes", "slow_consumer"), 0);
}

#[tokio::test]
async fn over_long_poll() {
    let served = served(stage()).await;
    publish(&served.endpoint, "room:1", 1..=MISSED).await;
    let mut target = "/socket/longpoll?vsn=2.0.0".to_owned();
    let mut poll = async || {
        let answer = request(served.address, "GET", &target, &[], b"").await.json();
        target = format!("/socket/longpoll?vsn=2.0.0&token={}", answer["token"].as_str().unwrap());
        (target.clone(), answer)
    };
    let (session, _) = poll().await;
    let join = json!(["1", "1", "room:1", "phx_join", { "resume": "0:0" }]).to_string();
    let ndjson = [("content-type", "application/x-ndjson")];
    assert_eq!(request(served.address, "POST", &session, &ndjson, join.as_bytes()).await.json()["status"], 200);
    let mut next = 0;
    while next <= MISSED {
        let (_, answer) = poll().await;
        for message in answer["messages"].as_array().unwrap() {
            let frame: Value = serde_json::from_str(message.as_str().unwrap()).unwrap();
            match next {
                0 => assert_eq!(frame[4]["response"]["resume"]["recovered"], true, "{frame}"),
                n => assert_eq!(frame[4]["n"], n, "{frame}"),
            }
            next += 1;
        }
    }
}

/// Many topics on one socket, each with more than the outbox holds.
#[tokio::test]
async fn over_many_topics_of_one_socket() {
    const TOPICS: usize = 50;
    const EACH: u64 = 400;
    let served = served(stage()).await;
    for topic in 0..TOPICS {
        publish(&served.endpoint, &format!("room:{topic}"), 1..=EACH).await;
    }
    let mut client = served.client().await;
    for topic in 0..TOPICS {
        client.send_json(&json!(["1", "1", format!("room:{topic}"), "phx_join", { "resume": "0:0" }])).await;
    }
    let mut next = vec![0; TOPICS];
    for _ in 0..TOPICS as u64 * (1 + EACH) {
        let frame = client.frame().await;
        let topic: usize = frame[2].as_str().unwrap().strip_prefix("room:").unwrap().parse().unwrap();
        match next[topic] {
            0 => assert_eq!(frame[4]["response"]["resume"]["recovered"], true, "{frame}"),
            n => assert_eq!(frame[4]["n"], n, "{frame}"),
        }
        next[topic] += 1_u64;
    }
    client.assert_untouched().await;
}

/// A channel that wants to see every message first, and takes its time.
struct Looks;

impl Channel for Looks {
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

    async fn handle_out(&self, _: &mut (), cx: &mut Context, event: &str, payload: Payload) -> Result<Flow, BoxError> {
        tokio::task::yield_now().await;
        cx.push(event, payload)?;
        Ok(Flow::Continue)
    }
}

#[tokio::test]
async fn through_handle_out() {
    let served = served(Mount::new().channel("*", Looks).waiting_frames_max(20)).await;
    publish(&served.endpoint, "room:1", 1..=MISSED / 10).await;
    let mut client = served.client().await;
    client.try_join("room:1", json!({ "resume": "0:0" })).await;
    for n in 1..=MISSED / 10 {
        let frame = client.frame().await;
        assert_eq!((&frame[3], &frame[4]["n"]), (&json!("n"), &json!(n)), "{frame}");
    }
}

/// What a client has yet to get may be kept no more before it has taken it.
#[test]
fn who_is_slower_than_the_topic_is_closed_and_told() {
    let policy = Policy::new().history(Retention { messages_max: 100, ..Retention::default() });
    let mount = stage().outbox_frames_max(40);
    let builder = Endpoint::builder().policy("*", policy).mount("/socket", mount);
    let mut lockstep = Lockstep::new(builder, 1);
    let endpoint = lockstep.endpoint().clone();
    lockstep.run(publish(&endpoint, "room:1", 1..=100));
    let mut guest = Guest::connect(&mut lockstep);
    guest.pipe.limit(1_000);
    guest.push(&mut lockstep, "room:1", "phx_join", json!({ "resume": "0:0" }));
    lockstep.settle();
    let frames = guest.frames();
    assert_eq!(frames[0][4]["response"]["resume"]["recovered"], true);
    let epoch = frames[0][4]["response"]["resume"]["position"].as_str().unwrap().split(':').next().unwrap().to_owned();
    let last = frames.last().unwrap()[4]["n"].as_u64().unwrap();
    assert!((1..40).contains(&last), "{last}");

    lockstep.run(publish(&endpoint, "room:1", 101..=200));
    let pipe = guest.pipe.clone();
    lockstep.make_room(guest.peer, &pipe, 1_000_000);
    lockstep.settle();
    let frames = guest.frames();
    let (code, messages) = frames.split_last().unwrap();
    assert_eq!(code, 1013);
    let numbers: Vec<u64> = messages.iter().map(|frame| frame[4]["n"].as_u64().unwrap()).collect();
    let got = last + numbers.len() as u64;
    assert_eq!(numbers, (last + 1..=got).collect::<Vec<_>>());
    assert!(got < 100, "{got}");

    let mut guest = Guest::connect(&mut lockstep);
    guest.push(&mut lockstep, "room:1", "phx_join", json!({ "resume": format!("{epoch}:{got}") }));
    lockstep.settle();
    assert_eq!(guest.frames()[0][4]["response"]["resume"]["recovered"], false);
}
