//! Invariant 3: a slow socket loses by its own policy and is told; it never delays another.

use std::time::{Duration, Instant};

use fanfare::Endpoint;
use serde_json::json;

use crate::support::client::Received;
use crate::support::http::request;
use crate::support::{eventually, serve, serve_mount, stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_reader_is_closed_1013_and_delays_nobody() {
    let mount = stage().outbox_bytes_max(1_000_000);
    // One shard: all are served by one thread.
    let served = serve(Endpoint::builder().shards(1).mount("/socket", mount)).await;
    let mut slow = served.client().await;
    slow.join("room:1").await;
    let mut quick = served.client().await;
    quick.join("room:1").await;
    let body = "x".repeat(100_000);
    let mut longest = Duration::ZERO;
    // Socket buffers take some megabytes before anything waits at all.
    for n in 0..200 {
        let sent = Instant::now();
        served.endpoint.broadcast("room:1", "big", json!({"n": n, "body": body})).await.unwrap();
        let frame = quick.frame().await;
        assert_eq!(frame[4]["n"], n);
        longest = longest.max(sent.elapsed());
        if served.counter("closes", "slow_consumer") == 1 {
            break;
        }
    }
    let told = tokio::spawn(async move { (slow.close_code().await, slow.receive().await) });
    assert!(longest < Duration::from_secs(2), "{longest:?} for one message to a quick reader");
    eventually("the slow one is closed", async || served.counter("closes", "slow_consumer") == 1).await;
    assert!(served.counter("drops", "slow_consumer") > 0, "what it lost is counted");
    // Behind what it had been sent, in whole frames.
    assert_eq!(told.await.unwrap(), (1013, Received::Ended));
    quick.assert_untouched().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_takes_nothing_for_the_write_timeout_is_closed_1013() {
    let mount = stage().write_timeout(Duration::from_secs(1)).outbox_bytes_max(1 << 30);
    let served = serve_mount(mount).await;
    let mut stalled = served.client().await;
    stalled.join("room:1").await;
    let body = "x".repeat(1_000_000);
    for _ in 0..30 {
        served.endpoint.broadcast("room:1", "big", json!({ "body": body })).await.unwrap();
    }
    eventually("it is closed", async || served.counter("closes", "slow_consumer") == 1).await;
    assert_eq!(stalled.close_code().await, 1013);
}

#[tokio::test]
async fn a_session_that_is_not_polled_is_bounded_too() {
    let served = serve_mount(stage().outbox_frames_max(10)).await;
    let target = "/socket/longpoll?vsn=2.0.0";
    let begun = request(served.address, "GET", target, &[], b"").await.json();
    let target = format!("{target}&token={}", begun["token"].as_str().unwrap());
    let join = json!(["1", "1", "room:1", "phx_join", {}]).to_string();
    request(served.address, "POST", &target, &[], join.as_bytes()).await;
    for n in 0..20 {
        served.endpoint.broadcast("room:1", "tick", json!({ "n": n })).await.unwrap();
    }
    eventually("it is closed", async || served.counter("closes", "slow_consumer") == 1).await;
    let gone = request(served.address, "GET", &target, &[], b"").await.json();
    assert_eq!(gone["status"], 410, "a new session: the client joins anew");
}
