//! Subjects: `NS.x.NAME`, where x says what it is.
//!
//! A topic is one token. What NATS gives a meaning, and all that is no ASCII letter or digit, `_`, `-` or `:`, is percent-encoded, so
//! that `.`, `*` and `>` are characters like any other. A topic of 255 bytes has at most 765 then.

use std::fmt::Write as _;

use crate::broker::Incarnation;

/// The subjects of a node in one namespace.
#[derive(Debug)]
pub(super) struct Subjects {
    namespace: Box<str>,
    node: Incarnation,
}

impl Subjects {
    pub(super) fn new(namespace: &str, node: Incarnation) -> Self {
        let mut encoded = String::new();
        encode(namespace, &mut encoded);
        Subjects { namespace: encoded.into(), node }
    }

    /// A topic's live messages.
    pub(super) fn live(&self, topic: &str) -> String {
        let mut subject = String::with_capacity(self.namespace.len() + topic.len() + 3);
        subject.push_str(&self.namespace);
        subject.push_str(".l.");
        encode(topic, &mut subject);
        subject
    }

    /// A node's inbox.
    pub(super) fn inbox(&self, of: Incarnation) -> String {
        format!("{}.n.{of}", self.namespace)
    }

    /// This node's own.
    pub(super) fn own_inbox(&self) -> String {
        self.inbox(self.node)
    }

    /// Where the answer to something with this number is to go.
    pub(super) fn answer(&self, number: u64) -> String {
        format!("{}.a.{}.{number}", self.namespace, self.node)
    }

    /// All of those.
    pub(super) fn answers(&self) -> String {
        format!("{}.a.{}.*", self.namespace, self.node)
    }

    /// The number of what such a subject is the answer to.
    pub(super) fn number(&self, answer: &str) -> Option<u64> {
        answer.rsplit('.').next()?.parse().ok()
    }
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-:".contains(&byte) {
            out.push(byte.into());
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_one_token_and_no_other_topics() {
        let subjects = Subjects::new("my.app", Incarnation::new(7).unwrap());
        for (topic, subject) in [
            ("lobby", "my%2Eapp.l.lobby"),
            ("room:1", "my%2Eapp.l.room:1"),
            ("a.b", "my%2Eapp.l.a%2Eb"),
            ("*", "my%2Eapp.l.%2A"),
            (">", "my%2Eapp.l.%3E"),
            ("%2E", "my%2Eapp.l.%252E"),
            ("a b\r\n", "my%2Eapp.l.a%20b%0D%0A"),
            ("ß", "my%2Eapp.l.%C3%9F"),
            ("$SYS", "my%2Eapp.l.%24SYS"),
        ] {
            assert_eq!(subjects.live(topic), subject);
        }
        assert_eq!(subjects.own_inbox(), "my%2Eapp.n.0000000000000007");
        assert_eq!(subjects.answers(), "my%2Eapp.a.0000000000000007.*");
        assert_eq!(subjects.number(&subjects.answer(12)), Some(12));
        assert!(subjects.live(&"ß".repeat(127)).len() < 800, "far below the longest line");
    }
}
