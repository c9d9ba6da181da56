//! What the server speaks: how a client gets into a room, publishes there, and what it is told.
//!
//! A protocol writes and reads messages. Connections, frames and times are the worker's.

mod nats;
mod nchan;
mod phoenix;
mod plain;
mod socketio;

use fanfare_proto::websocket::frame::{self, Opcode};

use crate::args::{Common, ProtocolName};
use crate::stamp::{self, Stamp};
use crate::target::Target;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its deliveries count.
    Subscriber,
    /// It publishes; what it gets itself does not count.
    Publisher,
    /// It does both.
    Member,
}

impl Role {
    pub(crate) fn subscribes(self) -> bool {
        self != Self::Publisher
    }

    pub(crate) fn publishes(self) -> bool {
        self != Self::Subscriber
    }
}

/// One way to talk to a server.
pub(crate) trait Protocol: Send + Sync {
    /// The path and query to connect to.
    fn path(&self, role: Role, topic: &str) -> String;

    /// Writes what a client says first. True if it is in the room with that, false if the server has to say so.
    fn enter(&self, role: Role, topic: &str, client: u32, out: &mut Outgoing) -> bool;

    /// Writes one message with a stamp.
    fn publish(&self, topic: &str, stamp: Stamp, size: usize, out: &mut Outgoing);

    /// A message without a stamp: what it means. An answer that the protocol requires goes to `out`.
    fn receive(&self, topic: &str, message: &[u8], out: &mut Outgoing) -> Meaning;

    /// Writes a sign of life, if clients of this protocol send them.
    fn heartbeat(&self, _out: &mut Outgoing) {}

    /// Writes that the client leaves. True if the server confirms it.
    fn leave(&self, _topic: &str, _out: &mut Outgoing) -> bool {
        false
    }

    /// Whether publishers have a connection of their own.
    fn publishers_apart(&self) -> bool {
        false
    }

    /// Whether one WebSocket message may hold several of the protocol's.
    fn packs(&self) -> bool {
        false
    }
}

/// What a message without a stamp means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing that matters here.
    Nothing,
    /// The client is in the room now.
    Entered,
    /// The client may not enter.
    Refused(String),
    /// The client has left.
    Left,
    /// Something went wrong that spoils the measurement.
    Failed(String),
}

/// The protocol that the options name.
///
/// # Errors
/// What is wrong with the options.
pub(crate) fn protocol(common: &Common, target: &Target, echo: bool) -> Result<Box<dyn Protocol>, String> {
    Ok(match common.protocol {
        ProtocolName::Phoenix => Box::new(phoenix::Phoenix::new(common, target, echo)?),
        ProtocolName::Plain => Box::new(plain::Plain::new(target)),
        ProtocolName::Nchan => Box::new(nchan::Nchan::new(target)?),
        ProtocolName::Nats => Box::new(nats::Nats::new(target)),
        ProtocolName::Socketio => Box::new(socketio::SocketIo::new(target)),
    })
}

/// Frames to be sent, masked as a client's must be.
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    message: Vec<u8>,
    random: u32,
}

impl Outgoing {
    pub(crate) fn new(seed: u32) -> Self {
        Self { bytes: Vec::new(), message: Vec::new(), random: seed | 1 }
    }

    /// A text message, which `write` puts together.
    pub(crate) fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame(Opcode::Text, write);
    }

    /// A binary message.
    pub(crate) fn binary(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame(Opcode::Binary, write);
    }

    /// Any frame.
    pub(crate) fn frame(&mut self, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
        self.message.clear();
        write(&mut self.message);
        // Masks must differ, not be secret: nothing but our own proxies could be fooled.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        frame::encode_masked(opcode, &self.message, self.random.to_ne_bytes(), true, false, &mut self.bytes);
    }
}

/// The path of a URL, or another one if it has none.
fn path_or(target: &Target, default: &str) -> String {
    match target.path.as_str() {
        "" | "/" => default.to_owned(),
        path => path.to_owned(),
    }
}

/// Room and payload as a path or a JSON string take them: topics are checked to need no escape.
fn in_room(template: &str, topic: &str) -> String {
    template.replace("{room}", topic)
}

/// The size of a payload that has to hold a stamp.
fn payload_size(size: usize) -> usize {
    size.max(stamp::SIZE)
}

#[cfg(test)]
mod tests;
