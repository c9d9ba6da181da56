//! WebSocket over TLS, driven by the shard like a plain one.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use fanfare::Endpoint;
use fanfare::serve::Server;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::client::{Client, Received};
use crate::support::{counter, eventually, stage};

struct Secure {
    endpoint: Endpoint,
    address: SocketAddr,
    connector: TlsConnector,
}

impl Secure {
    async fn serve() -> Secure {
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.clone()], key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();

        let endpoint = Endpoint::builder().shards(2).mount("/socket", stage()).build().await.unwrap();
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().tls(Arc::new(config));
        let address = server.local_addr().unwrap();
        let served = endpoint.clone();
        tokio::spawn(async move { server.serve(served.clone(), &served, pending()).await });
        Secure { endpoint, address, connector: Arc::new(client).into() }
    }

    async fn client(&self) -> Client<TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = self.connector.connect(name, tcp).await.unwrap();
        Client::over(stream, "/socket/websocket?vsn=2.0.0", &[]).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wss_client_joins_and_receives_a_broadcast_of_a_megabyte() {
    let secure = Secure::serve().await;
    let mut clients = [secure.client().await, secure.client().await];
    for client in &mut clients {
        client.join("room:1").await;
    }
    let body = "0123456789".repeat(100_000);
    for n in 0..3 {
        secure.endpoint.broadcast("room:1", "big", json!({"n": n, "body": body})).await.unwrap();
    }
    for client in &mut clients {
        for n in 0..3 {
            client.assert_event("room:1", "big", json!({"n": n, "body": body})).await;
        }
        assert_eq!(client.call("room:1", "echo", json!({"body": body}), "ok").await["body"], json!(body));
    }
    for n in 0..100 {
        clients[0].call("room:1", "echo", json!({ "n": n }), "ok").await;
    }
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
    tokio::io::AsyncWriteExt::write_all(&mut plain, b"GET /socket HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut plain, &mut rest).await;
    assert!(!rest.starts_with(b"HTTP"));
    eventually("it is counted", async || counter(&secure.endpoint, "connections", "refused_request") == 1).await;
    secure.client().await.assert_untouched().await;
}
