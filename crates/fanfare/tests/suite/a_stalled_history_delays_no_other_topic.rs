//! A disk that is stalled holds what is published to topics that keep a history, and nothing else: neither other topics, nor
//! the joins, reads and heartbeats of those that are in both. One shard serves them all.

use std::time::Duration;

use fanfare::testing::Faults;
use fanfare::{Endpoint, Policy, Retention};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, serve, stage};

#[tokio::test]
async fn a_stalled_history_delays_no_other_topic() {
    const MESSAGES: u64 = 50;
    let faults = Faults::new(1);
    let builder = Endpoint::builder().shards(1).policy("room:kept", Policy::new().history(Retention::default()));
    // More wait for the disk than there is room for.
    let builder = builder.publishing_waiting_max(16).publishing_timeout(PATIENCE * 2);
    let served = serve(builder.mount("/socket", stage()).faulty_history(&faults)).await;
    let (mut both, mut publisher) = (served.client().await, served.client().await);
    for client in [&mut both, &mut publisher] {
        client.join("room:kept").await;
        client.join("room:1").await;
    }
    faults.delay_appends(true);
    // From outside, and by a channel, whose next messages wait as behind any callback that does.
    let mut outside = JoinSet::new();
    for n in 0..MESSAGES {
        let endpoint = served.endpoint.clone();
        outside.spawn(async move { endpoint.broadcast("room:kept", "n", json!({ "n": n })).await });
    }
    publisher.push("room:kept", "room:kept", "shout", json!({ "by": "the channel" })).await;
    for n in 0..MESSAGES {
        served.endpoint.broadcast("room:1", "n", json!({ "n": n })).await.unwrap();
        both.assert_event("room:1", "n", json!({ "n": n })).await;
        publisher.assert_event("room:1", "n", json!({ "n": n })).await;
    }
    publisher.push("room:1", "room:1", "shout", json!({ "by": "the channel" })).await;
    both.assert_event("room:1", "shout", json!({ "by": "the channel" })).await;
    both.assert_untouched().await;
    assert!(outside.try_join_next().is_none(), "what is not kept is not answered");
    let mut late = served.client().await;
    let reply = late.try_join("room:kept", json!({ "resume": "0:0" })).await;
    assert_eq!(reply["response"]["resume"]["recovered"], true, "{reply}");
    late.assert_untouched().await;

    faults.delay_appends(false);
    while let Some(published) = outside.join_next().await {
        published.unwrap().unwrap();
    }
    let mut numbers = Vec::new();
    while numbers.len() < MESSAGES as usize {
        let frame = both.frame().await;
        assert_eq!(frame[2], "room:kept", "{frame}");
        numbers.extend(frame[4]["n"].as_u64());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
}

/// The room of messages that wait for a disk is full. A client that has sent more to another topic than its channel has done is
/// read all the same: its heartbeat is answered.
#[tokio::test]
async fn a_stalled_history_keeps_nobody_from_being_read() {
    const WAITING_MAX: usize = 4;
    let faults = Faults::new(1);
    let builder = Endpoint::builder().shards(1).policy("room:kept", Policy::new().history(Retention::default()));
    let builder = builder.publishing_waiting_max(WAITING_MAX).publishing_timeout(Duration::from_millis(100));
    let served = serve(builder.mount("/socket", stage()).faulty_history(&faults)).await;
    let (mut reader, mut client) = (served.client().await, served.client().await);
    reader.join("room:kept").await;
    client.join("room:1").await;
    faults.delay_appends(true);
    let mut outside = JoinSet::new();
    for n in 0..WAITING_MAX {
        let endpoint = served.endpoint.clone();
        outside.spawn(async move { endpoint.broadcast("room:kept", "n", json!({ "n": n })).await });
    }
    tokio::task::yield_now().await;
    let refused = served.endpoint.broadcast("room:kept", "n", json!({})).await.unwrap_err();
    assert!(refused.is_unavailable(), "there is no room: {refused}");

    client.push("room:1", "room:1", "wait_ms", json!({ "ms": PATIENCE.as_millis() as u64 })).await;
    for _ in 0..64 {
        client.push("room:1", "room:1", "silence", json!({})).await;
    }
    client.send_json(&json!([null, "h", "phoenix", "heartbeat", {}])).await;
    assert_eq!(client.frame().await[1], "h");
    assert!(outside.try_join_next().is_none(), "the disk is still stalled");
}
