//! The broker's side of a node: it is connected, and told what arrives.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use fanfare_proto::envelope::Envelope;

use super::{COMMANDS, Cluster, Local, NODES};
use crate::broker::{Broker, Deliver, LinkId, LinkState, Logs, Stamp};
use crate::error::Error;
use crate::event::Event;

impl Cluster {
    /// Connects it to its broker and its members.
    ///
    /// # Errors
    /// See [`Builder::build`](crate::Builder::build).
    pub(crate) fn begin(&self, broker: Broker, local: Box<dyn Local>) -> Result<(), Error> {
        // Only now can something arrive for members.
        let _ = self.local.set(local);
        let parts = broker.open(self.incarnation, Arc::new(Ear(self.me.clone())), self.logs())?;
        if parts.log.is_none() && self.policies.have_history() {
            return Err(Error::invalid(
                "topics have a history, and this broker keeps none: use one that does, or give no topic a history",
            ));
        }
        let _ = self.parts.set(parts);
        // These said so before the broker could be asked for anything.
        self.links.up().into_iter().for_each(|link| self.link_is_up(link));
        Ok(())
    }

    /// Which topics keep logs. Where none does, what all nodes are to do is kept in none either.
    fn logs(&self) -> Logs {
        let mut kinds: Vec<_> = self.policies.retentions().collect();
        if !kinds.is_empty() {
            kinds.push(COMMANDS);
        }
        let policies = self.policies.clone();
        let of = Arc::new(move |topic: &str| if topic == NODES { Some(COMMANDS) } else { policies.retention(topic) });
        Logs { kinds, of }
    }
}

/// What the broker tells: it must not keep the node alive.
struct Ear(Weak<Cluster>);

impl Deliver for Ear {
    fn live(&self, topic: &str, envelope: Bytes, stamp: Option<Stamp>) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.live(topic, &envelope, stamp);
        }
    }

    fn inbox(&self, envelope: Bytes) {
        let Some(cluster) = self.0.upgrade() else { return };
        match (Envelope::read(&envelope), cluster.local.get()) {
            (Ok(envelope), Some(local)) => local.heard(None, &envelope),
            (Err(_), _) => cluster.counters.count(Event::BrokerUnread),
            (Ok(_), None) => {}
        }
    }

    fn link(&self, link: LinkId, state: LinkState) {
        let Some(cluster) = self.0.upgrade() else { return };
        match state {
            LinkState::Up { server } => {
                tracing::info!(%server, "the broker is connected");
                cluster.links.set(link, true, cluster.now_ms());
                cluster.link_is_up(link);
                if let Some(local) = cluster.local.get() {
                    local.link_is_up();
                }
            }
            LinkState::Down { why } => {
                tracing::warn!(%why, "the broker is not connected");
                cluster.links.set(link, false, cluster.now_ms());
            }
        }
    }

    fn doubtful(&self, topic: &str) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.doubt(topic);
        }
    }
}
