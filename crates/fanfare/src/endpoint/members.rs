//! The members on this node, as the cluster reaches them, and what the endpoint asks the cluster for.

use std::sync::{Arc, Weak};
use std::time::Duration;

use fanfare_proto::envelope::{Envelope, Incarnation};
use fanfare_proto::position::Position;
use tokio::sync::oneshot;

use super::{Endpoint, Engine};
use crate::broker::{Broker, BrokerLink};
use crate::cluster::{HoldOver, Local, NODES};
use crate::error::Error;
use crate::interest::{ShardSet, Watch};
use crate::key::SocketKey;
use crate::mailbox::{AdmittedSocket, Command};
use crate::message::Message;
use crate::presence;
use crate::room::Share;
use crate::transport::Carrier;

/// How often a node of a cluster looks whether something is due.
const TICK: Duration = Duration::from_millis(20);

/// Does not keep the endpoint alive.
struct Members(Weak<Engine>);

impl Members {
    fn endpoint(&self) -> Option<Endpoint> {
        self.0.upgrade().map(Endpoint)
    }
}

impl Local for Members {
    fn is_interested(&self, topic: &str) -> bool {
        topic == NODES || self.endpoint().is_some_and(|endpoint| endpoint.has_members(topic))
    }

    fn is_full(&self, topic: &str, _size: usize) -> bool {
        self.endpoint().is_some_and(|endpoint| {
            let (interested, _) = endpoint.interest().shards_of(topic);
            let mut shards = endpoint.shards().iter().enumerate().filter(|&(number, _)| interested.contains(number));
            shards.any(|(_, shard)| shard.room(Share::Live).is_full() || shard.room(Share::Kept).is_full())
        })
    }

    fn hand_out(&self, message: &Arc<Message>) {
        match self.endpoint() {
            Some(endpoint) if *message.topic == *NODES => endpoint.obey(message),
            Some(endpoint) => endpoint.hand_out_from_afar(message),
            None => {}
        }
    }

    fn has_lost(&self, topic: &Arc<str>, from: Option<Position>, to: Option<Position>) {
        let Some(endpoint) = self.endpoint() else { return };
        let (interested, _) = endpoint.interest().shards_of(topic);
        for (_, shard) in endpoint.shards().iter().enumerate().filter(|&(number, _)| interested.contains(number)) {
            shard.send(Command::Lost { topic: topic.clone(), from, to });
        }
    }

    fn heard(&self, channel: Option<&str>, envelope: &Envelope<'_>) {
        if let Some(endpoint) = self.endpoint() {
            endpoint.heard(channel, envelope);
        }
    }

    fn attached(&self, topic: &str) {
        if let Some(endpoint) = self.endpoint() {
            presence::attached(&endpoint, topic);
        }
    }

    fn lets_go(&self, topic: &str) -> bool {
        self.endpoint().is_none_or(|endpoint| presence::lets_go(&endpoint, topic))
    }

    fn is_lost(&self, node: Incarnation) -> bool {
        self.endpoint().is_none_or(|endpoint| presence::is_lost(&endpoint, node))
    }

    fn hold_is_over(&self, topic: &Arc<str>, over: HoldOver) {
        if let Some(endpoint) = self.endpoint() {
            endpoint.hold_is_over(topic, over);
        }
    }

    fn link_is_up(&self) {
        if let Some(endpoint) = self.endpoint() {
            endpoint.beat();
            endpoint.check_holds();
            presence::repair(&endpoint);
        }
    }
}

impl Endpoint {
    /// Becomes a node among others.
    pub(crate) fn begin_cluster(&self, broker: Broker) -> Result<(), Error> {
        let Some(cluster) = &self.0.cluster else { return Ok(()) };
        cluster.begin(broker, Box::new(Members(Arc::downgrade(&self.0))))?;
        self.keep_time();
        // The other nodes know that this one lives for as long as it does.
        cluster.changed(&NODES.into());
        self.pulse(true);
        Ok(())
    }

    /// Whether a topic has members on this node, where there are others.
    pub(crate) fn has_members(&self, topic: &str) -> bool {
        self.interest().shards_of(topic).0 != ShardSet::NONE
    }

    /// Lets the cluster's timers run for as long as the endpoint does. Where time stands still, whoever moves it does that.
    fn keep_time(&self) {
        if self.clock().is_virtual() {
            return;
        }
        let engine = Arc::downgrade(&self.0);
        self.runtime().spawn(async move {
            let mut interval = tokio::time::interval(TICK);
            loop {
                interval.tick().await;
                let Some(engine) = engine.upgrade() else { return };
                Endpoint(engine).tick();
            }
        });
    }

    /// Does what is due in the cluster.
    pub(crate) fn tick(&self) {
        if let Some(cluster) = &self.0.cluster {
            cluster.tick();
        }
    }

    /// When something is due there next.
    #[cfg(feature = "testing")]
    pub(crate) fn next_tick_ms(&self) -> Option<u64> {
        self.0.cluster.as_ref().and_then(|cluster| cluster.next_ms())
    }

    /// How the links of this node to its broker stand: none without a broker.
    pub fn broker_links(&self) -> Vec<BrokerLink> {
        self.0.cluster.as_ref().map(|cluster| cluster.links()).unwrap_or_default()
    }

    /// Whether other nodes share topics with this one.
    pub(crate) fn is_among_others(&self) -> bool {
        self.0.cluster.is_some()
    }

    /// Whether other nodes do not get what is published to a topic now.
    pub(crate) fn is_cut_off(&self, topic: &str) -> bool {
        self.0.cluster.as_ref().is_some_and(|cluster| !cluster.is_up(topic))
    }

    /// Resolves when a topic gets what is published on other nodes; `None` if it does.
    pub(crate) fn attachment(&self, topic: &Arc<str>) -> Option<oneshot::Receiver<Result<(), Error>>> {
        self.0.cluster.as_ref()?.attachment(topic)
    }

    /// Gives a new socket to its shard, and waits until what other nodes publish to its topics from then on reaches it.
    pub(crate) async fn attach_among_others(
        &self,
        admitted: AdmittedSocket,
        carrier: Carrier,
    ) -> Result<SocketKey, Error> {
        let topics = self.topics_elsewhere(&admitted);
        let key = self.attach(admitted, carrier).await?;
        self.get_from_others(&topics).await;
        Ok(key)
    }

    /// The topics to which a socket is joined at once, where other nodes may publish to them.
    pub(crate) fn topics_elsewhere(&self, admitted: &AdmittedSocket) -> Vec<Arc<str>> {
        match &self.0.cluster {
            Some(_) => admitted.topics.iter().map(|given| given.topic.clone()).collect(),
            None => Vec::new(),
        }
    }

    /// Waits until what other nodes publish to topics with members reaches this one. If the broker does not confirm that in time nobody is
    /// kept out: who can resume gets it then, and the others were promised nothing.
    pub(crate) async fn get_from_others(&self, topics: &[Arc<str>]) {
        // All are asked for before the first is waited for.
        let attachments: Vec<_> = topics.iter().filter_map(|topic| self.attachment(topic)).collect();
        for attached in attachments {
            let _ = attached.await;
        }
    }
}
