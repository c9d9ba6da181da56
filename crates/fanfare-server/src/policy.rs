//! Who may join or publish: the small language of `join` and `publish` in a `[[channel]]`.
//!
//! `open`, `authenticated`, `nobody`, `claim:NAME=VALUE`, where `{suffix}` in VALUE stands for the part of the topic
//! that the `*` of its pattern matched, and `hook:NAME`. A list means any of them; hooks are asked last.

use std::str::FromStr;

use crate::identity::{Identity, Template};

/// One way to be allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Everybody.
    Open,
    /// Whoever came with a valid credential.
    Authenticated,
    /// Nobody at all: only the HTTP API.
    Nobody,
    /// Whoever has a claim that is this value, or a list with it.
    Claim {
        /// The claim, or a path to it with dots.
        name: String,
        /// What it must be.
        value: Template,
    },
    /// Whoever the back end of a `[hook.NAME]` allows it.
    Hook(String),
}

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

    /// Whether it can only ever allow sockets that came with a credential.
    pub(crate) fn needs_identity(&self) -> bool {
        matches!(self, Self::Authenticated | Self::Claim { .. })
    }

    /// The hook that has to be asked.
    pub(crate) fn hook(&self) -> Option<&str> {
        match self {
            Self::Hook(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it looks at the topic's suffix.
    pub(crate) fn uses_suffix(&self) -> bool {
        matches!(self, Self::Claim { value, .. } if value.names().next().is_some())
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "open" => return Ok(Self::Open),
            "authenticated" => return Ok(Self::Authenticated),
            "nobody" => return Ok(Self::Nobody),
            _ => {}
        }
        if let Some(name) = text.strip_prefix("hook:") {
            let missing = || "a hook needs a name: hook:rooms, for a [hook.rooms]".into();
            return Some(name)
                .filter(|name| !name.is_empty())
                .map(|name| Self::Hook(name.to_owned()))
                .ok_or_else(missing);
        }
        let Some(claim) = text.strip_prefix("claim:") else { return Err(String::new()) };
        let Some((name, value)) = claim.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty())
        else {
            return Err("a claim needs a name and a value: claim:role=support".into());
        };
        let value: Template = value.parse()?;
        if let Some(unknown) = value.names().find(|name| *name != "suffix") {
            return Err(format!("{{{unknown}}} is unknown; {{suffix}} is the part of the topic matched by `*`"));
        }
        Ok(Self::Claim { name: name.to_owned(), value })
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

    #[test]
    fn bad_rules_are_explained() {
        #[track_caller]
        fn check(rule: &str, part: &str) {
            let error = rule.parse::<Rule>().unwrap_err();
            assert!(error.contains(part), "{rule}: {error}");
        }
        check("opne", "");
        check("claim:", "needs a name and a value");
        check("claim:role", "needs a name and a value");
        check("claim:=x", "needs a name and a value");
        check("claim:sub={user}", "{user} is unknown");
        check("claim:sub={suffix", "braces");
        check("hook:", "a hook needs a name");
        check("hook", "");
    }
}
