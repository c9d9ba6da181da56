//! How joins end, and what their channels are told.

use fanfare::{Connect, ConnectRequest, Connected, Drain, Ended, Mount, Rejected, Stop};
use fanfare_proto::websocket::frame::Opcode;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::stage::Stage;
use crate::support::{Served, eventually, serve_mount};

struct WithId;

impl Connect for WithId {
    async fn connect(&self, _: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(Connected::new().id("user_socket:7"))
    }
}

/// Ends a join in one way.
#[derive(Debug, Clone, Copy)]
enum Way {
    Push(&'static str),
    Close,
    Lose,
    Disconnect,
    Drain,
}

async fn end(way: Way, served: &Served, mut client: Client) -> Option<Client> {
    match way {
        Way::Push(event) => {
            client.push("room:1", "room:1", event, json!({})).await;
            return Some(client);
        }
        Way::Close => {
            client.send(Opcode::Close, &1001_u16.to_be_bytes(), true).await;
            return Some(client);
        }
        Way::Lose => return None,
        Way::Disconnect => assert_eq!(served.endpoint.disconnect("user_socket:7").await, 1),
        Way::Drain => served.endpoint.drain(Drain::default()).await,
    }
    Some(client)
}

#[tokio::test]
async fn phoenix_14_terminate_is_told_why() {
    let cases = [
        (Way::Push("phx_leave"), Ended::Left),
        (Way::Push("stop"), Ended::Stopped(Stop::Normal)),
        (Way::Push("stop_error"), Ended::Stopped(Stop::Error("told to".into()))),
        (Way::Push("panic"), Ended::Crashed("told to panic".into())),
        (Way::Push("fail"), Ended::Crashed("told to fail".into())),
        (Way::Push("no such event"), Ended::Crashed("unknown event \"no such event\"".into())),
        (Way::Close, Ended::Closed),
        (Way::Lose, Ended::Closed),
        (Way::Disconnect, Ended::Disconnected),
        (Way::Drain, Ended::Draining),
    ];
    for (way, expected) in cases {
        let channel = Stage::default();
        let served = serve_mount(Mount::new().connect(WithId).channel("room:*", channel.clone())).await;
        let mut client = served.client().await;
        client.join("room:1").await;
        let rest = end(way, &served, client).await;
        eventually(&format!("{way:?} ends the join"), async || !channel.ends().is_empty()).await;
        assert_eq!(channel.ends(), [("room:1".to_owned(), expected)], "{way:?}");
        drop(rest);
    }
}

#[tokio::test]
async fn phoenix_14_the_client_sees_how_its_join_ended() {
    let served = serve_mount(Mount::new().channel("room:*", Stage::default())).await;
    let mut client = served.client().await;
    let close = json!(["room:1", "room:1", "room:1", "phx_close", {}]);
    let error = json!(["room:1", "room:1", "room:1", "phx_error", {"reason": "channel_crash"}]);
    let cases: [(&str, Vec<Value>); 5] = [
        ("phx_leave", vec![json!({"status": "ok", "response": {}}), close.clone()]),
        ("stop", vec![json!({"status": "ok", "response": {"last": true}}), close]),
        ("stop_error", vec![error.clone()]),
        ("panic", vec![error.clone()]),
        ("fail", vec![error]),
    ];
    client.join("room:other").await;
    for (event, expected) in cases {
        client.join("room:1").await;
        let msg_ref = client.push("room:1", "room:1", event, json!({})).await;
        for frame in expected {
            let frame = if frame.is_array() { frame } else { json!(["room:1", msg_ref, "room:1", "phx_reply", frame]) };
            assert_eq!(client.frame().await, frame, "{event}");
        }
        let gone = client.call("room:1", "echo", json!({}), "error").await;
        assert_eq!(gone, json!({"reason": "unmatched topic"}), "{event}");
        client.call("room:other", "echo", json!({}), "ok").await;
    }
    client.assert_untouched().await;
}
