//! Names in Redis: `NS:x:{TAG}`, where x says what it is and TAG is the topic.
//!
//! What stands between the braces decides the slot in Redis Cluster, so that all of a topic is on one server. Braces within a topic
//! would end the tag or make it empty; they and `%` are percent-encoded. Everything else stands as it is, since no patterns are used.

use std::borrow::Cow;

use super::slots::{Slot, slot_of};
use crate::broker::Incarnation;

/// What stands between the braces for all registers.
pub(super) const REGISTERS: &str = "registers";

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The channel of a topic's live messages.
    Live = b'l' as isize,
    /// A topic's log.
    Stream = b's' as isize,
    /// Where a topic's log is.
    Meta = b'm' as isize,
    /// A topic's newer idempotency keys.
    Keys = b'k' as isize,
    /// The older ones.
    OldKeys = b'K' as isize,
    /// The channel of a node's inbox.
    Inbox = b'n' as isize,
    /// The cells of registers.
    Cells = b'r' as isize,
    /// Their names in order.
    CellNames = b'R' as isize,
}

/// The inbox of a node in a Redis Cluster, where it goes wherever its slot goes, as topics do. Those of clients have no control
/// characters.
pub(super) fn inbox_topic(of: Incarnation) -> String {
    format!("{INBOX}{of}")
}

const INBOX: &str = "\u{1}inbox:";

/// The names in one namespace.
#[derive(Debug, Clone)]
pub(super) struct Names {
    namespace: Box<str>,
}

/// What a channel is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Channel<'a> {
    /// That of a topic.
    Live(Cow<'a, str>),
    /// That of a node.
    Inbox,
}

impl Names {
    pub(super) fn new(namespace: &str) -> Self {
        Names { namespace: namespace.into() }
    }

    /// The name of something of a topic.
    pub(super) fn of(&self, kind: Kind, topic: &str) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.namespace.len() + topic.len() + 5);
        name.extend_from_slice(self.namespace.as_bytes());
        name.extend_from_slice(&[b':', kind as u8, b':', b'{']);
        for byte in topic.bytes() {
            match byte {
                b'{' => name.extend_from_slice(b"%7B"),
                b'}' => name.extend_from_slice(b"%7D"),
                b'%' => name.extend_from_slice(b"%25"),
                byte => name.push(byte),
            }
        }
        name.push(b'}');
        name
    }

    /// The channel of a node's inbox.
    pub(super) fn inbox(&self, of: Incarnation) -> Vec<u8> {
        self.of(Kind::Inbox, &of.to_string())
    }

    /// The cells of registers, or their names.
    pub(super) fn registers(&self, kind: Kind) -> Vec<u8> {
        self.of(kind, REGISTERS)
    }

    /// The slot of all of a topic, in a Redis Cluster.
    pub(super) fn slot(&self, topic: &str) -> Slot {
        let name = self.of(Kind::Live, topic);
        slot_of(&name[self.namespace.len() + 4..name.len() - 1])
    }

    /// The cell that tells a flushed server from the one before.
    pub(super) fn life(&self) -> Vec<u8> {
        [self.namespace.as_bytes(), b":life"].concat()
    }

    /// The same for a server of a Redis Cluster, with a tag whose slot it has.
    pub(super) fn life_with(&self, tag: &str) -> Vec<u8> {
        [&self.life()[..], b":{", tag.as_bytes(), b"}"].concat()
    }

    /// The channel of a canary, with a tag of that kind.
    pub(super) fn canary_with(&self, tag: &str) -> Vec<u8> {
        self.of(Kind::Inbox, tag)
    }

    /// What a channel is; `None` if it is not ours.
    pub(super) fn channel<'a>(&self, channel: &'a [u8]) -> Option<Channel<'a>> {
        let rest = channel.strip_prefix(self.namespace.as_bytes())?;
        let tag = rest.get(4..)?.strip_suffix(b"}")?;
        match &rest[..4] {
            b":l:{" => match topic(tag)? {
                inbox if inbox.starts_with(INBOX) => Some(Channel::Inbox),
                topic => Some(Channel::Live(topic)),
            },
            b":n:{" => Some(Channel::Inbox),
            _ => None,
        }
    }
}

fn topic(tag: &[u8]) -> Option<Cow<'_, str>> {
    let tag = str::from_utf8(tag).ok()?;
    if !tag.contains('%') {
        return Some(Cow::Borrowed(tag));
    }
    Some(Cow::Owned(tag.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_the_whole_tag_of_its_names_and_is_read_back() {
        let names = Names::new("ff");
        for (topic, name) in [
            ("lobby", "ff:l:{lobby}"),
            ("room:1", "ff:l:{room:1}"),
            ("}", "ff:l:{%7D}"),
            ("{}", "ff:l:{%7B%7D}"),
            ("a{b}c", "ff:l:{a%7Bb%7Dc}"),
            ("%7B", "ff:l:{%257B}"),
            ("%257D%", "ff:l:{%25257D%25}"),
            ("*", "ff:l:{*}"),
            ("größe ☃", "ff:l:{größe ☃}"),
        ] {
            let channel = names.of(Kind::Live, topic);
            assert_eq!(channel, name.as_bytes());
            assert_eq!(names.channel(&channel), Some(Channel::Live(topic.into())));
            assert_eq!(names.slot(topic), slot_of(&channel[6..channel.len() - 1]));
        }
    }

    #[test]
    fn other_channels_are_not_ours() {
        let names = Names::new("ff");
        assert_eq!(names.channel(b"ff:n:{07}"), Some(Channel::Inbox));
        let inbox = names.of(Kind::Live, &inbox_topic(Incarnation::new(7).unwrap()));
        assert_eq!(names.channel(&inbox), Some(Channel::Inbox));
        for channel in [&b""[..], b"ff", b"ff:l:", b"ff:l:{", b"ff:s:{a}", b"gg:l:{a}", b"fff:l:{a}", b"ff:l:{\xff}"] {
            assert_eq!(names.channel(channel), None, "{channel:?}");
        }
        assert_eq!(names.life(), b"ff:life");
    }
}
