//! What a back end is told: events, and the bodies of requests that carry them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::config::webhook::EventKind;

/// Whose coming and going is told, and in order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    Topic(Arc<str>),
    User(Arc<str>),
}

impl Subject {
    /// What it is called on a roll.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Topic(topic) => format!("t:{topic}"),
            Self::User(user) => format!("u:{user}"),
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        match name.split_at_checked(2)? {
            ("t:", topic) => Some(Self::Topic(topic.into())),
            ("u:", user) => Some(Self::User(user.into())),
            _ => None,
        }
    }

    /// The event of its coming, or going.
    pub(super) fn kind(&self, is_here: bool) -> EventKind {
        match (self, is_here) {
            (Self::Topic(_), true) => EventKind::TopicOccupied,
            (Self::Topic(_), false) => EventKind::TopicVacated,
            (Self::User(_), true) => EventKind::UserOnline,
            (Self::User(_), false) => EventKind::UserOffline,
        }
    }
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Its own, also when it is sent again.
    pub(super) id: String,
    pub(super) subject: Subject,
    pub(super) is_here: bool,
    pub(super) at: SystemTime,
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", self.subject.kind(self.is_here).name())?;
        match &self.subject {
            Subject::Topic(topic) => map.serialize_entry("topic", &**topic)?,
            Subject::User(user) => map.serialize_entry("user", &**user)?,
        }
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        map.serialize_entry("at", &u64::try_from(since.as_millis()).unwrap_or(u64::MAX))?;
        map.end()
    }
}

/// `{"events": […]}`.
pub(super) fn body(events: &[Event]) -> Result<Bytes, serde_json::Error> {
    #[derive(Serialize)]
    struct Body<'a> {
        events: &'a [Event],
    }
    serde_json::to_vec(&Body { events }).map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names() {
        for subject in [Subject::Topic("u:1".into()), Subject::User("t:".into()), Subject::User("é".into())] {
            assert_eq!(Subject::named(&subject.name()), Some(subject));
        }
        assert_eq!((Subject::named("t"), Subject::named("x:1"), Subject::named("aé")), (None, None, None));
    }

    #[test]
    fn bodies() {
        let event = |subject, is_here| Event {
            id: "x-1".into(),
            subject,
            is_here,
            at: UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_999),
        };
        let events = [event(Subject::Topic("a\"b".into()), true), event(Subject::User("7".into()), false)];
        let expected = r#"{"events":[{"id":"x-1","type":"topic_occupied","topic":"a\"b","at":1700000000123},{"id":"x-1","type":"user_offline","user":"7","at":1700000000123}]}"#;
        assert_eq!(body(&events).unwrap(), expected);
    }
}
