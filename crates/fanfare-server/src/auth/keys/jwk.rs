//! JSON Web Key Sets (RFC 7517, RFC 7518, RFC 8037): the public keys for signatures in them.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::{Key, KeySet, pem};
use crate::config::auth::{Algorithm, Family};
use crate::json;

/// A set may have so many keys.
const KEYS_MAX: usize = 100;

/// Members of private and of symmetric keys.
const SECRET_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a set is not used as a whole.
pub(super) type Fault = &'static str;

/// Reads the keys that fit one of the algorithms. Keys for something else, or of a kind that is not known, are left out,
/// as the standard asks for.
///
/// # Errors
/// It is no set, no key is left, or a key in it is a secret: whoever can read that can sign as well.
pub(super) fn parse(text: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, Fault> {
    let set = json::object(text).ok_or("is not a JSON object, or has a name in it twice")?;
    let list = set.get("keys").and_then(Value::as_array).ok_or("is no JSON Web Key Set: it has no list `keys`")?;
    if list.len() > KEYS_MAX {
        return Err("has more than 100 keys");
    }
    let mut keys = Vec::new();
    for jwk in list.iter().map(Value::as_object) {
        let jwk = jwk.ok_or("has a key that is no JSON object")?;
        if jwk.get("kty").is_some_and(|kind| kind == "oct") || SECRET_MEMBERS.iter().any(|name| jwk.contains_key(*name))
        {
            return Err("has a private or symmetric key, with which whoever can read it could sign");
        }
        if is_for_signatures(jwk) {
            keys.extend(read(jwk, algorithms));
        }
    }
    match keys.is_empty() {
        true => Err("has no key for signatures that fits `algorithms`"),
        false => Ok(KeySet(keys)),
    }
}

fn is_for_signatures(jwk: &Map<String, Value>) -> bool {
    let is_use = jwk.get("use").is_none_or(|purpose| purpose == "sig");
    let is_operation = jwk.get("key_ops").is_none_or(|operations| {
        operations.as_array().is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
    });
    is_use && is_operation
}

/// The key for each algorithm that it is good for.
fn read(jwk: &Map<String, Value>, algorithms: &[Algorithm]) -> Vec<Key> {
    let kid = match jwk.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Vec::new(),
    };
    let meant = match jwk.get("alg") {
        None => None,
        Some(Value::String(name)) => match name.parse::<Algorithm>() {
            Ok(algorithm) => Some(algorithm),
            Err(_) => return Vec::new(),
        },
        Some(_) => return Vec::new(),
    };
    let Some((family, bytes)) = bytes(jwk) else { return Vec::new() };
    let fits = |algorithm: &&Algorithm| {
        algorithm.family() == family
            && meant.is_none_or(|meant| meant == **algorithm)
            && curve(**algorithm).is_none_or(|(curve, _)| jwk.get("crv").is_some_and(|name| name == curve))
    };
    algorithms.iter().filter(fits).filter_map(|algorithm| Key::public(*algorithm, kid.clone(), &bytes)).collect()
}

/// The curve that an algorithm is for, and how many bytes a coordinate has.
fn curve(algorithm: Algorithm) -> Option<(&'static str, usize)> {
    match algorithm {
        Algorithm::Es256 => Some(("P-256", 32)),
        Algorithm::Es384 => Some(("P-384", 48)),
        Algorithm::EdDsa => Some(("Ed25519", 32)),
        _ => None,
    }
}

/// The key in the form that the library reads.
fn bytes(jwk: &Map<String, Value>) -> Option<(Family, Vec<u8>)> {
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
    let coordinate =
        |name: &str, algorithm| member(name).filter(|bytes| curve(algorithm).is_some_and(|c| c.1 == bytes.len()));
    let is = |name, value: &str| jwk.get(name).is_some_and(|given| given == value);
    if is("kty", "RSA") {
        let (n, e) = (member("n")?, member("e")?);
        // Some issuers write a zero in front.
        let [n, e] = [&n, &e].map(|bytes| &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..]);
        let key = RsaPublicKeyComponents { n, e }.as_der().ok()?;
        return pem::is_long(key.as_ref()).then(|| (Family::Rsa, key.as_ref().to_vec()));
    }
    if is("kty", "OKP") {
        return Some((Family::Ed, coordinate("x", Algorithm::EdDsa)?));
    }
    let algorithm = match jwk.get("crv")?.as_str()? {
        "P-256" => Algorithm::Es256,
        "P-384" => Algorithm::Es384,
        _ => return None,
    };
    let point = [vec![4], coordinate("x", algorithm)?, coordinate("y", algorithm)?].concat();
    is("kty", "EC").then_some((Family::Ec, point))
}
