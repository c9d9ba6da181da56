//! By what figures of topics are told apart: the declared patterns, as many as there may be.

use fanfare_proto::topic::Pattern;

use crate::trace::{OpenSpan, SpanKind, Traced};

/// More patterns than these are counted together.
const CHANNELS_MAX: usize = 200;

/// What topics are counted under that no pattern fits, or one beyond [`CHANNELS_MAX`].
const OTHER: &str = "other";

/// The patterns of channels, in the order in which they are asked.
#[derive(Debug)]
pub(crate) struct Labels {
    patterns: Vec<Pattern>,
    names: Vec<String>,
}

impl Labels {
    /// The labels of declared patterns. One that is declared twice is one.
    pub(crate) fn new(declared: impl Iterator<Item = Pattern>) -> Self {
        let (mut patterns, mut names) = (Vec::new(), Vec::<String>::new());
        for pattern in declared {
            let name = pattern.to_string();
            if names.len() < CHANNELS_MAX && !names.contains(&name) {
                patterns.push(pattern);
                names.push(name);
            }
        }
        names.push(OTHER.to_owned());
        Labels { patterns, names }
    }

    /// The number of the label of a topic.
    #[inline]
    pub(crate) fn of(&self, topic: &str) -> usize {
        let fitting = self.patterns.iter().position(|pattern| pattern.matches(topic));
        fitting.unwrap_or(self.patterns.len())
    }

    /// A span about a topic, called for its pattern: names of spans are few.
    pub(crate) fn span(&self, traced: &Traced, kind: SpanKind, what: &str, topic: &str) -> OpenSpan {
        let name = self.pattern_of(topic).map_or_else(|| what.to_owned(), |pattern| format!("{what} {pattern}"));
        self.span_called(traced, kind, name, topic)
    }

    /// The same by another name.
    pub(crate) fn span_called(&self, traced: &Traced, kind: SpanKind, name: String, topic: &str) -> OpenSpan {
        let mut span = traced.span(kind, name);
        span.say("messaging.system", "fanfare");
        span.say("messaging.destination.name", topic);
        if let Some(pattern) = self.pattern_of(topic) {
            span.say("messaging.destination.template", pattern);
        }
        span
    }

    fn pattern_of(&self, topic: &str) -> Option<&str> {
        self.names[..self.patterns.len()].get(self.of(topic)).map(String::as_str)
    }

    /// The labels, in the order of their numbers.
    pub(crate) fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(declared: &[&str]) -> Labels {
        Labels::new(declared.iter().map(|pattern| Pattern::parse(pattern).unwrap()))
    }

    #[test]
    fn the_first_pattern_that_fits_is_the_label() {
        let labels = labels(&["a:1", "a:*", "a:1", "b"]);
        assert_eq!(labels.names().collect::<Vec<_>>(), ["a:1", "a:*", "b", "other"]);
        assert_eq!(["a:1", "a:2", "b", "c"].map(|topic| labels.of(topic)), [0, 1, 2, 3]);
    }

    #[test]
    fn patterns_beyond_the_limit_are_counted_together() {
        let declared: Vec<_> = (0..CHANNELS_MAX + 50).map(|number| format!("room{number}")).collect();
        let labels = Labels::new(declared.iter().map(|pattern| Pattern::parse(pattern).unwrap()));
        assert_eq!(labels.names().len(), CHANNELS_MAX + 1);
        assert_eq!(labels.of("room199"), 199);
        assert_eq!(["room200", "room249", "elsewhere"].map(|topic| labels.of(topic)), [200; 3]);
    }
}
