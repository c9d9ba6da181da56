//! `/api/connections`: who is connected, by key.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use fanfare::shown_address;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError, Code, of_path};
use super::query::Page;
use super::wants::{Nothing, Wants};
use crate::connections::Connection;

/// The keys with sockets, in order; `next` is what to ask for as `after` to go on.
pub(super) async fn list(
    State(api): State<Api>,
    page: Result<Wants<Page>, ApiError>,
) -> Result<Answer<Value>, ApiError> {
    let (limit, after) = Page::checked(page)?;
    let (keys, total) = api.connections.page(after.as_deref(), limit + 1);
    let shown = &keys[..keys.len().min(limit)];
    let next = shown.last().filter(|_| keys.len() > limit).map(|(key, _)| &**key);
    let list: Vec<_> = shown.iter().map(|(key, sockets)| json!({ "key": &**key, "sockets": sockets })).collect();
    Ok(Answer(json!({ "connections": list, "total": total, "next": next })))
}

/// The sockets of a key.
pub(super) async fn one(
    State(api): State<Api>,
    key: Result<Path<String>, PathRejection>,
    _: Wants<Nothing>,
) -> Result<Answer<Value>, ApiError> {
    let key = of_path(key)?;
    let sockets = api.connections.lookup(&key);
    if sockets.is_empty() {
        return Err(unknown(&key));
    }
    let sockets: Vec<_> = sockets.iter().map(show).collect();
    Ok(Answer(json!({ "key": key, "sockets": sockets })))
}

/// Closes the sockets of a key.
pub(super) async fn close(
    State(api): State<Api>,
    key: Result<Path<String>, PathRejection>,
    _: Wants<Nothing>,
) -> Result<Answer<Value>, ApiError> {
    let key = of_path(key)?;
    match api.connections.close(&key) {
        0 => Err(unknown(&key)),
        closed => Ok(Answer(json!({ "closed": closed }))),
    }
}

fn show(connection: &Connection) -> Value {
    let since = connection.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let age = SystemTime::now().duration_since(connection.since).unwrap_or_default().as_secs();
    json!({ "transport": connection.transport, "peer": connection.peer.map(shown), "connected_at": since, "connected_s": age })
}

/// A client's address, as logs have it.
pub(super) fn shown(peer: SocketAddr) -> String {
    shown_address(peer).to_string()
}

fn unknown(key: &str) -> ApiError {
    ApiError::new(
        Code::NotFound,
        format!("nobody with the key {key:?} is connected; GET /api/connections lists the keys"),
    )
}
