//! Subjects: `NS.x.NAME`, where x says what it is.
//!
//! A topic is one token. What NATS gives a meaning, and all that is no ASCII letter or digit, `_`, `-` or `:`, is percent-encoded, so
//! that `.`, `*` and `>` are characters like any other. A topic of 255 bytes has at most 765 then.

use std::fmt::Write as _;

use super::stream::REGISTERS;
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

    /// What is kept of a topic, in the stream of a class; of registers that is 0.
    pub(super) fn kept(&self, class: u64, topic: &str) -> String {
        let mut subject = self.kept_all(class);
        subject.pop();
        encode(topic, &mut subject);
        subject
    }

    /// All that the stream of a class keeps.
    pub(super) fn kept_all(&self, class: u64) -> String {
        match class {
            REGISTERS => format!("{}.r.>", self.namespace),
            class => format!("{}.h.{class}.0.>", self.namespace),
        }
    }

    /// The live messages of all topics.
    pub(super) fn live_all(&self) -> String {
        format!("{}.l.>", self.namespace)
    }

    /// A name for the stream of a class, with this number at its end.
    pub(super) fn stream(&self, class: u64, number: u64) -> String {
        // Names have no percent signs.
        format!("{}_{class}_0_{number:016x}", self.namespace.replace('%', "-"))
    }

    /// The name of a reader with this number.
    pub(super) fn reader(&self, number: u64) -> String {
        format!("ff-{}-{number}", self.node)
    }

    /// Whose message it is that has this mark, if it is this node's.
    pub(super) fn own(&self, mark: &str) -> Option<u64> {
        let (node, number) = mark.split_once('.')?;
        (node == self.node.to_string()).then(|| number.parse().ok())?
    }

    /// The mark of an own message.
    pub(super) fn mark(&self, number: u64) -> String {
        format!("{}.{number}", self.node)
    }

    /// A node's inbox.
    pub(super) fn inbox(&self, of: Incarnation) -> String {
        format!("{}.n.{of}", self.namespace)
    }

    /// This node's own.
    pub(super) fn own_inbox(&self) -> String {
        self.inbox(self.node)
    }

    /// Where the answer to something with this number is to go, on the link with this letter.
    pub(super) fn answer(&self, link: char, number: u64) -> String {
        format!("{}.a.{}.{link}.{number}", self.namespace, self.node)
    }

    /// All of those.
    pub(super) fn answers(&self, link: char) -> String {
        format!("{}.a.{}.{link}.*", self.namespace, self.node)
    }
}

/// The number of what such a subject is the answer to.
pub(super) fn number_of(answer: &str) -> Option<u64> {
    answer.rsplit('.').next()?.parse().ok()
}

/// The number of a reader by its name.
pub(super) fn number_of_reader(name: &str) -> Option<u64> {
    name.rsplit('-').next()?.parse().ok()
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
        assert_eq!(subjects.answers('l'), "my%2Eapp.a.0000000000000007.l.*");
        assert_eq!(number_of(&subjects.answer('l', 12)), Some(12));
        assert_eq!(number_of_reader(&subjects.reader(12)), Some(12));
        assert_eq!((subjects.own(&subjects.mark(12)), subjects.own("0000000000000008.12")), (Some(12), None));
        assert_eq!(subjects.kept(100, "a.b"), "my%2Eapp.h.100.0.a%2Eb");
        assert_eq!(subjects.stream(100, 5), "my-2Eapp_100_0_0000000000000005");
        assert!(subjects.live(&"ß".repeat(127)).len() < 800, "far below the longest line");
    }
}
