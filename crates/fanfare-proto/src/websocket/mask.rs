//! The masking of RFC 6455 section 5.3: an XOR with four repeating bytes.

/// Masks or unmasks `bytes`, the part of a payload that begins at byte `offset` of it.
pub(super) fn apply(bytes: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    // Eight bytes at a time: the compiler turns this loop into vector instructions.
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::apply;

    #[test]
    fn any_length_and_offset_matches_the_definition() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        for len in 0..40usize {
            for offset in 0..9 {
                let plain: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
                let expected: Vec<u8> = plain.iter().enumerate().map(|(i, b)| b ^ mask[(offset + i) % 4]).collect();
                let mut masked = plain.clone();
                apply(&mut masked, mask, offset);
                assert_eq!(masked, expected, "length {len}, offset {offset}");
            }
        }
    }
}
