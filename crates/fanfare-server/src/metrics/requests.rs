//! Requests to the HTTP API, by route, method and status.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use fanfare::metrics::Timings;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::families;

/// What is counted instead of a route or a method that the API does not have.
const OTHER: &str = "other";

/// What can come of a login.
const LOGINS: [&str; 3] = ["ok", "failed", "limited"];

/// What has come of a login.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Login {
    Ok,
    Failed,
    Limited,
}

/// The counts. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Requests(Arc<Mutex<Counts>>);

/// By route and method; the first by status as well.
#[derive(Debug, Default)]
struct Counts {
    answered: BTreeMap<(String, &'static str, StatusCode), u64>,
    took: BTreeMap<(String, &'static str), Timings>,
    /// By result.
    logins: [u64; LOGINS.len()],
}

impl Requests {
    /// Counts a login.
    pub(crate) fn count_login(&self, login: Login) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).logins[login as usize] += 1;
    }

    /// Counts the answer to a request.
    pub(crate) async fn count(State(requests): State<Self>, request: Request, next: Next) -> Response {
        let route = request.extensions().get::<MatchedPath>().map_or(OTHER, MatchedPath::as_str).to_owned();
        let method = name_of(request.method());
        let began = Instant::now();
        let response = next.run(request).await;
        let took = began.elapsed();
        let mut counts = requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.took.entry((route.clone(), method)).or_default().observe(took);
        *counts.answered.entry((route, method, response.status())).or_default() += 1;
        response
    }
}

/// Clients can make up methods.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => OTHER,
    }
}

impl Collector for Requests {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        families::API_REQUESTS.encode(&mut encoder, |samples| {
            counts.answered.iter().try_for_each(|((route, method, status), count)| {
                samples.counter(&[route, method, status.as_str()], *count)
            })
        })?;
        families::ADMIN_LOGINS.encode(&mut encoder, |samples| {
            let mut logins = LOGINS.iter().zip(counts.logins);
            logins.try_for_each(|(result, count)| samples.counter(&[result], count))
        })?;
        families::API_REQUEST_SECONDS.encode(&mut encoder, |samples| {
            counts.took.iter().try_for_each(|((route, method), timings)| samples.timings(&[route, method], timings))
        })
    }
}
