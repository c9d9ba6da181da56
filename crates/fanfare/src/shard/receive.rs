//! Bytes in: from a socket through its decoder to the protocol.

use std::io;
use std::ops::ControlFlow;

use fanfare_proto::websocket::decoder::{Decoder, Role};

use super::Shard;
use super::newcomers::{Beginning, LOOKS_PER_TURN_MAX, LOOKS_PER_TURN_US_MAX, Lent};
use crate::key::SocketKey;
use crate::mailbox::NewSocket;
use crate::socket::{Reading, Socket};
use crate::transport::Carrier;
use crate::transport::stream::Stream;
use crate::transport::wire::{Unread, Wire};

/// A socket that sends more than this many buffers is read again in the next turn, after the others.
const READS_PER_TURN_MAX: usize = 4;

/// The same in messages of one read.
const MESSAGES_PER_TURN_MAX: usize = 256;

impl Shard {
    /// The kernel says that something can be done with a socket; `ended`, that the client sends no more than what is there.
    pub(super) fn ready(&mut self, index: usize, readable: bool, ended: bool, writable: bool) {
        let Some(socket) = self.sockets.get_mut(index) else { return };
        let key = socket.key;
        if ended && let Carrier::Wire(wire) = &mut socket.carrier {
            wire.has_ended = true;
        }
        if writable
            && let Carrier::Wire(wire) = &socket.carrier
            && wire.stalled_since_ms.is_some()
        {
            self.resume_writing(key);
        }
        if readable || ended {
            self.read(key);
        }
    }

    /// Looks at connections that have come or said something, as many as a turn may.
    pub(super) fn look_at_newcomers(&mut self) {
        let (clock, mut left) = (self.lent.surroundings.clock.clone(), LOOKS_PER_TURN_MAX);
        let began_us = clock.now_us();
        while clock.now_us() - began_us < LOOKS_PER_TURN_US_MAX {
            let mut buffer = std::mem::take(&mut self.read_buffer);
            let (registry, shard, now_ms) = (self.poll.registry(), &self.lent.shard, self.lent.now_ms);
            let next = self.newcomers.next(&mut left, &mut Lent { registry, buffer: &mut buffer, shard, now_ms });
            self.read_buffer = buffer;
            let Some(beginning) = next else { return };
            self.begin(beginning);
            self.settle();
        }
    }

    /// Makes a socket of a connection whose client may have one, and answers the request: by then it is a member of the topics that it
    /// is joined to at once.
    fn begin(&mut self, beginning: Beginning) {
        let Beginning { mut connection, admitted, window_bits, received } = beginning;
        let carrier = Carrier::Wire(Wire::new(Stream::Awaited, window_bits));
        let key = self.seat(NewSocket { admitted, carrier, received: Vec::new(), attached: None });
        if self.socket(key).is_none() {
            return;
        }
        if !connection.answer(key.index as usize, self.poll.registry()) {
            return self.with(key, Socket::lost);
        }
        // The kernel tells of what has come since the first read, but not of what that has left.
        self.carry(key, Stream::Tcp(connection.stream), received, connection.may_have_more);
    }

    /// Reads what there is of a socket, unless the turn has done enough.
    pub(super) fn read(&mut self, key: SocketKey) {
        if self.budget.is_spent() {
            return self.with(key, Socket::read_later);
        }
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let size = self.lent.reading.read_size_max(buffer.len());
        self.read_with(key, &mut buffer[..size]);
        self.read_buffer = buffer;
    }

    /// Reads the sockets that were left over from earlier turns. Those that are not reached keep their places in line.
    pub(super) fn read_left_over(&mut self) {
        for _ in 0..self.lent.reading.len() {
            if self.budget.is_spent() {
                return;
            }
            let Some(key) = self.lent.reading.pop() else { return };
            if let Some(socket) = self.socket(key) {
                socket.is_unread = false;
                self.read(key);
            }
        }
    }

    fn read_with(&mut self, key: SocketKey, buffer: &mut [u8]) {
        for _ in 0..READS_PER_TURN_MAX {
            if self.socket(key).is_none_or(|socket| socket.reading != Reading::Goes) {
                return;
            }
            if let Some(mut unread) = self.with(key, Socket::take_unread) {
                unread.at += self.decode(key, &mut unread.bytes[unread.at..]);
                if unread.at < unread.bytes.len() {
                    self.with(key, |socket, turn| socket.keep_unread(turn, unread));
                    break;
                }
            }
            if self.lent.reading.is_full() && self.with(key, Socket::wait_for_others) {
                return;
            }
            let Some(socket) = self.socket(key) else { return };
            let wire = match &mut socket.carrier {
                Carrier::Wire(wire) => wire,
                Carrier::Poll(_) => return self.read_posts(key),
                _ => return,
            };
            match wire.stream.read(buffer) {
                Ok(0) => return self.with(key, Socket::lost),
                Ok(count) => {
                    let is_last = count < buffer.len() && wire.stream.short_read_is_last();
                    let has_ended = wire.has_ended;
                    match (self.take_bytes(key, &mut buffer[..count]), is_last, has_ended) {
                        (true, true, false) => return,
                        // What is left is read in the next turn. So is the end, of which the kernel does not tell again, when
                        // what these bytes brought about has been written.
                        (false, ..) | (true, true, true) => break,
                        (true, false, _) => {}
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.with(key, Socket::lost),
            }
        }
        self.with(key, Socket::read_later);
    }

    /// Handles the messages in bytes that came, for as long as the socket may send; the rest is kept. Returns whether there is
    /// none.
    pub(super) fn take_bytes(&mut self, key: SocketKey, bytes: &mut [u8]) -> bool {
        let is_kept = self.with(key, |socket, turn| {
            turn.figures().received[socket.dialect.protocol()].bytes.add(bytes.len() as u64);
            socket.add_unread(turn, bytes)
        });
        if is_kept {
            self.with(key, Socket::read_later);
            return false;
        }
        let may_send = self.socket(key).is_some_and(|socket| socket.reading == Reading::Goes);
        let taken = if may_send { self.decode(key, bytes) } else { 0 };
        if taken < bytes.len() {
            let unread = Box::new(Unread { bytes: bytes[taken..].to_vec(), at: 0 });
            self.with(key, |socket, turn| {
                socket.keep_unread(turn, unread);
                socket.read_later(turn);
            });
        }
        taken == bytes.len()
    }

    /// Handles messages until the socket has had its share of the turn, or has to wait; returns how many bytes that took. While
    /// it is being closed, what comes is thrown away.
    fn decode(&mut self, key: SocketKey, bytes: &mut [u8]) -> usize {
        let all = bytes.len();
        let Some(socket) = self.socket(key).filter(|socket| socket.is_open()) else { return all };
        let Carrier::Wire(wire) = &mut socket.carrier else { return all };
        if wire.streaming.is_some() {
            // Whatever comes behind the request of a stream means nothing.
            return all;
        }
        let mut decoder = std::mem::replace(&mut wire.decoder, Decoder::new(Role::Server));
        let (limits, inflates) = (socket.info.mount.limits.websocket, wire.deflate_window_bits.is_some());
        self.lent.reading.begun_size -= decoder.held();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut left = MESSAGES_PER_TURN_MAX;
        let decoded = decoder.decode(bytes, &limits, inflates, &mut scratch, &mut |item| {
            left -= 1;
            self.with(key, |socket, turn| socket.hear(turn, item));
            self.settle();
            if left > 0 && self.may_send_more(key) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        self.scratch = scratch;
        let Some(socket) = self.socket(key).filter(|socket| socket.is_open()) else { return all };
        match decoded {
            Ok(taken) => {
                if let Carrier::Wire(wire) = &mut socket.carrier {
                    let held = decoder.held();
                    wire.decoder = decoder;
                    self.lent.reading.begun_size += held;
                }
                taken
            }
            Err(violation) => {
                self.with(key, |socket, turn| socket.violated(turn, violation));
                all
            }
        }
    }

    /// Whether more of a socket's messages may be handled in this turn.
    fn may_send_more(&mut self, key: SocketKey) -> bool {
        !self.budget.is_spent() && self.socket(key).is_some_and(|socket| socket.may_send())
    }

    /// Handles the messages that a client of long-polling has posted, for as long as it may send.
    fn read_posts(&mut self, key: SocketKey) {
        for _ in 0..MESSAGES_PER_TURN_MAX {
            if !self.may_send_more(key) {
                break;
            }
            let Some(Socket { carrier: Carrier::Poll(session), .. }) = self.socket(key) else { return };
            let Some(message) = session.next_posted() else { return };
            self.with(key, |socket, turn| {
                socket.count_received(turn);
                socket.receive(turn, message);
            });
            self.settle();
        }
        self.with(key, Socket::read_later);
    }
}
