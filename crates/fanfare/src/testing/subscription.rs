//! What is broadcast on a topic, seen from outside of any channel.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::expected::{Expected, as_value};
use super::{ARRIVAL_MAX, let_arrive};
use crate::endpoint::Endpoint;
use crate::message::Broadcast;
use crate::registry::LocalSocket;

/// A subscription to a topic.
pub struct TestSubscription {
    endpoint: Endpoint,
    heard: Mutex<Heard>,
}

struct Heard {
    socket: LocalSocket,
    /// What no assertion has taken yet.
    kept: Vec<Broadcast>,
}

impl TestSubscription {
    pub(super) fn new(endpoint: Endpoint, socket: LocalSocket) -> Self {
        TestSubscription { endpoint, heard: Mutex::new(Heard { socket, kept: Vec::new() }) }
    }

    /// Asserts that an event is broadcast, and returns its payload.
    ///
    /// # Panics
    /// It is not within a second.
    #[track_caller]
    pub fn assert_broadcast(&self, event: &str, payload: impl Into<Expected>) -> impl Future<Output = Value> {
        let (at, payload) = (Location::caller(), payload.into());
        async move {
            let mut heard = self.heard.lock().await;
            let fits = |one: &Broadcast| one.event() == event && payload.matches(&as_value(one.payload()));
            match heard.take(fits).await {
                Some(broadcast) => as_value(broadcast.payload()),
                None => panic!("expected a broadcast of {event:?} with {payload} ({at}); {heard}"),
            }
        }
    }

    /// Asserts that an event has not been broadcast.
    ///
    /// # Panics
    /// It has, and no assertion took it.
    #[track_caller]
    pub fn refute_broadcast(&self, event: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let_arrive(&self.endpoint).await;
            if let Some(broadcast) = self.heard.lock().await.take_arrived(|one| one.event() == event) {
                panic!("unexpected broadcast of {event:?} ({at}): {}", as_value(broadcast.payload()));
            }
        }
    }
}

impl fmt::Debug for TestSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestSubscription")
    }
}

impl Heard {
    async fn take(&mut self, fits: impl Fn(&Broadcast) -> bool) -> Option<Broadcast> {
        let deadline = Instant::now() + ARRIVAL_MAX;
        loop {
            if let Some(broadcast) = self.take_arrived(&fits) {
                return Some(broadcast);
            }
            let broadcast = timeout_at(deadline, self.socket.recv()).await.ok()??;
            self.kept.push(broadcast);
        }
    }

    fn take_arrived(&mut self, fits: impl Fn(&Broadcast) -> bool) -> Option<Broadcast> {
        while let Some(broadcast) = self.socket.try_recv() {
            self.kept.push(broadcast);
        }
        let index = self.kept.iter().position(fits)?;
        Some(self.kept.remove(index))
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kept.is_empty() {
            return f.write_str("nothing was broadcast");
        }
        f.write_str("these were broadcast and not asserted:")?;
        self.kept.iter().try_for_each(|one| write!(f, "\n  {:?}: {}", one.event(), as_value(one.payload())))
    }
}
