//! A compressor for messages that each stand alone (RFC 1951), fast where general ones are slow.
//!
//! It writes what zlib writes at level 1: one block of fixed codes, with the matches that a table of the last place of every
//! four bytes finds. But zlib clears its tables before each stream, 5 µs for a message that takes 1 µs to compress;
//! here places count on from message to message, so that those of earlier ones are simply too far back.

use super::{TAIL, WINDOW_BITS_MAX, WINDOW_BITS_MIN};

/// Matches of fewer bytes are not looked for, longer ones than the second cannot be written.
const MATCH_MIN: usize = 4;
const MATCH_MAX: usize = 258;

const TABLE_BITS: u32 = 13;

const END_OF_BLOCK: usize = 256;

/// Deflates messages, one at a time. It holds 32 KB.
pub struct Deflater {
    /// By hash of four bytes, where they were last.
    places: Box<[u32; 1 << TABLE_BITS]>,
    /// Where the next message begins; everything before is of earlier messages.
    base: u32,
}

impl Default for Deflater {
    fn default() -> Self {
        // Places that were never set are before every message.
        Deflater { places: Box::new([0; 1 << TABLE_BITS]), base: 1 }
    }
}

impl Deflater {
    /// Appends `data` as the payload of a compressed message to `out`, for peers with a full window: those whose
    /// [`Agreement`](super::Agreement) says [`WINDOW_BITS_MAX`].
    pub fn compress(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.compress_within(WINDOW_BITS_MAX, data, out);
    }

    /// The same for a part of a message of which more follows. No part refers to another, so that one may stand in many messages; the last
    /// one of each is [compressed](Deflater::compress) as a message is.
    pub fn compress_part(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.compress(data, out);
        out.extend_from_slice(&TAIL);
    }

    /// The same as [`compress`](Deflater::compress) for a peer whose [`Agreement`](super::Agreement) may say less; what is made for a small window suits every
    /// larger one.
    ///
    /// # Panics
    /// If `window_bits` is not within [`WINDOW_BITS_MIN`] and [`WINDOW_BITS_MAX`], or `data` has 4 GiB or more.
    pub fn compress_within(&mut self, window_bits: u8, data: &[u8], out: &mut Vec<u8>) {
        assert!((WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(&window_bits), "no window of {window_bits} bits");
        if data.is_empty() {
            return out.push(0);
        }
        self.begin(data.len());
        let mut bits = BitWriter { out, held: 0, count: 0 };
        bits.put(0b010, 3); // not the last block; fixed codes
        let mut at = 0;
        while let Some(four) = data.get(at..at + MATCH_MIN) {
            match self.find(data, at, four.try_into().expect("four bytes"), 1 << window_bits) {
                Some((distance, len)) => {
                    bits.put_match(distance, len);
                    at += len;
                }
                None => {
                    bits.put_symbol(data[at].into());
                    at += 1;
                }
            }
        }
        data[at..].iter().for_each(|&byte| bits.put_symbol(byte.into()));
        bits.put_symbol(END_OF_BLOCK);
        // The head of the empty stored block that a flush ends with; the rest of it is left out on the wire.
        bits.put(0, 3);
        bits.finish();
        self.base += data.len() as u32;
    }

    /// Makes place for a message: when the count is at its end, it begins anew with an empty table.
    fn begin(&mut self, len: usize) {
        let len = u32::try_from(len).expect("a message of less than 4 GiB");
        if self.base.checked_add(len).is_none() {
            self.places.fill(0);
            self.base = 1;
        }
    }

    /// The distance and length of a match for what begins at `at`, if the table knows one.
    fn find(&mut self, data: &[u8], at: usize, four: [u8; 4], window: usize) -> Option<(usize, usize)> {
        let hash = u32::from_le_bytes(four).wrapping_mul(0x9e37_79b1) >> (u32::BITS - TABLE_BITS);
        let place = std::mem::replace(&mut self.places[hash as usize], self.base + at as u32);
        let earlier = place.checked_sub(self.base)? as usize;
        if at - earlier > window || data[earlier..earlier + MATCH_MIN] != four {
            return None;
        }
        let longest = MATCH_MAX.min(data.len() - at);
        let (old, new) = (&data[earlier..earlier + longest], &data[at..at + longest]);
        Some((at - earlier, same_length(old, new)))
    }
}

/// How many bytes at the beginning are the same. Both are of one length.
fn same_length(old: &[u8], new: &[u8]) -> usize {
    let (old_words, _) = old.as_chunks::<8>();
    let (new_words, _) = new.as_chunks::<8>();
    for (index, (old, new)) in old_words.iter().zip(new_words).enumerate() {
        let differing = u64::from_le_bytes(*old) ^ u64::from_le_bytes(*new);
        if differing != 0 {
            return index * 8 + differing.trailing_zeros() as usize / 8;
        }
    }
    let whole = old_words.len() * 8;
    whole + old[whole..].iter().zip(&new[whole..]).take_while(|(old, new)| old == new).count()
}

/// Bits from the lowest to the highest, as RFC 1951 section 3.1.1 packs them.
struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter<'_> {
    /// Appends the lowest `count` bits, at most 32.
    fn put(&mut self, bits: u32, count: u32) {
        self.held |= u64::from(bits) << self.count;
        self.count += count;
        if self.count >= 32 {
            self.out.extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    fn put_symbol(&mut self, symbol: usize) {
        let (code, count) = FIXED[symbol];
        self.put(code.into(), count.into());
    }

    /// A length and a distance: a symbol and the bits that it leaves open, for each (RFC 1951, section 3.2.5).
    fn put_match(&mut self, distance: usize, len: usize) {
        let rest = len as u32 - 3;
        match (len, rest.max(1).ilog2()) {
            (MATCH_MAX, _) => self.put_symbol(285),
            (_, ..3) => self.put_symbol(257 + rest as usize),
            (_, log) => {
                let open = log - 2;
                self.put_symbol((261 + 4 * open + (rest >> open & 3)) as usize);
                self.put(rest & ((1 << open) - 1), open);
            }
        }
        let rest = distance as u32 - 1;
        let (symbol, open) = match rest.max(1).ilog2() {
            0 => (rest, 0),
            log => (2 * log + (rest >> (log - 1) & 1), log - 1),
        };
        self.put(symbol.reverse_bits() >> 27, 5);
        self.put(rest & ((1 << open) - 1), open);
    }

    fn finish(self) {
        let bytes = self.count.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..bytes]);
    }
}

/// The fixed codes of literals and lengths, and how many bits each has (RFC 1951, section 3.2.6). Codes are written from their
/// highest bit, so they are kept reversed.
const FIXED: [(u16, u8); 286] = {
    let mut codes = [(0, 0); 286];
    let mut symbol = 0;
    while symbol < codes.len() {
        let (code, count) = match symbol {
            0..144 => (0x30 + symbol, 8),
            144..256 => (0x190 + symbol - 144, 9),
            256..280 => (symbol - 256, 7),
            _ => (0xc0 + symbol - 280, 8),
        };
        codes[symbol] = ((code as u16).reverse_bits() >> (16 - count), count as u8);
        symbol += 1;
    }
    codes
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::deflate::Inflater;

    /// Every length and every distance is written as an inflater reads it.
    #[test]
    fn lengths_and_distances() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        let mut check = |data: &[u8]| {
            let mut out = Vec::new();
            deflater.compress(data, &mut out);
            assert!(inflater.inflate(&out, 1 << 20).unwrap() == data, "{} bytes", data.len());
        };
        for len in 1..=600 {
            check(&vec![b'a'; len]);
            check(&[b"0123456789".repeat(len), b"!".to_vec()].concat());
        }
        // Counters repeat nothing but what is put behind them on purpose.
        let unique: Vec<u8> = (0..10_000_u32).flat_map(u32::to_be_bytes).collect();
        for distance in (5..40_000).step_by(1_009).chain([32_767, 32_768, 32_769]) {
            let start = unique.len() - distance;
            check(&[&unique[..], &unique[start..start + distance.min(40)]].concat());
        }
    }

    #[test]
    fn a_part_may_stand_in_many_messages() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        let words = b"the same words in each part, ".repeat(400);
        let (mut shared, mut nothing) = (Vec::new(), Vec::new());
        deflater.compress_part(&words, &mut shared);
        deflater.compress_part(b"", &mut nothing);
        for (before, behind) in [("", ""), ("one", "the same words in each part"), ("another", "!")] {
            let mut message = Vec::new();
            deflater.compress_part(before.as_bytes(), &mut message);
            [&shared, &nothing, &shared].into_iter().for_each(|part| message.extend_from_slice(part));
            deflater.compress(behind.as_bytes(), &mut message);
            let whole = [before.as_bytes(), &words, &words, behind.as_bytes()].concat();
            assert!(inflater.inflate(&message, 1 << 20).unwrap() == whole, "{before:?} {behind:?}");
        }
    }

    #[test]
    fn earlier_messages_are_not_referred_to() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        let message = b"the same words as before, and the same words again".repeat(3);
        let mut first = Vec::new();
        deflater.compress(&message, &mut first);
        for base in [deflater.base, u32::MAX - 200, u32::MAX - 100, u32::MAX] {
            deflater.base = base;
            let mut out = Vec::new();
            deflater.compress(&message, &mut out);
            assert_eq!(out, first, "at {base}");
            assert_eq!(inflater.inflate(&out, 1 << 20).unwrap(), message);
        }
    }
}
