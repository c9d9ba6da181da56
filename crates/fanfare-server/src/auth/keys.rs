//! The keys that tokens of one issuer are checked with, and which of them checks which token. A key is bound to one
//! algorithm, so that none can be taken for a key of another kind.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, VerificationAlgorithm};

use super::Reason;
use super::jwt::jws::Jws;
use crate::config::auth::{Algorithm, Auth, AuthKind};

mod fetched;
mod jwk;
mod pem;

pub(crate) use fetched::Fetched;

/// A key for one algorithm.
pub(super) struct Key {
    /// Its name, where it has one.
    kid: Option<String>,
    algorithm: Algorithm,
    check: Check,
}

enum Check {
    Shared(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    fn shared(algorithm: Algorithm, secret: &[u8]) -> Option<Self> {
        let check = Check::Shared(Box::new(hmac::Key::new(hmac_of(algorithm)?, secret)));
        Some(Self { kid: None, algorithm, check })
    }

    /// Takes the SubjectPublicKeyInfo, or for the curves the bare point. `None` if the algorithm takes another kind of key.
    fn public(algorithm: Algorithm, kid: Option<String>, bytes: &[u8]) -> Option<Self> {
        let parsed = ParsedPublicKey::new(public_of(algorithm)?, bytes).ok()?;
        Some(Self { kid, algorithm, check: Check::Public(parsed) })
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.check {
            Check::Shared(key) => hmac::verify(key, message, signature).is_ok(),
            Check::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// The algorithm of a shared secret.
pub(crate) fn hmac_of(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn public_of(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => return None,
        Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDsa => &signature::ED25519,
        _ => rsa_of(algorithm)?,
    })
}

fn rsa_of(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// Why the signature of a token is not accepted.
pub(super) const WRONG: Reason = "the token's signature is wrong";
pub(super) const UNKNOWN: Reason = "the token names a key that is not known";
pub(super) const UNNAMED: Reason = "the token does not name its key, of which there are several";

/// The keys of one issuer. A public key stands in it once for each algorithm that it fits.
pub(crate) struct KeySet(Vec<Key>);

impl KeySet {
    /// The names of the keys, once for each algorithm.
    fn names(&self) -> Vec<Option<&str>> {
        self.0.iter().map(|key| key.kid.as_deref()).collect()
    }

    /// Checks the signature of a token.
    ///
    /// A token that names a key is checked with the keys of that name, and with those that have none (such as PEM files
    /// hold). One that names none is checked with the keys without a name, or else with the only key there is: to try all
    /// would let everybody choose how much work a token makes.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Result<(), Reason> {
        let fitting: Vec<&Key> = self.0.iter().filter(|key| key.algorithm == jws.algorithm).collect();
        let is_named = |key: &&&Key| key.kid.as_deref() == jws.kid() || key.kid.is_none();
        let candidates: Vec<&Key> = match fitting[..] {
            [only] if jws.kid().is_none() => vec![only],
            _ => fitting.iter().filter(is_named).copied().collect(),
        };
        if candidates.is_empty() {
            return Err(match jws.kid() {
                Some(_) => UNKNOWN,
                None => UNNAMED,
            });
        }
        match candidates.iter().any(|key| key.verify(jws.message, &jws.signature)) {
            true => Ok(()),
            false => Err(WRONG),
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.algorithm)).finish()
    }
}

/// What is wrong with the keys that a configuration names, and in which of its settings.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) setting: &'static str,
    pub(crate) text: String,
}

/// The keys that stand in the configuration and its files; none where they are to be fetched, and none where something
/// else about them was wrong already.
///
/// # Errors
/// A file cannot be read, or what is in it does not fit.
pub(crate) fn load(settings: &Auth) -> Result<Option<KeySet>, Fault> {
    let algorithms = &settings.algorithms();
    if settings.kind != AuthKind::Jwt {
        return Ok(None);
    }
    if let Some(secret) = settings.secret.as_ref().filter(|_| settings.has_secret()) {
        let keys = algorithms.iter().filter_map(|algorithm| Key::shared(*algorithm, secret.expose().as_bytes()));
        return Ok(Some(KeySet(keys.collect())));
    }
    if settings.has_secret() {
        return Ok(None);
    }
    if let Some(files) = &settings.public_key_file {
        let fault = |text| Fault { setting: "public_key_file", text };
        return pem::load(&files.0, algorithms).map(Some).map_err(fault);
    }
    if let Some(file) = &settings.jwks_file {
        let fault = |text| Fault { setting: "jwks_file", text: format!("{}: {text}", file.display()) };
        let text = crate::file::read(file).map_err(|error| fault(format!("cannot be read: {error}")))?;
        return jwk::parse(&text, algorithms).map(Some).map_err(|error| fault(error.into()));
    }
    Ok(None)
}

/// Where the keys of an authenticator come from.
#[derive(Debug)]
pub(super) enum Keys {
    /// From the configuration.
    Fixed(Arc<KeySet>),
    /// From the network.
    Fetched(Arc<Fetched>),
}

impl Keys {
    /// The keys that count now; `None` if there are none, or none that can be trusted any more.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        match self {
            Self::Fixed(keys) => Some(keys.clone()),
            Self::Fetched(fetched) => fetched.current(),
        }
    }
}
