//! What comes in: bytes to frames to messages, with every rule of RFC 6455 checked and everything that grows bounded.
//!
//! The reader owns the buffer and hands over what it has read; a [`Decoder`] keeps bytes only while a frame or a
//! fragmented message is incomplete. Answering pings and close frames is the caller's.

mod head;
mod partial;

use std::ops::ControlFlow;

use super::deflate::{InflateError, Inflater};
use super::frame::Opcode;
use super::mask;
use head::Head;
use partial::Partial;

/// What a peer may make us hold and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message in bytes: all fragments together, as sent and as inflated.
    pub message_size_max: usize,
    /// The most frames in one message, empty ones included.
    pub fragments_max: u32,
}

impl Default for Limits {
    /// 8,000,000 bytes, 8,192 fragments.
    fn default() -> Self {
        Limits { message_size_max: 8_000_000, fragments_max: 8_192 }
    }
}

impl Limits {
    /// What the Autobahn test suite needs in full: messages of 16 MiB (9.1.6, 9.2.6), and 4 MiB in fragments of 64 bytes
    /// (9.3.1, 9.4.1). Not meant for a server that faces strangers.
    pub fn conformance() -> Self {
        Limits { message_size_max: 64 * 1024 * 1024, fragments_max: 1 << 20 }
    }
}

/// Whose frames are decoded is decided by which side we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The peer is a client: its frames must be masked.
    Server,
    /// The peer is a server: its frames must not be masked.
    Client,
}

/// A whole message or control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// To be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// Needs no answer.
    Pong(&'a [u8]),
    /// The last item, with the peer's code if it gave one. To be answered by a close frame unless we sent one first.
    Close(Option<u16>),
}

/// What the peer did wrong. The connection is to be closed with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The close code: 1002, 1007 or 1009.
    pub code: u16,
    /// For logs and counters; fixed texts, never the peer's bytes.
    pub reason: &'static str,
}

impl Violation {
    const fn protocol(reason: &'static str) -> Self {
        Violation { code: 1002, reason }
    }

    const fn data(reason: &'static str) -> Self {
        Violation { code: 1007, reason }
    }

    const fn too_big(reason: &'static str) -> Self {
        Violation { code: 1009, reason }
    }
}

const NOT_UTF8: Violation = Violation::data("a text message that is not UTF-8");

/// What decoding needs besides the connection's own state: one for each thread. Empty until the first compressed message.
#[derive(Default)]
pub struct Scratch {
    inflater: Option<Box<Inflater>>,
}

/// The receiving half of one connection. 16 bytes, and no more while the connection is between messages.
#[derive(Debug)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    role: Role,
    finished: bool,
}

/// Ends decoding: the peer closed, or broke the rules.
enum Stop {
    Finished,
    Violated(Violation),
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Stop::Violated(violation)
    }
}

impl Decoder {
    /// A decoder for a connection that has just been opened.
    pub fn new(role: Role) -> Self {
        Decoder { partial: None, role, finished: false }
    }

    /// Whether nothing is kept: what comes next is the beginning of a message, and a caller may take whole messages out of it
    /// by itself.
    pub fn is_between_messages(&self) -> bool {
        self.partial.is_none() && !self.finished
    }

    /// What is kept of a message of which a part has come, in memory.
    pub fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.size())
    }

    /// Decodes the next bytes of the connection, however they are cut, and hands each item to `sink` in order. Payloads are
    /// unmasked in place; an item is borrowed from `input` where it can be. `deflate` says that compression was negotiated.
    ///
    /// Returns how many bytes were taken: all of them, unless `sink` broke off after an item that was not the last. **What was
    /// not taken is to be given again, as it is now.** Nothing is decoded any more after an [`Item::Close`] and after an
    /// error: what still comes is dropped.
    ///
    /// # Errors
    /// The first violation; what came before it has been handed out.
    pub fn decode(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        deflate: bool,
        scratch: &mut Scratch,
        sink: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Violation> {
        let size = input.len();
        if self.finished {
            return Ok(size);
        }
        let mut run = Run { limits, deflate, scratch, sink, broke_off: false };
        match run.decode(self.role, &mut self.partial, input) {
            Ok(rest) => Ok(size - rest),
            Err(stop) => {
                self.finished = true;
                self.partial = None;
                match stop {
                    Stop::Finished => Ok(size),
                    Stop::Violated(violation) => Err(violation),
                }
            }
        }
    }
}

/// One call of [`Decoder::decode`].
struct Run<'a, Sink> {
    limits: &'a Limits,
    deflate: bool,
    scratch: &'a mut Scratch,
    sink: &'a mut Sink,
    /// The sink has enough for now.
    broke_off: bool,
}

impl<Sink: FnMut(Item<'_>) -> ControlFlow<()>> Run<'_, Sink> {
    /// Returns how many bytes are left.
    fn decode(&mut self, role: Role, kept: &mut Option<Box<Partial>>, mut input: &mut [u8]) -> Result<usize, Stop> {
        while !input.is_empty() && !self.broke_off {
            if let Some(partial) = kept {
                let taken = self.resume(role, partial, input)?;
                input = &mut input[taken..];
                if partial.is_empty() {
                    *kept = None;
                }
                continue;
            }
            // Nothing is kept: as long as whole messages come, nothing will be.
            let Some((head, head_len)) = Head::parse(input, role, self.deflate)? else {
                kept.get_or_insert_default().start_head(input);
                return Ok(0);
            };
            let payload_len = head.check(None, self.limits)?;
            if !head.fin || input.len() - head_len < payload_len {
                let partial = kept.get_or_insert_default();
                partial.start_frame(head, payload_len);
                input = &mut input[head_len..];
                // All of the frame may be there already, down to an empty one with nothing behind it.
                let taken = self.payload(partial, input)?;
                input = &mut input[taken..];
                continue;
            }
            let (frame, rest) = input.split_at_mut(head_len + payload_len);
            input = rest;
            let payload = &mut frame[head_len..];
            if let Some(mask) = head.mask {
                mask::apply(payload, mask, 0);
            }
            if head.opcode.is_control() {
                self.control(head.opcode, payload)?;
            } else {
                self.message(head.opcode, head.rsv1, payload)?;
            }
        }
        Ok(input.len())
    }

    /// Goes on where the last frame was cut off, or with the next frame of a message; returns how many bytes that took.
    fn resume(&mut self, role: Role, partial: &mut Partial, input: &mut [u8]) -> Result<usize, Stop> {
        let mut taken = 0;
        if partial.frame.is_none() {
            let (copied, head) = partial.continue_head(input, role, self.deflate)?;
            taken += copied;
            let Some(head) = head else { return Ok(taken) };
            let payload_len = head.check(partial.message.as_ref(), self.limits)?;
            partial.start_frame(head, payload_len);
        }
        Ok(taken + self.payload(partial, &mut input[taken..])?)
    }

    /// Takes what there is of the payload of the frame in progress, and hands out what it completes.
    fn payload(&mut self, partial: &mut Partial, input: &mut [u8]) -> Result<usize, Stop> {
        let taken = partial.receive(input)?;
        if let Some(head) = partial.finish_frame() {
            if head.opcode.is_control() {
                let payload = partial.take_control();
                self.control(head.opcode, payload.as_slice())?;
            } else if head.fin
                && let Some(message) = partial.message.take()
            {
                self.message(message.opcode, message.compressed, &message.bytes)?;
            }
        }
        Ok(taken)
    }

    /// Hands out a message whose payload is complete.
    fn message(&mut self, opcode: Opcode, compressed: bool, payload: &[u8]) -> Result<(), Stop> {
        if !compressed {
            return self.deliver(opcode, payload);
        }
        // Taken out for the time being, so that the result can be lent to the sink.
        let mut inflater = self.scratch.inflater.take().unwrap_or_default();
        let result = match inflater.inflate(payload, self.limits.message_size_max) {
            Ok(inflated) => self.deliver(opcode, inflated),
            Err(InflateError::Invalid) => Err(Violation::data("a compressed message that does not inflate").into()),
            Err(InflateError::TooLarge) => Err(Violation::too_big("a message too large when inflated").into()),
        };
        inflater.shrink();
        self.scratch.inflater = Some(inflater);
        result
    }

    fn deliver(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Stop> {
        let item = match opcode {
            Opcode::Text => Item::Text(simdutf8::basic::from_utf8(payload).map_err(|_| NOT_UTF8)?),
            _ => Item::Binary(payload),
        };
        self.emit(item);
        Ok(())
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Stop> {
        match opcode {
            Opcode::Ping => self.emit(Item::Ping(payload)),
            Opcode::Pong => self.emit(Item::Pong(payload)),
            _ => {
                self.emit(Item::Close(close_code(payload)?));
                return Err(Stop::Finished);
            }
        }
        Ok(())
    }

    fn emit(&mut self, item: Item<'_>) {
        self.broke_off = (self.sink)(item).is_break();
    }
}

/// The code of a close frame's payload (RFC 6455, sections 5.5.1 and 7.4, and the codes registered since).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::protocol("a close frame with half a code")) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::protocol("a close code that must not be sent"));
    }
    if simdutf8::basic::from_utf8(reason).is_err() {
        return Err(Violation::data("a close reason that is not UTF-8"));
    }
    Ok(Some(code))
}

#[cfg(test)]
mod tests;
