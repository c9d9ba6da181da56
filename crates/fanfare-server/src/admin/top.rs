//! `GET /api/top`: where most happens, by topics, users, addresses or channels.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::extract::State;
use fanfare::{Endpoint, SocketReport, TopicOrder, TopicQuery};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError};
use super::listing::{self, checked_window, rounded};
use super::live::Since;
use super::query::checked_limit;
use super::wants::{LIMIT, Parameter, Parameters, Wants};
use crate::ranking::{By, Column};

const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    #[serde(default)]
    by: By,
    sort: Option<Column>,
    #[serde(default)]
    filter: String,
    limit: Option<usize>,
    window: Option<String>,
}

impl Parameters for What {
    const TAKES: &'static [Parameter] = &[
        ("by", "topics, users, addresses or channels"),
        ("sort", "name, members, topics, sockets, published, delivered, bytes, received or waiting"),
        ("filter", "a part of names"),
        LIMIT,
        ("window", "a time such as 5s"),
    ];
}

/// The rows with most in a window of time.
pub(super) async fn top(
    State(api): State<Api>,
    query: Result<Wants<What>, ApiError>,
) -> Result<Answer<Value>, ApiError> {
    let Wants(What { by, sort, filter, limit, window }) = query?;
    let limit = checked_limit(limit)?;
    let sort = by.checked(sort).map_err(|error| ApiError::invalid(format!("sort: {error}")))?;
    let window = window.as_deref().map_or(Ok(WINDOW), checked_window)?;
    let _one_of_few = api.bounds.listing().await;
    let since = Since::now(&api);
    let rows = match by {
        By::Topics => topics(&api.endpoint, sort, filter, limit, window).await,
        By::Channels => ranked(channels(&api.endpoint, window).await, sort, &filter, limit),
        By::Users => ranked(sockets(&api.endpoint, window, |socket| socket.user.clone()).await, sort, &filter, limit),
        By::Addresses => {
            let address = |socket: &SocketReport| socket.address.map(|address| address.ip().to_string());
            ranked(sockets(&api.endpoint, window, address).await, sort, &filter, limit)
        }
    };
    Ok(Answer(json!({ "window_s": window.as_secs_f64(), "node": since.node(&api), "rows": rows })))
}

/// The first of these rows. Those that have as much of it stay in their order.
fn ranked(mut rows: Vec<Value>, sort: Column, filter: &str, limit: usize) -> Vec<Value> {
    rows.retain(|row| name_of(row).contains(filter));
    let most = |row: &Value| row[sort.field()].as_f64().unwrap_or_default();
    rows.sort_by(|a, b| match sort {
        Column::Name => name_of(a).cmp(name_of(b)),
        _ => most(b).total_cmp(&most(a)),
    });
    rows.truncate(limit);
    rows
}

fn name_of(row: &Value) -> &str {
    row["name"].as_str().unwrap_or_default()
}

/// There may be a million of them: they are never all in memory with what is told of them.
async fn topics(endpoint: &Endpoint, sort: Column, filter: String, limit: usize, window: Duration) -> Vec<Value> {
    let order = match sort {
        Column::Name => TopicOrder::Name,
        Column::Members => TopicOrder::Members,
        Column::Published => TopicOrder::Published,
        Column::Bytes => TopicOrder::Bytes,
        _ => TopicOrder::Rate,
    };
    let query = TopicQuery { contains: filter, order, limit, window: Some(window), ..TopicQuery::default() };
    let page = endpoint.list_topics(&query).await;
    let named = |mut row: Value| {
        row["name"] = row["topic"].take();
        if let Some(fields) = row.as_object_mut() {
            fields.remove("topic");
        }
        row
    };
    page.topics.iter().map(listing::row).map(named).collect()
}

async fn channels(endpoint: &Endpoint, window: Duration) -> Vec<Value> {
    let (before, at) = (endpoint.overview(), Instant::now());
    tokio::time::sleep(window).await;
    let (after, seconds) = (endpoint.overview(), at.elapsed().as_secs_f64());
    let row = |(before, after): (&fanfare::ChannelFigures, &fanfare::ChannelFigures)| {
        json!({
            "name": after.channel,
            "topics": after.topics,
            "members": after.members,
            "delivered_per_s": rounded(after.delivered.saturating_sub(before.delivered) as f64 / seconds),
        })
    };
    before.channels.iter().zip(&after.channels).map(row).collect()
}

/// What the sockets of one user or address come to.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sockets: usize,
    received: u64,
    waiting_bytes: usize,
}

type Sums = HashMap<String, Sum>;

async fn sockets(endpoint: &Endpoint, window: Duration, name: fn(&SocketReport) -> Option<String>) -> Vec<Value> {
    let add = |mut sums: Sums, socket: SocketReport| {
        if let Some(name) = name(&socket) {
            let sum = sums.entry(name).or_default();
            sum.sockets += 1;
            sum.received += socket.received;
            sum.waiting_bytes += socket.waiting_bytes;
        }
        sums
    };
    let (before, at) = (endpoint.fold_sockets(Sums::new(), add).await, Instant::now());
    tokio::time::sleep(window).await;
    let after = endpoint.fold_sockets(Sums::new(), add).await;
    let seconds = at.elapsed().as_secs_f64();
    let row = |(name, sum): (&String, &Sum)| {
        let before = before.get(name).map_or(0, |before| before.received);
        let received = rounded(sum.received.saturating_sub(before) as f64 / seconds);
        json!({ "name": name, "sockets": sum.sockets, "received_per_s": received, "waiting_bytes": sum.waiting_bytes })
    };
    let mut sums: Vec<_> = after.iter().collect();
    sums.sort_by(|(a, of_a), (b, of_b)| of_b.sockets.cmp(&of_a.sockets).then(a.cmp(b)));
    sums.into_iter().map(row).collect()
}
