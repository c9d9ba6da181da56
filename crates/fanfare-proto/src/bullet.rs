//! The protocol of bullet.js: a key in the query, payloads as text, over WebSocket, server-sent events or polls.
//!
//! Source: the client's code, and the behaviour that users of the original bridge rely on.

use std::borrow::Cow;

use crate::params::decode_path_segment;

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
}
