//! Receiving: what the kernel has, frame by frame, without a copy.

use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};

use fanfare_proto::websocket::decoder::{Item, Limits};
use fanfare_proto::websocket::frame::Opcode;

use super::{State, Worker};
use crate::handshake::{self, Answer};
use crate::protocol::Meaning;
use crate::worker::lifecycle::Failure;

/// A server may send what it likes here.
const LIMITS: Limits = Limits { message_size_max: 64 * 1024 * 1024, fragments_max: 65_536, inflate_ratio_max: 1 };

/// What is no delivery, and so has time.
pub(super) enum Told {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<u16>),
    Violation(&'static str),
}

impl Worker<'_> {
    /// The kernel says that something can be done with a connection.
    pub(super) fn ready(&mut self, index: usize, writable: bool, readable: bool, closed: bool) {
        if self.connections[index].state == State::Connecting {
            self.connected(index);
        } else if writable {
            self.flush(index);
        }
        if readable && !matches!(self.connections[index].state, State::Away | State::Connecting) {
            self.readable(index, closed);
        }
    }

    fn readable(&mut self, index: usize, closed: bool) {
        // Whatever is told of this connection, it may end it, and even begin it anew.
        loop {
            let connection = &mut self.connections[index];
            let Some(stream) = &mut connection.stream else { return };
            let read = match stream.read(&mut self.buffer) {
                Ok(0) => return self.ended(index, Failure::transient("the server closed the connection")),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.ended(index, Failure::of(&error)),
            };
            let is_last = read < self.buffer.len() && !closed && stream.short_read_is_last();
            self.now = self.shared.now();
            match connection.state {
                State::Upgrading => self.upgrading(index, read),
                _ => self.decode(index, 0..read),
            }
            if is_last {
                return;
            }
        }
    }

    /// The answer to the handshake, or a part of it.
    fn upgrading(&mut self, index: usize, read: usize) {
        let answer = &mut self.connections[index].answer;
        if let Some(mut before) = answer.take() {
            before.extend_from_slice(&self.buffer[..read]);
            let all = before.len();
            // The rest of an answer is short, the buffer is not.
            self.buffer[..all].copy_from_slice(&before);
            return self.upgrading(index, all);
        }
        match handshake::answer(&self.buffer[..read]) {
            Answer::Partial => *answer = Some(Box::new(self.buffer[..read].to_vec())),
            Answer::Refused { status, line } => self.ended(index, Failure::upgrade(status, &line)),
            Answer::Accepted(end) => {
                self.enter(index);
                if end < read {
                    self.decode(index, end..read);
                }
            }
        }
    }

    pub(super) fn decode(&mut self, index: usize, range: Range<usize>) {
        let receiver = self.receiver(index);
        let Self { connections, buffer, tally, told, scratch, now, .. } = self;
        tally.sums.reads += 1;
        tally.sums.bytes += range.len() as u64;
        let mut sink = |item: Item<'_>| {
            let message = match item {
                Item::Text(text) => text.as_bytes(),
                Item::Binary(data) => data,
                Item::Ping(payload) => {
                    told.push(Told::Ping(payload.to_vec()));
                    return ControlFlow::Continue(());
                }
                Item::Close(code) => {
                    told.push(Told::Close(code));
                    return ControlFlow::Continue(());
                }
                Item::Pong(_) => return ControlFlow::Continue(()),
            };
            if !tally.message(receiver, message, *now) {
                told.push(Told::Message(message.to_vec()));
            }
            ControlFlow::Continue(())
        };
        let decoder = &mut connections[index].decoder;
        if let Err(violation) = decoder.decode(&mut buffer[range], &LIMITS, false, scratch, &mut sink) {
            told.push(Told::Violation(violation.reason));
        }
        if !self.told.is_empty() {
            self.listen(index);
        }
    }

    /// Works off what is no delivery.
    fn listen(&mut self, index: usize) {
        let mut told = std::mem::take(&mut self.told);
        for told in told.drain(..) {
            if self.connections[index].stream.is_none() {
                break;
            }
            match told {
                Told::Message(message) => self.message(index, &message),
                Told::Ping(payload) => {
                    self.outgoing.frame(Opcode::Pong, |message| message.extend_from_slice(&payload));
                    self.send(index);
                }
                Told::Close(code) => self.ended(index, Failure::close(code)),
                Told::Violation(reason) => {
                    self.ended(index, Failure::fatal(format!("the server broke the WebSocket protocol: {reason}")));
                }
            }
        }
        self.told = told;
    }

    fn message(&mut self, index: usize, message: &[u8]) {
        if self.presence(index, message) {
            return;
        }
        let meaning = self.plan.protocol.receive(self.topic(index), message, &mut self.outgoing);
        self.send(index);
        match (meaning, self.connections[index].state) {
            (Meaning::Entered, State::Entering) => self.live(index),
            (Meaning::Left, State::Leaving) => self.left(index),
            (Meaning::Refused(reason), State::Entering) => self.ended(index, Failure::refused(&reason)),
            (Meaning::Refused(reason) | Meaning::Failed(reason), _) => self.shared.problem(reason),
            _ => {}
        }
    }
}
