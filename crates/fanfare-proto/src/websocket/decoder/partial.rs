//! What a connection keeps while a frame or a fragmented message is incomplete.

use super::head::{HEAD_LEN_MAX, Head};
use super::{NOT_UTF8, Role, Violation};
use crate::websocket::frame::{CONTROL_PAYLOAD_MAX, Opcode};
use crate::websocket::mask;

/// Payload bytes are unmasked and put where they belong as they come, so that reassembly is linear and no frame is kept
/// twice. Nothing is allocated for bytes that have only been announced.
#[derive(Debug, Default)]
pub(super) struct Partial {
    /// The first bytes of a header.
    head: Short<HEAD_LEN_MAX>,
    /// The frame whose payload is coming.
    pub(super) frame: Option<Frame>,
    /// The payload of the control frame that is coming.
    control: Short<CONTROL_PAYLOAD_MAX>,
    /// The message that is coming.
    pub(super) message: Option<Message>,
}

/// A message of which the last byte has not come.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) opcode: Opcode,
    pub(super) compressed: bool,
    /// The frames begun so far.
    pub(super) fragments: u32,
    pub(super) bytes: Vec<u8>,
    /// How much of a text is known to be UTF-8: all but a character that is cut off.
    checked: usize,
}

#[derive(Debug)]
pub(super) struct Frame {
    head: Head,
    payload_len: usize,
    received: usize,
}

impl Partial {
    pub(super) fn is_empty(&self) -> bool {
        self.head.len == 0 && self.frame.is_none() && self.message.is_none()
    }

    /// What it takes in memory.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.message.as_ref().map_or(0, |message| message.bytes.capacity())
    }

    /// Keeps the beginning of a header.
    pub(super) fn start_head(&mut self, bytes: &[u8]) {
        self.head.extend(bytes);
    }

    /// Adds to the header what it still needs of `input`; returns how much that was, and the header once it is complete.
    pub(super) fn continue_head(
        &mut self,
        input: &[u8],
        role: Role,
        deflate: bool,
    ) -> Result<(usize, Option<Head>), Violation> {
        let kept = usize::from(self.head.len);
        let copied = input.len().min(HEAD_LEN_MAX - kept);
        self.head.extend(&input[..copied]);
        match Head::parse(self.head.as_slice(), role, deflate)? {
            // An incomplete header is shorter than the room for it, so that all of `input` was copied.
            None => Ok((copied, None)),
            Some((head, len)) => {
                self.head = Short::default();
                Ok((len - kept, Some(head)))
            }
        }
    }

    /// Begins a frame that has been checked.
    pub(super) fn start_frame(&mut self, head: Head, payload_len: usize) {
        if !head.opcode.is_control() {
            let message = self.message.get_or_insert_with(|| Message {
                opcode: head.opcode,
                compressed: head.rsv1,
                fragments: 0,
                bytes: Vec::new(),
                checked: 0,
            });
            message.fragments += 1;
        }
        self.frame = Some(Frame { head, payload_len, received: 0 });
    }

    /// Takes from `input` what belongs to the frame, and returns how much that was.
    ///
    /// # Errors
    /// Text is refused as soon as it cannot become UTF-8 any more.
    pub(super) fn receive(&mut self, input: &mut [u8]) -> Result<usize, Violation> {
        let Some(frame) = &mut self.frame else { return Ok(0) };
        let taken = input.len().min(frame.payload_len - frame.received);
        let bytes = &mut input[..taken];
        if let Some(mask) = frame.head.mask {
            mask::apply(bytes, mask, frame.received);
        }
        frame.received += taken;
        match &mut self.message {
            Some(message) if !frame.head.opcode.is_control() => message.extend(bytes)?,
            _ => self.control.extend(bytes),
        }
        Ok(taken)
    }

    /// The frame in progress, if its payload is complete; it is then no longer in progress.
    pub(super) fn finish_frame(&mut self) -> Option<Head> {
        self.frame.take_if(|frame| frame.received == frame.payload_len).map(|frame| frame.head)
    }

    pub(super) fn take_control(&mut self) -> Short<CONTROL_PAYLOAD_MAX> {
        std::mem::take(&mut self.control)
    }
}

impl Message {
    fn extend(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        self.bytes.extend_from_slice(bytes);
        if self.opcode == Opcode::Text && !self.compressed {
            match simdutf8::compat::from_utf8(&self.bytes[self.checked..]) {
                Ok(_) => self.checked = self.bytes.len(),
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(NOT_UTF8),
            }
        }
        Ok(())
    }
}

/// A few bytes, at most `MAX`.
#[derive(Debug)]
pub(super) struct Short<const MAX: usize> {
    bytes: [u8; MAX],
    len: u8,
}

impl<const MAX: usize> Short<MAX> {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn extend(&mut self, more: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + more.len()].copy_from_slice(more);
        self.len += more.len() as u8;
    }
}

impl<const MAX: usize> Default for Short<MAX> {
    fn default() -> Self {
        Short { bytes: [0; MAX], len: 0 }
    }
}
