//! Tokens of Supabase's clients: JSON Web Tokens with a role, and opaque keys that stand for one. What is wrong with a token is
//! said in the words of Supabase.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::TokenFault;
use serde_json::{Map, Value, json};

use super::{Authenticator, Occasion, Refusal, Verified, jwt, keys};
use crate::config::secret::Secret;
use crate::identity::Identity;

/// Whose tokens an endpoint accepts.
#[derive(Debug)]
pub(crate) struct KeyRing {
    authenticators: Vec<Arc<Authenticator>>,
    /// Opaque keys, and the roles that they stand for.
    opaque: Vec<(Secret, String)>,
    path: String,
}

impl KeyRing {
    pub(crate) fn new(authenticators: Vec<Arc<Authenticator>>, opaque: Vec<(Secret, String)>, path: &str) -> Self {
        KeyRing { authenticators, opaque, path: path.to_owned() }
    }

    /// Whom a token names. Of what is wrong with it, what the client can do most about is told.
    pub(crate) async fn verify(&self, token: &str) -> Result<Verified, TokenFault> {
        let is_key = |key: &Secret| verify_slices_are_equal(key.expose().as_bytes(), token.as_bytes()).is_ok();
        if let Some((_, role)) = self.opaque.iter().find(|(key, _)| is_key(key)) {
            let claims: Map<String, Value> = [("role".to_owned(), json!(role))].into_iter().collect();
            return Ok(Verified { identity: Identity::new(claims), expires_at: None });
        }
        let mut faults = Vec::new();
        for authenticator in &self.authenticators {
            let occasion = Occasion { endpoint: &self.path, peer: None, request: None, param: None, domain: None };
            match authenticator.check(Some(token), &occasion).await {
                Ok(verified) if verified.identity.text("role").is_some() => return Ok(verified),
                Ok(_) => faults.push(TokenFault::Fields),
                Err(Refusal { is_unavailable: true, .. }) => faults.push(TokenFault::Unavailable),
                Err(Refusal { detail, .. }) => faults.push(fault(&detail, token)),
            }
        }
        Err(faults.into_iter().max_by_key(rank).unwrap_or(TokenFault::Malformed))
    }
}

/// One authenticator has found out more about a token than another.
fn rank(fault: &TokenFault) -> u8 {
    match fault {
        TokenFault::Missing | TokenFault::Malformed => 0,
        TokenFault::NoKey(_) => 1,
        TokenFault::Signature => 2,
        TokenFault::Unavailable => 3,
        TokenFault::Fields => 4,
        TokenFault::Expired(_) => 5,
    }
}

fn fault(detail: &str, token: &str) -> TokenFault {
    match detail {
        jwt::EXPIRED => TokenFault::Expired(expired_for(token).unwrap_or_default()),
        jwt::NO_END | jwt::NO_TIME => TokenFault::Fields,
        keys::WRONG => TokenFault::Signature,
        keys::UNKNOWN | keys::UNNAMED => TokenFault::NoKey(kid(token)),
        detail if detail.starts_with(jwt::SIGNED_WITH) => TokenFault::NoKey(kid(token)),
        _ => TokenFault::Malformed,
    }
}

/// How many seconds ago a token has ended, whose signature was found to be right.
fn expired_for(token: &str) -> Option<u64> {
    let end = part(token, 1)?.get("exp")?.as_f64()?.round();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(now.saturating_sub(end as u64))
}

fn kid(token: &str) -> Option<String> {
    part(token, 0)?.get("kid")?.as_str().map(str::to_owned)
}

fn part(token: &str, index: usize) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index)?).ok()?).ok()
}
