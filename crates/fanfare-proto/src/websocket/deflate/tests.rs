//! The RFC's examples, round trips, windows and bounds.

use super::*;

const MIB: usize = 1024 * 1024;

fn compressed(data: &[u8], window_bits: u8) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::default().compress_within(window_bits, data, &mut out);
    out
}

/// Bytes that do not repeat, from a small generator.
fn noise(len: usize) -> Vec<u8> {
    let mut state = len as u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

#[test]
fn the_examples_of_rfc_7692_section_7_2_3() {
    let mut inflater = Inflater::default();
    let mut check = |payload: &[u8], expected: Result<&[u8], InflateError>| {
        assert_eq!(inflater.inflate(payload, MIB), expected, "{payload:x?}");
    };
    check(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], Ok(b"Hello"));
    check(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], Ok(b"Hello")); // stored
    check(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], Ok(b"Hello")); // final block
    check(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], Ok(b"Hello")); // final block without the extra octet
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    check(&two, Ok(b"Hello")); // two blocks
    let two = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    check(&two, Ok(b"HelloHello")); // two streams
    check(&[0x00], Ok(b"")); // an empty message
    check(&[], Ok(b"")); // what some clients make of it
    check(&[0xff, 0xff, 0xff], Err(InflateError::Invalid));
    check(&[0x07], Err(InflateError::Invalid));
    // The inflater is clean after an error.
    check(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], Ok(b"Hello"));
    // A context kept from the message before is refused: this one refers back into it.
    check(&[0xf2, 0x00, 0x11, 0x00, 0x00], Err(InflateError::Invalid));
}

#[test]
fn round_trips() {
    let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
    for data in [vec![], b"x".to_vec(), vec![b'a'; 300_000], noise(1), noise(70_000), noise(MIB)] {
        for window_bits in WINDOW_BITS_MIN..=WINDOW_BITS_MAX {
            let mut out = b"before".to_vec();
            deflater.compress_within(window_bits, &data, &mut out);
            let inflated = inflater.inflate(&out[6..], 2 * MIB).expect("what we made");
            assert!(inflated == data, "{} bytes, {window_bits} bits", data.len());
        }
    }
    assert_eq!(compressed(b"", 15), [0]);
}

/// The longest distance that a payload refers back. The inflater cannot tell: it always has a full window. Reads
/// only what we write, which is blocks of fixed codes (RFC 1951, section 3.2.6).
fn longest_distance(payload: &[u8]) -> usize {
    let mut bits = payload.iter().flat_map(|byte| (0..8).map(move |at| usize::from(byte >> at & 1)));
    let mut bit = || bits.next().unwrap();
    let mut longest = 0;
    loop {
        match [bit(), bit(), bit()] {
            [0, 0, 0] => return longest, // the empty block at the end
            [0, 1, 0] => {}
            kind => panic!("a block {kind:?}"),
        }
        loop {
            let seven = (0..7).fold(0, |code, _| code << 1 | bit());
            let symbol = match seven {
                ..0x18 => 256 + seven,
                0x60..0x64 => 280 + (seven << 1 | bit()) - 0xc0,
                0x18..0x60 => {
                    bit(); // a literal of eight bits
                    continue;
                }
                _ => {
                    bit(); // a literal of nine
                    bit();
                    continue;
                }
            };
            if symbol == 256 {
                break;
            }
            let length_extra = if (265..285).contains(&symbol) { (symbol - 261) / 4 } else { 0 };
            (0..length_extra).for_each(|_| _ = bit());
            let symbol = (0..5).fold(0, |code, _| code << 1 | bit());
            let extra_len = (symbol / 2).max(1) - 1;
            let extra = (0..extra_len).fold(0, |extra, at| extra | bit() << at);
            let base = if symbol < 2 { symbol } else { (2 + symbol % 2) << extra_len };
            longest = longest.max(base + extra + 1);
        }
    }
}

#[test]
fn a_small_window_is_kept_to() {
    let mut data = Vec::new();
    for distance in [200, 300, 600, 1200, 2500, 5000, 10_000, 20_000, 40_000] {
        let part = noise(distance);
        data.extend_from_slice(&part);
        data.extend_from_slice(&part);
    }
    for (window_bits, expected) in
        [(8, 200), (9, 200), (10, 600), (11, 1200), (12, 2500), (13, 5000), (14, 10_000), (15, 20_000)]
    {
        let longest = longest_distance(&compressed(&data, window_bits));
        assert!(longest <= 1 << window_bits, "a distance of {longest} with {window_bits} bits");
        // And the test's own measure works: the repeats within reach have been used.
        assert!(longest >= expected, "a distance of {longest} with {window_bits} bits");
    }
}

#[test]
fn limits_hold_exactly() {
    let mut inflater = Inflater::default();
    let mut check = |len: usize, size_max: usize, expected: Result<(), InflateError>| {
        let payload = compressed(&vec![b'a'; len], 15);
        let result = inflater.inflate(&payload, size_max).map(|inflated| assert_eq!(inflated.len(), len));
        assert_eq!(result, expected, "{len} bytes, at most {size_max}");
    };
    check(1000, 1000, Ok(()));
    check(1001, 1000, Err(InflateError::TooLarge));
    check(1, 0, Err(InflateError::TooLarge));
    check(0, 0, Ok(()));
    check(MIB, MIB, Ok(()));
    check(MIB, MIB - 1, Err(InflateError::TooLarge));
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    // It would inflate to 256 MiB.
    let bomb = compressed(&vec![0; 16 * MIB], 15).repeat(16);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&bomb, 8_000_000), Err(InflateError::TooLarge));
    assert!(inflater.stream.total_out() <= 8_000_001);
    assert!(inflater.buffer.capacity() <= 8_000_001);
    inflater.shrink();
    assert!(inflater.buffer.capacity() <= BUFFER_KEPT);
}

#[test]
fn streams_within_a_message_are_bounded() {
    let empty_final_block = [0x03, 0x00];
    let mut inflater = Inflater::default();
    let max = STREAMS_MAX as usize;
    assert_eq!(inflater.inflate(&empty_final_block.repeat(max - 1), MIB), Ok(&[][..]));
    assert_eq!(inflater.inflate(&empty_final_block.repeat(max), MIB), Err(InflateError::Invalid));
}
