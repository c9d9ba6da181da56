//! What holds for the topics of a pattern, whoever joins them and by whatever mount.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use fanfare_proto::history::Retention;
use fanfare_proto::topic::Pattern;

use crate::error::Error;
use crate::gap::Rule;

/// What holds for the topics of a pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    pub(crate) history: Option<Retention>,
    slow: Slow,
    delta: Option<DeltaKey>,
    trusts_traces: bool,
}

/// The member of a payload by which messages are told apart where clients may ask for differences, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeltaKey(pub(crate) Option<String>);

/// What happens to messages of a topic where a reader is so slow that they wait for it. It concerns what is published, never
/// replies or what a channel pushes; and a reader that takes nothing at all for [`Mount::write_timeout`] is closed in any
/// case.
///
/// [`Mount::write_timeout`]: crate::Mount::write_timeout
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slow {
    /// When a message does not fit any more, the socket is closed with 1013. The default.
    #[default]
    Disconnect,
    /// When a message does not fit any more, the oldest of the topic give way.
    DropOldest,
    /// As long as a message waits, a newer one with the same event, and of the same key, takes its place. If they do not fit
    /// even so, the oldest give way.
    Latest {
        /// A member of the JSON payload whose value, as it is written, is the key. Messages without it have no key but the
        /// event.
        key: Option<String>,
    },
    /// When a message does not fit any more, it and all that wait of the topic give way, and so do those that follow until the
    /// reader has taken what waits before them.
    Resync,
}

impl Slow {
    /// One of each.
    pub const ALL: [Slow; 4] = [Slow::Disconnect, Slow::DropOldest, Slow::Latest { key: None }, Slow::Resync];

    /// What it is called where it is configured, counted, and told to clients.
    pub fn name(&self) -> &'static str {
        self.rule().map_or("disconnect", Rule::name)
    }

    /// What gives way; nothing where the socket is closed.
    pub(crate) fn rule(&self) -> Option<Rule> {
        match self {
            Slow::Disconnect => None,
            Slow::DropOldest => Some(Rule::DropOldest),
            Slow::Latest { .. } => Some(Rule::Latest),
            Slow::Resync => Some(Rule::Resync),
        }
    }
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

    /// Lets clients of Phoenix ask, with `"delta": true` in the payload of their join, to be told of a message what is different from the
    /// one before it, where that is less than half of it. `key` is a member of the JSON payload, such as `symbol`: then the one before is
    /// the last one with the same string there. Clients need the `delta` of the npm package `fanfare-resume`.
    pub fn delta(mut self, key: Option<&str>) -> Self {
        self.delta = Some(DeltaKey(key.map(str::to_owned)));
        self
    }

    /// Lets clients say by the member `traceparent` of a join's payload whether that is [traced](crate::trace), and in which trace. Not for
    /// topics of strangers, who could fill the collector.
    pub fn trace_clients(mut self, trusted: bool) -> Self {
        self.trusts_traces = trusted;
        self
    }

    /// Whether another one is the same, but for how much of a topic is kept.
    pub fn is_like(&self, other: &Policy) -> bool {
        let keeps_as_much = Policy { history: other.history, ..self.clone() };
        self.history.is_some() == other.history.is_some() && keeps_as_much == *other
    }

    /// What happens to messages that wait for slow readers.
    pub fn slow(mut self, slow: Slow) -> Self {
        self.slow = slow;
        self
    }
}

/// All policies, in the order in which they were declared.
#[derive(Debug, Default)]
pub(crate) struct Policies(Vec<Declared>);

#[derive(Debug)]
struct Declared {
    pattern: Pattern,
    history: Option<Kept>,
    /// Shared by the topics; `None` where slow readers are closed.
    slow: Option<Arc<Slow>>,
    delta: Option<Arc<DeltaKey>>,
    trusts_traces: bool,
}

/// How much of a topic is kept, which can change. Each of the three counts by itself.
#[derive(Debug)]
struct Kept {
    messages_max: AtomicUsize,
    bytes_max: AtomicUsize,
    age_max_ms: AtomicU64,
}

impl From<Retention> for Kept {
    fn from(Retention { messages_max, bytes_max, age_max_ms }: Retention) -> Self {
        Kept { messages_max: messages_max.into(), bytes_max: bytes_max.into(), age_max_ms: age_max_ms.into() }
    }
}

impl Kept {
    fn now(&self) -> Retention {
        Retention {
            messages_max: self.messages_max.load(Ordering::Relaxed),
            bytes_max: self.bytes_max.load(Ordering::Relaxed),
            age_max_ms: self.age_max_ms.load(Ordering::Relaxed),
        }
    }

    fn replace(&self, Retention { messages_max, bytes_max, age_max_ms }: Retention) {
        self.messages_max.store(messages_max, Ordering::Relaxed);
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
        self.age_max_ms.store(age_max_ms, Ordering::Relaxed);
    }
}

impl Policies {
    /// # Errors
    /// One of the patterns is none.
    pub(crate) fn new(declared: Vec<(String, Policy)>) -> Result<Self, Error> {
        let parse = |(pattern, policy): (String, Policy)| match Pattern::parse(&pattern) {
            Ok(pattern) => {
                let slow = (policy.slow != Slow::Disconnect).then(|| Arc::new(policy.slow));
                let Policy { history, delta, trusts_traces, .. } = policy;
                let history = history.map(Kept::from);
                Ok(Declared { pattern, history, slow, delta: delta.map(Arc::new), trusts_traces })
            }
            Err(error) => Err(Error::invalid(format!("the policy for {pattern:?}: {error}"))),
        };
        declared.into_iter().map(parse).collect::<Result<_, _>>().map(Policies)
    }

    /// The first that fits a topic.
    fn of(&self, topic: &str) -> Option<&Declared> {
        self.0.iter().find(|declared| declared.pattern.matches(topic))
    }

    /// What is kept of a topic, if anything is.
    pub(crate) fn retention(&self, topic: &str) -> Option<Retention> {
        self.of(topic)?.history.as_ref().map(Kept::now)
    }

    /// Topics keep as much from their next message on as other policies of the same patterns say.
    pub(crate) fn keep(&self, declared: &[(String, Policy)]) {
        for (pattern, policy) in declared {
            let known = self.0.iter().find(|known| known.pattern.to_string() == *pattern);
            if let (Some(kept), Some(retention)) = (known.and_then(|known| known.history.as_ref()), policy.history) {
                kept.replace(retention);
            }
        }
    }

    /// A number that changes when other topics keep a history than before.
    pub(crate) fn history_sum(&self) -> u32 {
        let mut sum = flate2::Crc::new();
        for Declared { pattern, history, .. } in &self.0 {
            sum.update(format!("{pattern} {}\n", history.is_some()).as_bytes());
        }
        sum.sum()
    }

    /// What happens to a topic's messages where a reader is slow, unless its socket is closed.
    pub(crate) fn slow(&self, topic: &str) -> Option<&Arc<Slow>> {
        self.of(topic)?.slow.as_ref()
    }

    /// By what a topic's messages are told apart, if clients may ask for differences.
    pub(crate) fn delta(&self, topic: &str) -> Option<&Arc<DeltaKey>> {
        self.of(topic)?.delta.as_ref()
    }

    /// Whether clients decide what of their joins of a topic is traced.
    pub(crate) fn trusts_traces(&self, topic: &str) -> bool {
        self.of(topic).is_some_and(|declared| declared.trusts_traces)
    }

    /// The patterns.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &Pattern> {
        self.0.iter().map(|declared| &declared.pattern)
    }

    /// Whether any topic keeps something.
    pub(crate) fn have_history(&self) -> bool {
        self.retentions().next().is_some()
    }

    /// What topics keep, those that keep something.
    pub(crate) fn retentions(&self) -> impl Iterator<Item = Retention> {
        self.0.iter().filter_map(|declared| declared.history.as_ref().map(Kept::now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(declared: &[(&str, Policy)]) -> Policies {
        let declared = declared.iter().map(|(pattern, policy)| ((*pattern).to_owned(), policy.clone()));
        Policies::new(declared.collect()).unwrap()
    }

    fn keeping() -> Policy {
        Policy::new().history(Retention::default())
    }

    #[test]
    fn one_policy_with_a_history_needs_a_store() {
        for (declared, expected) in [
            (&[][..], false),
            (&[("a", Policy::new())], false),
            (&[("a", keeping())], true),
            (&[("a", Policy::new()), ("b", keeping())], true),
            (&[("a", keeping()), ("b", Policy::new())], true),
        ] {
            assert_eq!(policies(declared).have_history(), expected, "{declared:?}");
        }
    }

    #[test]
    fn the_first_policy_that_fits_counts() {
        let policies = policies(&[("a:1", Policy::new().slow(Slow::Resync)), ("a:*", keeping()), ("*", Policy::new())]);
        assert!(policies.retention("a:1").is_none() && policies.retention("b").is_none());
        assert_eq!(policies.retention("a:2"), Some(Retention::default()));
        assert_eq!(policies.slow("a:1").map(|slow| &**slow), Some(&Slow::Resync));
        assert!(policies.slow("a:2").is_none(), "slow readers are closed");
        let wrong = Policies::new(vec![("a*b".to_owned(), Policy::new())]).unwrap_err().to_string();
        assert!(wrong.starts_with("the policy for \"a*b\": "), "{wrong}");
    }

    #[test]
    fn the_sum_changes_with_the_topics_that_keep_something() {
        let sum = |declared: &[(&str, Policy)]| policies(declared).history_sum();
        let before = sum(&[("a", keeping()), ("b", Policy::new())]);
        let more = Policy::new().history(Retention { messages_max: 7, ..Retention::default() }).slow(Slow::Resync);
        assert_eq!(sum(&[("a", more), ("b", Policy::new())]), before, "how much of them does not matter");
        for declared in [
            &[("a", keeping())][..],
            &[("a", keeping()), ("b", keeping())],
            &[("a", Policy::new()), ("b", Policy::new())],
            &[("a", keeping()), ("c", Policy::new())],
            &[("b", Policy::new()), ("a", keeping())],
        ] {
            assert_ne!(sum(declared), before, "{declared:?}");
        }
    }
}
