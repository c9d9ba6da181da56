//! JSON in which no object has two members of one name. Which of the two counts is for each reader to guess, so that what one program has
//! checked is not what the next one uses; and whoever wrote them meant both.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads an object. `None` if the text is none, or if a name stands twice in it at any depth.
pub(crate) fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(text).ok()? {
        Strict(Value::Object(object)) => Some(object),
        Strict(_) => None,
    }
}

/// A value without such objects in it.
pub(crate) struct Strict(pub(crate) Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Strict)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(all.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if all.contains_key(&name) {
                return Err(A::Error::custom(format_args!("an object has {name:.64?} twice: keep one of the two")));
            }
            let Strict(value) = members.next_value()?;
            all.insert(name, value);
        }
        Ok(all.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        #[track_caller]
        fn check(text: &str, is_good: bool) {
            let expected: Option<Value> = is_good.then(|| serde_json::from_str(text).unwrap());
            assert_eq!(object(text.as_bytes()).map(Value::Object), expected, "{text}");
        }
        check(r#"{"a": [1, -1, 1.5, "x", null, true, {"b": {}}], "b": 18446744073709551615}"#, true);
        check(r#"{"a": 1, "a": 1}"#, false);
        check(r#"{"a": 1, "\u0061": 2}"#, false);
        check(r#"{"x": [{"a": 1, "a": 2}]}"#, false);
        check("[]", false);
        check("{} {}", false);
        check(r#"{"a": 1e999}"#, false);
        check(&format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200)), false);
        check("", false);
    }

    #[test]
    fn members_stand_once() {
        let text = r#"{"a": [1, -2, 1.5, null, true, "x", {}], "b": {"a": {"a": 1}}}"#;
        let Strict(value) = serde_json::from_str(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        let twice = "{\n  \"a\": {\"type\": 1, \"x\": 2, \"type\": 3}}";
        let error = serde_json::from_str::<Strict>(twice).err().unwrap().to_string();
        assert!(error.starts_with("an object has \"type\" twice") && error.contains("line 2"), "{error}");
    }
}
