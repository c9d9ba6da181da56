//! The chunks in which HTTP/1.1 carries a body whose length nobody knows (RFC 9112, section 7.1), as a server writes them: without
//! extensions and trailers.

use std::io::Write as _;
use std::ops::Range;

/// What ends a body.
pub const END: &[u8] = b"0\r\n\r\n";

/// What stands behind the data of a chunk.
pub const DATA_END: &[u8] = b"\r\n";

/// Digits of a size, at most.
const DIGITS_MAX: usize = 16;

/// Appends data as one chunk. None of it makes none: an empty chunk would be the [end](END).
pub fn encode(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        write!(out, "{:X}\r\n", data.len()).expect("writing to memory does not fail");
        out.extend_from_slice(data);
        out.extend_from_slice(DATA_END);
    }
}

/// What stands before this much data, of which there is some.
pub fn head(size: usize) -> String {
    format!("{size:X}\r\n")
}

/// A chunk at the beginning of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Where its data is; nowhere in the last chunk.
    pub data: Range<usize>,
    /// How much it takes with what is around its data.
    pub size: usize,
}

/// The chunk that begins here; `None` where its size is not there yet, or is none.
pub fn first(bytes: &[u8]) -> Option<Chunk> {
    let digits = bytes.iter().take(DIGITS_MAX).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let size = usize::from_str_radix(std::str::from_utf8(&bytes[..digits]).ok()?, 16).ok()?;
    bytes[digits..].starts_with(b"\r\n").then_some(())?;
    let begin = digits + 2;
    let end = begin.checked_add(size)?;
    Some(Chunk { data: begin..end, size: end.checked_add(2)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_as_they_went_in() {
        for size in [1, 9, 10, 15, 16, 255, 256, 70_000] {
            let data = vec![b'x'; size];
            let mut out = b"before".to_vec();
            encode(&data, &mut out);
            assert_eq!(&out[6..], [head(size).as_bytes(), &data, DATA_END].concat());
            let chunk = first(&out[6..]).unwrap();
            assert_eq!((&out[6..][chunk.data.clone()], chunk.size), (&*data, out.len() - 6), "{size}");
            for cut in 0..chunk.data.start {
                assert_eq!(first(&out[6..6 + cut]), None, "{size} {cut}");
            }
        }
        let mut out = Vec::new();
        encode(b"", &mut out);
        assert!(out.is_empty());
        assert_eq!(first(END), Some(Chunk { data: 3..3, size: END.len() }));
    }

    #[test]
    fn what_is_no_chunk() {
        for bytes in
            ["", "x\r\n", "+5\r\n", "5;a=b\r\n", "5\n", "\r\n", "fffffffffffffffff\r\n", "ffffffffffffffff\r\n"]
        {
            assert_eq!(first(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
