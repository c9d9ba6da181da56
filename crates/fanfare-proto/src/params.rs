//! Connect parameters: a query string read as form data, with nested objects and lists.
//!
//! Values are strings. Which parameters mean something (`vsn`, `token`) is for the caller to know.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::payload::JsonText;

/// How many `key=value` pairs a query may have.
pub const PAIRS_MAX: usize = 1000;

/// How many brackets may follow a key, as the two in `a[b][c]`.
pub const DEPTH_MAX: usize = 32;

/// The parameters of a connection. The `Debug` form shows names only, since values may hold tokens.
#[derive(Clone, Default, PartialEq)]
pub struct Params(Map<String, Value>);

impl Params {
    /// Reads a query string, without its `?`.
    ///
    /// `a[b]=1` gives nested objects, `d[]=1&d[]=2` a list, `d[][x]=1` a list of objects; `+` is a space; a pair
    /// without `=` has an empty value. Of a repeated plain key, and of two uses of a key that do not fit together, the
    /// last counts. A broken percent escape and a broken bracket stay literal.
    ///
    /// # Errors
    /// The text is not UTF-8 once decoded, or a bound is passed.
    pub fn parse(query: &str) -> Result<Self, ParamsError> {
        let mut params = Map::new();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        for (index, pair) in pairs.enumerate() {
            if index == PAIRS_MAX {
                return Err(ParamsError::TooManyPairs);
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode_form(key)?, decode_form(value)?);
            let (root, brackets) = split_key(&key)?;
            let slot = params.entry(root).or_insert(Value::Null);
            *descend(slot, &brackets) = Value::String(value.into_owned());
        }
        Ok(Self(params))
    }

    /// The value of a top-level key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// The value of a top-level key if it is a string.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The top-level parameters.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Sets a top-level key, for what comes from the path rather than the query.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.0.insert(key.into(), value.into());
    }

    /// The parameters as a JSON object.
    pub fn into_json(self) -> JsonText {
        Value::Object(self.0).into()
    }

    /// Deserialises the parameters.
    ///
    /// # Errors
    /// They do not have the shape that `T` wants.
    pub fn to<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.0)
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Params")?;
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why parameters cannot be read. The request is to be answered with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParamsError {
    /// Once percent-decoded they are not UTF-8.
    InvalidUtf8,
    /// There are more than [`PAIRS_MAX`].
    TooManyPairs,
    /// A key has more than [`DEPTH_MAX`] brackets.
    TooDeep,
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUtf8 => f.write_str("the parameters are not UTF-8"),
            Self::TooManyPairs => write!(f, "there are more than {PAIRS_MAX} parameters"),
            Self::TooDeep => write!(f, "a parameter is nested more than {DEPTH_MAX} levels"),
        }
    }
}

impl std::error::Error for ParamsError {}

/// Percent-decodes one segment of a path. A `+` stays a `+`, a broken escape stays literal.
///
/// # Errors
/// The segment is not UTF-8 once decoded.
pub fn decode_path_segment(segment: &str) -> Result<Cow<'_, str>, ParamsError> {
    if !segment.contains('%') {
        return Ok(Cow::Borrowed(segment));
    }
    percent_decode(segment.as_bytes().to_vec())
}

fn decode_form(text: &str) -> Result<Cow<'_, str>, ParamsError> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = text.as_bytes().to_vec();
    for byte in &mut bytes {
        if *byte == b'+' {
            *byte = b' ';
        }
    }
    percent_decode(bytes)
}

fn percent_decode(mut bytes: Vec<u8>) -> Result<Cow<'static, str>, ParamsError> {
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let (byte, size) = match bytes[from..] {
            [b'%', high, low, ..] => match (hex_digit(high), hex_digit(low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => (b'%', 1),
            },
            _ => (bytes[from], 1),
        };
        bytes[to] = byte;
        (from, to) = (from + size, to + 1);
    }
    bytes.truncate(to);
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| ParamsError::InvalidUtf8)
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `a[b][]` is the root `a` and the brackets `b` and the empty one. Whatever does not end in `]` after a root and a
/// `[` is a plain key.
fn split_key(key: &str) -> Result<(&str, Vec<&str>), ParamsError> {
    let Some((root, inner)) = key.strip_suffix(']').and_then(|rest| rest.split_once('[')) else {
        return Ok((key, Vec::new()));
    };
    if root.is_empty() {
        return Ok((key, Vec::new()));
    }
    let brackets: Vec<&str> = inner.split("][").take(DEPTH_MAX + 1).collect();
    if brackets.len() > DEPTH_MAX {
        return Err(ParamsError::TooDeep);
    }
    Ok((root, brackets))
}

/// The place that the brackets name, made on the way where it is missing or of another form.
fn descend<'a>(mut slot: &'a mut Value, brackets: &[&str]) -> &'a mut Value {
    for bracket in brackets {
        slot = if bracket.is_empty() {
            if !slot.is_array() {
                *slot = Value::Array(Vec::new());
            }
            let list = slot.as_array_mut().expect("it was made a list");
            list.push(Value::Null);
            list.last_mut().expect("it was just pushed")
        } else {
            if !slot.is_object() {
                *slot = Value::Object(Map::new());
            }
            let object = slot.as_object_mut().expect("it was made an object");
            object.entry(*bracket).or_insert(Value::Null)
        };
    }
    slot
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn queries() {
        #[track_caller]
        fn check(query: &str, expected: Value) {
            assert_eq!(Value::Object(Params::parse(query).unwrap().0), expected, "{query}");
        }
        check("", json!({}));
        check("&&", json!({}));
        check("vsn=2.0.0&user=a", json!({"vsn": "2.0.0", "user": "a"}));
        check("vsn=2.0.0&", json!({"vsn": "2.0.0"}));
        check("a=1&a=2", json!({"a": "2"}));
        check("a", json!({"a": ""}));
        check("a=", json!({"a": ""}));
        check("a=b=c", json!({"a": "b=c"}));
        check("=x", json!({"": "x"}));
        check("e=%C3%BC+x", json!({"e": "ü x"}));
        check("a=%2B%26%3d", json!({"a": "+&="}));
        check("a=%zz%4&b=%", json!({"a": "%zz%4", "b": "%"}));
        check("a=%%41", json!({"a": "%A"}));
        check("a=%+1", json!({"a": "% 1"}));
        check("a[b]=1", json!({"a": {"b": "1"}}));
        check("a%5Bb%5D=1", json!({"a": {"b": "1"}}));
        check("a[b]=1&a[c]=2&a[b]=3", json!({"a": {"b": "3", "c": "2"}}));
        check("a[b][c]=1&a[b][d]=2", json!({"a": {"b": {"c": "1", "d": "2"}}}));
        check("d[]=3&d[]=4", json!({"d": ["3", "4"]}));
        check("d[][x]=1&d[][x]=2", json!({"d": [{"x": "1"}, {"x": "2"}]}));
        check("d[a][]=1&d[a][]=2", json!({"d": {"a": ["1", "2"]}}));
        check("vsn[]=2.0.0", json!({"vsn": ["2.0.0"]}));
        check("a=1&a[b]=2", json!({"a": {"b": "2"}}));
        check("a[b]=2&a=1", json!({"a": "1"}));
        check("a[]=2&a[b]=1", json!({"a": {"b": "1"}}));
        check("a[b=1", json!({"a[b": "1"}));
        check("a]=1", json!({"a]": "1"}));
        check("a[b]c=1", json!({"a[b]c": "1"}));
        check("[a]=1", json!({"[a]": "1"}));
        check("[]=1", json!({"[]": "1"}));
        check("__proto__[x]=1", json!({"__proto__": {"x": "1"}}));
        check("a;b=1", json!({"a;b": "1"}));
    }

    #[test]
    fn refusals() {
        #[track_caller]
        fn check(query: &str, expected: ParamsError) {
            assert_eq!(Params::parse(query), Err(expected), "{query}");
        }
        check("a=%ff", ParamsError::InvalidUtf8);
        check("%c3=1", ParamsError::InvalidUtf8);
        check("a=%ed%a0%80", ParamsError::InvalidUtf8);
        check(&"a=1&".repeat(PAIRS_MAX + 1), ParamsError::TooManyPairs);
        check(&format!("a{}=1", "[x]".repeat(DEPTH_MAX + 1)), ParamsError::TooDeep);
        check(&format!("a{}=1", "[]".repeat(100_000)), ParamsError::TooDeep);
        assert!(Params::parse(&"a=1&".repeat(PAIRS_MAX)).is_ok());
        assert!(Params::parse(&format!("a{}=1", "[x]".repeat(DEPTH_MAX))).is_ok());
    }

    #[test]
    fn path_segments_keep_their_plus() {
        #[track_caller]
        fn check(segment: &str, expected: Result<&str, ParamsError>) {
            assert_eq!(decode_path_segment(segment).as_deref(), expected.as_ref().copied(), "{segment}");
        }
        check("t1", Ok("t1"));
        check("a+b", Ok("a+b"));
        check("a%2Bb+c%20", Ok("a+b+c "));
        check("%C3%BC", Ok("ü"));
        check("%2", Ok("%2"));
        check("%FF", Err(ParamsError::InvalidUtf8));
    }

    #[test]
    fn access() {
        #[derive(Deserialize, PartialEq, Debug)]
        struct Wanted {
            a: String,
        }
        let mut params = Params::parse("a=1&l[]=2").unwrap();
        assert_eq!(params.str("a"), Some("1"));
        assert_eq!(params.str("l"), None);
        assert_eq!(params.get("l"), Some(&json!(["2"])));
        assert_eq!(params.get("b"), None);
        params.insert("tenant", "t1");
        assert_eq!(params.to::<Wanted>().unwrap(), Wanted { a: "1".into() });
        assert_eq!(format!("{params:?}"), r#"Params{"a", "l", "tenant"}"#);
        assert_eq!(params.into_json().as_str(), r#"{"a":"1","l":["2"],"tenant":"t1"}"#);
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in "[a-c%=&+0-9f\\[\\]ü]{0,60}") {
            if let Ok(params) = Params::parse(&query) {
                params.into_json();
            }
        }

        #[test]
        fn any_value_survives_its_escape(value in "\\PC{0,20}") {
            let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let params = Params::parse(&format!("k={escaped}")).unwrap();
            prop_assert_eq!(params.str("k"), Some(&*value));
        }
    }
}
