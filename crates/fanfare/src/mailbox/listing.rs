//! What a shard tells of its topics and sockets to whoever lists them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use crate::dialect::PROTOCOL_NAMES;
use crate::hub::Flow;
use crate::key::{NotASocket, SocketId};
use crate::transport::Transport;

/// What a shard tells of a topic.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) members: usize,
    pub(crate) flow: Flow,
}

/// Which sockets are asked for. Given together, all of it holds.
#[derive(Debug, Clone, Default)]
pub struct SocketQuery {
    /// With this id.
    pub user: Option<String>,
    /// From this address.
    pub address: Option<IpAddr>,
    /// Of the endpoint at this path.
    pub endpoint: Option<String>,
    /// Carried like this.
    pub transport: Option<Transport>,
    /// That have joined this topic.
    pub topic: Option<String>,
    /// Which come first.
    pub order: SocketOrder,
    /// At most so many.
    pub limit: usize,
    /// Only those behind this place: [`SocketPage::next`] of the page before.
    pub after: Option<SocketPlace>,
}

/// The order of a list of sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOrder {
    /// The oldest first.
    #[default]
    Age,
    /// Those first for which most bytes wait.
    Waiting,
    /// Those first that have sent most messages.
    Received,
}

/// A place in such an order: `VALUE:SOCKET` as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketPlace {
    value: u64,
    id: SocketId,
}

/// A part of a list of sockets.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SocketPage {
    /// In the order that was asked for.
    pub sockets: Vec<SocketReport>,
    /// How many there are that fit.
    pub total: usize,
    /// What to ask for to go on, if there are more. Those that have moved in the order meanwhile may be missed or come twice.
    pub next: Option<SocketPlace>,
}

/// What is known of a socket.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SocketReport {
    /// Its name.
    pub id: SocketId,
    /// The id that connect gave it, unless that is a credential.
    pub user: Option<String>,
    /// Its client's address, where the transport knows it.
    pub address: Option<SocketAddr>,
    /// The path of its endpoint.
    pub endpoint: Option<String>,
    /// What carries it.
    pub transport: Transport,
    /// What its client speaks.
    pub protocol: &'static str,
    /// The version of the protocol.
    pub version: &'static str,
    /// For how many milliseconds it has been connected.
    pub connected_ms: u64,
    /// For how many milliseconds it has sent nothing.
    pub idle_ms: u64,
    /// How many topics it has joined.
    pub joins: usize,
    /// How many messages it has sent.
    pub received: u64,
    /// How many bytes wait for it.
    pub waiting_bytes: usize,
    /// In how many milliseconds its credential ends.
    pub expires_ms: Option<u64>,
}

impl SocketReport {
    /// All that clients can speak, by the names of [`protocol`](SocketReport::protocol).
    pub const PROTOCOLS: &[&str] = &PROTOCOL_NAMES;
}

/// One that is in a topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicMember {
    /// Its socket.
    pub socket: SocketReport,
    /// Whether its messages carry positions, so that it can go on where it was.
    pub resumes: bool,
}

/// What a shard is asked.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    pub(crate) query: Arc<SocketQuery>,
    /// What has to be below to get into the page.
    pub(crate) bar: Option<SocketPlace>,
}

/// What a shard has found in a slice.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) best: Vec<(SocketPlace, SocketReport)>,
    /// How many fit.
    pub(crate) total: usize,
    /// Some would be behind the page.
    pub(crate) has_more: bool,
    pub(crate) next: Option<usize>,
}

impl Seen {
    /// The same topic on another shard.
    pub(crate) fn add(&mut self, other: Seen) {
        self.members += other.members;
        // Each shard with members sees all that is published.
        self.flow.published = self.flow.published.max(other.flow.published);
        self.flow.delivered += other.flow.delivered;
        self.flow.bytes += other.flow.bytes;
    }
}

impl SocketPlace {
    pub(crate) fn new(order: SocketOrder, socket: &SocketReport, began_ms: u64) -> Self {
        let value = match order {
            SocketOrder::Age => began_ms,
            SocketOrder::Waiting => u64::MAX - socket.waiting_bytes as u64,
            SocketOrder::Received => u64::MAX - socket.received,
        };
        SocketPlace { value, id: socket.id }
    }
}

impl fmt::Display for SocketPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.value, self.id)
    }
}

impl FromStr for SocketPlace {
    type Err = NotASocket;

    fn from_str(text: &str) -> Result<Self, NotASocket> {
        let (value, id) = text.split_once(':').ok_or(NotASocket)?;
        Ok(SocketPlace { value: value.parse().map_err(|_| NotASocket)?, id: id.parse()? })
    }
}
