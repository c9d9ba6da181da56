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
use super::query::checked_limit;
use super::wants::{LIMIT, Parameter, Parameters, Wants};

const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    #[serde(default)]
    by: By,
    limit: Option<usize>,
    window: Option<String>,
}

impl Parameters for What {
    const TAKES: &'static [Parameter] =
        &[("by", "topics, users, addresses or channels"), LIMIT, ("window", "a time such as 5s")];
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    #[default]
    Topics,
    Users,
    Addresses,
    Channels,
}

/// The rows with most in a window of time.
pub(super) async fn top(
    State(api): State<Api>,
    query: Result<Wants<What>, ApiError>,
) -> Result<Answer<Value>, ApiError> {
    let Wants(What { by, limit, window }) = query?;
    let limit = checked_limit(limit)?;
    let window = window.as_deref().map_or(Ok(WINDOW), checked_window)?;
    let _one_of_few = api.bounds.listing().await;
    let rows = match by {
        By::Topics => topics(&api.endpoint, limit, window).await,
        By::Channels => channels(&api.endpoint, limit, window).await,
        By::Users => sockets(&api.endpoint, limit, window, |socket| socket.user.clone()).await,
        By::Addresses => {
            sockets(&api.endpoint, limit, window, |socket| socket.address.map(|address| address.ip().to_string())).await
        }
    };
    Ok(Answer(json!({ "window_s": window.as_secs_f64(), "rows": rows })))
}

async fn topics(endpoint: &Endpoint, limit: usize, window: Duration) -> Vec<Value> {
    let query = TopicQuery { order: TopicOrder::Rate, limit, window: Some(window), ..TopicQuery::default() };
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

async fn channels(endpoint: &Endpoint, limit: usize, window: Duration) -> Vec<Value> {
    let (before, at) = (endpoint.overview(), Instant::now());
    tokio::time::sleep(window).await;
    let (after, seconds) = (endpoint.overview(), at.elapsed().as_secs_f64());
    let mut rows: Vec<_> = before
        .channels
        .iter()
        .zip(&after.channels)
        .map(|(before, after)| (rounded(after.delivered.saturating_sub(before.delivered) as f64 / seconds), after))
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let row = |(rate, channel): (f64, &fanfare::ChannelFigures)| {
        json!({
            "name": channel.channel,
            "topics": channel.topics,
            "members": channel.members,
            "delivered_per_s": rate,
        })
    };
    rows.into_iter().take(limit).map(row).collect()
}

/// What the sockets of one user or address come to.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sockets: usize,
    received: u64,
    waiting_bytes: usize,
}

type Sums = HashMap<String, Sum>;

async fn sockets(
    endpoint: &Endpoint,
    limit: usize,
    window: Duration,
    name: fn(&SocketReport) -> Option<String>,
) -> Vec<Value> {
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
    let rate = |name: &str, sum: &Sum| {
        let before = before.get(name).map_or(0, |before| before.received);
        rounded(sum.received.saturating_sub(before) as f64 / seconds)
    };
    let mut rows: Vec<_> = after.iter().map(|(name, sum)| (rate(name, sum), name, sum)).collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.2.sockets.cmp(&a.2.sockets)).then(a.1.cmp(b.1)));
    let row = |(rate, name, sum): (f64, &String, &Sum)| json!({ "name": name, "sockets": sum.sockets, "received_per_s": rate, "waiting_bytes": sum.waiting_bytes });
    rows.into_iter().take(limit).map(row).collect()
}
