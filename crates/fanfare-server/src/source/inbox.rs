//! What has come from a server that cannot be held up, and waits for the engine: channels of Redis and subjects of NATS.
//!
//! Their drivers must be emptied whatever the engine does, or they grow, or are cut off. So messages wait here, up to bounds
//! of the configuration, also while the connection is lost; what comes above them is lost, and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::publish::Publish;
use super::{Standing, Stop, stopped};
use crate::config::source::Source as Settings;

/// The messages of one source that wait.
pub(super) struct Inbox {
    pub(super) standing: Arc<Standing>,
    messages_max: usize,
    bytes_max: usize,
    waiting: Mutex<Waiting>,
    /// There is something to publish.
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    /// By channel.
    messages: VecDeque<(String, Bytes)>,
    bytes: usize,
}

impl Inbox {
    pub(super) fn new(settings: &Settings, standing: Arc<Standing>) -> Self {
        Self {
            standing,
            messages_max: settings.waiting_messages_max.0 as usize,
            bytes_max: settings.waiting_bytes_max.0 as usize,
            waiting: Mutex::default(),
            more: Notify::new(),
        }
    }

    /// Takes a message, if there is room.
    pub(super) fn put(&self, channel: &str, body: impl Into<Bytes>) {
        let (channel, body) = (channel.to_owned(), body.into());
        let size = channel.len() + body.len();
        let mut waiting = self.waiting();
        let is_full = waiting.messages.len() >= self.messages_max || waiting.bytes + size > self.bytes_max;
        // One that is larger than all that may wait is for `message_size_max` to judge.
        if is_full && !waiting.messages.is_empty() {
            drop(waiting);
            return self.standing.overruns(1);
        }
        waiting.bytes += size;
        waiting.messages.push_back((channel, body));
        drop(waiting);
        self.more.notify_one();
    }

    /// Publishes what comes, in order, until the server stops.
    pub(super) async fn empty(self: Arc<Self>, mut publish: Publish, mut stop: Stop) {
        loop {
            let Some((channel, body)) = self.next() else {
                self.standing.keeps_up();
                tokio::select! {
                    () = self.more.notified() => continue,
                    () = stopped(&mut stop) => return,
                }
            };
            let taken = publish.take(&channel, &body);
            if !publish.publish_in_time(taken, &mut stop).await {
                let left = self.waiting().messages.len() + 1;
                let source = &self.standing.name;
                tracing::warn!(source, left, "the server stops, and what waited to be published is lost");
                return;
            }
        }
    }

    fn next(&self) -> Option<(String, Bytes)> {
        let mut waiting = self.waiting();
        let (channel, body) = waiting.messages.pop_front()?;
        waiting.bytes -= channel.len() + body.len();
        Some((channel, body))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
