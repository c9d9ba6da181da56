//! Invariant 5, second half: a slow `join` blocks only its topic, and what waits behind it is handled in order.

use serde_json::json;

use crate::support::{serve_mount, stage};

#[tokio::test]
async fn slow_join_blocks_its_topic_only() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.join("room:other").await;
    client.send_json(&json!(["s", "s", "room:slow", "phx_join", {"wait_ms": 500}])).await;
    for n in 0..5 {
        client.send_json(&json!(["s", n, "room:slow", "echo", { "n": n }])).await;
    }
    client.assert_untouched().await;
    client.call("room:other", "echo", json!({}), "ok").await;
    client.join("room:third").await;
    assert_eq!(client.frame().await, json!(["s", "s", "room:slow", "phx_reply", {"status": "ok", "response": {}}]));
    for n in 0..5 {
        let reply = json!({"status": "ok", "response": { "n": n }});
        assert_eq!(client.frame().await, json!(["s", n, "room:slow", "phx_reply", reply]));
    }
}

#[tokio::test]
async fn a_busy_channel_delays_no_other() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.join("room:busy").await;
    client.join("room:free").await;
    let busy = client.push("room:busy", "room:busy", "wait_ms", json!({"ms": 400})).await;
    let behind = client.push("room:busy", "room:busy", "echo", json!({})).await;
    client.call("room:free", "echo", json!({}), "ok").await;
    client.assert_untouched().await;
    assert_eq!(client.frame().await[1], busy);
    assert_eq!(client.frame().await[1], behind);
}

/// A client whose join has timed out leaves, and joins again: both are answered, in order.
#[tokio::test]
async fn leave_and_rejoin_behind_a_slow_join() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.send_json(&json!(["1", "1", "room:slow", "phx_join", {"wait_ms": 200}])).await;
    client.send_json(&json!(["1", "2", "room:slow", "phx_leave", {}])).await;
    client.send_json(&json!(["3", "3", "room:slow", "phx_join", {}])).await;
    let mut frames = Vec::new();
    for _ in 0..4 {
        let frame = client.frame().await;
        frames.push((frame[1].clone(), frame[3].clone()));
    }
    let expected = [("1", "phx_reply"), ("2", "phx_reply"), ("1", "phx_close"), ("3", "phx_reply")];
    assert_eq!(frames, expected.map(|(msg_ref, event)| (json!(msg_ref), json!(event))));
    client.push("3", "room:slow", "echo", json!({})).await;
    assert_eq!(client.frame().await[4]["status"], "ok");
}

#[tokio::test]
async fn behind_a_refused_join_nothing_is_joined() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.send_json(&json!(["1", "1", "room:slow", "phx_join", {"wait_ms": 200, "refuse": "no"}])).await;
    client.send_json(&json!(["1", "2", "room:slow", "echo", {}])).await;
    client.send_json(&json!(["1", "3", "room:slow", "phx_leave", {}])).await;
    assert_eq!(client.frame().await[4]["response"]["reason"], "no");
    assert_eq!(client.frame().await[4]["response"]["reason"], "unmatched topic");
    assert_eq!(client.frame().await, json!(["1", "3", "room:slow", "phx_reply", {"status": "ok", "response": {}}]));
    client.assert_untouched().await;
}
