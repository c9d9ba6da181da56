//! The channel of the topics `greeting:*`.

use fanfare::{BoxError, Channel, Context, Joined, Payload, Refused, Reply};
use serde::Deserialize;

/// Serves every join of a topic `greeting:*`.
#[derive(Debug)]
pub struct Greeting;

/// What a client sends to join.
#[derive(Debug, Deserialize)]
pub struct Params {
    /// Who wants to join.
    name: Option<String>,
}

/// What one join keeps for as long as it lasts.
#[derive(Debug)]
pub struct State {
    pings: u64,
}

impl Channel for Greeting {
    type State = State;
    type Params = Params;
    type Info = ();

    async fn join(&self, _cx: &mut Context, params: Params) -> Result<Joined<State>, Refused> {
        // Say here who may join which topic; `cx.topic()` and `cx.assigns()` tell what is asked for, and by whom.
        if params.name.is_some_and(|name| name.is_empty()) {
            return Err(Refused::reason("unauthorized"));
        }
        Ok(Joined::new(State { pings: 0 }))
    }

    async fn handle_in(
        &self,
        state: &mut State,
        cx: &mut Context,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, BoxError> {
        match event {
            // To the client alone: what it sent, as the answer.
            "ping" => {
                state.pings += 1;
                Ok(Reply::ok(payload))
            }
            // To everybody who has joined the topic, the sender too.
            "shout" => {
                cx.broadcast("shout", payload).await?;
                Ok(Reply::empty())
            }
            // An error ends this join, and nothing else: the client joins again.
            _ => Err(format!("unknown event {event:?} after {} pings", state.pings).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare::testing::{TestEndpoint, TestSocket};
    use fanfare::{Endpoint, Mount};
    use serde_json::json;

    use super::*;

    async fn connect() -> (TestEndpoint, TestSocket) {
        let mount = Mount::new().channel("greeting:*", Greeting);
        let test = TestEndpoint::start(Endpoint::builder().mount("/socket", mount)).await;
        let socket = test.connect("/socket", json!({})).await.unwrap();
        (test, socket)
    }

    #[tokio::test]
    async fn ping_is_answered() {
        let (_test, socket) = connect().await;
        let greeting = socket.join("greeting:lobby", json!({ "name": "Ann" })).await.unwrap();
        let ping = greeting.push("ping", json!({ "hello": "there" })).await;
        greeting.assert_reply(&ping, "ok", json!({ "hello": "there" })).await;
    }

    #[tokio::test]
    async fn shout_reaches_everybody() {
        let (test, socket) = connect().await;
        let greeting = socket.join("greeting:lobby", json!({})).await.unwrap();
        let listener = test.subscribe("greeting:lobby").await;
        greeting.push("shout", json!({ "hello": "all" })).await;
        greeting.assert_push("shout", json!({ "hello": "all" })).await;
        listener.assert_broadcast("shout", json!({ "hello": "all" })).await;
    }

    #[tokio::test]
    async fn joins_can_be_refused() {
        let (_test, socket) = connect().await;
        let refused = socket.join("greeting:lobby", json!({ "name": "" })).await.unwrap_err();
        assert_eq!(refused, json!({ "reason": "unauthorized" }));
    }

    #[tokio::test]
    async fn an_unknown_event_ends_the_join() {
        let (_test, socket) = connect().await;
        let greeting = socket.join("greeting:lobby", json!({})).await.unwrap();
        greeting.push("unknown", json!({})).await;
        greeting.assert_crashed().await;
    }
}
