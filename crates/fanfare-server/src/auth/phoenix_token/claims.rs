//! What the data of a Phoenix token says of its bearer: a binary or a number is the user's id, a map holds claims.

use fanfare_proto::phoenix::term::Term;
use fanfare_proto::phoenix::term::json::{object, text};
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
        _ => Term::from_json(Value::Object(claims)),
    }
}
