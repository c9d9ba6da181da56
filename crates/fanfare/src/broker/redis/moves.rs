//! What links of a cluster tell when a server does not have a slot, or not any more.

use std::sync::Arc;

use super::request::Redirected;
use super::slots::{Redirection, Slot};

/// Which of the two links to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Ordered,
    Bulk,
}

/// Told on the threads of links.
pub(super) trait Moves: Send + Sync {
    /// The slots of the server at present.
    fn slots(&self) -> Vec<(Slot, Slot)>;

    /// A command is to be carried out elsewhere. Those of one link are told in their order.
    fn redirected(&self, lane: Lane, redirected: Redirected, to: Redirection);

    /// A topic is not attached at this server any more, since its slot has gone.
    fn lost(&self, topic: &Arc<str>);

    /// Servers may have changed.
    fn look(&self);
}
