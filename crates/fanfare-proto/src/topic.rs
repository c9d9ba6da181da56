//! Topics, and the patterns that route them.
//!
//! A topic is compared byte for byte. Who is joined to one is the engine's business.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;

/// The longest topic, in bytes. It is what the one length byte of a binary frame can say.
pub const TOPIC_SIZE_MAX: usize = 255;

/// Checks a topic: 1 to [`TOPIC_SIZE_MAX`] bytes, no control characters.
///
/// # Errors
/// Which of the rules the topic breaks.
pub fn check_topic(topic: &str) -> Result<(), TopicError> {
    if topic.is_empty() {
        Err(TopicError::Empty)
    } else if topic.len() > TOPIC_SIZE_MAX {
        Err(TopicError::TooLong { size: topic.len() })
    } else if topic.chars().any(char::is_control) {
        Err(TopicError::Control)
    } else {
        Ok(())
    }
}

/// What is wrong with a topic or a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// It has no characters.
    Empty,
    /// It is longer than [`TOPIC_SIZE_MAX`].
    TooLong {
        /// Its length in bytes.
        size: usize,
    },
    /// It contains a control character.
    Control,
    /// A pattern has a `*` that is not its last character.
    InnerStar,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the topic is empty"),
            Self::TooLong { size } => write!(f, "the topic has {size} bytes, more than {TOPIC_SIZE_MAX}"),
            Self::Control => f.write_str("the topic contains a control character"),
            Self::InnerStar => f.write_str("a pattern may have `*` as its last character only"),
        }
    }
}

impl std::error::Error for TopicError {}

/// Which topics a channel serves: one (`lobby`), or all that begin with a prefix (`room:*`; `*` alone is all).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: CompactString,
    is_prefix: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It breaks the rules for topics, or has a `*` before its end.
    pub fn parse(pattern: &str) -> Result<Self, TopicError> {
        check_topic(pattern)?;
        let (text, is_prefix) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        if text.contains('*') {
            return Err(TopicError::InnerStar);
        }
        Ok(Self { text: text.into(), is_prefix })
    }

    /// Whether the pattern serves this topic.
    pub fn matches(&self, topic: &str) -> bool {
        self.suffix(topic).is_some()
    }

    /// What of the topic stands in the place of the `*`: `Some("7")` for `room:7` under `room:*`, `Some("")` for an
    /// exact match, `None` when the pattern does not match.
    pub fn suffix<'t>(&self, topic: &'t str) -> Option<&'t str> {
        let rest = topic.strip_prefix(self.text.as_str())?;
        (self.is_prefix || rest.is_empty()).then_some(rest)
    }
}

impl FromStr for Pattern {
    type Err = TopicError;

    fn from_str(pattern: &str) -> Result<Self, TopicError> {
        Self::parse(pattern)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_byte_for_byte() {
        #[track_caller]
        fn check(pattern: &str, topic: &str, suffix: Option<&str>) {
            let parsed = Pattern::parse(pattern).unwrap();
            assert_eq!(parsed.suffix(topic), suffix, "{pattern} on {topic}");
            assert_eq!(parsed.matches(topic), suffix.is_some(), "{pattern} on {topic}");
            assert_eq!(parsed.to_string(), pattern);
        }
        check("lobby", "lobby", Some(""));
        check("lobby", "lobby2", None);
        check("lobby", "lobb", None);
        check("lobby", "Lobby", None);
        check("room:*", "room:7", Some("7"));
        check("room:*", "room:", Some(""));
        check("room:*", "room:*", Some("*"));
        check("room:*", "room:7:8", Some("7:8"));
        check("room:*", "room", None);
        check("room:*", "Room:x", None);
        check("*", "anything", Some("anything"));
        check("*", "", Some(""));
        check("räume*", "räume", Some(""));
    }

    #[test]
    fn bad_patterns_are_refused() {
        #[track_caller]
        fn check(pattern: &str, error: TopicError) {
            assert_eq!(Pattern::parse(pattern), Err(error), "{pattern:?}");
        }
        check("", TopicError::Empty);
        check("a*b", TopicError::InnerStar);
        check("**", TopicError::InnerStar);
        check("*:room", TopicError::InnerStar);
        check("a\nb", TopicError::Control);
        check(&"x".repeat(256), TopicError::TooLong { size: 256 });
    }

    #[test]
    fn topics_are_bounded_and_printable() {
        #[track_caller]
        fn check(topic: &str, expected: Result<(), TopicError>) {
            assert_eq!(check_topic(topic), expected, "{topic:?}");
        }
        check("a", Ok(()));
        check(&"x".repeat(255), Ok(()));
        check(&"ä".repeat(128), Err(TopicError::TooLong { size: 256 }));
        check("", Err(TopicError::Empty));
        check("a\0", Err(TopicError::Control));
        check("a\u{7f}", Err(TopicError::Control));
        check("a\u{85}", Err(TopicError::Control));
        check("a b*", Ok(()));
    }
}
