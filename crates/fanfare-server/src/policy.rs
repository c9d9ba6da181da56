//! Whom a rule of a `[[channel]]` allows to join or publish.

use crate::config::rule::Rule;
use crate::identity::Identity;

impl Rule {
    /// Whether the rule by itself lets in a socket with this identity, for a topic with this suffix. A hook has to be asked.
    pub(crate) fn allows(&self, identity: Option<&Identity>, suffix: &str) -> bool {
        match self {
            Self::Open => true,
            Self::Authenticated => identity.is_some(),
            Self::Nobody | Self::Hook(_) => false,
            Self::Claim { name, value } => {
                // An empty suffix names nobody; it must not match an empty claim.
                let expected = value.fill(|_| Some(suffix.to_owned()).filter(|suffix| !suffix.is_empty()));
                matches!((identity, expected), (Some(identity), Ok(expected)) if identity.has(name, &expected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn rules_allow() {
        #[track_caller]
        fn check(rule: &str, claims: Option<Value>, suffix: &str, allowed: bool) {
            let identity = claims.map(|claims| Identity::new(claims.as_object().unwrap().clone()));
            let rule: Rule = rule.parse().unwrap();
            assert_eq!(rule.allows(identity.as_ref(), suffix), allowed, "{rule:?} {identity:?} {suffix}");
        }
        check("open", None, "", true);
        check("authenticated", None, "", false);
        check("authenticated", Some(json!({})), "", true);
        check("nobody", Some(json!({"sub": "1"})), "", false);
        check("hook:rooms", Some(json!({"sub": "1"})), "", false);
        check("claim:role=support", None, "", false);
        check("claim:role=support", Some(json!({"role": "support"})), "", true);
        check("claim:role=support", Some(json!({"role": ["x", "support"]})), "", true);
        check("claim:role=support", Some(json!({"role": "Support"})), "", false);
        check("claim:q=a=b", Some(json!({"q": "a=b"})), "", true);
        check("claim:sub={suffix}", Some(json!({"sub": "7"})), "7", true);
        check("claim:sub={suffix}", Some(json!({"sub": 7})), "7", true);
        check("claim:sub={suffix}", Some(json!({"sub": "7"})), "8", false);
        check("claim:sub={suffix}", Some(json!({"sub": ""})), "", false);
        check("claim:sub={suffix}", None, "7", false);
        check("claim:rooms=r-{suffix}", Some(json!({"rooms": ["r-1", "r-2"]})), "2", true);
    }
}
