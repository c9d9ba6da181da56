//! The channel of the topics `greeting:*`.

use fanfare::{BoxError, Channel, Context, Joined, Payload, Refused, Reply};
use serde::{Deserialize, Serialize};
use serde_json::json;

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
    shouts: u64,
}

/// What a client shouts, and all members hear.
#[derive(Debug, Serialize, Deserialize)]
struct Shout {
    body: String,
}

impl Channel for Greeting {
    type State = State;
    type Params = Params;
    type Info = ();

    async fn join(&self, _cx: &mut Context, params: Params) -> Result<Joined<State>, Refused> {
        // Say here who may join which topic. `cx.topic()` is what is asked for, `cx.assigns()` who asks.
        if params.name.is_some_and(|name| name.is_empty()) {
            return Err(Refused::reason("unauthorized"));
        }
        Ok(Joined::new(State { shouts: 0 }))
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
            "ping" => Ok(Reply::ok(payload)),
            // To everybody who has joined the topic, the sender too. A payload that is no `Shout` is answered with an error.
            "shout" => {
                let shout: Shout = payload.to()?;
                cx.broadcast("shout", &shout).await?;
                state.shouts += 1;
                Ok(Reply::ok(json!({ "shouts": state.shouts })))
            }
            _ => Ok(Reply::error(json!({ "reason": format!("unknown event {event:?}") }))),
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare::testing::{TestEndpoint, TestSocket, including};
    use fanfare::{Endpoint, Mount};

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
        let shout = greeting.push("shout", Shout { body: "hello".into() }).await;
        greeting.assert_push("shout", json!({ "body": "hello" })).await;
        greeting.assert_reply(&shout, "ok", json!({ "shouts": 1 })).await;
        listener.assert_broadcast("shout", json!({ "body": "hello" })).await;
    }

    #[tokio::test]
    async fn joins_can_be_refused() {
        let (_test, socket) = connect().await;
        let refused = socket.join("greeting:lobby", json!({ "name": "" })).await.unwrap_err();
        assert_eq!(refused, json!({ "reason": "unauthorized" }));
    }

    #[tokio::test]
    async fn what_is_unknown_or_does_not_fit_is_answered_with_an_error() {
        let (_test, socket) = connect().await;
        let greeting = socket.join("greeting:lobby", json!({})).await.unwrap();
        for (event, payload) in [("sing", json!({})), ("shout", json!({ "text": "hello" }))] {
            let pushed = greeting.push(event, payload).await;
            greeting.assert_reply(&pushed, "error", including(json!({}))).await;
        }
        let ping = greeting.push("ping", json!({})).await;
        greeting.assert_reply(&ping, "ok", json!({})).await;
    }
}
