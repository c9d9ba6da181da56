//! API keys as credentials.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Refusal, Verified};
use crate::apikey::Key;
use crate::apikey::lookup::Lookup;
use crate::apikey::store::Unavailable;
use crate::identity::{ApiKey, Identity};

/// Checks keys of one store.
#[derive(Debug)]
pub(crate) struct ApiKeys(Arc<Lookup>);

impl ApiKeys {
    pub(crate) fn new(lookup: Arc<Lookup>) -> Self {
        Self(lookup)
    }

    /// The identity of a key.
    pub(crate) async fn verify(&self, key: &str) -> Result<Verified, Refusal> {
        let key = Key::presented(key).ok_or(Refusal::from("the key is empty or too long"))?;
        let record = match self.0.find(&key).await {
            Ok(record) => record.ok_or(Refusal::from("the key is unknown"))?,
            Err(Unavailable(_)) => return Err(Refusal::unavailable("the store of API keys cannot be asked")),
        };
        if !record.works() {
            return Err(Refusal::from("the key is not active"));
        }
        let sub = record.username.as_ref().or(record.domain.as_ref()).unwrap_or(&record.name).clone();
        let mut claims = Map::new();
        let known = [("username", record.username), ("domain", record.domain), ("key", Some(record.name))];
        for (name, value) in known.into_iter().chain([("sub", Some(sub))]) {
            if let Some(value) = value {
                claims.insert(name.to_owned(), Value::String(value));
            }
        }
        let api_key = ApiKey { store: self.0.store_name().clone(), handle: record.handle.into() };
        Ok(Verified { identity: Identity::of_key(claims, api_key), expires_at: None })
    }
}
