//! Receiving: what the kernel has, frame by frame, without a copy.

use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};

use fanfare_proto::websocket::decoder::{Item, Limits};
use fanfare_proto::websocket::frame::Opcode;

use super::failure::Failure;
use super::{State, Worker};
use crate::handshake::{self, Answer};
use crate::protocol::Meaning;

/// A server may send what it likes here.
const LIMITS: Limits = Limits { message_size_max: 64 * 1024 * 1024, fragments_max: 65_536 };

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
        if !answer.is_empty() {
            let mut before = std::mem::take(answer);
            before.extend_from_slice(&self.buffer[..read]);
            let all = before.len().min(self.buffer.len());
            self.buffer[..all].copy_from_slice(&before[..all]);
            return self.upgrading(index, all);
        }
        match handshake::answer(&self.buffer[..read]) {
            Answer::Partial => *answer = self.buffer[..read].to_vec(),
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
        // The answer to a join can have older messages in it, which are no deliveries.
        let counts = connections[index].state != State::Entering;
        let decoder = &mut connections[index].decoder;
        let mut input = &mut buffer[range];
        tally.sums.reads += 1;
        tally.sums.bytes += input.len() as u64;
        // Almost everything is a delivery in one frame. What is not goes through the decoder, with all its rules.
        if counts && decoder.is_between_messages() {
            let mut taken = 0;
            while let Some(payload) = whole_message(&input[taken..]) {
                let (start, end) = (taken + payload.start, taken + payload.end);
                if !tally.message(receiver, &input[start..end], *now) {
                    break;
                }
                taken = end;
            }
            input = &mut input[taken..];
        }
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
            if !(counts && tally.message(receiver, message, *now)) {
                told.push(Told::Message(message.to_vec()));
            }
            ControlFlow::Continue(())
        };
        if !input.is_empty()
            && let Err(violation) = decoder.decode(input, &LIMITS, false, scratch, &mut sink)
        {
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
        // It may have come in one read with the answer to the join.
        let receiver = self.receiver(index);
        if self.connections[index].state == State::Live && self.tally.message(receiver, message, self.now) {
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

/// Where the payload is, if the bytes begin with a whole text or binary message in one frame, as servers send it.
#[inline]
fn whole_message(bytes: &[u8]) -> Option<Range<usize>> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    if first != 0x81 && first != 0x82 {
        return None;
    }
    let (start, len) = match second {
        0..126 => (2, usize::from(second)),
        126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
        _ => return None,
    };
    (bytes.len() >= start + len).then_some(start..start + len)
}

#[cfg(test)]
mod tests {
    use fanfare_proto::websocket::frame;

    use super::*;

    #[test]
    fn whole_messages_are_found() {
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Close] {
            for len in [0, 1, 125, 126, 65_535, 65_536] {
                if opcode.is_control() && len > 125 {
                    continue;
                }
                let mut bytes = Vec::new();
                frame::encode(opcode, &vec![7; len], false, &mut bytes);
                let all = bytes.len();
                // Control frames and large ones are the decoder's.
                let expected = (!opcode.is_control() && len < 65_536).then_some(all - len..all);
                assert_eq!(whole_message(&bytes), expected, "{opcode:?} {len}");
                assert_eq!(whole_message(&bytes[..all - 1]), None, "{opcode:?} {len}, cut");
                bytes.extend_from_slice(b"more");
                assert_eq!(whole_message(&bytes), expected, "{opcode:?} {len}, and more");
            }
        }
        assert_eq!(whole_message(&[0x01, 0]), None, "a fragment");
        assert_eq!(whole_message(&[0x81, 0x80, 0, 0, 0, 0]), None, "a masked one, which is for the decoder to refuse");
        assert_eq!(whole_message(&[0xc1, 0]), None, "a compressed one");
    }
}
