//! The protocol of bullet.js: a key in the query, payloads as text, over WebSocket, server-sent events or polls.
//!
//! Source: the client's code, and the behaviour that users of the original bridge rely on.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::params::decode_path_segment;
use crate::position::{FOREIGN, Position, Since};

/// What a client's text asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is answered with this, to the one who sent it.
    Answer(&'static str),
    /// Nothing of the protocol's: the application may want it.
    Other,
}

/// What a client's text asks for.
pub fn hear(text: &str) -> Heard {
    match text {
        "ping" => Heard::Answer("heartbeat message"),
        "status" => Heard::Answer("status checked"),
        _ => Heard::Other,
    }
}

/// The key in a query: all of it as it stands, or the value of `key` where that is all there is. The `_=…` that jQuery adds
/// against caches is no part of it. `None` where nothing is left, or the value is not UTF-8.
pub fn key_of(query: &str) -> Option<Cow<'_, str>> {
    let is_buster = |part: &&str| part.starts_with("_=");
    let key = if query.split('&').any(|part| is_buster(&part)) {
        Cow::Owned(query.split('&').filter(|part| !is_buster(part)).collect::<Vec<_>>().join("&"))
    } else {
        Cow::Borrowed(query)
    };
    let value = match key.strip_prefix("key=") {
        Some(value) if !value.contains('&') => Cow::Owned(decode_path_segment(value).ok()?.into_owned()),
        _ => key,
    };
    Some(value).filter(|value| !value.is_empty())
}

/// Where a client of an event stream stands in each of its topics that keep a history, in their order. Its text is the id of
/// an event: all that the client sends when it comes back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions(Vec<(Arc<str>, Since)>);

/// What stands in the text for a topic from which nothing is known yet.
const NOWHERE: &str = "-";

impl Positions {
    /// Those of a client that has received an event with this id last, or of a new one. What is no such id, or was of other
    /// topics, is a place from which nobody can be brought back.
    pub fn new(topics: impl Iterator<Item = Arc<str>>, last_event_id: Option<&str>) -> Self {
        let mut positions: Vec<_> = topics.map(|topic| (topic, Since::Now)).collect();
        if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
            let texts: Vec<&str> = id.split(',').collect();
            let is_ours = texts.len() == positions.len();
            for (index, (_, since)) in positions.iter_mut().enumerate() {
                *since = match texts.get(index) {
                    Some(&NOWHERE) if is_ours => Since::Now,
                    Some(text) if is_ours => text.parse().unwrap_or(Since::Position(FOREIGN)),
                    _ => Since::Position(FOREIGN),
                };
            }
        }
        Positions(positions)
    }

    /// From where it goes on with a topic; `None` where that keeps no history.
    pub fn since(&self, topic: &str) -> Option<Since> {
        self.0.iter().find(|(known, _)| **known == *topic).map(|(_, since)| *since)
    }

    /// Whether a topic keeps a history.
    pub fn are_kept(&self) -> bool {
        !self.0.is_empty()
    }

    /// The client is sent what stands here: appends the id of that, which is for the event that follows.
    pub fn write_id(&mut self, topic: &str, position: Position, out: &mut Vec<u8>) {
        if let Some((_, since)) = self.0.iter_mut().find(|(known, _)| **known == *topic) {
            *since = Since::Position(position);
            out.extend_from_slice(format!("id: {self}\n").as_bytes());
        }
    }
}

impl fmt::Display for Positions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (_, since)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match since {
                Since::Now => f.write_str(NOWHERE)?,
                Since::Start => f.write_str("0:0")?,
                Since::Position(position) => write!(f, "{position}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for (query, expected) in [
            ("abc", Some("abc")),
            ("a=b&c", Some("a=b&c")),
            ("a%20b", Some("a%20b")),
            ("key=abc", Some("abc")),
            ("key=a%20b%3D", Some("a b=")),
            ("key=a&b=c", Some("key=a&b=c")),
            ("abc&_=1700000000", Some("abc")),
            ("_=17&key=abc", Some("abc")),
            ("%7B%22$ne%22:null%7D", Some("%7B%22$ne%22:null%7D")),
            ("", None),
            ("_=17", None),
            ("key=", None),
            ("key=%ff", None),
        ] {
            assert_eq!(key_of(query).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn two_words_are_answered() {
        assert_eq!(hear("ping"), Heard::Answer("heartbeat message"));
        assert_eq!(hear("status"), Heard::Answer("status checked"));
        for other in ["", "Ping", "ping ", "{}"] {
            assert_eq!(hear(other), Heard::Other, "{other}");
        }
    }

    #[test]
    fn bridge_9_an_id_says_where_a_client_stands_in_all_its_topics() {
        let topics = || ["a", "b"].map(Arc::from).into_iter();
        let at = |epoch, offset| Position { epoch: crate::position::Epoch::new(epoch).unwrap(), offset };
        let mut positions = Positions::new(topics(), None);
        assert!(positions.are_kept() && !Positions::default().are_kept());
        assert_eq!((positions.since("a"), positions.since("c")), (Some(Since::Now), None));
        let mut id = |topic, position| {
            let mut out = Vec::new();
            positions.write_id(topic, position, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(id("b", at(7, 3)), "id: -,7:3\n");
        assert_eq!(id("c", at(7, 3)), "", "a topic without a history");
        assert_eq!(id("a", at(9, 0)), "id: 9:0,7:3\n");
        for id in ["-,7:3", "9:0,7:3", "0:0,-"] {
            assert_eq!(Positions::new(topics(), Some(id)).to_string(), id);
        }
        let foreign = Some(Since::Position(FOREIGN));
        for id in ["7:3", "7:3,7:3,7:3", "x", ",", "no,id", "7,3"] {
            let positions = Positions::new(topics(), Some(id));
            assert_eq!((positions.since("a"), positions.since("b")), (foreign, foreign), "{id}");
        }
        assert_eq!(Positions::new(topics(), Some("")), Positions::new(topics(), None));
    }
}
