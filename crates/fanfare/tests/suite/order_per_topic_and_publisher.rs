//! Invariant 2: per topic and per publisher order holds; per socket, frames leave in the order in which they were queued.

use std::collections::HashMap;

use fanfare::Endpoint;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::{serve, stage};

const PUBLISHERS: u64 = 6;
const MESSAGES: u64 = 300;

/// Receives all messages of all publishers, each one's in order. Replies on the way are the subscriber's own.
async fn check_order(mut subscriber: Client, publishers: u64) {
    let mut next: HashMap<u64, u64> = HashMap::new();
    while next.values().sum::<u64>() < publishers * MESSAGES {
        let frame = subscriber.frame().await;
        if frame[3] == "shout" {
            let (by, n) = (frame[4]["by"].as_u64().unwrap(), frame[4]["n"].as_u64().unwrap());
            let expected = next.entry(by).or_default();
            assert_eq!(n, *expected, "the messages of publisher {by}");
            *expected += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_per_topic_and_publisher() {
    let served = serve(Endpoint::builder().shards(4).mount("/socket", stage())).await;
    let mut subscribers = Vec::new();
    for _ in 0..5 {
        let mut client = served.client().await;
        client.join("room:1").await;
        subscribers.push(tokio::spawn(check_order(client, PUBLISHERS)));
    }
    let mut pushing = Vec::new();
    for _ in 0..PUBLISHERS / 2 {
        let mut client = served.client().await;
        client.join("room:1").await;
        pushing.push(client);
    }
    let mut publishers = Vec::new();
    for by in 0..PUBLISHERS {
        let endpoint = served.endpoint.clone();
        if by % 2 == 0 {
            // From anywhere.
            publishers.push(tokio::spawn(async move {
                for n in 0..MESSAGES {
                    endpoint.broadcast("room:1", "shout", json!({"by": by, "n": n})).await.unwrap();
                    if n % 7 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }));
        } else {
            // By a client's pushes, which the client itself must see in order, too.
            let mut client = pushing.pop().expect("one for every other publisher");
            publishers.push(tokio::spawn(async move {
                for n in 0..MESSAGES {
                    client.push("room:1", "room:1", "shout", json!({"by": by, "n": n})).await;
                }
                check_order(client, PUBLISHERS).await;
            }));
        }
    }
    for task in publishers.into_iter().chain(subscribers) {
        task.await.unwrap();
    }
}

/// Batches, replies, pushes and broadcasts to others share a turn: what one client does comes back in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn per_socket_frames_leave_in_the_order_of_their_queueing() {
    let served = serve(Endpoint::builder().shards(2).mount("/socket", stage())).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    let events = ["shout", "echo", "whisper", "all_three", "shout", "shout", "echo"];
    let mut expected: Vec<(Value, Value)> = Vec::new();
    for n in 0..200 {
        let event = events[n % events.len()];
        client.push("room:1", "room:1", event, json!({ "n": n })).await;
        let names: &[&str] = match event {
            "echo" => &["phx_reply"],
            "all_three" => &["broadcast", "push", "phx_reply"],
            other => &[other],
        };
        expected.extend(names.iter().map(|name| (json!(name), json!(n))));
    }
    for (event, n) in expected {
        let frame = client.frame().await;
        assert_eq!(frame[3], event, "{frame}");
        let payload = if event == "phx_reply" { &frame[4]["response"] } else { &frame[4] };
        assert!(payload["n"] == n || payload == &json!({}), "{frame}, expected {n}");
    }
}
