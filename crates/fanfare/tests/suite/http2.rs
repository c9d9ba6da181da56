//! WebSockets as streams of HTTP/2 connections (RFC 8441).

use std::time::Duration;

use bytes::Bytes;
use fanfare::serve::Limits;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::support::client::{Client, Received};
use crate::support::{counter, eventually};
use crate::tls::Secure;

/// One connection.
struct Shared {
    requests: SendRequest<Bytes>,
    ended: tokio::task::JoinHandle<()>,
}

impl Shared {
    async fn connect(secure: &Secure) -> Shared {
        // As a browser does, or a socket that is not read would hold up the others.
        let mut builder = Builder::new();
        let handshake = builder.initial_connection_window_size(16_000_000).handshake(secure.connect().await);
        let (requests, connection) = handshake.await.unwrap();
        let ended = tokio::spawn(async move { drop(connection.await) });
        Shared { requests, ended }
    }

    /// Asks for a stream of a protocol, with more headers.
    async fn connect_to(
        &mut self,
        target: &str,
        protocol: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, RecvStream, SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.unwrap();
        eventually("the settings have come", async || requests.is_extended_connect_protocol_enabled()).await;
        let request = Request::builder().method(Method::CONNECT).uri(format!("https://localhost{target}"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.extension(Protocol::from(protocol)).body(()).unwrap();
        let (answer, sends) = requests.send_request(request, false).unwrap();
        let answer = answer.await.unwrap();
        (answer.status(), answer.into_body(), sends)
    }

    async fn status(&mut self, target: &str, protocol: &str, headers: &[(&str, &str)]) -> u16 {
        self.connect_to(target, protocol, headers).await.0.as_u16()
    }

    async fn client(&mut self) -> Client<DuplexStream> {
        let target = "/socket/websocket?vsn=2.0.0";
        let (status, receives, sends) = self.connect_to(target, "websocket", &[("sec-websocket-version", "13")]).await;
        assert_eq!(status, 200);
        Client::on(copied(receives, sends))
    }
}

/// The stream as bytes.
fn copied(mut receives: RecvStream, mut sends: SendStream<Bytes>) -> DuplexStream {
    let (near, far) = duplex(65_536);
    let (mut reads, mut writes) = tokio::io::split(far);
    tokio::spawn(async move {
        while let Some(Ok(data)) = receives.data().await {
            receives.flow_control().release_capacity(data.len()).unwrap();
            if writes.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = writes.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = [0; 16_384];
        while let Ok(size @ 1..) = reads.read(&mut buffer).await {
            let _ = sends.send_data(Bytes::copy_from_slice(&buffer[..size]), false);
        }
        sends.send_reset(h2::Reason::CANCEL);
    });
    near
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_share_a_connection_and_nothing_else() {
    let secure = Secure::with(Limits::default(), &["h2", "http/1.1"]).await;
    let mut shared = Shared::connect(&secure).await;
    let mut clients = [shared.client().await, shared.client().await, shared.client().await];
    secure.say_much(&mut clients, 200_000).await;
    let [mut first, second, mut third] = clients;
    drop(second);
    eventually("one has gone", async || secure.endpoint.members("room:1").await.len() == 2).await;
    third.send_text("not a frame").await;
    assert_eq!(third.receive().await, Received::Closed(1011));
    assert_eq!(third.receive().await, Received::Ended);
    first.call("room:1", "echo", json!({}), "ok").await;
    drop(shared.requests);
    shared.ended.abort();
    eventually("all have gone with the connection", async || secure.endpoint.members("room:1").await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_websocket_is_refused_and_the_connection_goes_on() {
    let secure = Secure::with(Limits::default(), &["h2", "http/1.1"]).await;
    let mut shared = Shared::connect(&secure).await;
    let (socket, version) = ("/socket/websocket?vsn=2.0.0", ("sec-websocket-version", "13"));
    for (target, protocol, headers, status) in [
        (socket, "connect-udp", &[version][..], 400),
        (socket, "websocket", &[], 426),
        (socket, "websocket", &[version, ("origin", "https://elsewhere.example")], 403),
        (socket, "websocket", &[version, ("host", "other.example")], 400),
        ("/nowhere", "websocket", &[version], 404),
        ("/socket/websocket?vsn=9.0.0", "websocket", &[version], 403),
    ] {
        assert_eq!(shared.status(target, protocol, headers).await, status, "{target} {protocol} {headers:?}");
    }
    let get = Request::builder().uri(format!("https://localhost{socket}")).body(()).unwrap();
    let (answer, _) = shared.requests.clone().ready().await.unwrap().send_request(get, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 400);
    shared.client().await.join("room:1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_of_a_connection_have_places_and_an_idle_connection_ends() {
    let patience = Duration::from_millis(300);
    let limits = Limits { connections_max: 4, handshake_timeout: patience, ..Limits::default() };
    let secure = Secure::with(limits, &["h2", "http/1.1"]).await;
    let silent = Shared::connect(&secure).await;
    let mut shared = Shared::connect(&secure).await;
    let mut first = shared.client().await;
    let second = shared.client().await;
    let version = ("sec-websocket-version", "13");
    assert_eq!(shared.status("/socket/websocket?vsn=2.0.0", "websocket", &[version]).await, 503);
    first.join("room:1").await;
    tokio::time::timeout(10 * patience, silent.ended).await.expect("who asks for nothing is let go").unwrap();
    drop(second);
    // With one socket it stays, and without one it ends.
    tokio::time::sleep(4 * patience).await;
    first.call("room:1", "echo", json!({}), "ok").await;
    drop(first);
    tokio::time::timeout(10 * patience, shared.ended).await.expect("an idle connection ends").unwrap();
}

/// What there is no place for is told so within TLS, or not at all; and that is what is told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_its_connections_a_port_of_tls_says_nothing_in_the_clear() {
    // Two of those beyond are told so at a time.
    let limits = Limits { connections_max: 16, ..Limits::default() };
    let secure = Secure::with(limits, &["h2", "http/1.1"]).await;
    let mut holders = Vec::new();
    for _ in 0..limits.connections_max {
        holders.push(secure.tcp().await);
    }
    let silent = secure.tcp().await;
    let idle = Shared::connect(&secure).await;
    let at_once = secure.tcp().await;
    for mut stream in [at_once, silent] {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert_eq!(String::from_utf8_lossy(&said), "");
    }
    tokio::time::timeout(Duration::from_secs(10), idle.ended).await.expect("an idle one ends").unwrap();
    assert_eq!(counter(&secure.endpoint, "connections", "refused_limit"), 3);
    let facts = secure.endpoint.facts();
    assert!(facts.iter().all(|fact| fact.detail.contains("all of its 16 connections")), "{facts:?}");
}
