//! A certificate authority's directory (RFC 8555, 7.1.1): where everything is, and what it asks of its accounts.

use serde_json::Value;

use super::{Answer, Found, PATIENCE};
use crate::config::acme::Acme;
use crate::http_client::{Client, Limits};

/// A directory is small.
const DIRECTORY_SIZE_MAX: usize = 100_000;

/// Reads it.
pub(super) async fn ask(settings: &Acme) -> Answer {
    let limits = Limits { timeout: PATIENCE, body_size_max: DIRECTORY_SIZE_MAX };
    let body = Client::new()?.get(&settings.directory.0, limits).await?;
    let directory: Value = serde_json::from_slice(&body).unwrap_or_default();
    if !["newNonce", "newAccount", "newOrder"].iter().all(|name| directory[name].is_string()) {
        return Err("the answer is no directory of ACME; correct `directory`".to_owned());
    }
    let meta = &directory["meta"];
    if meta["externalAccountRequired"] == true && settings.eab_kid.is_none() {
        let text = "the certificate authority asks for an account that you have with it: set eab_kid, and eab_key_env, eab_key_file or eab_key";
        return Err(text.to_owned());
    }
    let at = settings.directory.0.authority().map_or("", |authority| authority.as_str());
    let terms =
        meta["termsOfService"].as_str().map_or_else(String::new, |url| format!(", terms of service at {url:.200}"));
    Ok(Found { what: format!("a certificate authority answers at {at}{terms}"), warnings: Vec::new() })
}
