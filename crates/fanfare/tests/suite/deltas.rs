//! Differences to the message before, for clients that ask for them.

use fanfare::{Channel, Context, Endpoint, Joined, Mount, Payload, Policy, Publish, Refused, Reply, Retention};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::{Served, serve};

struct Room;

impl Channel for Room {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()).reply(json!({"hello": true})))
    }

    async fn handle_in(
        &self,
        _: &mut (),
        cx: &mut Context,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, fanfare::BoxError> {
        cx.broadcast_from(event, payload).await?;
        Ok(Reply::empty())
    }
}

async fn prices() -> Served {
    struct Watched;

    impl Channel for Watched {
        const INTERCEPT: &'static [&'static str] = &["other"];

        type State = ();
        type Params = Payload;
        type Info = ();

        async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
            Ok(Joined::new(()).reply(json!({"hello": true})))
        }

        async fn handle_in(
            &self,
            _: &mut (),
            _: &mut Context,
            _: &str,
            _: Payload,
        ) -> Result<Reply, fanfare::BoxError> {
            Ok(Reply::empty())
        }
    }

    let retention = Retention { messages_max: 100, bytes_max: 1_000_000, age_max_ms: 3_600_000 };
    let builder = Endpoint::builder()
        .shards(2)
        .policy("prices", Policy::new().delta(Some("symbol")).history(retention))
        .policy("documents", Policy::new().delta(None))
        .policy("watched", Policy::new().delta(None));
    serve(builder.mount("/socket", Mount::new().channel("watched", Watched).channel("*", Room))).await
}

fn price(symbol: &str, bid: u32) -> Value {
    json!({"symbol": symbol, "bid": bid, "name": "x".repeat(100)})
}

impl Served {
    async fn say(&self, topic: &str, payload: Value) {
        self.endpoint.publish(Publish::new(topic, "price", payload)).await.unwrap();
    }
}

impl Client {
    /// The next message: its ref and its payload.
    async fn price(&mut self) -> (Value, Value) {
        let frame = self.frame().await;
        assert_eq!(frame[3], "price", "{frame}");
        (frame[1].clone(), frame[4].clone())
    }

    async fn gets_whole(&mut self, payload: Value) {
        assert_eq!(self.price().await, (Value::Null, payload));
    }

    async fn gets_difference(&mut self, key: &str, patch: Value) {
        assert_eq!(self.price().await, (json!("~"), json!({"key": key, "patch": patch})));
    }
}

#[tokio::test]
async fn members_that_ask_are_told_what_is_different() {
    let served = prices().await;
    let (mut asks, mut others) = (served.client().await, served.client().await);
    let reply = asks.try_join("prices", json!({"delta": true})).await;
    assert_eq!(reply["response"], json!({"hello": true, "delta": {"key": "symbol", "keys": 1000}}));
    let reply = others.try_join("prices", json!({"delta": false})).await;
    assert_eq!(reply["response"], json!({"hello": true}));
    for (symbol, bid) in [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("b", 3)] {
        served.say("prices", price(symbol, bid)).await;
        others.gets_whole(price(symbol, bid)).await;
        match bid {
            1 => asks.gets_whole(price(symbol, bid)).await,
            _ => asks.gets_difference(symbol, json!({ "bid": bid })).await,
        }
    }
    // One that comes later has nothing yet that it could be a difference to.
    let mut late = served.client().await;
    late.try_join("prices", json!({"delta": true})).await;
    served.say("prices", price("a", 3)).await;
    late.gets_whole(price("a", 3)).await;
    asks.gets_difference("a", json!({"bid": 3})).await;
    served.say("prices", price("a", 4)).await;
    late.gets_difference("a", json!({"bid": 4})).await;
    asks.gets_difference("a", json!({"bid": 4})).await;
    // What has no key, what a patch cannot say, and what is hardly smaller.
    for whole in [
        json!({"bid": 1, "name": "x".repeat(100)}),
        json!({"symbol": "a", "bid": null, "name": "x".repeat(100)}),
        json!({"symbol": "a", "bid": 5, "name": "y".repeat(100)}),
    ] {
        served.say("prices", whole.clone()).await;
        asks.gets_whole(whole).await;
    }
}

#[tokio::test]
async fn whoever_misses_a_message_gets_the_next_one_whole() {
    let served = prices().await;
    let (mut asks, mut others) = (served.client().await, served.client().await);
    for client in [&mut asks, &mut others] {
        client.try_join("prices", json!({"delta": true})).await;
    }
    served.say("prices", price("a", 1)).await;
    for client in [&mut asks, &mut others] {
        client.gets_whole(price("a", 1)).await;
    }
    // Its own, which does not come back.
    asks.call("prices", "price", price("a", 2), "ok").await;
    others.gets_difference("a", json!({"bid": 2})).await;
    served.say("prices", price("a", 3)).await;
    asks.gets_whole(price("a", 3)).await;
    others.gets_difference("a", json!({"bid": 3})).await;
    served.say("prices", price("a", 4)).await;
    for client in [&mut asks, &mut others] {
        client.gets_difference("a", json!({"bid": 4})).await;
    }
}

#[tokio::test]
async fn documents_without_a_key() {
    let served = prices().await;
    let mut asks = served.client().await;
    let reply = asks.try_join("documents", json!({"delta": true})).await;
    assert_eq!(reply["response"]["delta"], json!({"key": null, "keys": 1000}));
    let document = |title: &str| json!({"title": title, "body": {"text": "x".repeat(100), "at": 5}});
    served.say("documents", document("a")).await;
    asks.gets_whole(document("a")).await;
    served.say("documents", document("b")).await;
    assert_eq!(asks.price().await, (json!("~"), json!({"patch": {"title": "b"}})));
}

#[tokio::test]
async fn a_client_that_asks_for_differences_and_gets_none_is_told_why() {
    let served = prices().await;
    let mut client = served.client().await;
    for (topic, reason) in [
        ("others", "this topic has no delta on the server"),
        ("watched", "the channel looks at each message before this client gets it"),
    ] {
        let reply = client.try_join(topic, json!({"delta": true})).await;
        assert_eq!(reply["response"], json!({"hello": true, "delta": {"reason": reason}}), "{topic}");
    }
    let mut old = served.client_at("/socket/websocket?vsn=1.0.0").await;
    for (params, told) in
        [(json!({"delta": true}), json!({"reason": "delta takes protocol version 2.0.0"})), (json!({}), Value::Null)]
    {
        old.send_json(&json!({"topic": "documents", "event": "phx_join", "payload": params, "ref": "1"})).await;
        let frame = loop {
            let frame = old.frame().await;
            if frame["event"] == "phx_reply" {
                break frame;
            }
        };
        assert_eq!(frame["payload"]["response"]["delta"], told, "{params}");
    }
}
