//! XChaCha20-Poly1305, of which the library has all but the derivation of the inner key.
//!
//! Source: <https://datatracker.ietf.org/doc/html/draft-irtf-cfrg-xchacha-03>.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

const NONCE_SIZE: usize = 24;
const TAG_SIZE: usize = 16;

/// What `Plug.Crypto` authenticates beside the content.
const ASSOCIATED: &[u8] = b"A128GCM";

pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Opens what `Plug.Crypto` writes: a nonce, a tag, what is sealed. `None` if it was not sealed with this key.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_SIZE>()?;
        let (tag, content) = sealed.split_first_chunk::<TAG_SIZE>()?;
        let (outer, inner) = nonce.split_first_chunk::<16>()?;
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &hchacha20(&self.0, outer)).ok()?);
        let mut short_nonce = [0; 12];
        short_nonce[4..].copy_from_slice(inner);
        let nonce = Nonce::assume_unique_for_key(short_nonce);
        let mut opened = vec![0; content.len()];
        key.open_separate_gather(nonce, Aad::from(ASSOCIATED), content, tag, &mut opened).ok()?;
        Some(opened)
    }
}

/// Section 2.2: the rounds of ChaCha20 over constants, key and nonce, of which the first and last row are the inner key.
fn hchacha20(key: &[u8; 32], nonce: &[u8; 16]) -> [u8; 32] {
    let mut state = [0; 16];
    let input = [&b"expand 32-byte k"[..], key, nonce].concat();
    for (word, bytes) in state.iter_mut().zip(input.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for _ in 0..10 {
        for column in 0..4 {
            quarter_round(&mut state, [column, 4 + column, 8 + column, 12 + column]);
        }
        for diagonal in 0..4 {
            let next = |row: usize| 4 * row + (diagonal + row) % 4;
            quarter_round(&mut state, [next(0), next(1), next(2), next(3)]);
        }
    }
    let mut inner = [0; 32];
    for (bytes, word) in inner.chunks_exact_mut(4).zip(state[..4].iter().chain(&state[12..])) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    inner
}

fn quarter_round(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (target, source, mixed, rotation) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[target] = state[target].wrapping_add(state[source]);
        state[mixed] = (state[mixed] ^ state[target]).rotate_left(rotation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of section 2.2.1.
    #[test]
    fn the_inner_key() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let nonce = [0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0, 0x31, 0x41, 0x59, 0x27];
        let inner: String = hchacha20(&key, &nonce).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(inner, "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc");
    }

    #[test]
    fn what_is_too_short_is_refused() {
        let key = Key::new([7; 32]);
        for size in [0, 23, 24, 39, 40] {
            assert_eq!(key.open(&vec![0; size]), None, "{size}");
        }
    }
}
