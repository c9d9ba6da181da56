//! A message from a client, in the vocabulary that all protocols share: topic, event, payload, and the refs of Phoenix's.
//!
//! How it looks on the wire is a protocol's business; what it means for the joins of a socket is the
//! [`session`](crate::session)'s.

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;

use crate::json;
use crate::payload::Payload;
use crate::position::Position;

/// The longest ref, in bytes of its JSON form. A join keeps its ref for as long as it lives, hence a bound; clients
/// send a handful of digits.
pub const REF_SIZE_MAX: usize = 4096;

/// A `ref` or `join_ref`: null, a string or a number, echoed with its JSON type. `3` and `"3"` differ.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Ref {
    /// The JSON token. Strings are escaped in one way only, so that equal strings have equal tokens.
    token: CompactString,
}

impl Ref {
    /// The absent ref.
    pub const NULL: Self = Self { token: CompactString::const_new("null") };

    /// A string ref.
    pub fn string(text: &str) -> Self {
        // Clients send a handful of characters.
        let mut quoted = [b'"'; 16];
        if json::is_plain(text.as_bytes())
            && let Some(content) = quoted[1..15].get_mut(..text.len())
        {
            content.copy_from_slice(text.as_bytes());
            let token = &quoted[..text.len() + 2];
            return Self { token: CompactString::from_utf8(token).expect("a text in quotes is UTF-8") };
        }
        let escaped = serde_json::to_string(text).expect("a string has a JSON form");
        Self { token: escaped.into() }
    }

    /// A position in the place of a ref.
    pub(crate) fn position(position: Position) -> Self {
        Self { token: compact_str::format_compact!("\"{position}\"") }
    }

    /// A ref from its JSON token, which the scanner has taken.
    ///
    /// # Errors
    /// Which rule for refs it breaks; the text is fit for logs.
    pub(crate) fn of_token(token: &str) -> Result<Self, &'static str> {
        if token.len() > REF_SIZE_MAX {
            return Err("a ref is too long");
        }
        match token.as_bytes().first() {
            // Without an escape the token is already in its one form: bare control characters are not JSON.
            Some(b'"') if token.as_bytes().contains(&b'\\') => {
                let text: String = serde_json::from_str(token).expect("a token is JSON, and its surrogates are paired");
                Ok(Self::string(&text))
            }
            Some(b'"' | b'-' | b'0'..=b'9' | b'n') => Ok(Self { token: token.into() }),
            _ => Err("a ref is not null, a string or a number"),
        }
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        *self == Self::NULL
    }

    /// Its JSON token.
    pub fn as_json(&self) -> &str {
        &self.token
    }

    /// Its text in a binary frame: a string's content, a number in decimal, nothing for null.
    pub fn text(&self) -> Cow<'_, str> {
        let token = self.token.as_str();
        match token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(content) if content.contains('\\') => {
                Cow::Owned(serde_json::from_str(token).expect("the token of a string ref is a JSON string"))
            }
            Some(content) => Cow::Borrowed(content),
            None if self.is_null() => Cow::Borrowed(""),
            None => Cow::Borrowed(token),
        }
    }
}

impl fmt::Debug for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ref({})", self.token)
    }
}

/// A message from a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming<'a> {
    /// The ref of the join that the message belongs to.
    pub join_ref: Ref,
    /// The ref that the reply repeats.
    pub msg_ref: Ref,
    /// The topic, unchecked.
    pub topic: Cow<'a, str>,
    /// The event, unchecked.
    pub event: Cow<'a, str>,
    /// What it carries: any JSON, or the data of a binary frame.
    pub payload: Payload,
}

impl Incoming<'_> {
    /// The message with a topic and an event of its own, to outlive the frame.
    pub fn into_owned(self) -> Incoming<'static> {
        let Self { join_ref, msg_ref, topic, event, payload } = self;
        Incoming { join_ref, msg_ref, topic: topic.into_owned().into(), event: event.into_owned().into(), payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_keep_their_type_and_compare_by_content() {
        #[track_caller]
        fn check(token: &str, as_json: &str, text: &str) {
            let parsed = Ref::of_token(token).unwrap();
            assert_eq!(parsed.as_json(), as_json);
            assert_eq!(parsed.text(), text);
            assert_eq!(parsed.is_null(), token == "null");
        }
        check("null", "null", "");
        check("3", "3", "3");
        check("-1.5e3", "-1.5e3", "-1.5e3");
        check("123456789012345678901234567890", "123456789012345678901234567890", "123456789012345678901234567890");
        check(r#""3""#, r#""3""#, "3");
        check(r#""""#, r#""""#, "");
        check(r#""null""#, r#""null""#, "null");
        check(r#""\u0033""#, r#""3""#, "3");
        check(r#""\/""#, r#""/""#, "/");
        check(r#""\u000a\"\\""#, r#""\n\"\\""#, "\n\"\\");
        check(r#""\ud83d\ude00""#, "\"😀\"", "😀");
    }

    #[test]
    fn other_types_are_no_refs() {
        #[track_caller]
        fn check(token: &str) {
            assert!(Ref::of_token(token).is_err(), "{token}");
        }
        check("true");
        check("false");
        check("[]");
        check("{}");
        check(&format!("\"{}\"", "x".repeat(REF_SIZE_MAX)));
        assert!(Ref::of_token(&format!("\"{}\"", "x".repeat(REF_SIZE_MAX - 2))).is_ok());
    }

    #[test]
    fn strings_from_binary_frames_equal_those_from_text() {
        #[track_caller]
        fn check(text: &str, token: &str) {
            assert_eq!(Ref::string(text), Ref::of_token(token).unwrap());
        }
        check("", r#""""#);
        check("1", r#""\u0031""#);
        check("a\"b\u{1}\u{7f}/", "\"a\\\"b\\u0001\u{7f}/\"");
        assert_ne!(Ref::string(""), Ref::NULL);
        assert_ne!(Ref::string("3"), Ref::of_token("3").unwrap());
    }

    #[test]
    fn a_ref_is_small() {
        assert_eq!(size_of::<Ref>(), 24);
    }
}
