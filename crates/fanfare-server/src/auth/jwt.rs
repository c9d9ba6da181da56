//! JSON Web Tokens: the form in `jws`, the signature by the keys of the issuer, the claims by rules that are strict about
//! types and say what is wrong.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::keys::Keys;
use super::{Reason, Refusal, Verified};
use crate::config::auth::{Algorithm, Auth};
use crate::identity::Identity;
use jws::Jws;

pub(super) mod jws;
#[cfg(test)]
mod tests;

/// A token that says it was issued further in the future than this is from a clock that is wrong.
const ISSUED_AHEAD_MAX: Duration = Duration::from_secs(300);

/// What is said of a token that has ended, that does not say when it ends, or says so in a way that cannot be read.
pub(super) const EXPIRED: Reason = "the token has expired";
pub(super) const NO_END: Reason = "the token does not say when it expires, which require_exp asks for";
pub(super) const NO_TIME: Reason = "exp, nbf or iat is not a number";

/// How it begins what is said of a token whose algorithm is not accepted.
pub(super) const SIGNED_WITH: Reason = "the token is signed with";

/// What is said of such a time.
const BEYOND: Reason = "exp, nbf or iat lies beyond all clocks";

/// Checks tokens.
pub(super) struct Jwt {
    keys: Keys,
    algorithms: Vec<Algorithm>,
    issuers: Option<Vec<String>>,
    audiences: Option<Vec<String>>,
    token_type: Option<String>,
    requires_end: bool,
    leeway: Duration,
}

impl Jwt {
    pub(super) fn new(settings: &Auth, keys: Keys) -> Self {
        Self {
            keys,
            algorithms: settings.algorithms(),
            issuers: settings.issuer.as_ref().map(|list| list.0.clone()),
            audiences: settings.audience.as_ref().map(|list| list.0.clone()),
            token_type: settings.r#type.clone(),
            requires_end: settings.require_exp,
            leeway: settings.leeway.0,
        }
    }

    /// Checks a token at a time.
    pub(super) fn verify(&self, token: &str, now: SystemTime) -> Result<Verified, Refusal> {
        let jws = Jws::parse(token)?;
        if !self.algorithms.contains(&jws.algorithm) {
            let accepted: Vec<_> = self.algorithms.iter().map(|algorithm| algorithm.name()).collect();
            return Err(Refusal::from(format!(
                "{SIGNED_WITH} {}, and accepted is {}: sign with that, or name it in `algorithms`",
                jws.algorithm.name(),
                accepted.join(" or ")
            )));
        }
        let keys = self.keys.current().ok_or_else(|| Refusal::unavailable("the issuer's keys cannot be had"))?;
        keys.verify(&jws)?;
        let claims = jws.claims()?;
        check_types(&claims)?;
        self.check_names(&claims, &jws)?;
        let expires_at = self.check_times(&claims, now)?;
        Ok(Verified { identity: Identity::new(claims), expires_at })
    }

    /// Who it is from, who it is for, and what it is.
    fn check_names(&self, claims: &Map<String, Value>, jws: &Jws<'_>) -> Result<(), Reason> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        if let Some(issuers) = &self.issuers
            && !text("iss").is_some_and(|issuer| issuers.iter().any(|known| known == issuer))
        {
            return Err("the token is from another issuer");
        }
        if let Some(audiences) = &self.audiences
            && !audiences.iter().any(|known| is_for(claims, known))
        {
            return Err("the token is for another audience");
        }
        if let Some(expected) = &self.token_type
            && text("typ").or(jws.text("typ")) != Some(expected)
        {
            return Err("the token is of another type");
        }
        Ok(())
    }

    /// When it begins and ends: the end, if it has one.
    fn check_times(&self, claims: &Map<String, Value>, now: SystemTime) -> Result<Option<SystemTime>, Reason> {
        if time(claims, "nbf")?.is_some_and(|start| now + self.leeway < start) {
            return Err("the token is not valid yet");
        }
        if time(claims, "iat")?.is_some_and(|issued| now + ISSUED_AHEAD_MAX < issued) {
            return Err("the token says that it was issued in the future");
        }
        let Some(end) = time(claims, "exp")? else {
            return match self.requires_end {
                true => Err(NO_END),
                false => Ok(None),
            };
        };
        let end = end.checked_add(self.leeway).ok_or(BEYOND)?;
        if end <= now { Err(EXPIRED) } else { Ok(Some(end)) }
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// A claim of the wrong type would pass as absent otherwise: an `exp` of `"never"` is no token without an end.
fn check_types(claims: &Map<String, Value>) -> Result<(), Reason> {
    for (name, value) in claims {
        match (name.as_str(), value) {
            ("exp" | "nbf" | "iat", value) if !value.is_number() => return Err(NO_TIME),
            ("iss" | "sub" | "jti" | "typ", value) if !value.is_string() => {
                return Err("iss, sub, jti or typ is not a string");
            }
            ("aud", Value::String(_)) => {}
            ("aud", Value::Array(list)) if list.iter().all(Value::is_string) => {}
            ("aud", _) => return Err("aud is neither a string nor a list of strings"),
            _ => {}
        }
    }
    Ok(())
}

fn is_for(claims: &Map<String, Value>, audience: &str) -> bool {
    match claims.get("aud") {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(list)) => list.iter().any(|one| one == audience),
        _ => false,
    }
}

/// A claim in seconds since the epoch. What lies before the epoch counts as the epoch.
///
/// # Errors
/// It lies beyond all clocks: as absent, it would let in whom it is to keep out.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<SystemTime>, Reason> {
    let Some(seconds) = claims.get(name).and_then(Value::as_f64) else { return Ok(None) };
    let since = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    since.and_then(|since| UNIX_EPOCH.checked_add(since)).map(Some).ok_or(BEYOND)
}
