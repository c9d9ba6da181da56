//! What is counted, for Prometheus: the engine's metrics, and those of the parts of the server and its process.

mod families;
mod parts;
mod process;

pub(crate) use process::{cpu_seconds, resident_bytes};
mod requests;
mod server;

use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

#[cfg(test)]
pub(crate) use families::FAMILIES;
pub(crate) use requests::{Login, Requests};
pub(crate) use server::ServerFigures;

use crate::auth::AuthFigures;
use crate::live::Health;
use parts::{Credentials, PartFigures};
use process::ProcessFigures;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All that a scrape gets.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Requests to the HTTP API.
    pub(crate) requests: Requests,
}

impl Metrics {
    pub(crate) fn new(health: &Health, server: ServerFigures, auths: AuthFigures) -> Self {
        let requests = Requests::default();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(health.endpoint.metrics()));
        registry.register_collector(Box::new(Credentials(auths)));
        registry.register_collector(Box::new(PartFigures(health.live.clone())));
        registry.register_collector(Box::new(requests.clone()));
        registry.register_collector(Box::new(server));
        registry.register_collector(Box::new(ProcessFigures));
        Self { registry, requests }
    }

    /// The answer to a scrape: OpenMetrics, or Prometheus' older text where only that is asked for.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response {
        let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_older = accepted.contains("text/plain") && !accepted.contains("application/openmetrics-text");
        let mut body = String::new();
        let (content_type, encoded) = match is_older {
            true => (PROMETHEUS_TEXT, prometheus_text::encode(&mut body, &self.registry)),
            false => (OPEN_METRICS, text::encode(&mut body, &self.registry)),
        };
        match encoded {
            Ok(()) => ([(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], body).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}
