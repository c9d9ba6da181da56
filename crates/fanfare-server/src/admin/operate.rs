//! `POST /api/reload`.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use fanfare::Bodies;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError, Code};
use crate::config::Report;
use crate::config::problem::Told;
use crate::reload::Failure;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    check: bool,
}

/// Reads the configuration again, and puts it in force unless only a check is asked for.
pub(super) async fn reload(
    State(api): State<Api>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Bodies::discard(&headers, body);
    let Query(Asked { check }) =
        asked.map_err(|error| ApiError::invalid(format!("{}; it takes check=true", error.body_text())))?;
    match api.reloader.reload(check).await {
        Ok(done) => Ok(Answer(json!({ "generation": done.generation, "changed": done.changed })).into_response()),
        Err(failure @ Failure::RestartNeeded(_)) => Err(ApiError::new(Code::RestartNeeded, failure.to_string())),
        Err(Failure::Wrong(report)) => Ok(wrong(&report)),
        Err(failure @ Failure::Impossible(_)) => Err(ApiError::new(Code::Internal, failure.to_string())),
    }
}

fn wrong(report: &Report) -> Response {
    let error = ApiError::invalid(format!("{report}\nnothing was changed"));
    let problem = |told: &Told| {
        let (line, column) = told.at.unzip();
        json!({ "line": line, "column": column, "key": told.key, "message": told.text })
    };
    let mut body: Value = error.told();
    body["problems"] = report.problems.iter().map(problem).collect();
    error.respond(json!({ "error": body }))
}
