//! The connection of a socket in its shard: its stream, its decoder, and what waits to be written. Most are WebSockets; others are
//! streams of messages over HTTP, which are written in the same way and not listened to.

use std::io;
use std::sync::Arc;

use fanfare_proto::websocket::decoder::{Decoder, Role};
use fanfare_proto::websocket::deflate::WINDOW_BITS_MAX;

use super::stream::Stream;
use super::streaming::Streaming;
use crate::figures::{Figures, Outflow};
use crate::message::Carriage;
use crate::outbox::Outbox;

/// Of an idle connection this is all: no buffer is held.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) decoder: Decoder,
    /// What came behind the message that was handled last, while what the client sends has to wait.
    pub(crate) unread: Option<Box<Unread>>,
    /// What permessage-deflate was negotiated with, if it was.
    pub(crate) deflate_window_bits: Option<u8>,
    carriage: Carriage,
    /// Lent while something waits.
    outbox: Option<Box<Outbox>>,
    is_held_up: bool,
    /// Set while the kernel takes no more: when it last took something, in milliseconds.
    pub(crate) stalled_since_ms: Option<u64>,
    /// When it is looked again whether the client is silent; while the socket is being closed, when it is let go.
    pub(crate) due_ms: u64,
    /// Whether the client has ended its direction, be it behind bytes that are not read yet.
    pub(crate) has_ended: bool,
    /// What only a stream over HTTP has.
    pub(crate) streaming: Option<Box<Streaming>>,
}

/// Bytes that were read and not handled yet.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) bytes: Vec<u8>,
    /// What comes before was.
    pub(crate) at: usize,
}

/// What became of bytes that were to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// All have left.
    All,
    /// Some wait in the outbox for the kernel.
    Waiting,
    /// The outbox is full.
    Full,
    /// The connection is lost.
    Lost,
    /// Something waits, behind which frames cannot be put that were to go at once.
    NotAtOnce,
}

/// What became of bytes that were to be written at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All have left.
    All,
    /// The stream has taken all, and the kernel not yet.
    HeldBack,
    /// So many have left, and the kernel takes no more.
    Part(usize),
    /// The connection is lost.
    Lost,
}

impl Wire {
    pub(crate) fn new(stream: Stream, deflate_window_bits: Option<u8>) -> Self {
        // Shared frames are compressed with the full window; a client with a smaller one gets them uncompressed.
        let carriage = match deflate_window_bits {
            Some(WINDOW_BITS_MAX) => Carriage::Deflated,
            _ => Carriage::WebSocket,
        };
        Wire {
            stream,
            decoder: Decoder::new(Role::Server),
            unread: None,
            deflate_window_bits,
            carriage,
            outbox: None,
            is_held_up: false,
            stalled_since_ms: None,
            due_ms: 0,
            has_ended: false,
            streaming: None,
        }
    }

    /// A stream over HTTP, whose connection is still to come.
    pub(crate) fn streaming(streaming: Streaming) -> Self {
        let wire = Wire::new(Stream::Awaited, None);
        Wire { carriage: Carriage::Chunked, streaming: Some(Box::new(streaming)), ..wire }
    }

    pub(crate) fn carriage(&self) -> Carriage {
        self.carriage
    }

    /// Whether something waits to be written.
    pub(crate) fn has_waiting(&self) -> bool {
        self.outbox.is_some()
    }

    /// The bytes and frames that wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.outbox.as_ref().map_or((0, 0), |outbox| outbox.waiting())
    }

    /// Whether the kernel took no more the last time, and what it did not take waits.
    pub(crate) fn is_held_up(&self) -> bool {
        self.is_held_up
    }

    /// What waits, to be written by [`flush`](Wire::flush): from the pool if nothing did.
    #[inline]
    pub(crate) fn outbox(&mut self, pool: &mut Pool) -> &mut Outbox {
        self.outbox.get_or_insert_with(|| pool.take())
    }

    /// What waits, if something does.
    pub(crate) fn outbox_if_any(&mut self) -> Option<&mut Outbox> {
        self.outbox.as_deref_mut()
    }

    /// Writes whole frames at once; nothing may wait already. Each delivery is one call, which costs as much as what it does.
    #[inline(always)]
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Sent {
        debug_assert!(self.outbox.is_none(), "what waits must leave first");
        loop {
            match self.stream.write(bytes) {
                Ok(written) if written == bytes.len() && self.stream.holds_back() => return Sent::HeldBack,
                Ok(written) if written == bytes.len() => return Sent::All,
                Ok(written) => break self.hold_up(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break self.hold_up(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Sent::Lost,
            }
        }
    }

    #[cold]
    fn hold_up(&mut self, written: usize) -> Sent {
        self.is_held_up = true;
        Sent::Part(written)
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, pool: &mut Pool) -> Written {
        if let Some(outbox) = &mut self.outbox {
            let (stream, is_stream, outflow) = (&mut self.stream, self.streaming.is_some(), pool.outflow());
            let mut write = |slices: &[io::IoSlice<'_>]| {
                let written = stream.write_vectored(slices);
                outflow.sent(*written.as_ref().unwrap_or(&0), is_stream);
                written
            };
            match outbox.write_to(&mut write) {
                Ok(true) => {
                    self.is_held_up = false;
                    pool.put(self.outbox.take());
                }
                Ok(false) => {
                    self.is_held_up = true;
                    pool.account(self.outbox.as_deref_mut());
                    return Written::Waiting;
                }
                Err(_) => return Written::Lost,
            }
        }
        match self.stream.flush() {
            Ok(true) => Written::All,
            Ok(false) => Written::Waiting,
            Err(_) => Written::Lost,
        }
    }

    /// Drops what waits, but for the rest of a frame that was begun.
    pub(crate) fn cut(&mut self) {
        if let Some(outbox) = &mut self.outbox {
            outbox.cut();
        }
    }
}

/// Empty outboxes to lend, a few of them: idle sockets own none, busy ones need no allocation. And what leaves by them, or waits in
/// them.
#[derive(Debug)]
pub(crate) struct Pool {
    #[expect(clippy::vec_box, reason = "a socket holds its outbox boxed, so that it costs an idle socket one word")]
    free: Vec<Box<Outbox>>,
    figures: Arc<Figures>,
}

impl Pool {
    pub(crate) fn new(figures: Arc<Figures>) -> Self {
        Pool { free: Vec::new(), figures }
    }

    /// What leaves, or waits.
    pub(crate) fn outflow(&self) -> &Outflow {
        &self.figures.outflow
    }

    const KEPT_MAX: usize = 256;

    /// One that has held more gives its memory back.
    const ENTRIES_MAX: usize = 256;

    fn take(&mut self) -> Box<Outbox> {
        self.free.pop().unwrap_or_default()
    }

    fn put(&mut self, outbox: Option<Box<Outbox>>) {
        if let Some(mut outbox) = outbox {
            self.forget(Some(&mut outbox));
            self.keep(outbox);
        }
    }

    /// Takes note of what waits for a client that takes no more.
    pub(crate) fn account(&mut self, outbox: Option<&mut Outbox>) {
        if let Some(outbox) = outbox {
            self.outflow().waits(&outbox.account());
        }
    }

    /// Nothing waits in it any more: all has left, or its socket is gone.
    pub(crate) fn forget(&mut self, outbox: Option<&mut Outbox>) {
        if let Some(outbox) = outbox.filter(|outbox| outbox.is_accounted()) {
            self.outflow().waits(&outbox.unaccount());
        }
    }

    fn keep(&mut self, mut outbox: Box<Outbox>) {
        outbox.begin_again();
        if self.free.len() < Pool::KEPT_MAX && outbox.capacity() <= Pool::ENTRIES_MAX {
            self.free.push(outbox);
        }
    }
}
