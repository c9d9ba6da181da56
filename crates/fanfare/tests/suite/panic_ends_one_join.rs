//! Invariant 5, first half: a panic or error in one join ends that join with `phx_error`; the socket and its other joins go on.

use fanfare::{BoxError, Broadcast, Channel, Context, Ended, Endpoint, Flow, Joined, Mount, Payload, Refused, Reply};
use serde_json::{Value, json};

use crate::support::serve;

/// Panics where it is told to: at once, or after having waited.
struct Fragile;

async fn maybe_panic(wish: &str, place: &str) {
    if wish == format!("{place} later") {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        panic!("as wished, later");
    }
    assert_ne!(wish, place, "as wished");
}

impl Channel for Fragile {
    type State = String;
    type Params = Value;
    type Info = u8;

    const INTERCEPT: &'static [&'static str] = &["out"];

    async fn join(&self, cx: &mut Context<u8>, params: Value) -> Result<Joined<String>, Refused> {
        let wish = params["panic"].as_str().unwrap_or_default().to_owned();
        maybe_panic(&wish, "join").await;
        cx.subscribe("elsewhere")?;
        Ok(Joined::new(wish))
    }

    async fn handle_in(
        &self,
        wish: &mut String,
        cx: &mut Context<u8>,
        event: &str,
        _: Payload,
    ) -> Result<Reply, BoxError> {
        maybe_panic(wish, "in").await;
        match event {
            "info" => cx.send(1_u8)?,
            "out" => cx.broadcast("out", json!({})).await?,
            "broadcast" => cx.endpoint().broadcast("elsewhere", "any", json!({})).await?,
            // Not an object: an error for the caller.
            "bad push" => cx.push("list", json!([]))?,
            _ => {}
        }
        Ok(Reply::none())
    }

    async fn handle_out(&self, wish: &mut String, _: &mut Context<u8>, _: &str, _: Payload) -> Result<Flow, BoxError> {
        maybe_panic(wish, "out").await;
        Ok(Flow::Continue)
    }

    async fn handle_info(&self, wish: &mut String, _: &mut Context<u8>, _: u8) -> Result<Flow, BoxError> {
        maybe_panic(wish, "info").await;
        Ok(Flow::Continue)
    }

    async fn handle_broadcast(&self, wish: &mut String, _: &mut Context<u8>, _: Broadcast) -> Result<Flow, BoxError> {
        maybe_panic(wish, "broadcast").await;
        Ok(Flow::Continue)
    }

    async fn terminate(&self, wish: &mut String, _: &mut Context<u8>, _: &Ended) {
        maybe_panic(wish, "terminate").await;
    }
}

#[tokio::test]
async fn panic_ends_one_join() {
    let mount = Mount::new().channel("room:*", Fragile).channel("calm", crate::support::stage::Stage::default());
    let served = serve(Endpoint::builder().shards(1).mount("/socket", mount)).await;
    let mut client = served.client().await;
    let mut other = served.client().await;
    client.join("calm").await;
    other.join("room:1").await;
    let cases = [
        ("join", "", ""),
        ("join later", "", ""),
        ("in", "any", "phx_error"),
        ("in later", "any", "phx_error"),
        ("info", "info", "phx_error"),
        ("info later", "info", "phx_error"),
        ("out", "out", "phx_error"),
        ("broadcast", "broadcast", "phx_error"),
        ("broadcast later", "broadcast", "phx_error"),
        ("nothing", "bad push", "phx_error"),
        ("terminate", "phx_leave", "phx_reply"),
        ("terminate later", "phx_leave", "phx_reply"),
    ];
    for (wish, event, end) in cases {
        let reply = client.try_join("room:1", json!({ "panic": wish })).await;
        if wish.starts_with("join") {
            assert_eq!(reply, json!({"status": "error", "response": {"reason": "join crashed"}}), "{wish}");
        } else {
            assert_eq!(reply["status"], "ok", "{wish}");
            client.push("room:1", "room:1", event, json!({})).await;
            assert_eq!(client.frame().await[3], end, "{wish}");
            if end == "phx_reply" {
                assert_eq!(client.frame().await[3], "phx_close", "{wish}");
            }
        }
        client.call("calm", "echo", json!({ "after": wish }), "ok").await;
        other.assert_untouched().await;
    }
    assert_eq!(served.counter("joins", "crashed"), 2);
    assert_eq!(served.counter("channels", "crashed"), 8);
}
