//! WebSocket over TLS, driven by the shard like a plain one.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use fanfare::serve::{Limits, Server};
use fanfare::{Drain, Endpoint, Mount};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::client::{Client, Received};
use crate::support::http::head;
use crate::support::stage::Stage;
use crate::support::{counter, eventually, stage};

pub(crate) struct Secure {
    pub(crate) endpoint: Endpoint,
    address: SocketAddr,
    connector: TlsConnector,
}

impl Secure {
    async fn serve() -> Secure {
        Secure::with(Limits::default(), &[]).await
    }

    /// A server and its clients, who know these protocols of ALPN.
    pub(crate) async fn with(limits: Limits, alpn: &[&str]) -> Secure {
        let alpn: Vec<_> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let mut config = config.with_single_cert(vec![certificate.clone()], key).unwrap();
        config.alpn_protocols = alpn.clone();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let mut client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        client.alpn_protocols = alpn;

        let events = Mount::stream().channel("room:*", Stage::default());
        let builder = Endpoint::builder().shards(2).mount("/socket", stage()).mount("/events", events);
        let endpoint = builder.build().await.unwrap();
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits).tls(Arc::new(config));
        let address = server.local_addr().unwrap();
        let served = endpoint.clone();
        tokio::spawn(async move { server.serve(served.clone(), &served, pending()).await });
        Secure { endpoint, address, connector: Arc::new(client).into() }
    }

    /// A connection that says nothing yet.
    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn connect(&self) -> TlsStream<TcpStream> {
        let tcp = self.tcp().await;
        let name = ServerName::try_from("localhost").unwrap();
        self.connector.connect(name, tcp).await.unwrap()
    }

    /// Lets clients join a room, get broadcasts of this size, and say as much themselves.
    pub(crate) async fn say_much<S>(&self, clients: &mut [Client<S>], size: usize)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        for client in &mut *clients {
            client.join("room:1").await;
        }
        let body = "0123456789".repeat(size / 10);
        for n in 0..3 {
            self.endpoint.broadcast("room:1", "big", json!({"n": n, "body": body})).await.unwrap();
        }
        for client in clients {
            for n in 0..3 {
                client.assert_event("room:1", "big", json!({"n": n, "body": body})).await;
            }
            assert_eq!(client.call("room:1", "echo", json!({"body": body}), "ok").await["body"], json!(body));
        }
    }

    async fn client(&self) -> Client<TlsStream<TcpStream>> {
        Client::over(self.connect().await, "/socket/websocket?vsn=2.0.0", &[]).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wss_client_joins_and_receives_a_broadcast_of_a_megabyte() {
    let secure = Secure::serve().await;
    let mut clients = [secure.client().await, secure.client().await];
    secure.say_much(&mut clients, 1_000_000).await;
    for n in 0..100 {
        clients[0].call("room:1", "echo", json!({ "n": n }), "ok").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_events_is_handed_over_with_its_tls() {
    let secure = Secure::serve().await;
    let mut stream = secure.connect().await;
    stream.write_all(head("GET", "/events/room:1", &[("accept", "text/event-stream")]).as_bytes()).await.unwrap();
    eventually("it is a member", async || secure.endpoint.members("room:1").await.len() == 1).await;
    let body = "0123456789".repeat(100_000);
    for n in 0..3 {
        secure.endpoint.broadcast("room:1", "big", json!({"n": n, "body": body})).await.unwrap();
    }
    let endpoint = secure.endpoint.clone();
    let drain = tokio::spawn(async move { endpoint.drain(Drain::default()).await });
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    drop(stream);
    drain.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n0\r\n\r\n"), "{}", answer.len());
    assert_eq!(answer.matches(&format!(r#""body":"{body}""#)).count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wss_client_is_told_why_it_is_closed() {
    let secure = Secure::serve().await;
    let mut client = secure.client().await;
    client.join("room:1").await;
    client.send_text("not a frame").await;
    assert_eq!(client.receive().await, Received::Closed(1011));
    assert_eq!(client.receive().await, Received::Ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_tls_is_let_go() {
    let secure = Secure::serve().await;
    let mut plain = TcpStream::connect(secure.address).await.unwrap();
    plain.write_all(b"GET /socket HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP"));
    eventually("it is counted", async || counter(&secure.endpoint, "connections", "refused_request") == 1).await;
    secure.client().await.assert_untouched().await;
}
