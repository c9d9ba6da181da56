//! What the shards of a node share with its endpoint.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::clock::Clock;
use crate::figures::Labels;
use crate::interest::Interest;
use crate::outbox::Outboxes;
use crate::policy::Policies;
use crate::room::{Inboxes, Waiting};
use crate::tap::Taps;
use crate::trace::Tracing;

/// What a shard shares with the rest of the engine. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) interest: Arc<Interest>,
    pub(crate) policies: Arc<Policies>,
    /// What may wait to be handed out, for each shard.
    pub(crate) waiting: Waiting,
    /// What waits for all sockets.
    pub(crate) outboxes: Arc<Outboxes>,
    /// What all sockets hold of what was sent to them.
    pub(crate) inboxes: Arc<Inboxes>,
    /// By which figures of topics are told apart.
    pub(crate) labels: Arc<Labels>,
    /// Runs of channels' code that went on on the runtime and are not finished.
    pub(crate) running: Arc<AtomicUsize>,
    /// Who watches.
    pub(crate) taps: Arc<Taps>,
    /// What is traced.
    pub(crate) tracing: Tracing,
}
