//! Whoever is joined to topics when it connects is a member of them before it is answered: nothing that is published behind the
//! answer passes it by, whatever it speaks.

use fanfare::{Connect, ConnectRequest, Connected, Endpoint, Mount, Rejected, Relay};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http::head;
use crate::support::{PATIENCE, Served, eventually, serve};

/// Each is a race that would be lost in one of a few tries.
const TRIES: u32 = 100;

const TOPIC: &str = "hub:d/t";

/// Joins everybody to the topic.
struct Joins;

impl Connect for Joins {
    async fn connect(&self, _: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(Connected::new().topic(TOPIC))
    }
}

async fn served() -> Served {
    let builder = Endpoint::builder().shards(2);
    let builder = builder.mount("/socket", Mount::new().connect(Joins)).mount("/rooms", Mount::rooms().connect(Joins));
    let builder =
        builder.mount("/bullet", Mount::bullet().connect(Joins)).mount("/hub", Mount::hub().waits_for_topic(true));
    serve(builder.mount("/events", Mount::stream().channel("hub:*", Relay))).await
}

/// Everything that comes on a connection, as text.
struct Reader(TcpStream, String);

impl Reader {
    async fn request(served: &Served, target: &str, headers: &[(&str, &str)]) -> Reader {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(head("GET", target, headers).as_bytes()).await.unwrap();
        Reader(stream, String::new())
    }

    async fn until(&mut self, text: &str) {
        let read = async {
            while !self.1.contains(text) {
                let mut buffer = [0; 4096];
                let count = self.0.read(&mut buffer).await.unwrap();
                assert_ne!(count, 0, "it ended: {}", self.1);
                self.1.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        };
        if tokio::time::timeout(PATIENCE, read).await.is_err() {
            panic!("{text:?} did not come: {}", self.1);
        }
    }
}

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

async fn check(target: &str, headers: &[(&str, &str)]) {
    let served = served().await;
    let _publisher = served.client_at("/hub/pub/key/d/t").await;
    for n in 0..TRIES {
        let mut reader = Reader::request(&served, target, headers).await;
        reader.until("\r\n\r\n").await;
        served.endpoint.broadcast(TOPIC, "e", json!({ "n": n })).await.unwrap();
        reader.until(&format!("{{\"n\":{n}}}")).await;
    }
}

#[tokio::test]
async fn hub_2_to_a_subscriber_of_a_hub() {
    check("/hub/sub/d/t", &UPGRADE).await;
}

#[tokio::test]
async fn bridge_9_to_a_websocket_of_bullet() {
    check("/bullet?key", &UPGRADE).await;
}

#[tokio::test]
async fn bridge_9_to_an_event_stream_of_bullet() {
    check("/bullet?key", &[("accept", "text/event-stream")]).await;
}

#[tokio::test]
async fn to_a_member_of_rooms() {
    check("/rooms", &UPGRADE).await;
}

#[tokio::test]
async fn to_a_socket_of_phoenix() {
    check("/socket/websocket?vsn=2.0.0", &UPGRADE).await;
}

#[tokio::test]
async fn to_a_stream_of_events() {
    check(&format!("/events/{TOPIC}"), &[("accept", "text/event-stream")]).await;
}

#[tokio::test]
async fn to_a_stream_of_lines() {
    check(&format!("/events/{TOPIC}"), &[]).await;
}

/// The frame comes in one go with the handshake.
#[tokio::test]
async fn hub_7_from_a_publisher_that_waits_for_no_answer() {
    let served = served().await;
    let mut subscriber = served.client_at("/hub/sub/d/t").await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let mut request = head("GET", "/hub/pub/key/d/t", &UPGRADE).into_bytes();
    // Masked with zeros.
    request.extend_from_slice(b"\x81\x82\0\0\0\0hi");
    stream.write_all(&request).await.unwrap();
    subscriber.assert_text("hi").await;
}

#[tokio::test]
async fn who_goes_before_it_is_answered_is_forgotten() {
    let served = served().await;
    let _publisher = served.client_at("/hub/pub/key/d/t").await;
    for _ in 0..50 {
        drop(Reader::request(&served, "/hub/sub/d/t", &UPGRADE).await);
    }
    eventually("only the publisher is there", async || served.endpoint.sockets() == 1).await;
    assert_eq!(served.endpoint.members(TOPIC).await.len(), 0);
}
