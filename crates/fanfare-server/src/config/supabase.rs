//! What an `[[endpoint]]` of Supabase's clients and its private channels take that nothing else does.

use std::str::FromStr;

use fanfare_proto::supabase::is_private;
use toml::de::DeValue;

use super::channel::Channel;
use super::problem::Problems;
use super::rule::Rule;
use super::secret::Secret;
use super::value::{Fault, OneOrMore, Raw, Setting, Text, choice};

choice! {
    /// What becomes of a channel whose token has expired.
    pub(crate) enum Expired {
        /// The client is told that it failed, and joins again with its newest token.
        Rejoin = "rejoin",
        /// It is closed for good, as Supabase does it.
        Close = "close",
    } later []
}

/// What becomes of a join that asks for changes of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changes {
    /// It succeeds, and the client is told once that they are not served.
    Tell,
    /// It is refused.
    Refuse,
    /// It gets those of the tables that a `[source.NAME]` names.
    Of(String),
}

impl Changes {
    /// The source that they come from.
    pub(crate) fn source(&self) -> Option<&str> {
        match self {
            Self::Of(name) => Some(name),
            Self::Tell | Self::Refuse => None,
        }
    }
}

impl Text for Changes {
    fn accepts() -> String {
        r#""tell", "refuse", or the name of a [source.NAME] with `changes`"#.into()
    }
}

impl FromStr for Changes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "tell" => Ok(Self::Tell),
            "refuse" => Ok(Self::Refuse),
            "" => Err(String::new()),
            name => Ok(Self::Of(name.to_owned())),
        }
    }
}

/// Opaque keys: the environment variable that holds each, and the role that it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ApiKeys {
    pub(crate) named: Vec<(String, String)>,
    /// The keys themselves with their roles, once the variables were read.
    pub(crate) opened: Vec<(Secret, String)>,
}

impl Setting for ApiKeys {
    fn accepts() -> String {
        r#"a table of environment variables and roles such as { PUBLISHABLE = "anon", SECRET = "service_role" }"#.into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let DeValue::Table(table) = raw.get_ref() else {
            return Err(vec![Fault { at: raw.span(), text: format!("it takes {}", Self::accepts()) }]);
        };
        let (mut named, mut faults) = (Vec::new(), Vec::new());
        for (name, role) in table.iter() {
            match String::read(role) {
                Ok(role) => named.push((name.get_ref().to_string(), role)),
                Err(mut more) => faults.append(&mut more),
            }
        }
        if faults.is_empty() { Ok(Self { named, opened: Vec::new() }) } else { Err(faults) }
    }
}

/// The four rights, by the keys that give them.
pub(crate) const RIGHTS: [&str; 4] = ["broadcast_read", "broadcast_write", "presence_read", "presence_write"];

/// What the topics of Supabase's clients begin with.
pub(crate) const TOPIC_PREFIX: &str = "realtime:";

impl Channel {
    /// Whether it serves topics of Supabase's clients.
    pub(crate) fn is_realtime(&self) -> bool {
        self.patterns().any(|pattern| pattern.to_string().starts_with(TOPIC_PREFIX))
    }

    /// Who has one of the four rights, as the file says.
    pub(crate) fn right(&self, key: &str) -> Option<&OneOrMore<Rule>> {
        match key {
            "broadcast_read" => self.broadcast_read.as_ref(),
            "broadcast_write" => self.broadcast_write.as_ref(),
            "presence_read" => self.presence_read.as_ref(),
            "presence_write" => self.presence_write.as_ref(),
            _ => None,
        }
    }

    /// Checks what concerns these channels only. `join` and `publish` are as they stand in the file.
    pub(super) fn check_realtime(&self, problems: &mut Problems) {
        let given = |key: &str| self.places.is_given(key);
        if self.private {
            if !self.patterns().all(|pattern| pattern.to_string().starts_with(TOPIC_PREFIX)) {
                let text = "a private channel is one of Supabase's clients, whose topics begin with realtime:";
                self.places.problem(problems, "topic", text);
            }
            if !given("join") && !RIGHTS.iter().any(|key| given(key)) {
                let text = "says nothing of who has a right to it: give broadcast_read, broadcast_write, presence_read \
                            and presence_write, or `join` for all four";
                self.places.problem(problems, "private", text);
            }
            for key in [
                "publish",
                "events",
                "broadcast",
                "reply",
                "payload_size_max",
                "publish_rate",
                "catch_up",
                "preset",
                "refused",
                "delta",
            ] {
                if given(key) {
                    let text = "has no effect on a private channel: its members have the four rights";
                    self.places.problem(problems, key, text);
                }
            }
        }
        if self.patterns().any(|pattern| is_private(&pattern.to_string())) {
            let text = "only Supabase's clients reach their private channels, whatever other channels say: give `topic = \"realtime:…\"` and \
                        `private = true`";
            self.places.problem(problems, "topic", text);
        }
        for key in RIGHTS.into_iter().chain(["replay_max"]) {
            if given(key) && !self.is_realtime() {
                let text = "is for channels of Supabase's clients, whose topics begin with realtime:";
                self.places.problem(problems, key, text);
            }
        }
        for (key, rule) in self.rules().filter(|(key, _)| *key != "presence_write") {
            if rule.asks_for_key() {
                let text = "presence_key= says under which key a member may be shown: it stands in presence_write only";
                self.places.problem(problems, key, text);
            }
        }
    }
}
