//! Supabase Realtime's protocol: Phoenix Channels with topics that begin with `realtime:`, a fixed set of events, a join that
//! configures its channel, and two binary frames more.
//!
//! A broadcast of a Supabase client is to the engine what any other message is: its event is the message's event, its payload
//! the message's payload, so that whatever publishes to a topic reaches these clients as well. What the engine has no place
//! for stands in the name of the event: see [`Named`]. Sources: supabase/realtime 2.129 and its clients, as recorded in
//! `docs/supabase.md`.

mod changes;
mod config;
mod filter;
mod frames;
mod like;
mod named;
mod reasons;
mod regular;

pub use self::changes::{CHANGES, Change, Row, Wanted, changes_topic};
pub use self::config::{JoinConfig, ReplayWish, Sent, privacy};
pub use self::frames::{BROADCAST, Heard, decode, payload};
pub use self::named::Named;
pub use self::reasons::{TokenFault, system, told};

pub(crate) use self::frames::{broadcast, encode, push_around};

/// What the topics of clients begin with.
pub const TOPIC_PREFIX: &str = "realtime:";

/// What the engine puts before the topic of a private channel, which is another one than the public channel of its name.
pub const PRIVATE: &str = "private-";

/// The engine's topic of a client's channel.
pub fn engine_topic(topic: &str, is_private: bool) -> String {
    if is_private { format!("{PRIVATE}{topic}") } else { topic.to_owned() }
}

/// A topic as clients call it. What a client itself calls `private-realtime:…` is no channel's, and has the prefix once more.
pub fn client_topic(topic: &str) -> &str {
    match topic.strip_prefix(PRIVATE) {
        Some(rest) if rest.trim_start_matches(PRIVATE).starts_with(TOPIC_PREFIX) => rest,
        _ => topic,
    }
}

/// What policies, the HTTP interface and `system` messages call a topic.
pub fn channel_name(topic: &str) -> &str {
    let topic = client_topic(topic);
    topic.strip_prefix(TOPIC_PREFIX).unwrap_or(topic)
}

/// Whether a topic of the engine's is that of a private channel.
pub fn is_private(topic: &str) -> bool {
    client_topic(topic).len() != topic.len()
}

/// Whether clients can be broken by a member of this name: one that every object of JavaScript has, or one that they take for
/// a sign of something else.
pub fn is_harmful_key(key: &str) -> bool {
    const OF_EVERY_OBJECT: [&str; 12] = [
        "__proto__",
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
    ];
    // Clients take a payload with `ids` for changes of a database.
    key == "ids" || OF_EVERY_OBJECT.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_and_private_channels_of_a_name_have_topics_of_their_own() {
        for (topic, is_private_one, in_engine, name) in [
            ("realtime:a", false, "realtime:a", "a"),
            ("realtime:a", true, "private-realtime:a", "a"),
            ("realtime:private-realtime:a", false, "realtime:private-realtime:a", "private-realtime:a"),
            ("realtime:x:y", true, "private-realtime:x:y", "x:y"),
        ] {
            let found = engine_topic(topic, is_private_one);
            assert_eq!(found, in_engine);
            assert_eq!((client_topic(&found), channel_name(&found), is_private(&found)), (topic, name, is_private_one));
        }
        assert_eq!(client_topic("private-other"), "private-other");
        // What is answered on such a topic comes back on it.
        for topic in ["private-realtime:a", "private-private-realtime:a", "private-other", "other"] {
            assert_eq!(client_topic(&engine_topic(topic, is_private(topic))), topic);
        }
    }

    #[test]
    fn keys_that_break_clients() {
        for (key, expected) in [("ids", true), ("toString", true), ("__proto__", true), ("id", false), ("", false)] {
            assert_eq!(is_harmful_key(key), expected, "{key}");
        }
    }
}
