//! The header of a frame coming in, and the rules that it must keep before a byte of payload is looked at.

use super::partial::Message;
use super::{Limits, Role, Violation};
use crate::websocket::frame::{CONTROL_PAYLOAD_MAX, Opcode};

/// The longest header there is, in bytes.
pub(super) const HEAD_LEN_MAX: usize = 14;

#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) opcode: Opcode,
    pub(super) fin: bool,
    pub(super) rsv1: bool,
    pub(super) mask: Option<[u8; 4]>,
    /// As declared, not yet compared with any limit.
    payload_len: u64,
}

impl Head {
    /// Reads a header and its length in bytes; `None` if `bytes` ends within it. What the first two bytes break is told
    /// without waiting for the rest.
    pub(super) fn parse(bytes: &[u8], role: Role, deflate: bool) -> Result<Option<(Head, usize)>, Violation> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let (fin, rsv1, masked) = (first & 0x80 != 0, first & 0x40 != 0, second & 0x80 != 0);
        if first & 0x30 != 0 || (rsv1 && !deflate) {
            return Err(Violation::protocol("a reserved bit without its extension"));
        }
        let opcode = Opcode::from_wire(first & 0x0f).ok_or(Violation::protocol("an unknown opcode"))?;
        if rsv1 && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(Violation::protocol("the compression bit on a control or continuation frame"));
        }
        match role {
            Role::Server if !masked => return Err(Violation::protocol("an unmasked frame from a client")),
            Role::Client if masked => return Err(Violation::protocol("a masked frame from a server")),
            _ => {}
        }
        let short_len = second & 0x7f;
        if opcode.is_control() {
            if !fin {
                return Err(Violation::protocol("a fragmented control frame"));
            }
            if usize::from(short_len) > CONTROL_PAYLOAD_MAX {
                return Err(Violation::protocol("a control frame over 125 bytes"));
            }
        }
        let (payload_len, len_min, rest) = match short_len {
            126 => {
                let Some((len, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from(u16::from_be_bytes(*len)), 126, rest)
            }
            127 => {
                let Some((len, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from_be_bytes(*len), 65_536, rest)
            }
            len => (u64::from(len), 0, rest),
        };
        if payload_len < len_min || payload_len >> 63 != 0 {
            return Err(Violation::protocol("a payload length in the wrong form"));
        }
        let (mask, rest) = if masked {
            let Some((mask, rest)) = rest.split_first_chunk() else {
                return Ok(None);
            };
            (Some(*mask), rest)
        } else {
            (None, rest)
        };
        Ok(Some((Head { opcode, fin, rsv1, mask, payload_len }, bytes.len() - rest.len())))
    }

    /// Checks that the frame may come now, within or without a message, and that what it declares is within the limits.
    /// Returns the length of the payload in bytes.
    pub(super) fn check(&self, message: Option<&Message>, limits: &Limits) -> Result<usize, Violation> {
        let (size, fragments) = match (self.opcode, message) {
            (Opcode::Continuation, Some(message)) => (message.bytes.len(), message.fragments),
            (Opcode::Continuation, None) => return Err(Violation::protocol("a continuation of nothing")),
            (Opcode::Text | Opcode::Binary, None) => (0, 0),
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Violation::protocol("a new message within a fragmented one"));
            }
            // At most 125 bytes, whatever the limits are.
            _ => return Ok(self.payload_len as usize),
        };
        if fragments >= limits.fragments_max {
            return Err(Violation::too_big("a message in too many fragments"));
        }
        match usize::try_from(self.payload_len) {
            Ok(len) if len <= limits.message_size_max.saturating_sub(size) => Ok(len),
            _ => Err(Violation::too_big("a message too large")),
        }
    }
}
