//! How a link stands, as its thread knows it and others ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::broker::BrokerLink;

/// How a link stands.
#[derive(Debug)]
pub(super) struct Pulse {
    state: Mutex<State>,
    ups: AtomicU64,
}

#[derive(Debug)]
struct State {
    since: Instant,
    /// `None` while it is up.
    down: Option<Arc<str>>,
    /// When the node heard its own message last, and how long that had taken.
    heard: Option<(Instant, Duration)>,
}

impl Pulse {
    pub(super) fn new() -> Self {
        let down = Some("it is being connected to, and has neither answered nor refused".into());
        Pulse { state: Mutex::new(State { since: Instant::now(), down, heard: None }), ups: AtomicU64::new(0) }
    }

    pub(super) fn is_up(&self) {
        self.ups.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        (state.since, state.down) = (Instant::now(), None);
    }

    /// It is down, or still is, for this reason.
    pub(super) fn is_down(&self, why: &Arc<str>) {
        let mut state = self.state.lock();
        if state.down.replace(why.clone()).is_none() {
            state.since = Instant::now();
        }
    }

    /// The node has heard what it had sent itself at this moment.
    pub(super) fn heard(&self, sent: Instant) {
        self.state.lock().heard = Some((Instant::now(), sent.elapsed()));
    }

    /// Why it is down, if it is.
    pub(super) fn down(&self) -> Option<Arc<str>> {
        self.state.lock().down.clone()
    }

    /// Whether it is up.
    pub(super) fn is_beating(&self) -> bool {
        self.state.lock().down.is_none()
    }

    /// How it stands now.
    pub(super) fn stands(&self, name: &str) -> BrokerLink {
        let State { since, down, heard } = &*self.state.lock();
        BrokerLink {
            down: down.as_ref().map(|why| why.to_string()),
            since: since.elapsed(),
            heard: heard.map(|(at, _)| at.elapsed()),
            round: heard.map(|(_, round)| round),
            ups: self.ups.load(Ordering::Relaxed),
            ..BrokerLink::new(name)
        }
    }
}
