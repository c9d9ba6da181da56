//! The compact form of a signed token (RFC 7515): three parts, of which the first says how it is signed. Keys and addresses
//! of keys in it (`jwk`, `jku`, `x5u`, `x5c`) are not looked at: a token must not say by whom it wants to be believed.
//!
//! Read by code of our own: what is refused here (a name twice, a `kid` that is no text, any padding) is what libraries let
//! pass, and what they would add is the choice of a function of `aws-lc-rs`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::super::{Reason, Refusal};
use crate::config::auth::Algorithm;
use crate::json;

/// A token that has the right form, and nothing checked yet.
pub(in crate::auth) struct Jws<'a> {
    header: Map<String, Value>,
    pub(in crate::auth) algorithm: Algorithm,
    /// What is signed.
    pub(in crate::auth) message: &'a [u8],
    pub(in crate::auth) signature: Vec<u8>,
    payload: &'a str,
}

impl<'a> Jws<'a> {
    /// Takes a token apart.
    pub(super) fn parse(token: &'a str) -> Result<Self, Refusal> {
        const NO_TOKEN: Reason = "the token is no JSON Web Token";
        let (message, signature) = token.rsplit_once('.').ok_or(NO_TOKEN)?;
        let (header, payload) =
            message.split_once('.').filter(|(_, payload)| !payload.contains('.')).ok_or(NO_TOKEN)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| NO_TOKEN);
        let signature = decode(signature)?;
        let header = json::object(&decode(header)?).ok_or(NO_TOKEN)?;
        let named = header.get("alg").and_then(Value::as_str).ok_or("the token does not say how it is signed")?;
        let unknown = |_| format!("the token is signed with {named:.16?}, which is unknown, or not at all");
        let algorithm = named.parse().map_err(unknown)?;
        if header.contains_key("crit") {
            return Err("the token names critical extensions, of which none is known".into());
        }
        if ["kid", "typ"].iter().any(|name| header.get(*name).is_some_and(|value| !value.is_string())) {
            return Err("the token's kid or typ is not a string".into());
        }
        Ok(Self { header, algorithm, message: message.as_bytes(), signature, payload })
    }

    /// The name of the key that it says it is signed with.
    pub(in crate::auth) fn kid(&self) -> Option<&str> {
        self.text("kid")
    }

    /// A member of the header that is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    /// The claims. Not before the signature was checked.
    pub(super) fn claims(&self) -> Result<Map<String, Value>, Reason> {
        let bytes = URL_SAFE_NO_PAD.decode(self.payload).ok();
        bytes
            .and_then(|bytes| json::object(&bytes))
            .ok_or("the token's claims are no JSON object, or one stands twice in it")
    }
}
