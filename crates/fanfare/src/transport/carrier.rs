//! What carries the frames of one socket, with what it needs for that.

use tokio::sync::mpsc;

use super::longpoll::PollSession;
use super::wire::Wire;
use crate::message::Broadcast;
use crate::outbox::Outbox;

/// What carries the bytes, with what it needs.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// A connection, of a WebSocket or of a stream over HTTP.
    Wire(Wire),
    Poll(Box<PollSession>),
    /// Encoded frames for the test kit; `None` tells the close code.
    #[cfg(feature = "testing")]
    Frames(mpsc::UnboundedSender<LocalFrame>),
    /// Broadcasts for the registry's sockets, bounded.
    Broadcasts(mpsc::Sender<Broadcast>),
}

impl Carrier {
    /// The bytes and frames that wait for the client to take them.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        match self {
            Carrier::Wire(wire) => wire.waiting(),
            Carrier::Poll(session) => session.waiting(),
            _ => (0, 0),
        }
    }

    /// What waits, if that is an outbox's.
    pub(crate) fn outbox_if_any(&mut self) -> Option<&mut Outbox> {
        match self {
            Carrier::Wire(wire) => wire.outbox_if_any(),
            Carrier::Poll(session) => Some(session.outbox()),
            _ => None,
        }
    }

    /// Gives up what waits, if that can be done between two messages: there may be a gap in it.
    pub(crate) fn cut(&mut self) {
        match self {
            Carrier::Wire(wire) => wire.cut(),
            Carrier::Poll(session) => session.cut(),
            _ => {}
        }
    }
}

/// What a socket of the test kit receives.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub(crate) enum LocalFrame {
    Text(bytes::Bytes),
    Closed(u16),
}
