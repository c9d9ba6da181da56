//! What a stream over plain HTTP has that a WebSocket has not: a client that only reads.

use std::time::Duration;

use bytes::Bytes;
use fanfare_proto::bullet::Positions;
use fanfare_proto::frame::Kind;
use fanfare_proto::payload::Payload;
use fanfare_proto::sse;
use tokio::sync::oneshot;

use crate::address::AddressSlot;
use crate::message::{Carriage, Message, carry, with_buffer};

/// How often a stream gives a sign of life: proxies give up after 30 s or more of nothing.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

/// A stream's own part, in its shard.
#[derive(Debug)]
pub(crate) struct Streaming {
    heartbeat: Bytes,
    /// Where the client stands in those of its topics that keep a history, if its events say so in their ids.
    positions: Positions,
    /// Told whether the stream's only join was let in; `Err` is what it is answered.
    joined: Option<oneshot::Sender<Result<(), Payload>>>,
    /// Counts against its address while it lives.
    _slot: Option<AddressSlot>,
}

impl Streaming {
    /// A stream with this sign of life.
    pub(crate) fn new(
        heartbeat: &[u8],
        positions: Positions,
        joined: Option<oneshot::Sender<Result<(), Payload>>>,
        slot: Option<AddressSlot>,
    ) -> Self {
        Streaming { heartbeat: carry(Carriage::Chunked, Kind::Text, heartbeat), positions, joined, _slot: slot }
    }

    /// A sign of life.
    pub(crate) fn heartbeat(&self) -> Bytes {
        self.heartbeat.clone()
    }

    /// The join was answered.
    pub(crate) fn answered(&mut self, is_let_in: bool, response: &Payload) {
        if let Some(joined) = self.joined.take() {
            // The client may have gone.
            let _ = joined.send(if is_let_in { Ok(()) } else { Err(response.clone()) });
        }
    }

    /// Whether its events have ids of their own, so that it gets each message by itself.
    pub(crate) fn gives_ids(&self) -> bool {
        self.positions.are_kept()
    }

    /// A message with the id that it has in this stream; `None` for one without.
    pub(crate) fn with_id(&mut self, message: &Message) -> Option<Bytes> {
        let position = message.position().filter(|_| self.gives_ids())?;
        Some(with_buffer(|out| {
            self.positions.write_id(&message.topic, position, out);
            sse::message(&message.payload, out);
            carry(Carriage::Chunked, Kind::Text, out)
        }))
    }

    /// Where the client stands in its topics.
    pub(crate) fn positions(&mut self) -> &mut Positions {
        &mut self.positions
    }
}
