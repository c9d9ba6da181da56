//! JSON rooms over WebSocket, with the channels that serve Phoenix as well.

use fanfare::{Endpoint, Mount, Relay};
use fanfare_proto::websocket::frame::Opcode;
use serde_json::json;

use crate::support::client::{Client, Received};
use crate::support::{Served, eventually, serve, stage};

async fn rooms(mount: Mount) -> Served {
    serve(Endpoint::builder().shards(2).mount("/", mount).mount("/socket", stage())).await
}

impl Served {
    async fn in_rooms(&self) -> Client {
        self.client_at("/any/path").await
    }
}

#[tokio::test]
async fn rooms_1_members_receive_what_is_said_as_it_was_sent() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    let (mut ada, mut bob) = (rooms.in_rooms().await, rooms.in_rooms().await);
    ada.send_text(r#"{"join":"lobby"}"#).await;
    bob.send_text(r#"{"join":"lobby"}"#).await;
    rooms.has_members("lobby", 2).await;
    let said = [r#"{"b": 1,"a":[]}"#, "\"hi\"", "null", "18446744073709551616", "[ ]", "1.50"];
    for message in said {
        ada.send_text(&format!(r#"{{"say":{message},"to":"lobby"}}"#)).await;
    }
    for member in [&mut ada, &mut bob] {
        for message in said {
            member.assert_text(message).await;
        }
    }
    bob.send_text(r#"{"leave":"lobby"}"#).await;
    rooms.has_members("lobby", 1).await;
}

#[tokio::test]
async fn rooms_1_acks_by_option() {
    let rooms = rooms(Mount::rooms().acks(true).channel("*", Relay)).await;
    let mut client = rooms.in_rooms().await;
    for (sent, told) in [
        (r#"{"join":"a"}"#, r#"{"joined":"a"}"#),
        (r#"{"join":"a"}"#, r#"{"joined":"a"}"#),
        (r#"{"say":1,"to":"a"}"#, "1"),
        (r#"{"leave":"a"}"#, r#"{"left":"a"}"#),
        (r#"{"leave":"a"}"#, r#"{"left":"a"}"#),
        (r#"{"leave":"never joined"}"#, r#"{"left":"never joined"}"#),
        (r#"{"join":"phoenix"}"#, r#"{"refused":"phoenix","response":{"reason":"unmatched topic"}}"#),
    ] {
        client.send_text(sent).await;
        client.assert_text(told).await;
    }
    assert!(rooms.endpoint.topics().await.is_empty(), "rooms_3: topics exist while somebody is in them");
}

#[tokio::test]
async fn rooms_1_what_is_none_of_the_frames_closes_with_3000() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    for frame in ["", "hi", "{}", r#"{"join":5}"#, r#"{"say":"hi"}"#, r#"{"say":"hi","to":"not joined"}"#] {
        let mut client = rooms.in_rooms().await;
        client.send_text(frame).await;
        client.assert_closed(3000).await;
    }
    let mut client = rooms.in_rooms().await;
    client.send(Opcode::Binary, br#"{"join":"a"}"#, true).await;
    client.assert_closed(3000).await;
    assert_eq!(rooms.counter("closes", "application"), 7);
}

#[tokio::test]
async fn rooms_3_a_disconnect_leaves_everything() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    let mut client = rooms.in_rooms().await;
    for topic in ["a", "b", "c"] {
        client.send_text(&format!(r#"{{"join":"{topic}"}}"#)).await;
        rooms.has_members(topic, 1).await;
    }
    drop(client);
    eventually("no topics are left", async || rooms.endpoint.topics().await.is_empty()).await;
}

#[tokio::test]
async fn rooms_5_any_path_but_those_of_others() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    for path in ["/", "/x", "/x/y?z=1", "/sockets"] {
        let mut client = rooms.client_at(path).await;
        client.send_text("{}").await;
        client.assert_closed(3000).await;
    }
    let mut phoenix = rooms.client().await;
    phoenix.assert_untouched().await;
    let answer = crate::support::http::request(rooms.address, "GET", "/x", &[], b"").await;
    assert_eq!(answer.status, 400);
    assert!(!answer.body.is_empty(), "a refused handshake says why");
}

#[tokio::test]
async fn the_channels_of_phoenix_serve_rooms_as_well() {
    let rooms = rooms(Mount::rooms().event("shout").channel("room:*", crate::support::stage::Stage::default())).await;
    let mut phoenix = rooms.client().await;
    phoenix.join("room:1").await;
    let mut client = rooms.in_rooms().await;
    client.send_text(r#"{"join":"elsewhere"}"#).await;
    client.assert_text(r#"{"refused":"elsewhere","response":{"reason":"unmatched topic"}}"#).await;
    client.send_text(r#"{"join":"room:1"}"#).await;
    rooms.has_members("room:1", 2).await;

    client.send_text(r#"{"say":{"a":1},"to":"room:1"}"#).await;
    client.send_text(r#"{"say":"hi","to":"room:1"}"#).await;
    client.assert_text(r#"{"a":1}"#).await;
    client.assert_text("\"hi\"").await;
    phoenix.assert_event("room:1", "shout", json!({"a": 1})).await;
    phoenix.assert_event("room:1", "shout", json!({"value": "hi"})).await;

    phoenix.push("room:1", "room:1", "shout", json!({"from": "phoenix"})).await;
    client.assert_text(r#"{"from":"phoenix"}"#).await;
}

#[tokio::test]
async fn a_crash_ends_one_join_and_is_told() {
    let mount = Mount::rooms().event("panic").channel("room:*", crate::support::stage::Stage::default());
    let rooms = rooms(mount).await;
    let mut client = rooms.in_rooms().await;
    client.send_text(r#"{"join":"room:1"}"#).await;
    client.send_text(r#"{"join":"room:2"}"#).await;
    client.send_text(r#"{"say":{},"to":"room:1"}"#).await;
    client.assert_text(r#"{"left":"room:1","error":"channel_crash"}"#).await;
    rooms.has_members("room:2", 1).await;
    rooms.endpoint.broadcast("room:2", "e", json!({"still": "here"})).await.unwrap();
    assert_eq!(client.receive().await, Received::Text(r#"{"still":"here"}"#.into()));
}
