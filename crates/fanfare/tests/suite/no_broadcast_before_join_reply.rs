//! Invariant 1: no broadcast reaches a join before that join's reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fanfare::testing::TestEndpoint;
use fanfare::{BoxError, Channel, Context, Endpoint, Joined, Mount, Payload, Refused, Reply};
use serde_json::json;

use crate::support::{serve, serve_mount, stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_broadcast_before_join_reply() {
    let served = serve(Endpoint::builder().shards(3).mount("/socket", stage())).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (endpoint, stopped) = (served.endpoint.clone(), stop.clone());
    let publisher = tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            // A burst, and a pause: a client that is never read from would be closed as too slow.
            for _ in 0..10 {
                endpoint.broadcast("room:busy", "noise", json!({})).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    for round in 0..60 {
        let mut client = served.client().await;
        let params = if round % 2 == 0 { json!({}) } else { json!({"wait_ms": 5}) };
        // `try_join` takes the very first frame, and that must be the reply.
        assert_eq!(client.try_join("room:busy", params).await["status"], "ok");
        client.assert_event("room:busy", "noise", json!({})).await;
    }
    stop.store(true, Ordering::Relaxed);
    publisher.await.unwrap();
}

/// Pushes and broadcasts from inside its join.
struct Eager;

impl Channel for Eager {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        cx.push("pushed", json!({"n": 1}))?;
        cx.broadcast("joining", json!({})).await?;
        tokio::task::yield_now().await;
        cx.push("pushed", json!({"n": 2}))?;
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }
}

#[tokio::test]
async fn pushes_from_inside_join_follow_the_reply_and_its_broadcasts_miss_the_joiner() {
    let served = serve_mount(Mount::new().channel("room:*", Eager)).await;
    let mut first = served.client().await;
    first.join("room:1").await;
    for n in 1..=2 {
        first.assert_event("room:1", "pushed", json!({ "n": n })).await;
    }
    first.assert_untouched().await;
    let mut second = served.client().await;
    second.join("room:1").await;
    first.assert_event("room:1", "joining", json!({})).await;
}

#[tokio::test]
async fn pushes_of_a_join_that_is_refused_go_nowhere() {
    struct Refusing;
    impl Channel for Refusing {
        type State = ();
        type Params = Payload;
        type Info = ();

        async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
            cx.push("pushed", json!({}))?;
            Err(Refused::reason("no"))
        }

        async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
            Ok(Reply::none())
        }
    }
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket", Mount::new().channel("*", Refusing))).await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    assert_eq!(socket.join("room", json!({})).await.unwrap_err(), json!({"reason": "no"}));
    socket.refute_push("room", "pushed").await;
}
