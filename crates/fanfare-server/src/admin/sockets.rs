//! `/api/sockets`: who is connected, socket by socket, and one of them: looked at, or closed.

use std::net::IpAddr;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use fanfare::{SocketId, SocketOrder, SocketQuery, SocketReport, Transport, shown_address};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError, Code, of_path};
use super::query::checked_limit;
use super::wants::{AFTER, LIMIT, Nothing, Parameter, Parameters, Wants};

/// So many topics of a socket are told.
const TOPICS_MAX: usize = 1_000;

/// How long the text of a close frame can be, by the WebSocket protocol.
const REASON_SIZE_MAX: usize = 123;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    user: Option<String>,
    address: Option<IpAddr>,
    endpoint: Option<String>,
    transport: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    sort: Sort,
    limit: Option<usize>,
    after: Option<String>,
}

impl Parameters for Which {
    const TAKES: &'static [Parameter] = &[
        ("user", "the id of a socket"),
        ("address", "an IP address"),
        ("endpoint", "a path"),
        ("transport", "websocket, longpoll or sse"),
        ("topic", "a topic"),
        ("sort", "age, waiting or received"),
        LIMIT,
        AFTER,
    ];
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    #[default]
    Age,
    Waiting,
    Received,
}

/// The sockets that fit, in an order; `next` is what to ask for as `after` to go on.
pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Wants<Which>, ApiError>,
) -> Result<Answer<Value>, ApiError> {
    let Wants(Which { user, address, endpoint, transport, topic, sort, limit, after }) = query?;
    let transport = transport.map(|name| {
        [Transport::WebSocket, Transport::LongPoll, Transport::EventStream]
            .into_iter()
            .find(|transport| transport.name() == name)
            .ok_or_else(|| {
                ApiError::invalid(format!(
                    "transport: {name:.64?} is not accepted: it takes websocket, longpoll or sse"
                ))
            })
    });
    let after = after.map(|text| {
        text.parse().map_err(|_| ApiError::invalid(format!("after: {text:.64?} is no `next` of this list")))
    });
    let query = SocketQuery {
        user,
        address,
        endpoint,
        transport: transport.transpose()?,
        topic,
        order: match sort {
            Sort::Age => SocketOrder::Age,
            Sort::Waiting => SocketOrder::Waiting,
            Sort::Received => SocketOrder::Received,
        },
        limit: checked_limit(limit)?,
        after: after.transpose()?,
    };
    let _one_of_few = api.bounds.listing().await;
    let page = api.endpoint.list_sockets(query).await;
    let list: Vec<_> = page.sockets.iter().map(row).collect();
    Ok(Answer(json!({ "sockets": list, "total": page.total, "next": page.next.map(|next| next.to_string()) })))
}

/// A socket as lists have it.
pub(super) fn row(socket: &SocketReport) -> Value {
    json!({
        "socket": socket.id.to_string(),
        "user": socket.user,
        "address": socket.address.map(|address| shown_address(address).to_string()),
        "endpoint": socket.endpoint,
        "transport": socket.transport.name(),
        "protocol": socket.protocol,
        "vsn": socket.version,
        "connected_s": socket.connected_ms / 1_000,
        "idle_s": socket.idle_ms / 1_000,
        "topics": socket.joins,
        "received": socket.received,
        "waiting_bytes": socket.waiting_bytes,
        "expires_s": socket.expires_ms.map(|ms| ms / 1_000),
    })
}

/// One socket, with its topics.
pub(super) async fn one(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    _: Wants<Nothing>,
) -> Result<Answer<Value>, ApiError> {
    let (text, id) = checked_id(id)?;
    let (socket, mut topics) = api.endpoint.find_socket(id, TOPICS_MAX).await.ok_or_else(|| gone(&text))?;
    topics.sort_unstable();
    let mut told = row(&socket);
    told["joined"] = topics.iter().map(|topic| &**topic).collect::<Vec<_>>().into();
    Ok(Answer(told))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct How {
    code: Option<u16>,
    reason: Option<String>,
}

impl Parameters for How {
    const TAKES: &'static [Parameter] =
        &[("code", "1001, 1008, 1012, 1013 or 3000 to 4999"), ("reason", "a text for the client")];
}

/// Closes one socket.
pub(super) async fn close(
    State(api): State<Api>,
    id: Result<Path<String>, PathRejection>,
    how: Result<Wants<How>, ApiError>,
) -> Result<Answer<Value>, ApiError> {
    let (text, id) = checked_id(id)?;
    let Wants(How { code, reason }) = how?;
    if code.is_some_and(|code| !matches!(code, 1001 | 1008 | 1012 | 1013 | 3000..=4999)) {
        return Err(ApiError::invalid("code: it takes 1001, 1008, 1012, 1013 or 3000 to 4999"));
    }
    let reason = reason.unwrap_or_default();
    if reason.len() > REASON_SIZE_MAX {
        let text = format!("reason: {} bytes are too many: a close frame has at most {REASON_SIZE_MAX}", reason.len());
        return Err(ApiError::invalid(text));
    }
    let with = (code.is_some() || !reason.is_empty()).then(|| (code.unwrap_or(1001), reason));
    if !api.endpoint.close_socket(id, with).await {
        return Err(gone(&text));
    }
    Ok(Answer(json!({ "closed": 1 })))
}

fn checked_id(id: Result<Path<String>, PathRejection>) -> Result<(String, SocketId), ApiError> {
    let text = of_path(id)?;
    let id = text.parse().map_err(|error| ApiError::invalid(format!("{text:.64?} is {error}")))?;
    Ok((text, id))
}

fn gone(id: &str) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no socket {id} on this node any more; GET /api/sockets lists them"))
}
