//! Requests and responses between nodes, in parts that a broker can carry.
//!
//! A part has its request's number, its own, how many there are (varints), and bytes to the end. No parts at all take a request back.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::envelope::{Fields, Unread, VARINT_SIZE_MAX, write_varint};

/// A part has this many bytes at most, and fewer where the broker carries no more.
pub const PART_SIZE_MAX: usize = 256 * 1024;

/// A request or response has this many parts at most.
pub const PARTS_MAX: usize = 256;

/// What a part has beside its bytes, at most.
pub const PART_OVERHEAD_MAX: usize = 3 * VARINT_SIZE_MAX;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Counts the requests of the node that asks.
    pub number: u64,
    part: u64,
    parts: u64,
    bytes: Bytes,
}

impl Part {
    /// The parts of a request or response, each with so many bytes at most; none if it is too large for [`PARTS_MAX`] of them.
    pub fn of(number: u64, mut bytes: Bytes, size_max: usize) -> Vec<Part> {
        let parts = bytes.len().div_ceil(size_max).max(1) as u64;
        if parts > PARTS_MAX as u64 {
            return Vec::new();
        }
        let next = |part| Part { number, part, parts, bytes: bytes.split_to(bytes.len().min(size_max)) };
        (0..parts).map(next).collect()
    }

    /// What takes a request back.
    pub fn cancel(number: u64) -> Part {
        Part { number, part: 0, parts: 0, bytes: Bytes::new() }
    }

    /// Whether it takes a request back.
    pub fn is_cancel(&self) -> bool {
        self.parts == 0
    }

    /// Reads a part. It shares the bytes.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub fn read(bytes: &Bytes) -> Result<Self, Unread> {
        let mut fields = Fields::new(bytes);
        let (number, part, parts) = (fields.varint()?, fields.varint()?, fields.varint()?);
        let bytes = fields.rest();
        let makes_sense =
            if parts == 0 { part == 0 && bytes.is_empty() } else { part < parts && parts <= PARTS_MAX as u64 };
        if makes_sense { Ok(Part { number, part, parts, bytes }) } else { Err(Unread::Malformed) }
    }

    /// The part's bytes.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes.len() + 16);
        [self.number, self.part, self.parts].iter().for_each(|number| write_varint(*number, &mut out));
        out.extend_from_slice(&self.bytes);
        out.into()
    }
}

/// A request or response of which parts have come.
#[derive(Default)]
pub struct Parcel(Vec<Option<Bytes>>);

impl Parcel {
    /// Puts a part in, and returns the whole once it is there. Parts of another division begin again.
    pub fn put(&mut self, part: Part) -> Option<Bytes> {
        if self.0.len() as u64 != part.parts {
            self.0 = vec![None; part.parts as usize];
        }
        *self.0.get_mut(part.part as usize)? = Some(part.bytes);
        if self.0.len() == 1 {
            return self.0.pop().flatten();
        }
        let mut whole = BytesMut::new();
        for part in self.0.iter().map(Option::as_ref) {
            whole.extend_from_slice(part?);
        }
        Some(whole.freeze())
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parcel({} of {} parts)", self.0.iter().flatten().count(), self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_in_parts_is_whole_when_all_are_there() {
        #[track_caller]
        fn check(size: usize, size_max: usize, parts: usize) {
            let whole: Bytes = (0..size).map(|n| n as u8).collect::<Vec<_>>().into();
            let sent = Part::of(7, whole.clone(), size_max);
            assert_eq!(sent.len(), parts, "{size} bytes");
            let mut parcel = Parcel::default();
            let mut came = None;
            for part in sent.iter().rev() {
                assert_eq!(came, None);
                assert!(part.to_bytes().len() <= size_max + PART_OVERHEAD_MAX);
                let read = Part::read(&part.to_bytes()).unwrap();
                assert_eq!((&read, read.number), (part, 7));
                came = parcel.put(read);
            }
            assert_eq!(came, Some(whole).filter(|_| parts > 0));
        }
        for size_max in [PART_SIZE_MAX, 1_000] {
            check(0, size_max, 1);
            check(1, size_max, 1);
            check(size_max, size_max, 1);
            check(size_max + 1, size_max, 2);
            check(3 * size_max, size_max, 3);
            check(PARTS_MAX * size_max + 1, size_max, 0);
        }
    }

    #[test]
    fn what_makes_no_sense_is_dropped() {
        for bytes in [&b""[..], b"\x01\x01\x01", b"\x01\x00\xff\xff\x7f", b"\x01\x00\x00!", b"\xff\xff\xff"] {
            assert_eq!(Part::read(&Bytes::copy_from_slice(bytes)), Err(Unread::Malformed), "{bytes:?}");
        }
        assert!(Part::read(&Part::cancel(3).to_bytes()).unwrap().is_cancel());
    }
}
