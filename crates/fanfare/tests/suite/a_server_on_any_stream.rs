//! Whatever a server runs on, the shard gets a stream: what is no socket of the kernel is bridged.

use fanfare::Endpoint;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::DuplexStream;

use crate::support::client::{Client, Received};
use crate::support::{eventually, stage};

/// A client over a pipe in memory, served by hyper.
async fn client(endpoint: &Endpoint) -> Client<DuplexStream> {
    let (near, far) = tokio::io::duplex(4_096);
    let service = endpoint.clone();
    tokio::spawn(async move {
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
        served.with_upgrades().await.unwrap();
    });
    Client::over(near, "/socket/websocket?vsn=2.0.0", &[]).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridged_stream_carries_everything() {
    let endpoint = Endpoint::builder().shards(2).mount("/socket", stage()).build().await.unwrap();
    let mut clients = [client(&endpoint).await, client(&endpoint).await];
    for client in &mut clients {
        client.join("room:1").await;
    }
    let body = "x".repeat(1_000_000);
    clients[0].push("room:1", "room:1", "shout", json!({ "body": body })).await;
    for client in &mut clients {
        client.assert_event("room:1", "shout", json!({ "body": body })).await;
        client.assert_untouched().await;
    }
    let [mut first, second] = clients;
    first.send_text("[]").await;
    assert_eq!(first.receive().await, Received::Closed(1011));
    assert_eq!(first.receive().await, Received::Ended);
    drop(second);
    eventually("a dropped pipe is a lost connection", async || endpoint.sockets() == 0).await;
}
