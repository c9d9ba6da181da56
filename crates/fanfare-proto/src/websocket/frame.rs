//! Frames going out: opcodes, headers, and whole messages in one frame.
//!
//! Nothing here splits a message: Fanfare sends each in one frame. Frames coming in are the [`decoder`](super::decoder)'s.

use super::mask;

/// The largest payload of a control frame, in bytes (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;

/// The longest header of an unmasked frame, in bytes.
pub const HEADER_SIZE_MAX: usize = 10;

/// What a frame is (RFC 6455, section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further part of a fragmented message.
    Continuation = 0x0,
    /// A text message, or its first part.
    Text = 0x1,
    /// A binary message, or its first part.
    Binary = 0x2,
    /// The last frame of its sender.
    Close = 0x8,
    /// To be answered by a pong with the same payload.
    Ping = 0x9,
    /// The answer to a ping, or a sign of life.
    Pong = 0xa,
}

impl Opcode {
    /// The opcode with this value on the wire; `None` for the reserved ones.
    pub fn from_wire(value: u8) -> Option<Opcode> {
        Some(match value {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    /// Whether this is a close, ping or pong, which stand between the fragments of a message.
    pub fn is_control(self) -> bool {
        self as u8 >= 0x8
    }
}

/// The header of an unmasked frame: 2, 4 or 10 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; HEADER_SIZE_MAX],
    len: u8,
}

impl Header {
    /// The header as it goes on the wire.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of an unmasked frame of `payload_len` bytes; `compressed` sets RSV1.
///
/// A control frame must be `fin`, not compressed, and at most [`CONTROL_PAYLOAD_MAX`] bytes long.
pub fn header(opcode: Opcode, payload_len: usize, fin: bool, compressed: bool) -> Header {
    debug_assert!(!opcode.is_control() || (fin && !compressed && payload_len <= CONTROL_PAYLOAD_MAX));
    let mut bytes = [0; HEADER_SIZE_MAX];
    bytes[0] = u8::from(fin) << 7 | u8::from(compressed) << 6 | opcode as u8;
    let len = if payload_len < 126 {
        bytes[1] = payload_len as u8;
        2
    } else if let Ok(short) = u16::try_from(payload_len) {
        bytes[1] = 126;
        bytes[2..4].copy_from_slice(&short.to_be_bytes());
        4
    } else {
        bytes[1] = 127;
        bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
        10
    };
    Header { bytes, len }
}

/// The size of an unmasked frame of `payload_len` bytes.
pub fn size(payload_len: usize) -> usize {
    let header_size = match payload_len {
        ..126 => 2,
        126..=0xffff => 4,
        _ => HEADER_SIZE_MAX,
    };
    header_size + payload_len
}

/// Appends a whole message, or a control frame, as a server sends it. `compressed` says that `payload` was made by
/// [`Deflater::compress`](super::deflate::Deflater::compress).
pub fn encode(opcode: Opcode, payload: &[u8], compressed: bool, out: &mut Vec<u8>) {
    let header = header(opcode, payload.len(), true, compressed);
    out.reserve(header.as_slice().len() + payload.len());
    out.extend_from_slice(header.as_slice());
    out.extend_from_slice(payload);
}

/// Appends a close frame as a server sends it, with `code` and a reason, of which what would not fit is left out.
pub fn encode_close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_PAYLOAD_MAX - 2)];
    encode(Opcode::Close, &[&code.to_be_bytes(), reason.as_bytes()].concat(), false, out);
}

/// Appends a frame as a client sends it: masked, and with `fin` false for a message that goes on. `compressed` as in
/// [`encode`].
pub fn encode_masked(opcode: Opcode, payload: &[u8], mask: [u8; 4], fin: bool, compressed: bool, out: &mut Vec<u8>) {
    let mut header = header(opcode, payload.len(), fin, compressed);
    header.bytes[1] |= 0x80;
    out.reserve(header.as_slice().len() + mask.len() + payload.len());
    out.extend_from_slice(header.as_slice());
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    mask::apply(&mut out[start..], mask, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_use_the_shortest_length() {
        let check = |opcode, len, fin, compressed, expected: &[u8]| {
            assert_eq!(header(opcode, len, fin, compressed).as_slice(), expected, "{opcode:?} of {len}");
            assert_eq!(size(len), expected.len() + len);
        };
        check(Opcode::Text, 0, true, false, &[0x81, 0]);
        check(Opcode::Text, 125, true, true, &[0xc1, 125]);
        check(Opcode::Binary, 126, false, false, &[0x02, 126, 0, 126]);
        check(Opcode::Binary, 65_535, true, false, &[0x82, 126, 0xff, 0xff]);
        check(Opcode::Continuation, 65_536, true, false, &[0x80, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7() {
        let check = |encode: &dyn Fn(&mut Vec<u8>), expected: &[u8]| {
            let mut out = Vec::new();
            encode(&mut out);
            assert_eq!(out, expected);
        };
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        check(&|out| encode(Opcode::Text, b"Hello", false, out), b"\x81\x05Hello");
        check(
            &|out| encode_masked(Opcode::Text, b"Hello", mask, true, false, out),
            b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58",
        );
        check(&|out| encode(Opcode::Ping, b"Hello", false, out), b"\x89\x05Hello");
        check(&|out| encode_close(1000, "", out), b"\x88\x02\x03\xe8");
        check(&|out| encode_close(3000, "no", out), b"\x88\x04\x0b\xb8no");
        let long = format!("{}é", "x".repeat(122));
        check(&|out| encode_close(1000, &long, out), &[b"\x88\x7c\x03\xe8", &long.as_bytes()[..122]].concat());
    }
}
