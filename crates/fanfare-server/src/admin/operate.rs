//! What operators do: `POST /api/reload`, `/api/upgrade`, `/api/drain` and `/api/log`, and what they look at: `GET /api/config`.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use fanfare::Bodies;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError, Code};
use super::wants::{Nothing, Parameter, Parameters, Wants};
use crate::config::problem::Told;
use crate::config::server::LogLevel;
use crate::config::value::{Setting, Span};
use crate::config::{Report, from_text};
use crate::message;
use crate::reload::Failure;

/// A body of these requests is no longer.
const BODY_SIZE_MAX: usize = 8_192;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    #[serde(default)]
    check: bool,
}

impl Parameters for Asked {
    const TAKES: &'static [Parameter] = &[("check", "true or false")];
}

/// Reads the configuration again, and puts it in force unless only a check is asked for.
pub(super) async fn reload(
    State(api): State<Api>,
    asked: Result<Wants<Asked>, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Bodies::discard(&headers, body);
    let Wants(Asked { check }) = asked?;
    match api.reloader.reload(check).await {
        Ok(done) => Ok(Answer(json!({ "generation": done.generation, "changed": done.changed })).into_response()),
        Err(failure @ Failure::RestartNeeded(_)) => Err(ApiError::new(Code::RestartNeeded, failure.to_string())),
        Err(Failure::Wrong(report)) => Ok(wrong(&report)),
        Err(failure @ Failure::Held(_)) => Err(ApiError::new(Code::NotReloaded, failure.to_string())),
        Err(failure @ Failure::Impossible(_)) => Err(ApiError::new(Code::Internal, failure.to_string())),
    }
}

/// What the configuration in force says, key by key.
pub(super) async fn config(State(api): State<Api>, _: Wants<Nothing>) -> Answer<Value> {
    let live = api.live.load();
    Answer(json!({ "generation": live.generation, "keys": &*live.told }))
}

/// Ends the server as SIGTERM does: it drains first.
pub(super) async fn drain(
    State(api): State<Api>,
    asked: Result<Wants<Nothing>, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer<Value>, ApiError> {
    Bodies::discard(&headers, body);
    asked?;
    let live = api.live.load();
    let sockets = api.endpoint.overview().sockets;
    api.stop.notify_one();
    Ok(Answer(json!({
        "draining": true,
        "sockets": sockets,
        "announce_s": live.announce.as_secs_f64(),
        "limit_s": live.drain.limit.as_secs_f64(),
    })))
}

/// What is to be logged, and for how long.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Logged {
    level: String,
    #[serde(rename = "for")]
    span: Option<String>,
}

/// What is logged.
pub(super) async fn log_level(State(api): State<Api>, _: Wants<Nothing>) -> Answer<Value> {
    let (level, configured) = api.filter.levels();
    Answer(json!({ "level": level, "configured": configured }))
}

/// Logs more or less, until the configuration is read again or for some time.
pub(super) async fn log(
    State(api): State<Api>,
    asked: Result<Wants<Nothing>, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer<Value>, ApiError> {
    let body = api.bodies.collect(&headers, body, BODY_SIZE_MAX).await?;
    let asked = asked?;
    let takes = r#"{"level": "info,fanfare=debug", "for": "10m"}"#;
    let Logged { level, span } = message::decode(&body, takes).map_err(ApiError::invalid)?;
    let level: LogLevel = understood("level", &level)?;
    let span = span.map(|text| understood::<Span<1_000, 86_400_000>>("for", &text)).transpose()?;
    tracing::info!(event = "log_level", level = %level.0, for_s = span.map(|span| span.0.as_secs()), "the log is changed");
    api.filter.ask_for(level, span.map(|span| span.0));
    Ok(log_level(State(api), asked).await)
}

fn understood<T: Setting>(name: &str, text: &str) -> Result<T, ApiError> {
    from_text(text).map_err(|faults| {
        let faults: String = faults.into_iter().map(|fault| fault.text).collect();
        ApiError::invalid(format!("{name}: {faults}"))
    })
}

/// Hands over to a new process, and answers once that serves.
pub(super) async fn upgrade(
    State(api): State<Api>,
    asked: Result<Wants<Nothing>, ApiError>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    Bodies::discard(&headers, body);
    asked?;
    match api.upgrades.ask().await {
        Ok(process) => Ok(Answer(json!({ "process": process })).into_response()),
        Err(reason) => Err(ApiError::new(Code::NotUpgraded, reason)),
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
