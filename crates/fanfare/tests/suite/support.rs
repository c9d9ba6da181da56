//! What the tests share: a server on a port of its own, a client that speaks frames, a channel for every rule.

pub(crate) mod brokers;
pub(crate) mod client;
pub(crate) mod guest;
pub(crate) mod http;
pub(crate) mod nodes;
pub(crate) mod roster;
pub(crate) mod stage;
pub(crate) mod supabase;

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use fanfare::serve::Server;
use fanfare::{Builder, Endpoint, Mount};

use client::Client;
use stage::Stage;

/// Nothing that a test waits for takes longer on an idle machine; a busy one gets this much.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An endpoint that listens on a free port.
pub(crate) struct Served {
    pub(crate) endpoint: Endpoint,
    pub(crate) address: SocketAddr,
}

/// Serves what the builder says, until the test ends.
pub(crate) async fn serve(builder: Builder) -> Served {
    serve_endpoint(builder.build().await.unwrap()).await
}

/// The same for an endpoint that is built already.
pub(crate) async fn serve_endpoint(endpoint: Endpoint) -> Served {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().upgrades_first();
    let address = server.local_addr().unwrap();
    let served = endpoint.clone();
    tokio::spawn(async move { server.serve(served.clone(), &served, pending()).await });
    Served { endpoint, address }
}

/// Serves one mount at `/socket` on two shards.
pub(crate) async fn serve_mount(mount: Mount) -> Served {
    serve(Endpoint::builder().shards(2).mount("/socket", mount)).await
}

/// A mount where the topics `room:*` behave as a [`Stage`].
pub(crate) fn stage() -> Mount {
    Mount::new().channel("room:*", Stage::default())
}

impl Served {
    /// A client of version 2.0.0 at `/socket`.
    pub(crate) async fn client(&self) -> Client {
        self.client_at("/socket/websocket?vsn=2.0.0").await
    }

    pub(crate) async fn client_at(&self, target: &str) -> Client {
        match Client::connect(self.address, target, &[]).await {
            Ok(client) => client,
            Err(answer) => panic!("{target}: {answer:?}"),
        }
    }

    /// Waits until a topic has so many members.
    pub(crate) async fn has_members(&self, topic: &str, count: usize) {
        eventually("members", async || self.endpoint.members(topic).await.len() == count).await;
    }

    pub(crate) fn counter(&self, name: &str, reason: &str) -> u64 {
        counter(&self.endpoint, name, reason)
    }
}

pub(crate) fn counter(endpoint: &Endpoint, name: &str, reason: &str) -> u64 {
    let found = endpoint.counters().into_iter().find(|counter| (counter.0, counter.1) == (name, reason));
    found.unwrap_or_else(|| panic!("no counter {name}/{reason}")).2
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
