//! JSON Web Tokens with a shared secret: the signature by `jsonwebtoken`, the claims by rules of our own, which are
//! stricter about types and say what is wrong.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::{Map, Value};

use crate::config::auth::{Algorithm, Auth};
use crate::identity::Identity;

/// Checks tokens.
pub(crate) struct Jwt {
    key: DecodingKey,
    signature: Validation,
    issuers: Option<Vec<String>>,
    audiences: Option<Vec<String>>,
    token_type: Option<String>,
    leeway: Duration,
}

/// A token that is good.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) identity: Identity,
    /// When it stops being so.
    pub(crate) expires_at: Option<SystemTime>,
}

/// Why a token is not accepted. For the log only: a client learns nothing, and no part of the token is in it.
pub(crate) type Reason = &'static str;

impl Jwt {
    /// `settings` were checked, so that there is a secret.
    pub(crate) fn new(settings: &Auth) -> Self {
        let secret = settings.secret.as_ref().expect("a checked configuration has a secret for jwt");
        let algorithms = settings.algorithms.0.iter().map(|algorithm| match algorithm {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
            Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
        });
        let signature = Validation {
            algorithms: algorithms.collect(),
            required_spec_claims: Default::default(),
            validate_exp: false,
            validate_aud: false,
            ..Validation::default()
        };
        Self {
            key: DecodingKey::from_secret(secret.expose().as_bytes()),
            signature,
            issuers: settings.issuer.as_ref().map(|list| list.0.clone()),
            audiences: settings.audience.as_ref().map(|list| list.0.clone()),
            token_type: settings.r#type.clone(),
            leeway: settings.leeway.0,
        }
    }

    /// Checks a token at a time.
    pub(crate) fn verify(&self, token: &str, now: SystemTime) -> Result<Verified, Reason> {
        let token =
            decode::<Map<String, Value>>(token, &self.key, &self.signature).map_err(|error| explain(error.kind()))?;
        if token.header.crit.is_some() {
            return Err("the token names critical extensions, of which none is known");
        }
        let claims = token.claims;
        check_types(&claims)?;
        let text = |name| claims.get(name).and_then(Value::as_str);
        if let Some(issuers) = &self.issuers
            && !text("iss").is_some_and(|issuer| issuers.iter().any(|known| known == issuer))
        {
            return Err("the token is from another issuer");
        }
        if let Some(audiences) = &self.audiences
            && !audiences.iter().any(|known| is_for(&claims, known))
        {
            return Err("the token is for another audience");
        }
        if let Some(expected) = &self.token_type
            && text("typ").or(token.header.typ.as_deref()) != Some(expected)
        {
            return Err("the token is of another type");
        }
        if time(&claims, "nbf").is_some_and(|start| now + self.leeway < start) {
            return Err("the token is not valid yet");
        }
        let expires_at = time(&claims, "exp").and_then(|end| end.checked_add(self.leeway));
        if expires_at.is_some_and(|end| end <= now) {
            return Err("the token has expired");
        }
        Ok(Verified { identity: Identity::new(claims), expires_at })
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("algorithms", &self.signature.algorithms).finish_non_exhaustive()
    }
}

/// A claim of the wrong type would pass as absent otherwise: an `exp` of `"never"` is no token without an end.
fn check_types(claims: &Map<String, Value>) -> Result<(), Reason> {
    for (name, value) in claims {
        match (name.as_str(), value) {
            ("exp" | "nbf" | "iat", value) if !value.is_number() => return Err("exp, nbf or iat is not a number"),
            ("iss" | "sub" | "jti" | "typ", value) if !(value.is_string() || value.is_null()) => {
                return Err("iss, sub, jti or typ is not a string");
            }
            ("aud", Value::String(_) | Value::Null) => {}
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

/// A claim in seconds since the epoch. What lies before the epoch counts as the epoch, what lies beyond all clocks as
/// never.
fn time(claims: &Map<String, Value>, name: &str) -> Option<SystemTime> {
    let seconds = claims.get(name)?.as_f64()?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds.max(0.0)).ok()?)
}

/// The library's own texts may quote the token.
fn explain(error: &ErrorKind) -> Reason {
    match error {
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "the token is signed with an algorithm that is not in `algorithms`"
        }
        _ => "the token is no JSON Web Token, or is signed with an unknown algorithm",
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;
    use crate::config::{Config, Overrides};

    const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const NOW_S: u64 = 1_800_000_000;

    fn jwt(settings: &str) -> Jwt {
        let content = format!("[auth.u]\nkind = 'jwt'\nsecret = '{SECRET}'\n{settings}");
        let config = Config::parse("f", &content, &Overrides::default()).map_err(|report| report.to_string()).unwrap();
        Jwt::new(&config.auths["u"])
    }

    fn sign(algorithm: jsonwebtoken::Algorithm, secret: &str, claims: &Value) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn hs512(claims: &Value) -> String {
        sign(jsonwebtoken::Algorithm::HS512, SECRET, claims)
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW_S)
    }

    #[test]
    fn claims_are_checked_as_configured() {
        /// An empty reason: the token is good.
        #[track_caller]
        fn check(settings: &str, claims: Value, reason: &str) {
            let result = jwt(settings).verify(&hs512(&claims), now());
            assert_eq!(result.as_ref().err().copied().unwrap_or_default(), reason, "{claims}");
        }
        check("", json!({"sub": "7"}), "");
        check("", json!({}), "");
        check("", json!({"exp": NOW_S + 1}), "");
        check("", json!({"exp": NOW_S}), "the token has expired");
        check("", json!({"exp": -5}), "the token has expired");
        check("", json!({"exp": 1e300}), "");
        check("", json!({"exp": (NOW_S as f64) + 0.5}), "");
        check("leeway = '10s'", json!({"exp": NOW_S - 9}), "");
        check("leeway = '10s'", json!({"exp": NOW_S - 10}), "the token has expired");
        check("", json!({"nbf": NOW_S}), "");
        check("", json!({"nbf": NOW_S + 1}), "the token is not valid yet");
        check("leeway = '10s'", json!({"nbf": NOW_S + 10}), "");
        check("issuer = 'me'", json!({"iss": "me"}), "");
        check("issuer = ['you', 'me']", json!({"iss": "me"}), "");
        check("issuer = 'me'", json!({"iss": "you"}), "the token is from another issuer");
        check("issuer = 'me'", json!({}), "the token is from another issuer");
        check("audience = 'us'", json!({"aud": "us"}), "");
        check("audience = 'us'", json!({"aud": ["them", "us"]}), "");
        check("audience = 'us'", json!({"aud": "them"}), "the token is for another audience");
        check("audience = 'us'", json!({}), "the token is for another audience");
        check("", json!({"aud": "anybody"}), "");
        check("type = 'access'", json!({"typ": "access"}), "");
        check("type = 'access'", json!({"typ": "refresh"}), "the token is of another type");
        check("type = 'access'", json!({}), "the token is of another type");
        check("type = 'JWT'", json!({}), "");
    }

    #[test]
    fn claims_of_the_wrong_type_are_refused() {
        let jwt = jwt("");
        for claims in [
            json!({"exp": "never"}),
            json!({"exp": null}),
            json!({"exp": [NOW_S + 9]}),
            json!({"nbf": "0"}),
            json!({"iat": true}),
            json!({"sub": 7}),
            json!({"sub": {"id": 7}}),
            json!({"iss": ["me"]}),
            json!({"aud": 5}),
            json!({"aud": ["us", 5]}),
            json!({"typ": 1}),
        ] {
            assert!(jwt.verify(&hs512(&claims), now()).is_err(), "{claims}");
        }
    }

    #[test]
    fn only_the_listed_algorithms_and_our_secret_count() {
        #[track_caller]
        fn check(settings: &str, token: &str, is_good: bool) {
            assert_eq!(jwt(settings).verify(token, now()).is_ok(), is_good, "{settings} {token}");
        }
        let claims = json!({"sub": "7"});
        let by = |algorithm| sign(algorithm, SECRET, &claims);
        let [hs256, hs384, hs512] =
            [jsonwebtoken::Algorithm::HS256, jsonwebtoken::Algorithm::HS384, jsonwebtoken::Algorithm::HS512].map(by);
        check("", &hs512, true);
        check("", &hs256, false);
        check("", &hs384, false);
        check("algorithms = ['HS256', 'HS384']", &hs256, true);
        check("algorithms = ['HS256', 'HS384']", &hs384, true);
        check("algorithms = ['HS256', 'HS384']", &hs512, false);
        check("", &sign(jsonwebtoken::Algorithm::HS512, "another secret", &claims), false);
        // {"alg":"none"} . {"sub":"7"} . with and without a signature.
        check("", "eyJhbGciOiJub25lIn0.eyJzdWIiOiI3In0.", false);
        check("", "eyJhbGciOiJub25lIn0.eyJzdWIiOiI3In0", false);
        let (head, signature) = hs512.rsplit_once('.').unwrap();
        check("", &format!("{head}."), false);
        check("", &format!("{head}x.{signature}"), false);
        for garbage in ["", ".", "..", "...", "a.b.c", "äöü", "{}.{}.{}"] {
            check("", garbage, false);
        }
    }

    #[test]
    fn the_end_of_a_token_is_told() {
        let verify = |settings: &str, claims| jwt(settings).verify(&hs512(&claims), now()).unwrap();
        assert_eq!(verify("", json!({})).expires_at, None);
        assert_eq!(verify("", json!({"exp": NOW_S + 60})).expires_at, Some(now() + Duration::from_secs(60)));
        let with_leeway = verify("leeway = '5s'", json!({"exp": NOW_S + 60}));
        assert_eq!(with_leeway.expires_at, Some(now() + Duration::from_secs(65)));
        assert_eq!(with_leeway.identity.text("sub"), None);
    }
}
