//! What nodes tell each other on a topic that no client can join: that they live, that they end, and what all of them are to do.

use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::envelope::{Content, Envelope, Heartbeat, Incarnation, VERSION};
use fanfare_proto::parcel::Part;
use fanfare_proto::payload::{Payload, Text};
use tokio::sync::oneshot;

use super::Endpoint;
use super::holding::{ENDED, TAKEN_OVER};
use super::pace::Pace;
use crate::cluster::NODES;
use crate::mailbox::{Command, Question, ShardHandle};
use crate::message::Message;
use crate::presence;

/// A node ends.
const BYE: &str = "bye";

/// It waits this long for the broker to have taken that.
const BYE_MAX: Duration = Duration::from_secs(1);

/// Sockets with an id are to be closed.
const DISCONNECT: &str = "disconnect";

/// How often a node looks who is silent. Every second time it says that it lives itself.
const LOOK_MS: u64 = 1_000;

/// The version of this crate.
fn release() -> [u64; 3] {
    let number = |text: &str| text.parse().unwrap_or_default();
    [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")].map(number)
}

impl Endpoint {
    pub(super) fn pulse(&self, beats: bool) {
        presence::look(self);
        self.forget_lost_questions();
        self.look_after_holds();
        if beats {
            self.beat();
        }
        let (due_ms, weak) = (self.clock().now_ms() + LOOK_MS, self.downgrade());
        let run = Box::new(move || {
            if let Some(endpoint) = weak.upgrade() {
                endpoint.pulse(!beats);
            }
        });
        self.any_shard().send(Command::RunAt { due_ms, run });
    }

    /// Lets the other nodes know that this one lives.
    pub(super) fn beat(&self) {
        if let Some(cluster) = &self.0.cluster {
            let overview = self.overview();
            let (sockets, joins) = (overview.sockets as u64, overview.members);
            let topics = overview.channels.iter().map(|channel| channel.topics).sum();
            let Pace { published_rate, delivered_rate, p99_us } = self.pace(overview);
            let beat = Heartbeat {
                version_min: VERSION,
                version_max: VERSION,
                sockets,
                joins,
                clock_us: 0,
                topics,
                release: release(),
                name: cluster.name().into(),
                published_rate,
                delivered_rate,
                p99_us,
                admin_url: cluster.admin_url().into(),
            };
            // One that is lost is followed by others.
            cluster.tell(&NODES.into(), Content::Heartbeat(beat), Box::new(|_| ()));
        }
    }

    /// Closes every socket with this id, with 1001, on all nodes. One that is cut off does it when it is back, if the broker keeps histories.
    /// How many there were on this one.
    pub async fn disconnect(&self, socket_id: &str) -> usize {
        let closing = self.disconnect_here(&socket_id.into());
        if let Some(cluster) = &self.0.cluster {
            // Its own sockets are closed whether or not the others are told.
            drop(cluster.command(DISCONNECT, Text::copy(socket_id).into()));
        }
        let mut closed = 0;
        for shard in closing {
            closed += shard.await.unwrap_or_default();
        }
        closed
    }

    /// Lets other nodes know that this one ends, so that they need not find out.
    pub(super) async fn say_goodbye(&self) {
        if let Some(cluster) = &self.0.cluster {
            let told = cluster.command(BYE, Text::copy(&cluster.incarnation().to_string()).into());
            // Otherwise its lease tells them.
            let _ = tokio::time::timeout(BYE_MAX, told).await;
        }
    }

    /// Does what another node has all of them do.
    pub(super) fn obey(&self, message: &Message) {
        let Payload::Text(text) = &message.payload else { return };
        match &*message.event {
            TAKEN_OVER => self.taken_over_elsewhere(text.as_str().into()),
            ENDED => self.ended_elsewhere(text.as_str().into()),
            DISCONNECT => drop(self.disconnect_here(&text.as_str().into())),
            BYE => {
                let node = u64::from_str_radix(text.as_str(), 16).ok().and_then(Incarnation::new);
                node.iter().for_each(|node| {
                    presence::bye(self, *node);
                    self.node_has_left(*node);
                });
            }
            // A later version may have others.
            _ => {}
        }
    }

    /// All shards are asked before the first is waited for.
    fn disconnect_here(&self, socket_id: &Arc<str>) -> Vec<oneshot::Receiver<usize>> {
        let ask =
            |shard: &ShardHandle| shard.ask_later(|answer| Question::Disconnect { id: socket_id.clone(), answer });
        self.shards().iter().map(ask).collect()
    }

    /// Something other than a message has come of a node, this one included: on a topic's channel, or in the inbox.
    pub(super) fn heard(&self, channel: Option<&str>, envelope: &Envelope<'_>) {
        match &envelope.content {
            Content::Heartbeat(beat) => {
                presence::heard_beat(self, envelope.origin);
                self.note_beat(envelope.origin, beat);
            }
            Content::Request(part) => {
                if let Ok(part) = Part::read(part) {
                    self.is_asked(envelope.origin, part);
                }
            }
            Content::Response(part) => {
                if let Ok(part) = Part::read(part) {
                    self.is_answered(envelope.origin, part);
                }
            }
            _ => presence::heard(self, channel, envelope),
        }
    }
}
