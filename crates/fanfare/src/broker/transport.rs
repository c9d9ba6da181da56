//! Live messages: to all nodes that are attached to a topic, and to one node.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{BrokerLink, Done, Head, Incarnation, Stamp, Undone};

/// Carries envelopes between nodes, at most once.
///
/// - **Per (publishing node, topic), in the order of the calls.** Nothing is promised between topics, nor between publishers; the order
///   between publishers is a [`Log`](super::Log)'s.
/// - A node is also given what it published itself, which it knows by the incarnation and number in the envelope.
/// - Topics are bytes and literal, whatever a broker's names and patterns look like; nothing is delivered under another name.
/// - More than [`COMMANDS_WAITING_MAX`](super::COMMANDS_WAITING_MAX) commands or
///   [`COMMANDS_WAITING_BYTES_MAX`](super::COMMANDS_WAITING_BYTES_MAX) for one link are refused, and so are attachments above
///   [`ATTACHMENTS_MAX`](super::ATTACHMENTS_MAX), and an envelope that the broker cannot carry.
pub(crate) trait Transport: Send + Sync + fmt::Debug {
    /// Begins to deliver a topic. After `done`, everything that the broker accepts for it is delivered, until `done` of
    /// [`detach`](Transport::detach) or [`LinkState::Down`]; nothing is delivered before the call or after that.
    ///
    /// With `wants_head` the answer has the head of the topic's log, **read after the subscription is in force**: a message that is
    /// not delivered is at or before that head. What is delivered before `done` may be on either side of it. A topic that the
    /// log does not know begins there: it gets a fresh epoch, which holds for as long as somebody is attached.
    ///
    /// A link that comes back attaches all its topics again by itself; nobody calls this for it.
    fn attach(&self, topic: &Arc<str>, wants_head: bool, done: Done<Attached>);

    /// Ends it. `attach` may be called again at once: the calls take effect in their order.
    fn detach(&self, topic: &str, done: Done<()>);

    /// Gives an envelope to all nodes that are attached to a topic, and says how many those are, where the broker knows.
    fn publish(&self, topic: &Arc<str>, envelope: Bytes, done: Done<Option<u64>>);

    /// Gives an envelope to one node's inbox, to which every node is attached for as long as it runs.
    fn send(&self, to: Incarnation, envelope: Bytes, done: Done<()>);

    /// Whether it can carry an envelope of this size, as far as that is known before it is tried.
    ///
    /// # Errors
    /// It cannot.
    fn carries(&self, size: usize) -> Result<(), Undone>;

    /// The link that owns a topic at present.
    fn link_of(&self, topic: &str) -> LinkId;

    /// How each of them stands, for those who ask this node. What is counted of topics is not the broker's to know.
    fn stands(&self) -> Vec<(LinkId, BrokerLink)>;
}

/// What a topic's attachment has found.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// If it was wanted, where the topic's log is.
    pub(crate) head: Option<Head>,
}

/// A connection to one server of the broker, which owns a part of the topics. The number means nothing beyond this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u32);

/// What has become of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// Every topic of it is attached, **confirmed by the server**. What was published since it went down has not been delivered.
    Up {
        /// Where the server is, without credentials.
        server: Arc<str>,
    },
    /// It has broken, or what it brings cannot be trusted. All commands without an answer have been told that they are undone.
    Down {
        /// Where the server is, and why.
        why: Arc<str>,
    },
}

/// What is told of what arrives. Called on the thread of a link: it does not block, and has no handle of the transport, so that no
/// loop can arise. Calls of one link come one after the other; those of different links may come at the same time.
pub(crate) trait Deliver: Send + Sync {
    /// An envelope for a topic: what was published, or appended to its log, which has stamped it then. One call for each envelope, also
    /// where several were appended at once.
    fn live(&self, topic: &str, envelope: Bytes, stamp: Option<Stamp>);

    /// An envelope for this node.
    fn inbox(&self, envelope: Bytes);

    /// A link goes down or comes up. The first that is told of it is that it is up.
    fn link(&self, link: LinkId, state: LinkState);

    /// Messages of one topic may have been lost while its link is up: it has moved to another server, where it is attached
    /// again by now, or the server has thrown something away.
    fn doubtful(&self, topic: &str);
}
