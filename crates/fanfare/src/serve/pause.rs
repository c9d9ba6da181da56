//! A server that accepts nothing for a while: its listener stays open, and whoever connects waits in the kernel.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Lets a [`Server`](super::Server) accept nothing for a while. Connections wait in the kernel meanwhile, for this process or for another that
/// has the [listener](super::Server::listener) too: by this a process hands its port to the next one, and nobody is refused.
#[derive(Debug, Clone)]
pub struct Pause(Arc<State>);

#[derive(Debug)]
struct State {
    is_accepting: watch::Sender<bool>,
    arriving: watch::Sender<()>,
}

/// Held for a connection until its first request has been read.
#[derive(Debug)]
pub(super) struct Arriving(#[expect(dead_code, reason = "it counts by being there")] watch::Receiver<()>);

impl Pause {
    pub(super) fn new() -> Self {
        Pause(Arc::new(State { is_accepting: watch::Sender::new(true), arriving: watch::Sender::new(()) }))
    }

    /// Accepts nothing from now on, and waits until every connection that was accepted before has sent its first request, or for `limit`.
    pub async fn begin(&self, limit: Duration) {
        self.0.is_accepting.send_replace(false);
        // One that says nothing is no reason to let others wait.
        let _ = tokio::time::timeout(limit, self.0.arriving.closed()).await;
    }

    /// Goes on accepting.
    pub fn end(&self) {
        self.0.is_accepting.send_replace(true);
    }

    pub(super) fn is_accepting(&self) -> watch::Receiver<bool> {
        self.0.is_accepting.subscribe()
    }

    pub(super) fn arrives(&self) -> Arriving {
        Arriving(self.0.arriving.subscribe())
    }
}
