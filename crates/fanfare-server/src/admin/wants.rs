//! What requests want, as the parameters of their query: each has a name, and what it takes in words.

use axum::extract::{FromRequestParts, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::ApiError;
use crate::config::section::listed;

/// What `limit` takes wherever there is one.
pub(super) const LIMIT: Parameter = ("limit", "1 to 1000");

/// What `after` takes wherever there is one.
pub(super) const AFTER: Parameter = ("after", "the `next` of an earlier answer");

/// The name of a parameter, and what it takes.
pub(super) type Parameter = (&'static str, &'static str);

/// The parameters of a path.
pub(super) trait Parameters: DeserializeOwned {
    /// All of them.
    const TAKES: &'static [Parameter];
}

/// Of a path that takes none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

impl Parameters for Nothing {
    const TAKES: &'static [Parameter] = &[];
}

/// What a query says.
#[derive(Debug)]
pub(super) struct Wants<T>(pub(super) T);

impl<T: Parameters, S: Sync> FromRequestParts<S> for Wants<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(wanted) =
            Query::try_from_uri(&parts.uri).map_err(|error| fault(&parts.uri, T::TAKES, &error.body_text()))?;
        Ok(Self(wanted))
    }
}

/// What is wrong with a query: the name, the value, and what is taken. The library's text begins with the name of the parameter that it
/// could not read, if that is what is wrong.
fn fault(uri: &Uri, takes: &[Parameter], text: &str) -> ApiError {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default();
    let name_of = |pair: &(String, String)| takes.iter().find(|(name, _)| *name == pair.0);
    if let Some((name, _)) = pairs.iter().find(|pair| name_of(pair).is_none()) {
        let names = listed(takes.iter().map(|(name, _)| *name));
        let takes = if names.is_empty() { "nothing in its query" } else { &names };
        return ApiError::invalid(format!("{name:.64}: there is no such parameter: it takes {takes}"));
    }
    let twice = takes.iter().find(|(name, _)| pairs.iter().filter(|pair| pair.0 == *name).count() > 1);
    if let Some((name, _)) = twice {
        return ApiError::invalid(format!("{name}: it is given more than once: give it once"));
    }
    let unread = pairs.iter().find(|(name, _)| text.contains(&format!(": {name}: ")));
    match unread.and_then(|pair| Some((&pair.1, name_of(pair)?))) {
        Some((value, (name, accepted))) => {
            ApiError::invalid(format!("{name}: {value:.64?} is not accepted: it takes {accepted}"))
        }
        None => ApiError::invalid(
            "the query cannot be read: write it as name=value&name=value, in UTF-8, with %XX where needed",
        ),
    }
}
