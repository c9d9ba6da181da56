//! What the data of a Phoenix token says of its bearer: a binary or a number is the user's id, a map holds claims.

use fanfare_proto::phoenix::term::Term;
use serde_json::{Map, Value};

use super::super::Reason;
use crate::identity::Identity;

/// The claims that data stands for.
///
/// # Errors
/// It is something else, or holds something that JSON has no form for.
pub(super) fn from_term(data: Term) -> Result<Identity, Reason> {
    let id = match data {
        Term::Map(pairs) => return object(pairs).map(Identity::new),
        Term::Integer(id) => id.to_string(),
        Term::Binary(bytes) => text(bytes)?,
        _ => return Err("the token's data is neither a user's id nor a map of claims"),
    };
    Ok(Identity::new(Map::from_iter([("sub".to_owned(), id.into())])))
}

/// The data that says so much: the bare id if there is nothing else.
pub(crate) fn to_term(claims: Map<String, Value>) -> Term {
    match claims.get("sub") {
        Some(Value::String(id)) if claims.len() == 1 => Term::Binary(id.as_bytes().to_vec()),
        _ => write(Value::Object(claims)),
    }
}

fn object(pairs: Vec<(Term, Term)>) -> Result<Map<String, Value>, Reason> {
    let mut object = Map::new();
    for (key, term) in pairs {
        let name = match key {
            Term::Binary(bytes) => text(bytes)?,
            Term::Atom(name) => name,
            _ => return Err("the token's data has a claim whose name is neither a string nor an atom"),
        };
        if object.insert(name, value(term)?).is_some() {
            return Err("the token's data has a claim twice, as a string and as an atom");
        }
    }
    Ok(object)
}

fn value(term: Term) -> Result<Value, Reason> {
    Ok(match term {
        Term::Integer(number) => number.into(),
        Term::Float(number) => number.into(),
        Term::Binary(bytes) => text(bytes)?.into(),
        Term::Atom(name) => match name.as_str() {
            "nil" => Value::Null,
            "true" => true.into(),
            "false" => false.into(),
            _ => name.into(),
        },
        Term::List(items) => Value::Array(items.into_iter().map(value).collect::<Result<_, _>>()?),
        Term::Map(pairs) => Value::Object(object(pairs)?),
        Term::Tuple(_) => return Err("the token's data has a tuple among its claims"),
    })
}

fn text(bytes: Vec<u8>) -> Result<String, Reason> {
    String::from_utf8(bytes).map_err(|_| "the token's data has a binary that is not UTF-8")
}

fn write(value: Value) -> Term {
    let atom = |name: &str| Term::Atom(name.into());
    match value {
        Value::Null => atom("nil"),
        Value::Bool(true) => atom("true"),
        Value::Bool(false) => atom("false"),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Term::Integer(whole),
            (None, number) => Term::Float(number.unwrap_or_default()),
        },
        Value::String(text) => Term::Binary(text.into_bytes()),
        Value::Array(items) => Term::List(items.into_iter().map(write).collect()),
        Value::Object(object) => {
            Term::Map(object.into_iter().map(|(name, value)| (Term::Binary(name.into_bytes()), write(value))).collect())
        }
    }
}
