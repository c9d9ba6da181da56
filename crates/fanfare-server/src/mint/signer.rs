//! Signing with a shared secret or a private key.

use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::auth::keys::hmac_of;
use crate::config::auth::{Algorithm, Auth};

/// A key with the algorithm that it is used with.
pub(super) struct Signer {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Shared(Box<hmac::Key>),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Signer {
    /// Takes the first of the algorithms that the key is good for.
    pub(super) fn new(name: &str, settings: &Auth, private_key_file: Option<&Path>) -> Result<Self, String> {
        let algorithms = &settings.algorithms();
        let key = match (private_key_file, settings.has_secret(), &settings.secret) {
            (None, true, Some(secret)) => {
                return algorithms
                    .iter()
                    .find_map(|algorithm| {
                        let key = hmac::Key::new(hmac_of(*algorithm)?, secret.expose().as_bytes());
                        Some(Self { algorithm: *algorithm, key: Key::Shared(Box::new(key)) })
                    })
                    .ok_or_else(|| format!("[auth.{name}] has no algorithm for its secret"));
            }
            (None, ..) => {
                return Err(format!(
                    "[auth.{name}] has public keys only, which cannot sign; give the issuer's private key with --private-key-file"
                ));
            }
            (Some(_), true, _) => {
                return Err(format!("[auth.{name}] has a shared secret; leave out --private-key-file"));
            }
            (Some(file), false, _) => PrivateKeyDer::from_pem_file(file)
                .map_err(|_| format!("{} has no private key in PEM form, or cannot be read", file.display()))?,
        };
        let signer =
            algorithms.iter().find_map(|algorithm| Some(Self { algorithm: *algorithm, key: read(*algorithm, &key)? }));
        signer.ok_or_else(|| format!("the private key is not of the kind that the algorithms of [auth.{name}] take"))
    }

    pub(super) fn algorithm_name(&self) -> &'static str {
        self.algorithm.name()
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let signed = match &self.key {
            Key::Shared(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Key::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(*encoding, &random, message, &mut signature).map(|()| signature)
            }
            Key::Ec(key) => key.sign(&random, message).map(|signature| signature.as_ref().to_vec()),
            Key::Ed(key) => Ok(key.sign(message).as_ref().to_vec()),
        };
        signed.map_err(|_| "the private key cannot sign".into())
    }
}

/// The key for an algorithm; `None` if it is of another kind.
fn read(algorithm: Algorithm, key: &PrivateKeyDer<'_>) -> Option<Key> {
    let rsa = |encoding: &'static dyn RsaEncoding| {
        let pair = match key {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return None,
        };
        Some(Key::Rsa(pair.ok()?, encoding))
    };
    let ec = |curve: &'static EcdsaSigningAlgorithm| {
        let pair = match key {
            PrivateKeyDer::Pkcs8(der) => EcdsaKeyPair::from_pkcs8(curve, der.secret_pkcs8_der()),
            PrivateKeyDer::Sec1(der) => EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der()),
            _ => return None,
        };
        Some(Key::Ec(pair.ok()?))
    };
    match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => None,
        Algorithm::Rs256 => rsa(&signature::RSA_PKCS1_SHA256),
        Algorithm::Rs384 => rsa(&signature::RSA_PKCS1_SHA384),
        Algorithm::Rs512 => rsa(&signature::RSA_PKCS1_SHA512),
        Algorithm::Ps256 => rsa(&signature::RSA_PSS_SHA256),
        Algorithm::Ps384 => rsa(&signature::RSA_PSS_SHA384),
        Algorithm::Ps512 => rsa(&signature::RSA_PSS_SHA512),
        Algorithm::Es256 => ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::EdDsa => match key {
            PrivateKeyDer::Pkcs8(der) => {
                Some(Key::Ed(Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok()?))
            }
            _ => None,
        },
    }
}
