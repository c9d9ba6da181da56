//! `fanfare token`: tokens to try things with, made with the keys of a configuration. Whoever has these lets people in
//! anyway; for a service in production the issuer makes the tokens.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::auth::Tokens;
use crate::auth::phoenix_token::{PhoenixToken, to_term};
use crate::cli::Token;
use crate::config::Config;
use crate::config::auth::{Auth, AuthKind};

mod signer;

use signer::Signer;

/// Makes a token.
///
/// # Errors
/// The configuration has no key to make it with, or would not accept it.
pub(crate) fn token(config: &Config, wanted: &Token) -> Result<String, String> {
    let (name, settings) = find(config, wanted.auth.as_deref())?;
    if settings.kind != AuthKind::Jwt && (wanted.private_key_file.is_some() || wanted.kid.is_some()) {
        return Err(format!("[auth.{name}] is no jwt, so that --private-key-file and --kid mean nothing to it"));
    }
    let now = SystemTime::now();
    let made = match settings.kind {
        AuthKind::ApiKeys => {
            return Err(format!("[auth.{name}] takes API keys; `fanfare apikey add` makes one"));
        }
        AuthKind::None => return Err(format!("[auth.{name}] lets everybody in without a token")),
        AuthKind::Hook => return Err(format!("[auth.{name}] asks your back end, which alone knows what it lets in")),
        AuthKind::PhoenixToken => PhoenixToken::new(settings).sign(to_term(claims(wanted)?), now, wanted.expires_in),
        AuthKind::Jwt => json_web_token(name, settings, wanted, now)?,
    };
    if let Some(tokens) = Tokens::offline(name, settings)? {
        tokens
            .verify(&made, SystemTime::now())
            .map_err(|refusal| format!("[auth.{name}] would not accept this token: {}", refusal.detail))?;
    }
    Ok(made)
}

fn find<'c>(config: &'c Config, name: Option<&str>) -> Result<(&'c str, &'c Auth), String> {
    let known = || config.auths.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut auths = config.auths.iter().filter(|(known, _)| name.is_none_or(|name| name == *known));
    match (auths.next(), auths.next(), name) {
        (Some((name, settings)), None, _) => Ok((name, settings)),
        (Some(_), ..) => Err(format!("there are several [auth.NAME]; say which with --auth: {}", known())),
        (None, _, Some(name)) if !config.auths.is_empty() => {
            Err(format!("there is no [auth.{name}]; there is {}", known()))
        }
        (None, ..) => Err("the configuration has no [auth.NAME], so that no token is needed".into()),
    }
}

fn claims(wanted: &Token) -> Result<Map<String, Value>, String> {
    let mut claims = Map::from_iter([("sub".to_owned(), wanted.sub.as_str().into())]);
    for (name, value) in &wanted.claim {
        if claims.insert(name.clone(), value.clone()).is_some() {
            return Err(format!("the claim {name} is given twice"));
        }
    }
    Ok(claims)
}

/// With what `settings` ask of a token: times, issuer, audience, type.
fn json_web_token(name: &str, settings: &Auth, wanted: &Token, now: SystemTime) -> Result<String, String> {
    let signer = Signer::new(name, settings, wanted.private_key_file.as_deref())?;
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let mut payload = claims(wanted)?;
    let first =
        |list: &Option<crate::config::value::OneOrMore<String>>| list.as_ref()?.0.first().cloned().map(Value::from);
    let asked_for = [
        ("iat", Some(seconds.into())),
        ("exp", Some((seconds + wanted.expires_in.as_secs()).into())),
        ("iss", first(&settings.issuer)),
        ("aud", first(&settings.audience)),
        ("typ", settings.r#type.clone().map(Value::from)),
    ];
    for (claim, value) in asked_for.into_iter().filter_map(|(claim, value)| Some((claim, value?))) {
        payload.entry(claim).or_insert(value);
    }
    let mut header = json!({ "alg": signer.algorithm_name(), "typ": "JWT" });
    if let Some(kid) = &wanted.kid {
        header["kid"] = kid.as_str().into();
    }
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(&header), encode(&Value::Object(payload)));
    let signature = signer.sign(message.as_bytes())?;
    Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
