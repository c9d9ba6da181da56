//! Public keys in PEM files.

use std::path::{Path, PathBuf};

use aws_lc_rs::rsa::PublicEncryptingKey;
use rustls::pki_types::pem::{self, SectionKind};

use super::{Key, KeySet};
use crate::config::auth::{Algorithm, Family};

/// All files of an authenticator together may have so many keys, since a token may have to be tried with each.
const KEYS_MAX: usize = 16;

/// Reads every key of these files.
///
/// # Errors
/// What is wrong with which file.
pub(super) fn load(files: &[PathBuf], algorithms: &[Algorithm]) -> Result<KeySet, String> {
    let (mut keys, mut count) = (Vec::new(), 0);
    for file in files {
        let in_file = |text: String| format!("{}: {text}", file.display());
        for bytes in read(file).map_err(in_file)? {
            keys.extend(fit(&bytes, algorithms).map_err(|text| in_file(text.into()))?);
            count += 1;
        }
    }
    match count {
        0..=KEYS_MAX => Ok(KeySet(keys)),
        _ => Err(format!("there are {count} keys, more than {KEYS_MAX}")),
    }
}

/// A key for each algorithm that it fits.
fn fit(bytes: &[u8], algorithms: &[Algorithm]) -> Result<Vec<Key>, &'static str> {
    let keys: Vec<_> = algorithms.iter().filter_map(|algorithm| Key::public(*algorithm, None, bytes)).collect();
    match keys.first() {
        None => Err("has a key that is not of the kind that `algorithms` take"),
        Some(key) if key.algorithm.family() == Family::Rsa && !is_long(bytes) => {
            Err("has an RSA key that is not of 2048 to 8192 bits")
        }
        Some(_) => Ok(keys),
    }
}

/// Whether an RSA key is long enough to be safe, and short enough to be checked quickly.
pub(super) fn is_long(bytes: &[u8]) -> bool {
    PublicEncryptingKey::from_der(bytes).is_ok_and(|key| (2048..=8192).contains(&key.key_size_bits()))
}

fn read(file: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = crate::file::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let (mut rest, mut keys) = (text.as_slice(), Vec::new());
    // The parser's own errors may quote the file.
    while let Some((kind, bytes)) = pem::from_buf(&mut rest).map_err(|_| "is not a PEM file".to_owned())? {
        match kind {
            SectionKind::PublicKey => keys.push(bytes),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                return Err(
                    "has a private key, which is not to leave the issuer; `openssl pkey -pubout -in FILE` writes its \
                            public key"
                        .into(),
                );
            }
            SectionKind::Certificate => {
                return Err("has a certificate; `openssl x509 -pubkey -noout -in FILE` writes its public key".into());
            }
            _ => return Err("has something other than public keys".into()),
        }
    }
    match keys.is_empty() {
        true => Err("has no public key in PEM form (`BEGIN PUBLIC KEY`)".into()),
        false => Ok(keys),
    }
}
