//! What holds for the topics of a pattern, whoever joins them and by whatever mount.

use fanfare_proto::history::Retention;
use fanfare_proto::topic::{Pattern, is_reserved_event};

use crate::error::Error;

/// What holds for the topics of a pattern.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub(crate) history: Option<Retention>,
}

impl Policy {
    /// Topics that keep nothing.
    pub fn new() -> Self {
        Policy::default()
    }

    /// Keeps recent messages, so that clients that come back get what they missed.
    pub fn history(mut self, retention: Retention) -> Self {
        self.history = Some(retention);
        self
    }
}

/// All policies, in the order in which they were declared.
#[derive(Debug, Default)]
pub(crate) struct Policies(Vec<(Pattern, Policy)>);

impl Policies {
    /// # Errors
    /// One of the patterns is none.
    pub(crate) fn new(declared: Vec<(String, Policy)>) -> Result<Self, Error> {
        let parse = |(pattern, policy): (String, Policy)| match Pattern::parse(&pattern) {
            Ok(parsed) => Ok((parsed, policy)),
            Err(error) => Err(Error::invalid(format!("the policy for {pattern:?}: {error}"))),
        };
        declared.into_iter().map(parse).collect::<Result<_, _>>().map(Policies)
    }

    /// The first that fits a topic.
    pub(crate) fn of(&self, topic: &str) -> Option<&Policy> {
        self.0.iter().find(|(pattern, _)| pattern.matches(topic)).map(|(_, policy)| policy)
    }

    /// What is kept of a topic, if anything is.
    pub(crate) fn retention(&self, topic: &str) -> Option<Retention> {
        self.of(topic)?.history
    }

    /// A number that changes when other topics keep a history than before.
    pub(crate) fn history_sum(&self) -> u32 {
        let mut sum = flate2::Crc::new();
        for (pattern, policy) in &self.0 {
            sum.update(format!("{pattern} {}\n", policy.history.is_some()).as_bytes());
        }
        sum.sum()
    }

    /// Whether any topic keeps something.
    pub(crate) fn have_history(&self) -> bool {
        self.0.iter().any(|(_, policy)| policy.history.is_some())
    }
}

/// Whether an event is worth keeping: those of the protocol's own and of the presence mean nothing later.
pub(crate) fn is_kept(event: &str) -> bool {
    !is_reserved_event(event) && event != "disconnect" && !event.starts_with("presence_")
}
