//! Whom a rule of a `[[channel]]` allows to join or publish.

use crate::config::rows::{Condition, RowRule};
use crate::config::rule::Rule;
use crate::identity::Identity;

impl Rule {
    /// Whether the rule by itself lets in a socket with this identity, for a topic with this suffix. A hook has to be asked.
    pub(crate) fn allows(&self, identity: Option<&Identity>, suffix: &str) -> bool {
        self.allows_as(identity, suffix, None)
    }

    /// The same for somebody who would be shown under a key.
    pub(crate) fn allows_as(&self, identity: Option<&Identity>, suffix: &str, key: Option<&str>) -> bool {
        match self {
            Self::All(rules) => rules.iter().all(|rule| rule.allows_as(identity, suffix, key)),
            Self::PresenceKey(name) => {
                matches!((identity, key), (Some(identity), Some(key)) if identity.has(name, key))
            }
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

impl RowRule {
    /// Whether it lets somebody see a row of which `column` gives the values.
    pub(crate) fn allows(&self, identity: &Identity, column: impl Fn(&str) -> Option<String>) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Reader(rule) => rule.allows(Some(identity), ""),
            // An empty value names nobody; it must not match an empty claim.
            Condition::Owner { claim, column: name } => {
                column(name).filter(|owner| !owner.is_empty()).is_some_and(|owner| identity.has(claim, &owner))
            }
            Condition::Column { column: name, value } => column(name).as_ref() == Some(value),
        })
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
        check("claim:role=a and claim:sub={suffix}", Some(json!({"role": "a", "sub": "7"})), "7", true);
        check("claim:role=a and claim:sub={suffix}", Some(json!({"role": "b", "sub": "7"})), "7", false);
        check("presence_key=claim:sub", Some(json!({"sub": "7"})), "", false);
        let identity = Identity::new(json!({"sub": "7"}).as_object().unwrap().clone());
        for (key, allowed) in [("7", true), ("8", false), ("", false)] {
            let rule: Rule = "authenticated and presence_key=claim:sub".parse().unwrap();
            assert_eq!(rule.allows_as(Some(&identity), "", Some(key)), allowed, "{key}");
        }
        check("claim:rooms=r-{suffix}", Some(json!({"rooms": ["r-1", "r-2"]})), "2", true);
    }

    #[test]
    fn rules_of_rows_allow() {
        let row = json!({"owner": "7", "public": "true", "empty": ""});
        let identity = |claims: Value| Identity::new(claims.as_object().unwrap().clone());
        let (ada, nobody) = (identity(json!({"sub": "7", "role": "a"})), identity(json!({"sub": "", "role": "a"})));
        for (rule, is_for_ada, is_for_nobody) in [
            ("open", true, true),
            ("claim:sub=row:owner", true, false),
            ("claim:sub=row:empty", false, false),
            ("claim:sub=row:missing", false, false),
            ("row:public=true", true, true),
            ("row:public=false", false, false),
            ("claim:role=a and claim:sub=row:owner", true, false),
            ("nobody and row:public=true", false, false),
        ] {
            let rule: RowRule = rule.parse().unwrap();
            let allows = |identity| rule.allows(identity, |column| row[column].as_str().map(str::to_owned));
            assert_eq!((allows(&ada), allows(&nobody)), (is_for_ada, is_for_nobody), "{rule:?}");
        }
    }
}
