//! `GET /api/contract`: what may be sent to the topics, for compilers and other tools.

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use clap::ValueEnum;
use serde::Deserialize;

use super::Api;
use super::answer::ApiError;
use super::wants::{Parameter, Parameters, Wants};
use crate::contract::Format;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    format: Option<String>,
}

impl Parameters for Wanted {
    const TAKES: &'static [Parameter] = &[("format", "jsonschema, asyncapi or typescript")];
}

/// The contracts of all channels in the form that is asked for.
pub(super) async fn contract(
    State(api): State<Api>,
    wanted: Result<Wants<Wanted>, ApiError>,
) -> Result<Response, ApiError> {
    let Wants(Wanted { format }) = wanted?;
    let format = match &format {
        None => Format::Jsonschema,
        Some(name) => Format::from_str(name, false).map_err(|_| {
            ApiError::invalid(format!(
                "format: {name:.64?} is not accepted: it takes jsonschema, asyncapi or typescript"
            ))
        })?,
    };
    let kind = match format {
        Format::Jsonschema | Format::Asyncapi => "application/json",
        Format::Typescript => "text/plain; charset=utf-8",
    };
    let text = api.contracts.write(format);
    Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store")], text).into_response())
}
