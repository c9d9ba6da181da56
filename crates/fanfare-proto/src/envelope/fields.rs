//! The fields of an envelope, taken from its beginning: each is there as a whole, or the envelope is malformed.

use bytes::Bytes;

use super::{Unread, VARINT_SIZE_MAX};

/// What is left of an envelope.
pub(crate) struct Fields<'a> {
    whole: &'a Bytes,
    left: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(whole: &'a Bytes) -> Self {
        Fields { whole, left: whole }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Unread> {
        let (byte, left) = self.left.split_first().ok_or(Unread::Malformed)?;
        self.left = left;
        Ok(*byte)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Unread> {
        let (bytes, left) = self.left.split_first_chunk().ok_or(Unread::Malformed)?;
        self.left = left;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Unread> {
        let mut value = 0;
        for place in 0..VARINT_SIZE_MAX {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if place == VARINT_SIZE_MAX - 1 && bits > 1 {
                return Err(Unread::Malformed);
            }
            value |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Unread::Malformed)
    }

    /// A text with its length before it.
    pub(crate) fn text(&mut self) -> Result<&'a str, Unread> {
        let size = self.varint()?;
        simdutf8::basic::from_utf8(self.part(size)?.left).map_err(|_| Unread::Malformed)
    }

    /// The next bytes, as fields of their own.
    pub(crate) fn part(&mut self, size: u64) -> Result<Fields<'a>, Unread> {
        let size = usize::try_from(size).map_err(|_| Unread::Malformed)?;
        let (part, left) = self.left.split_at_checked(size).ok_or(Unread::Malformed)?;
        self.left = left;
        Ok(Fields { whole: self.whole, left: part })
    }

    /// All that is left, sharing the envelope's bytes.
    pub(crate) fn rest(self) -> Bytes {
        self.whole.slice_ref(self.left)
    }
}

/// Appends a number as a varint.
pub(crate) fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
