//! One message on one topic, seen by the clients of every protocol.

use fanfare::{Connect, ConnectRequest, Connected, Endpoint, Mount, Payload, Rejected, Relay, Text};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::Received;
use crate::support::http::{head, request};
use crate::support::{eventually, serve};

/// Joins everybody to the hub's topic.
struct Everybody;

impl Connect for Everybody {
    async fn connect(&self, _: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(Connected::new().topic("hub:domain/news"))
    }
}

#[tokio::test]
async fn one_message_reaches_all() {
    let builder = Endpoint::builder().shards(2).mount("/socket", Mount::new().channel("hub:*", Relay));
    let builder = builder.mount("/ws", Mount::hub()).mount("/rooms", Mount::rooms().channel("hub:*", Relay));
    let served = serve(builder.mount("/bullet", Mount::bullet().connect(Everybody))).await;
    let (endpoint, address) = (&served.endpoint, served.address);

    let mut publisher = served.client_at("/ws/pub/key/domain/news").await;
    let mut subscriber = served.client_at("/ws/sub/domain/news").await;
    let mut phoenix = served.client().await;
    phoenix.join("hub:domain/news").await;
    let mut rooms = served.client_at("/rooms").await;
    rooms.send_text(r#"{"join":"hub:domain/news"}"#).await;
    let mut events = TcpStream::connect(address).await.unwrap();
    events.write_all(head("GET", "/bullet?k", &[("accept", "text/event-stream")]).as_bytes()).await.unwrap();
    let poll = tokio::spawn(async move { request(address, "GET", "/bullet?k", &[], b"").await });
    eventually("all are there", async || endpoint.members("hub:domain/news").await.len() == 5).await;

    endpoint.broadcast("hub:domain/news", "flash", json!({"a": 1})).await.unwrap();
    let alone = r#"{"a":1}"#;
    subscriber.assert_text(alone).await;
    rooms.assert_text(alone).await;
    phoenix.assert_event("hub:domain/news", "flash", json!({"a": 1})).await;
    assert_eq!(poll.await.unwrap().body, alone.as_bytes());

    publisher.send_text("plain").await;
    subscriber.assert_text("plain").await;
    rooms.assert_text("plain").await;
    phoenix.assert_event("hub:domain/news", "message", json!({"text": "plain"})).await;
    let polled = request(address, "GET", "/bullet?k", &[], b"").await;
    assert_eq!(polled.body, b"plain", "it waited for the next poll");

    let payload = Payload::Binary(b"\x01\x02"[..].into());
    endpoint.broadcast("hub:domain/news", "bytes", payload).await.unwrap();
    assert_eq!(subscriber.receive().await, Received::Binary(vec![1, 2]));
    assert_eq!(request(address, "GET", "/bullet?k", &[], b"").await.body, br#"{"binary":"AQI="}"#);

    endpoint.broadcast("hub:domain/news", "lines", Text::copy("a\r\nb\rc")).await.unwrap();
    let mut stream = String::new();
    let expected =
        ["data: {\"a\":1}\n\n", "data: plain\n\n", "data: {\"binary\":\"AQI=\"}\n\n", "data: a\ndata: b\ndata: c\n\n"];
    eventually("the stream has all", async || {
        let mut buffer = [0; 4096];
        let count = events.read(&mut buffer).await.unwrap();
        stream.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        expected.iter().all(|event| stream.contains(event))
    })
    .await;
    let mut from = 0;
    for event in expected {
        from += stream[from..].find(event).unwrap_or_else(|| panic!("{event:?} in order in {stream}"));
    }
}
