//! What a message carries: JSON text kept as it came, any other text, or bytes.
//!
//! JSON is validated once and never serialised again, so that numbers beyond 64 bits, key order and duplicate keys
//! survive an echo. Which of the two a client can be sent, and in what form, is the business of the codecs.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};

use crate::json::{self, Fault};

const EMPTY_OBJECT: JsonText = JsonText(Bytes::from_static(b"{}"));
const NULL: JsonText = JsonText(Bytes::from_static(b"null"));

/// One JSON text: valid UTF-8, valid JSON, no white space around it, every surrogate escape paired, and, when it came
/// from outside, at most [`NESTING_MAX`](json::NESTING_MAX) deep. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(Bytes);

impl JsonText {
    /// Serialises a value.
    ///
    /// # Errors
    /// What the value's `Serialize` reports, and nesting beyond [`NESTING_MAX`](json::NESTING_MAX).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let text = serde_json::to_string(value)?;
        match json::document(&text) {
            Ok(_) => Ok(Self(text.into())),
            Err(fault) => Err(serde_json::Error::custom(fault.reason())),
        }
    }

    /// Takes a JSON text from outside.
    ///
    /// # Errors
    /// Anything but one JSON document with optional white space around it, an unpaired surrogate escape, and nesting
    /// beyond [`NESTING_MAX`](json::NESTING_MAX).
    pub fn parse(text: impl Into<Bytes>) -> Result<Self, serde_json::Error> {
        let bytes = text.into();
        let text = simdutf8::compat::from_utf8(&bytes).map_err(serde_json::Error::custom)?;
        match json::document(text) {
            Ok(document) => Ok(Self(bytes.slice_ref(document.as_bytes()))),
            // serde_json knows better where and why.
            Err(Fault::NotJson) => Err(serde_json::from_str::<IgnoredAny>(text)
                .map_or_else(|error| error, |_| serde_json::Error::custom(Fault::NotJson.reason()))),
            Err(fault) => Err(serde_json::Error::custom(fault.reason())),
        }
    }

    /// Takes the text of a `JsonText` back from a store that shows when its content was changed; `None` if it is not UTF-8.
    ///
    /// Nothing else is looked at: that a text is JSON was seen when it was made, and with no bound on the nesting where the
    /// program itself had made it.
    pub fn checked_before(text: impl Into<Bytes>) -> Option<Self> {
        let text = text.into();
        simdutf8::basic::from_utf8(&text).ok()?;
        Some(Self(text))
    }

    /// Copies a value that the scanner has taken.
    pub(crate) fn scanned(value: &str) -> Self {
        if value == "{}" { EMPTY_OBJECT } else { Self::unchecked(Bytes::copy_from_slice(value.as_bytes())) }
    }

    /// Wraps bytes which the caller knows to be what a `JsonText` promises to be.
    pub(crate) fn unchecked(text: Bytes) -> Self {
        debug_assert!(
            serde_json::from_slice::<&serde_json::value::RawValue>(&text)
                .is_ok_and(|raw| raw.get().len() == text.len())
        );
        Self(text)
    }

    /// `{}`, without an allocation.
    pub fn empty_object() -> Self {
        EMPTY_OBJECT
    }

    /// `null`, without an allocation.
    pub fn null() -> Self {
        NULL
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        simdutf8::basic::from_utf8(&self.0).expect("a JsonText is UTF-8 from its construction on")
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the text is an object.
    pub fn is_object(&self) -> bool {
        self.0.first() == Some(&b'{')
    }

    /// Deserialises the text.
    ///
    /// # Errors
    /// The text does not have the shape that `T` wants.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

impl From<serde_json::Value> for JsonText {
    /// Does not look at the nesting: a client's text has been through [`JsonText::parse`], and serde_json would not build
    /// a value as deep as [`NESTING_MAX`](json::NESTING_MAX) from it.
    fn from(value: serde_json::Value) -> Self {
        Self::unchecked(value.to_string().into())
    }
}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.0.len())
    }
}

/// Any text, kept as it came. Its `Debug` form shows the length only.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(Bytes);

impl Text {
    /// Copies a text.
    pub fn copy(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// Takes a text from outside; `None` if it is not UTF-8.
    pub fn checked(text: Bytes) -> Option<Self> {
        simdutf8::basic::from_utf8(&text).ok()?;
        Some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        simdutf8::basic::from_utf8(&self.0).expect("a Text is UTF-8 from its construction on")
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text as JSON, sharing its bytes, where it is a JSON document within the bounds of [`JsonText::parse`].
    pub fn to_json(&self) -> Option<JsonText> {
        let document = json::document(self.as_str()).ok()?;
        Some(JsonText(self.0.slice_ref(document.as_bytes())))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}

/// The payload of a message. Its `Debug` form shows kind and length only, since payloads may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// A JSON text.
    Json(JsonText),
    /// Any text, as clients of the protocols without events send it. Where a message must be an object, it becomes one:
    /// see [`frame`](crate::frame).
    Text(Text),
    /// Bytes that mean something to the application only.
    Binary(Bytes),
}

impl Payload {
    /// Whether a channel may push or broadcast it: objects, texts and binary, but not bare lists, strings, numbers or null,
    /// which as a [`Text`] pass.
    pub fn is_pushable(&self) -> bool {
        match self {
            Self::Json(json) => json.is_object(),
            Self::Text(_) | Self::Binary(_) => true,
        }
    }

    /// Reads it as JSON of a type of yours.
    ///
    /// # Errors
    /// It does not have the shape that `T` wants, or is no JSON.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        match self {
            Self::Json(json) => json.to().map_err(PayloadError::new),
            Self::Text(text) => match text.to_json() {
                Some(json) => json.to().map_err(PayloadError::new),
                None => Err(PayloadError::new("expected JSON, got another text")),
            },
            Self::Binary(_) => Err(PayloadError::new("expected JSON, got binary")),
        }
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Json(json) => json.as_bytes(),
            Self::Text(text) => text.as_bytes(),
            Self::Binary(data) => data,
        }
    }

    /// Its length in bytes.
    pub fn size(&self) -> usize {
        self.as_bytes().len()
    }
}

impl Default for Payload {
    /// `{}`, which is what a reply without a payload carries.
    fn default() -> Self {
        Self::Json(EMPTY_OBJECT)
    }
}

impl From<JsonText> for Payload {
    fn from(json: JsonText) -> Self {
        Self::Json(json)
    }
}

impl From<Text> for Payload {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl From<serde_json::Value> for Payload {
    fn from(value: serde_json::Value) -> Self {
        Self::Json(value.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(json) => json.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::Binary(data) => write!(f, "Binary({} bytes)", data.len()),
        }
    }
}

/// A payload that does not have the expected shape. The text says why, and is fit for the client that sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadError(String);

impl PayloadError {
    fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PayloadError {}

/// What a payload can be read as: anything that serde deserializes, or the payload itself.
pub trait FromPayload: Sized {
    /// Reads the payload.
    ///
    /// # Errors
    /// It does not fit.
    fn from_payload(payload: Payload) -> Result<Self, PayloadError>;
}

impl FromPayload for Payload {
    fn from_payload(payload: Payload) -> Result<Self, PayloadError> {
        Ok(payload)
    }
}

impl<T: DeserializeOwned> FromPayload for T {
    fn from_payload(payload: Payload) -> Result<Self, PayloadError> {
        payload.to()
    }
}

/// What can be sent: anything that serde serializes, by value or by reference, or a payload as it is.
pub trait IntoPayload {
    /// Makes the payload.
    ///
    /// # Errors
    /// What the value's `Serialize` reports, and nesting beyond [`NESTING_MAX`](json::NESTING_MAX).
    fn into_payload(self) -> Result<Payload, serde_json::Error>;
}

impl IntoPayload for Payload {
    fn into_payload(self) -> Result<Payload, serde_json::Error> {
        Ok(self)
    }
}

impl IntoPayload for JsonText {
    fn into_payload(self) -> Result<Payload, serde_json::Error> {
        Ok(self.into())
    }
}

impl IntoPayload for Text {
    fn into_payload(self) -> Result<Payload, serde_json::Error> {
        Ok(self.into())
    }
}

impl<T: Serialize> IntoPayload for T {
    fn into_payload(self) -> Result<Payload, serde_json::Error> {
        JsonText::of(&self).map(Payload::Json)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::json::NESTING_MAX;

    #[test]
    fn parse_accepts_one_document_and_trims_it() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            let parsed = JsonText::parse(text.as_bytes().to_vec());
            assert_eq!(parsed.as_ref().ok().map(JsonText::as_str), expected, "{text}");
        }
        check("{}", Some("{}"));
        check(" \t\r\n[1, 2] ", Some("[1, 2]"));
        check(r#"{"b":1,"a":2,"b":3}"#, Some(r#"{"b":1,"a":2,"b":3}"#));
        check("", None);
        check("{} {}", None);
        check(r#""\ud83d""#, None);
        check(&format!("{}{}", "[".repeat(NESTING_MAX + 1), "]".repeat(NESTING_MAX + 1)), None);
    }

    #[test]
    fn parse_says_where_and_why() {
        let error = JsonText::parse("{\"a\":1,}").unwrap_err().to_string();
        assert_eq!(error, "key must be a string at line 1 column 8");
        assert_eq!(JsonText::parse(r#""\ude00""#).unwrap_err().to_string(), "unpaired surrogate escape");
    }

    #[test]
    fn parse_refuses_what_is_not_utf8() {
        assert!(JsonText::parse(&b"\"\xff\""[..]).is_err());
        assert!(JsonText::parse(&b"\"\xed\xa0\x80\""[..]).is_err());
    }

    #[test]
    fn only_objects_and_binary_can_be_pushed() {
        #[track_caller]
        fn check(payload: impl Into<Payload>, pushable: bool) {
            assert_eq!(payload.into().is_pushable(), pushable);
        }
        check(json!({}), true);
        check(json!({"a": []}), true);
        check(Payload::Binary(Bytes::new()), true);
        check(Text::copy("[]"), true);
        check(json!([]), false);
        check(json!(null), false);
        check(json!("{}"), false);
        check(json!(1), false);
    }

    #[test]
    fn debug_shows_no_content() {
        let payloads = [json!({"pw": 1}).into(), Text::copy("pw").into(), Payload::Binary(Bytes::from_static(b"pw"))];
        assert_eq!(format!("{payloads:?}"), "[JsonText(8 bytes), Text(2 bytes), Binary(2 bytes)]");
    }

    #[test]
    fn the_default_is_an_empty_object() {
        assert_eq!(Payload::default(), Payload::from(json!({})));
        assert_eq!(JsonText::null().to::<serde_json::Value>().unwrap(), json!(null));
        assert_eq!(Payload::default().size(), 2);
    }

    #[test]
    fn a_text_can_be_read_as_the_json_that_it_is() {
        #[track_caller]
        fn check(text: &str, expected: Result<u32, &str>) {
            let read = Payload::from(Text::copy(text)).to::<u32>().map_err(|error| error.to_string());
            assert_eq!(read.as_ref().map_err(|error| error.split(" at").next().unwrap()).copied(), expected, "{text}");
        }
        check(" 7 ", Ok(7));
        check("seven", Err("expected JSON, got another text"));
        check("-7", Err("invalid value: integer `-7`, expected u32"));
    }

    #[test]
    fn values_and_payloads_can_be_sent() {
        #[derive(Serialize)]
        struct Message<'a> {
            body: &'a str,
        }
        #[track_caller]
        fn check(sent: impl IntoPayload, expected: &str) {
            match sent.into_payload().unwrap() {
                Payload::Json(json) => assert_eq!(json.as_str(), expected),
                Payload::Text(text) => assert_eq!(text.as_str(), expected),
                Payload::Binary(data) => assert_eq!(data, expected),
            }
        }
        check(Message { body: "hi" }, r#"{"body":"hi"}"#);
        check(&Message { body: "hi" }, r#"{"body":"hi"}"#);
        check(json!({"b": 1}), r#"{"b":1}"#);
        check(JsonText::parse(r#"{"n": 1.0e2}"#).unwrap(), r#"{"n": 1.0e2}"#);
        check(Text::copy("any"), "any");
        check(Payload::Binary(Bytes::from_static(b"ab")), "ab");
        assert!(std::collections::BTreeMap::from([((1, 2), 3)]).into_payload().is_err());
    }

    #[test]
    fn of_reports_what_cannot_be_serialised() {
        assert_eq!(JsonText::of(&[1, 2]).unwrap().as_str(), "[1,2]");
        assert!(JsonText::of(&std::collections::BTreeMap::from([((1, 2), 3)])).is_err());
    }
}
