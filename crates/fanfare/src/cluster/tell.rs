//! What a node tells others beside messages: to those that are attached to a topic, to one, or to all as a command.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use fanfare_proto::envelope::{Content, Envelope, OVERHEAD_SIZE_MAX};
use fanfare_proto::parcel::{PART_OVERHEAD_MAX, PART_SIZE_MAX};
use fanfare_proto::payload::Payload;
use tokio::sync::oneshot;

use super::{COMMANDS, Cluster, NODES, refused};
use crate::broker::{Done, Incarnation, Undone};
use crate::error::Error;
use crate::history::Append;
use crate::message::Draft;

/// A broker that does not even carry parts of this size carries no parts.
const PART_SIZE_MIN: usize = 1024;

impl Cluster {
    /// Who this node is.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What this node is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where the page of its administrators is; empty where that is not known.
    pub(crate) fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Tells all nodes that are attached to a topic something other than a message. To be called with no lock held.
    pub(crate) fn tell(&self, topic: &Arc<str>, content: Content<'_>, done: Done<Option<u64>>) {
        match self.parts.get() {
            Some(parts) => parts.transport.publish(topic, self.sealed(content), done),
            None => done(Err(Undone::refused("the broker is not connected yet"))),
        }
    }

    /// The same for one node.
    pub(crate) fn tell_one(&self, to: Incarnation, content: Content<'_>, done: Done<()>) {
        match self.parts.get() {
            Some(parts) => parts.transport.send(to, self.sealed(content), done),
            None => done(Err(Undone::refused("the broker is not connected yet"))),
        }
    }

    /// How much of a question or an answer the broker carries in one part.
    pub(crate) fn part_size_max(&self) -> usize {
        let Some(parts) = self.parts.get() else { return PART_SIZE_MAX };
        let halves = std::iter::successors(Some(PART_SIZE_MAX), |size| Some(size / 2));
        let mut sizes = halves.take_while(|size| *size > PART_SIZE_MIN);
        let is_carried = |size: &usize| parts.transport.carries(size + PART_OVERHEAD_MAX + OVERHEAD_SIZE_MAX).is_ok();
        sizes.find(is_carried).unwrap_or(PART_SIZE_MIN)
    }

    /// Has all other nodes do something. Those that are cut off do it when they are back, where the broker keeps logs. Resolves when
    /// the broker has it, or does not take it.
    pub(crate) fn command(&self, event: &str, payload: Payload) -> oneshot::Receiver<()> {
        let (told, answer) = oneshot::channel();
        let Ok(draft) = Draft::new(NODES.into(), event, payload) else { return answer };
        let settled = move |failed: Option<Error>| {
            if let Some(error) = failed {
                tracing::warn!(%error, "other nodes may not have got a command");
            }
            // Nobody may wait for it.
            let _ = told.send(());
        };
        if self.parts.get().is_some_and(|parts| parts.log.is_some()) {
            let settle = Box::new(move |accepted: Result<_, Error>| settled(accepted.err()));
            self.append_to_log(Append { message: draft, retention: COMMANDS, key: None, expected: None, settle });
        } else {
            self.publish(&draft, Box::new(move |published| settled(published.err().map(|undone| refused(&undone)))));
        }
        answer
    }

    fn sealed(&self, content: Content<'_>) -> Bytes {
        let number = self.published.fetch_add(1, Ordering::Relaxed) + 1;
        Envelope { origin: self.incarnation, number, content }.to_bytes()
    }
}
