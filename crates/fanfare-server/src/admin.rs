//! The admin listener: the HTTP API for back ends, and a page that says what it has.
//!
//! Every answer of the API is JSON, errors too: `{"error": {"code", "message"}}`, where the message names the value,
//! the limit and what to do next.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fanfare::{Bodies, Connection, Endpoint};
use tokio::sync::Notify;

use crate::access::Caller;
use crate::config::token::Right;
use crate::connections::Connections;
use crate::contract::Contracts;
use crate::live::{Health, InForce};
use crate::log::Filter;
use crate::metrics::{Metrics, Requests};
use crate::pages;
use crate::reload::Reloader;
use crate::upgrade::Upgrades;

mod answer;
mod bounds;
mod connections;
mod contract;
mod listing;
mod live;
mod mask;
mod next_step;
mod openapi;
mod operate;
mod probe;
mod publish;
mod query;
mod rate;
mod routes;
mod session;
mod sockets;
mod stream;
mod tap;
mod token;
mod top;
mod wants;
mod why;

pub(crate) use bounds::Bounds;
pub(crate) use probe::STUCK_AFTER;
pub(crate) use rate::Publishing;
pub(crate) use session::Sessions;

use answer::{ApiError, Code};

/// What the handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) endpoint: Endpoint,
    /// What is in force: the token, the parts, the topics.
    pub(crate) live: InForce,
    /// Reads the configuration again.
    pub(crate) reloader: Arc<Reloader>,
    /// Hands over to a new process.
    pub(crate) upgrades: Upgrades,
    pub(crate) bodies: Bodies,
    /// With the parts whose state the health report tells.
    pub(crate) health: Health,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) connections: Connections,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) contracts: Contracts,
    pub(crate) bounds: Arc<Bounds>,
    pub(crate) sessions: Arc<Sessions>,
    /// What is logged.
    pub(crate) filter: Filter,
    /// Told when somebody asks for the end.
    pub(crate) stop: Arc<Notify>,
}

/// Everything on the admin listener.
pub(crate) fn router(api: Api) -> Router {
    let guarded = routes::guarded()
        .merge(scrapes(&api.metrics))
        .route("/api/{*path}", axum::routing::any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(api.clone(), guard));
    let open = Router::new()
        .route("/api/health", get(query::health))
        .merge(probe::routes(&api.health))
        .method_not_allowed_fallback(wrong_method);
    let requests = api.metrics.requests.clone();
    let all = guarded.merge(open).merge(pages::console()).fallback(unknown).with_state(api);
    all.layer(from_fn_with_state(requests, Requests::count))
}

/// Everything on the listener for Prometheus. It has no token.
pub(crate) fn for_prometheus(health: &Health, metrics: &Arc<Metrics>) -> Router {
    scrapes(metrics).merge(probe::routes(health)).method_not_allowed_fallback(wrong_method).fallback(nothing_else)
}

/// The probes alone, for the listener of clients, who learn nothing from them but a status.
pub(crate) fn probes_without_body(health: &Health) -> Router {
    let bare = async |request: Request, next: Next| next.run(request).await.status();
    probe::routes(health).method_not_allowed_fallback(wrong_method).layer(from_fn(bare))
}

fn scrapes<S: Clone + Send + Sync + 'static>(metrics: &Arc<Metrics>) -> Router<S> {
    let scrape = async |State(metrics): State<Arc<Metrics>>, headers: HeaderMap| metrics.answer(&headers);
    Router::new().route("/metrics", get(scrape)).with_state(metrics.clone())
}

/// Checks who asks and what for, before anything of a body is read. What changes something, or shows what clients say, is in the log.
async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let is_secure = request.extensions().get::<Connection>().is_some_and(|connection| connection.is_secure);
    if request.method() == Method::POST && request.uri().path() == session::PATH {
        // Whoever logs in is not known yet.
        return next.run(request).await;
    }
    let right = token::needed(request.method(), request.uri().path());
    let caller = match admit(&api, &request, is_secure, right) {
        Ok(caller) => caller,
        Err(error) => {
            let (head, body) = request.into_parts();
            Bodies::discard(&head.headers, body);
            return error.into_response();
        }
    };
    let action = right.filter(|right| *right != Right::Read);
    let action = action.map(|right| (right, format!("{} {}", request.method(), request.uri().path())));
    let name = caller.name.clone();
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    if response.status().is_success()
        && let Some((right, action)) = action
    {
        told(right, &name, &action);
    }
    response
}

/// Back ends publish all the time: of that only those hear that want to.
fn told(right: Right, token: &str, action: &str) {
    let action = action.escape_debug().to_string();
    match right {
        Right::Publish => tracing::debug!(event = "admin_action", token, action, "the HTTP API was used"),
        _ => tracing::info!(event = "admin_action", token, action, "the HTTP API was used"),
    }
}

fn admit(api: &Api, request: &Request, is_secure: bool, right: Option<Right>) -> Result<Caller, ApiError> {
    let live = api.live.load();
    let unknown = || api.bounds.tell_wrong_token(request.extensions().get::<Connection>().map(|known| known.peer));
    let caller = match token::bearer(&live.tokens, request.headers(), unknown)? {
        Some(caller) => caller,
        None => session::of(&api.sessions, &live.tokens, request.method(), request.headers(), is_secure)?
            .ok_or_else(token::missing)?,
    };
    right.map_or(Ok(()), |right| token::check_right(&caller, right))?;
    Ok(caller)
}

async fn unknown(request: Request) -> ApiError {
    let path = request.uri().path();
    ApiError::new(Code::NotFound, format!("there is no {path}; there is {}", routes::all()))
}

async fn nothing_else(request: Request) -> ApiError {
    let path = request.uri().path();
    ApiError::new(Code::NotFound, format!("there is no {path} here; there is GET /metrics, GET /livez and GET /readyz"))
}

async fn wrong_method(request: Request) -> ApiError {
    let (method, path) = (request.method(), request.uri().path());
    ApiError::new(Code::MethodNotAllowed, format!("{path} does not take {method}; the header Allow says what it takes"))
}
