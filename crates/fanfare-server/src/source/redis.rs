//! Channels of Redis, and patterns of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use redis::{Client, RedisError};
use tokio::time::timeout;

use super::{Ended, Source};

/// Taken to connect, and for an answer to a ping.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing comes is looked after so often: one that is half open says nothing by itself.
const PING_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn listen(source: Arc<Source>) -> Ended {
    let client = client(source.url())?;
    let connected = timeout(TIMEOUT, client.get_async_pubsub()).await.map_err(|_| too_late())?;
    let (mut sink, mut messages) = connected.map_err(|error| explain(&error))?.split();
    // A channel is subscribed to by its very name, whatever is in it.
    for channel in source.channels() {
        sink.subscribe(channel).await.map_err(|error| explain(&error))?;
    }
    for pattern in source.settings.patterns.iter().flat_map(|patterns| &patterns.0) {
        sink.psubscribe(pattern).await.map_err(|error| explain(&error))?;
    }
    source.connected();
    loop {
        match timeout(PING_INTERVAL, messages.next()).await {
            Ok(Some(message)) => {
                // Counted where it is skipped.
                let _ = source.deliver(message.get_channel_name(), message.get_payload_bytes()).await;
            }
            Ok(None) => return Err("Redis closed the connection".into()),
            Err(_) => {
                let pong = timeout(TIMEOUT, sink.ping::<redis::Value>()).await.map_err(|_| too_late())?;
                pong.map_err(|error| explain(&error))?;
            }
        }
    }
}

/// A client of an address, which connects when it is first used.
pub(crate) fn client(url: &str) -> Result<Client, String> {
    Client::open(url).map_err(|_| "the address is none of Redis, such as redis://127.0.0.1:6379".into())
}

pub(crate) fn too_late() -> String {
    format!("Redis did not answer within {TIMEOUT:?}")
}

/// What kind of error it is; its text may quote the address.
pub(crate) fn explain(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("Redis answered {code}"),
        None => format!("Redis: {}", error.category()),
    }
}
