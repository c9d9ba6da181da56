//! Subjects of NATS. The client connects again and subscribes again by itself.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, Event};
use futures_util::StreamExt;
use futures_util::stream::select_all;

use super::{Ended, Source};

const TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn listen(source: Arc<Source>) -> Ended {
    let watched = source.clone();
    let on_event = move |event| {
        let source = watched.clone();
        async move {
            match event {
                Event::Connected => source.connected(),
                Event::Disconnected => source.lost("NATS closed the connection"),
                Event::SlowConsumer(_) => source.skip(super::Skip::Overrun),
                _ => {}
            }
        }
    };
    let options = ConnectOptions::new()
        .name("fanfare")
        .connection_timeout(TIMEOUT)
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(|attempts| super::BACKOFF_MIN * (1 << attempts.min(4)))
        .event_callback(on_event);
    let connected = options.connect(source.url()).await;
    let client = connected.map_err(|error| format!("no connection to NATS: {}", error.kind()))?;
    let mut subscriptions = Vec::new();
    for subject in source.channels() {
        let subscribed = match &source.settings.group {
            Some(group) => client.queue_subscribe(subject.clone(), group.clone()).await,
            None => client.subscribe(subject.clone()).await,
        };
        subscriptions.push(subscribed.map_err(|error| format!("NATS: {subject:?} cannot be subscribed to: {error}"))?);
    }
    client.flush().await.map_err(|error| format!("NATS: {error}"))?;
    source.connected();
    let mut messages = select_all(subscriptions);
    while let Some(message) = messages.next().await {
        // Counted where it is skipped.
        let _ = source.deliver(&message.subject, &message.payload).await;
    }
    Err("NATS ended the subscriptions".into())
}
