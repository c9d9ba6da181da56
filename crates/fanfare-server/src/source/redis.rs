//! Channels and patterns of Redis.
//!
//! Redis tells each connection what it has subscribed to in order, and nothing of what was published while there was no
//! connection: whoever needs that takes a stream.

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::PubSub;
use redis::{Client, RedisError};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::inbox::Inbox;
use super::{LOOK_EVERY, PATIENCE, Stop, stopped};
use crate::config::source::Source as Settings;

/// Connects, subscribes, and hands over what comes.
pub(super) async fn listen(url: &str, settings: &Settings, inbox: &Inbox, mut stop: Stop) -> Result<(), String> {
    let connected = timeout(PATIENCE, subscribe(url, settings)).await.map_err(|_| no_answer())?;
    let (mut sink, mut messages) = connected.map_err(|error| error.to_string())?.split();
    inbox.standing.connected();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => {
                    // A channel's name may be any bytes; a topic is text, and what stands in for others will not do for one.
                    let channel = String::from_utf8_lossy(message.get_channel_name().as_bytes());
                    inbox.put(&channel, Bytes::copy_from_slice(message.get_payload_bytes()));
                }
                None => return Err("the connection is lost".into()),
            },
            // A connection may be dead without anybody having said so.
            _ = look.tick() => {
                let answer = timeout(PATIENCE, sink.ping::<redis::Value>()).await.map_err(|_| no_answer())?;
                answer.map_err(|error| error.to_string())?;
            }
            () = stopped(&mut stop) => return Ok(()),
        }
    }
}

async fn subscribe(url: &str, settings: &Settings) -> Result<PubSub, RedisError> {
    let mut pubsub = Client::open(url)?.get_async_pubsub().await?;
    if let Some(channels) = &settings.channels {
        pubsub.subscribe(&channels.0).await?;
    }
    if let Some(patterns) = &settings.patterns {
        pubsub.psubscribe(&patterns.0).await?;
    }
    Ok(pubsub)
}

pub(super) fn no_answer() -> String {
    format!("no answer within {PATIENCE:?}")
}
