//! Keys of NATS: a node that has one signs what the server has made up for it, and is known by the public half, or by a JWT that an
//! operator has issued for that.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::broker::crc16::crc16;

/// What a seed begins with, and what keys are of: their first letters are `S` and `U`.
const SEED_PREFIX: u8 = 18 << 3;
const USER: u8 = 20 << 3;

/// A seed has as many bytes between the first two and the check.
const SEED_SIZE: usize = 32;

const EXPECTED: &str = "give the content of a .creds file, or a seed, which begins with SU";

/// A key of a user, and the JWT that names it where there is one.
#[derive(Clone)]
pub(super) struct Key {
    /// It is no secret.
    pub(super) public: Arc<str>,
    jwt: Option<Arc<str>>,
    pair: Arc<Ed25519KeyPair>,
}

/// What a node proves who it is by.
#[derive(Debug)]
pub(super) struct Proof<'a> {
    pub(super) public: &'a str,
    pub(super) jwt: Option<&'a str>,
    pub(super) signature: String,
}

impl Key {
    /// Reads the content of a `.creds` file, or of one that has a seed alone.
    ///
    /// # Errors
    /// What is wrong and what to give instead. The text has nothing of the key.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let (mut jwt, mut seed, mut section) = (None, None, None);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match section {
                _ if line.starts_with("---") => section = line.trim_matches('-').trim().strip_prefix("BEGIN "),
                Some(name) if name.ends_with("JWT") => jwt = Some(Arc::from(line)),
                Some(name) if name.ends_with("SEED") => seed = Some(line),
                None if jwt.is_none() => seed = seed.or(Some(line)),
                _ => {}
            }
        }
        let seed = seed.ok_or_else(|| format!("it has no key: {EXPECTED}"))?;
        if seed.len() == 56 && seed.starts_with(|first: char| "UAO".contains(first)) {
            return Err(format!("it is a public key: {EXPECTED}"));
        }
        let bytes = decode(seed).filter(|bytes| bytes.len() == SEED_SIZE + 4 && bytes[0] & 0xf8 == SEED_PREFIX);
        let bytes = bytes.ok_or_else(|| format!("its key is no seed of NATS: {EXPECTED}"))?;
        let (checked, check) = bytes.split_at(SEED_SIZE + 2);
        if crc16(checked).to_le_bytes() != check {
            return Err(format!("its seed has a wrong letter: {EXPECTED}"));
        }
        if (checked[0] & 7) << 5 | checked[1] >> 3 != USER {
            return Err(format!("its seed is not that of a user: {EXPECTED}"));
        }
        let pair =
            Ed25519KeyPair::from_seed_unchecked(&checked[2..]).map_err(|_| "its seed makes no key".to_owned())?;
        Ok(Key { public: encode(&[USER], pair.public_key().as_ref()).into(), jwt, pair: Arc::new(pair) })
    }

    /// Signs what the server has made up.
    pub(super) fn prove(&self, nonce: &str) -> Proof<'_> {
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(nonce.as_bytes()));
        Proof { public: &self.public, jwt: self.jwt.as_deref(), signature }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.public)
    }
}

/// The letters of base 32.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A key as text, with its check, in base 32.
pub(super) fn encode(prefix: &[u8], bytes: &[u8]) -> String {
    let mut all = [prefix, bytes].concat();
    all.extend(crc16(&all).to_le_bytes());
    let (mut text, mut bits, mut left) = (String::new(), 0_u32, 0);
    for byte in all {
        bits = bits << 8 | u32::from(byte);
        left += 8;
        while left >= 5 {
            left -= 5;
            text.push(char::from(LETTERS[(bits >> left) as usize & 31]));
        }
    }
    if left > 0 {
        text.push(char::from(LETTERS[(bits << (5 - left)) as usize & 31]));
    }
    text
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut left) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes() {
        let value = LETTERS.iter().position(|one| *one == letter)?;
        bits = bits << 5 | value as u32;
        left += 5;
        if left >= 8 {
            left -= 8;
            bytes.push((bits >> left) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: u8 = 0;

    /// Of the example in the documentation of NATS.
    const SEED: &str = "SUAOY5JZ2WJKVR4UO2KJ2P3SW6FZFNWEOIMAXF4WZEUNVQXXUOKGM55CYE";
    const PUBLIC: &str = "UDXB2VMLXPASAJ7ZDTKYNQ7QOCFWSGB4FOMYQQ25HQWSAF7ZQJEBSQSW";

    #[test]
    fn seeds_are_read_alone_and_with_a_jwt() {
        let file = format!(
            "-----BEGIN NATS USER JWT-----\r\neyJ0.eyJq.6T-\r\n------END NATS USER JWT------\r\n\r\n*** IMPORTANT ***\r\n\
             NKEY Seed printed below\r\n\r\n-----BEGIN USER NKEY SEED-----\r\n{SEED}\r\n------END USER NKEY SEED------\r\n\r\n****\r\n"
        );
        for (text, jwt) in [(SEED, None), (&*format!("\n# of node 1\n {SEED}\n"), None), (&file, Some("eyJ0.eyJq.6T-"))]
        {
            let key = Key::read(text).unwrap();
            assert_eq!((&*key.public, key.jwt.as_deref()), (PUBLIC, jwt), "{text}");
            assert_eq!(format!("{key:?}"), format!("Key({PUBLIC})"), "nothing that is secret");
        }
    }

    #[test]
    fn what_is_no_key_of_a_user_is_told_without_what_it_is() {
        let of_an_account = encode(&[SEED_PREFIX | ACCOUNT >> 5, (ACCOUNT & 31) << 3], &[7; 32]);
        let file = format!("-----BEGIN NATS USER JWT-----\n{SEED}\n------END NATS USER JWT------\n");
        for (text, said) in [
            ("", "it has no key: give the content of a .creds file, or a seed"),
            (&*file, "it has no key"),
            (PUBLIC, "it is a public key"),
            ("s3cret", "its key is no seed"),
            (&SEED[..57], "its key is no seed"),
            (&SEED.replace("Y5", "Y6"), "its seed has a wrong letter"),
            (&of_an_account, "its seed is not that of a user"),
        ] {
            let error = Key::read(text).unwrap_err();
            let is_shown = text.len() > 5 && (error.contains(text) || error.contains(&SEED[8..]));
            assert!(error.starts_with(said) && !is_shown, "{text}: {error}");
        }
    }
}
