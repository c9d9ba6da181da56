//! Terms as JSON, and JSON as terms: binaries are strings, maps objects, and `nil`, `true` and `false` what they are called.

use serde_json::{Map, Value};

use super::Term;

/// Why a term has no form in JSON.
pub type NoJson = &'static str;

impl Term {
    /// The term as JSON. Atoms other than `nil`, `true` and `false` are strings.
    ///
    /// # Errors
    /// It holds something that JSON has no form for.
    pub fn into_json(self) -> Result<Value, NoJson> {
        Ok(match self {
            Self::Integer(number) => number.into(),
            Self::Float(number) => number.into(),
            Self::Binary(bytes) => text(bytes)?.into(),
            Self::Atom(name) => match name.as_str() {
                "nil" => Value::Null,
                "true" => true.into(),
                "false" => false.into(),
                _ => name.into(),
            },
            Self::List(items) => Value::Array(items.into_iter().map(Term::into_json).collect::<Result<_, _>>()?),
            Self::Map(pairs) => Value::Object(object(pairs)?),
            Self::Tuple(_) => return Err("the token's data has a tuple in it"),
        })
    }

    /// The term that Elixir has for a JSON value.
    pub fn from_json(value: Value) -> Self {
        let atom = |name: &str| Self::Atom(name.into());
        match value {
            Value::Null => atom("nil"),
            Value::Bool(true) => atom("true"),
            Value::Bool(false) => atom("false"),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Integer(whole),
                (None, number) => Self::Float(number.unwrap_or_default()),
            },
            Value::String(text) => Self::Binary(text.into_bytes()),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from_json).collect()),
            Value::Object(object) => {
                let pair = |(name, value): (String, Value)| (Self::Binary(name.into_bytes()), Self::from_json(value));
                Self::Map(object.into_iter().map(pair).collect())
            }
        }
    }
}

/// The object that a map stands for.
///
/// # Errors
/// It holds something that JSON has no form for.
pub fn object(pairs: Vec<(Term, Term)>) -> Result<Map<String, Value>, NoJson> {
    let mut object = Map::new();
    for (key, term) in pairs {
        let name = match key {
            Term::Binary(bytes) => text(bytes)?,
            Term::Atom(name) => name,
            _ => return Err("the token's data has a name that is neither a string nor an atom"),
        };
        if object.insert(name, term.into_json()?).is_some() {
            return Err("the token's data has a name twice, as a string and as an atom");
        }
    }
    Ok(object)
}

/// The text that a binary stands for.
///
/// # Errors
/// It is not UTF-8.
pub fn text(bytes: Vec<u8>) -> Result<String, NoJson> {
    String::from_utf8(bytes).map_err(|_| "the token's data has a binary that is not UTF-8")
}
