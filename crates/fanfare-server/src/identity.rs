//! Who is behind a socket: the claims of its token.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};

/// What a credential said of its bearer. The `Debug` form shows the names of the claims only.
pub(crate) struct Identity {
    claims: Map<String, Value>,
    api_key: Option<ApiKey>,
    expires_at: Option<SystemTime>,
}

/// The API key that somebody came with.
pub(crate) struct ApiKey {
    /// The name of the store that has it.
    pub(crate) store: Arc<str>,
    /// Of the key's record.
    pub(crate) handle: Arc<str>,
}

impl Identity {
    pub(crate) fn new(claims: Map<String, Value>) -> Self {
        Self { claims, api_key: None, expires_at: None }
    }

    /// The identity behind an API key.
    pub(crate) fn of_key(claims: Map<String, Value>, api_key: ApiKey) -> Self {
        Self { claims, api_key: Some(api_key), expires_at: None }
    }

    /// The same, whose credential ends then.
    pub(crate) fn until(self, expires_at: Option<SystemTime>) -> Self {
        Self { expires_at, ..self }
    }

    /// When the credential ends.
    pub(crate) fn expires_at(&self) -> Option<SystemTime> {
        self.expires_at
    }

    /// The API key, if that was the credential.
    pub(crate) fn api_key(&self) -> Option<&ApiKey> {
        self.api_key.as_ref()
    }

    /// Who this is among the publishers of a hub: whoever has the same key, or else the same user.
    pub(crate) fn publisher(&self) -> Option<String> {
        match &self.api_key {
            Some(key) => Some(format!("key {}", key.handle)),
            None => self.text("sub").map(|sub| format!("sub {sub}")),
        }
    }

    /// All claims.
    pub(crate) fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// A claim by its name, or by a path of names with dots between them (`realm.role`) where no claim has that very
    /// name.
    pub(crate) fn claim(&self, name: &str) -> Option<&Value> {
        if let Some(value) = self.claims.get(name) {
            return Some(value);
        }
        let (first, rest) = name.split_once('.')?;
        rest.split('.').try_fold(self.claims.get(first)?, |value, name| value.get(name))
    }

    /// A claim that is one string, number or boolean, and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        scalar(self.claim(name)?).filter(|text| !text.is_empty())
    }

    /// Whether a claim is this text, or a list with it.
    pub(crate) fn has(&self, name: &str, expected: &str) -> bool {
        match self.claim(name) {
            Some(Value::Array(list)) => list.iter().any(|value| scalar(value).as_deref() == Some(expected)),
            Some(value) => scalar(value).as_deref() == Some(expected),
            None => false,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")?;
        f.debug_set().entries(self.claims.keys()).finish()
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(bool.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(claims: Value) -> Identity {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        Identity::new(claims)
    }

    #[test]
    fn claims_are_found_by_name_or_path() {
        let identity = identity(json!({
            "sub": "7", "n": 8, "yes": true, "empty": "", "none": null,
            "realm": {"roles": ["a", 5]}, "a.b": "flat", "a": {"b": "deep"},
        }));
        #[track_caller]
        fn check(identity: &Identity, name: &str, expected: &str, has: bool) {
            assert_eq!(identity.has(name, expected), has, "{name}={expected}");
        }
        check(&identity, "sub", "7", true);
        check(&identity, "sub", "8", false);
        check(&identity, "n", "8", true);
        check(&identity, "yes", "true", true);
        check(&identity, "realm.roles", "a", true);
        check(&identity, "realm.roles", "5", true);
        check(&identity, "realm.roles", "b", false);
        check(&identity, "realm", "a", false);
        check(&identity, "a.b", "flat", true);
        check(&identity, "none", "null", false);
        check(&identity, "missing", "", false);
        check(&identity, "realm.missing.deeper", "", false);
        assert_eq!(identity.text("sub").as_deref(), Some("7"));
        assert_eq!(identity.text("empty"), None);
        assert_eq!(identity.text("realm.roles"), None);
        assert!(!format!("{identity:?}").contains("flat"));
    }
}
