//! Who may join or publish: the small language of `join` and `publish` in a `[[channel]]`.
//!
//! `open`, `authenticated`, `nobody`, `claim:NAME=VALUE`, where `{suffix}` in VALUE stands for the part of the topic
//! that the `*` of its pattern matched, `presence_key=claim:NAME`, and `hook:NAME`. ` and ` between some of them means all of
//! them, a list any of them; hooks are asked last.

use std::fmt;
use std::str::FromStr;

use super::template::Template;
use super::value::Text;

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
    /// Whoever asks for a presence key that is this claim.
    PresenceKey(String),
    /// Whoever each of these allows it.
    All(Vec<Rule>),
}

impl Rule {
    /// Whether it can only ever allow sockets that came with a credential.
    pub(crate) fn needs_identity(&self) -> bool {
        match self {
            Self::Authenticated | Self::Claim { .. } | Self::PresenceKey(_) => true,
            Self::All(rules) => rules.iter().any(Self::needs_identity),
            Self::Open | Self::Nobody | Self::Hook(_) => false,
        }
    }

    /// Whether it allows nobody.
    pub(crate) fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
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
        match self {
            Self::Claim { value, .. } => value.names().next().is_some(),
            Self::All(rules) => rules.iter().any(Self::uses_suffix),
            _ => false,
        }
    }

    /// Whether it looks at the key under which somebody would be shown.
    pub(crate) fn asks_for_key(&self) -> bool {
        match self {
            Self::PresenceKey(_) => true,
            Self::All(rules) => rules.iter().any(Self::asks_for_key),
            _ => false,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Authenticated => f.write_str("authenticated"),
            Self::Nobody => f.write_str("nobody"),
            Self::Claim { name, value } => write!(f, "claim:{name}={value}"),
            Self::Hook(name) => write!(f, "hook:{name}"),
            Self::PresenceKey(name) => write!(f, "presence_key=claim:{name}"),
            Self::All(rules) => {
                let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
                f.write_str(&rules.join(" and "))
            }
        }
    }
}

impl Text for Rule {
    fn accepts() -> String {
        let forms = r#""open", "authenticated", "nobody", "hook:NAME" or "claim:NAME=VALUE""#;
        format!(
            "{forms}, where {{suffix}} in VALUE is what the star of the pattern matched, or several of them with ` and ` \
             between"
        )
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(" and ") {
            let rules = text.split(" and ").map(|rule| rule.trim().parse()).collect::<Result<Vec<Rule>, String>>()?;
            return match rules.iter().any(|rule| rule.hook().is_some()) {
                true => Err("a hook stands alone: it is told all that the other rules look at".into()),
                false => Ok(Self::All(rules)),
            };
        }
        if let Some(rest) = text.strip_prefix("presence_key=") {
            return match rest.strip_prefix("claim:").filter(|name| !name.is_empty()) {
                Some(name) => Ok(Self::PresenceKey(name.to_owned())),
                None => Err("a presence key is compared with a claim: presence_key=claim:sub".into()),
            };
        }
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
    use super::*;

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
        check("authenticated and hook:rooms", "a hook stands alone");
        check("authenticated and claim:", "needs a name and a value");
        check("presence_key=sub", "is compared with a claim");
    }
}
