//! The stamp that a message carries through the server: who sent it, its number, and when.
//!
//! 34 characters that no JSON, Socket.IO or NATS framing has to escape, so that they arrive as they were written: `~`, the
//! time in nanoseconds (16 hexadecimal digits), the publisher (8), the number (8), `~`.

/// The length of a stamp, and so of the shortest payload, in bytes.
pub(crate) const SIZE: usize = 34;

/// Fills a payload up to its length.
const FILLER: u8 = b'x';

/// What a message says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When it was to be sent, in nanoseconds of the run's clock.
    pub(crate) time: u64,
    /// Who sent it.
    pub(crate) publisher: u32,
    /// Counted from 1 for each publisher; 0 is a message of the warm-up, which does not count.
    pub(crate) number: u32,
}

impl Stamp {
    /// Appends the stamp and filler, `size` bytes in all, but never less than the stamp.
    pub(crate) fn write(&self, size: usize, out: &mut Vec<u8>) {
        let end = out.len() + size.max(SIZE);
        out.push(b'~');
        for word in [(self.time >> 32) as u32, self.time as u32, self.publisher, self.number] {
            out.extend((0..8).rev().map(|digit| b"0123456789abcdef"[(word >> (4 * digit)) as usize & 15]));
        }
        out.push(b'~');
        out.resize(end, FILLER);
    }

    /// The first stamp in `message`, and where it ends. `hint` is where the last one was found: messages of one kind have it
    /// at the same place, so that it is looked for only once.
    #[inline]
    pub(crate) fn find(message: &[u8], hint: &mut usize) -> Option<(Stamp, usize)> {
        if let Some(stamp) = Self::at(message, *hint) {
            return Some((stamp, *hint + SIZE));
        }
        let (start, stamp) =
            memchr::memchr_iter(b'~', message).find_map(|start| Some((start, Self::at(message, start)?)))?;
        *hint = start;
        Some((stamp, start + SIZE))
    }

    #[inline(always)]
    fn at(message: &[u8], start: usize) -> Option<Stamp> {
        let bytes: &[u8; SIZE] = message.get(start..)?.first_chunk()?;
        if bytes[0] != b'~' || bytes[SIZE - 1] != b'~' {
            return None;
        }
        let word = |at: usize| hexadecimal(bytes[at..at + 8].first_chunk().expect("eight bytes"));
        Some(Stamp { time: u64::from(word(1)) << 32 | u64::from(word(9)), publisher: word(17), number: word(25) })
    }
}

/// The value of eight lower-case hexadecimal digits, all at once.
#[inline]
fn hexadecimal(digits: &[u8; 8]) -> u32 {
    let text = u64::from_be_bytes(*digits);
    let letters = text >> 6 & 0x0101_0101_0101_0101;
    let nibbles = (text & 0x0f0f_0f0f_0f0f_0f0f) + letters * 9;
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let halves = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (halves | halves >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { time: 0x0123_4567_89ab_cdef, publisher: 0xfedc_ba98, number: 7 };

    #[test]
    fn a_stamp_is_found_wherever_it_is() {
        for before in ["", "x", r#"[null,null,"a~b","new_msg",{"body":""#] {
            for size in [0, SIZE, 64, 512] {
                let mut message = before.as_bytes().to_vec();
                STAMP.write(size, &mut message);
                assert_eq!(message.len(), before.len() + size.max(SIZE));
                message.extend_from_slice(b"\"}]");
                for wrong_hint in [0, 5, before.len(), 1_000_000] {
                    let mut hint = wrong_hint;
                    let found = Stamp::find(&message, &mut hint);
                    assert_eq!(found, Some((STAMP, before.len() + SIZE)), "{before} {size} {wrong_hint}");
                    assert_eq!(hint, before.len());
                }
            }
        }
    }

    #[test]
    fn what_is_no_stamp_is_not_found() {
        let mut cut = Vec::new();
        STAMP.write(0, &mut cut);
        cut.pop();
        for message in [&b""[..], b"~", b"~~", &cut, &[b'~'; SIZE - 1]] {
            assert_eq!(Stamp::find(message, &mut 0), None);
        }
    }
}
