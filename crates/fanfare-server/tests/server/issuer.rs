//! An issuer of tokens for tests: its keys in every form, and whatever it is told to sign, right or wrong. It signs with
//! `jsonwebtoken`, which the server does not use.

#![allow(dead_code)] // Unit tests and tests of the binary each use their part of this.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// The kind of an issuer's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// A key pair.
pub(crate) struct Issuer {
    pub(crate) kind: Kind,
    pair: KeyPair,
}

impl Issuer {
    pub(crate) fn new(kind: Kind) -> Self {
        let algorithm = match kind {
            Kind::Rsa => &rcgen::PKCS_RSA_SHA256,
            Kind::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Kind::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Kind::Ed25519 => &rcgen::PKCS_ED25519,
        };
        Self { kind, pair: KeyPair::generate_for(algorithm).unwrap() }
    }

    pub(crate) fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    pub(crate) fn private_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// The public key alone: a point, or for RSA modulus and exponent in their ASN.1 frame.
    pub(crate) fn public_bytes(&self) -> &[u8] {
        self.pair.public_key_raw()
    }

    /// The public key as a member of a key set.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let raw = self.public_bytes();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self.kind {
            Kind::Rsa => {
                // Two headers of four bytes and a zero, the modulus of 2048 bits, a header of two bytes, the exponent.
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": text(&raw[9..265]), "e": text(&raw[267..])})
            }
            Kind::P256 => {
                json!({"kty": "EC", "kid": kid, "crv": "P-256", "x": text(&raw[1..33]), "y": text(&raw[33..])})
            }
            Kind::P384 => {
                json!({"kty": "EC", "kid": kid, "crv": "P-384", "x": text(&raw[1..49]), "y": text(&raw[49..])})
            }
            Kind::Ed25519 => json!({"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": text(raw)}),
        }
    }

    /// A token with a header and claims of any text, signed as an algorithm says, whatever the header says.
    pub(crate) fn token(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let private = self.pair.serialized_der();
        let key = match self.kind {
            // The library wants what stands in PKCS #8 behind the header for RSA keys of 2048 bits.
            Kind::Rsa => EncodingKey::from_rsa_der(&private[26..]),
            Kind::P256 | Kind::P384 => EncodingKey::from_ec_der(private),
            Kind::Ed25519 => EncodingKey::from_ed_der(private),
        };
        signed(algorithm, &key, header, claims)
    }
}

/// The same with a shared secret.
pub(crate) fn shared(algorithm: Algorithm, secret: &[u8], header: &str, claims: &str) -> String {
    signed(algorithm, &EncodingKey::from_secret(secret), header, claims)
}

/// The same with no signature at all.
pub(crate) fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn signed(algorithm: Algorithm, key: &EncodingKey, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}
