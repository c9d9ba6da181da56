//! What the API tells: health, presence, histories, counters.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use fanfare::{GoneNode, NodeSummary, Since, Stored, check_topic};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError, of_path};
use super::listing::{ms, rounded};
use super::wants::{AFTER, LIMIT, Nothing, Parameter, Parameters, Wants};
use crate::health;

/// How many items one answer may list.
const ITEMS_MAX: usize = 1_000;

const ITEMS_DEFAULT: usize = 100;

/// Which part of a list is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    after: Option<String>,
}

impl Parameters for Page {
    const TAKES: &'static [Parameter] = &[LIMIT, AFTER];
}

impl Page {
    /// How many items, and behind which.
    pub(super) fn checked(page: Result<Wants<Self>, ApiError>) -> Result<(usize, Option<String>), ApiError> {
        let Wants(page) = page?;
        Ok((checked_limit(page.limit)?, page.after))
    }
}

/// How many items are asked for.
pub(super) fn checked_limit(limit: Option<usize>) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(ITEMS_DEFAULT);
    if (1..=ITEMS_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::invalid(format!("limit: {limit} is not accepted: it takes 1 to {ITEMS_MAX}")))
}

/// That the server is up, for load balancers, and how the parts stand that depend on others. Needs no token and tells
/// nothing else. Always 200: another node would have the same trouble with a source that is down.
pub(super) async fn health(State(api): State<Api>, _: Wants<Nothing>) -> Answer<Value> {
    Answer(health::report(&api.live.load().parts, &api.endpoint.broker_links()))
}

/// The nodes of the cluster, this one first, and what they have together. Of each it is what it has said within the last seconds. And those
/// that are gone since a while ago.
pub(super) async fn nodes(State(api): State<Api>, _: Wants<Nothing>) -> Answer<Value> {
    let mut nodes = api.endpoint.nodes();
    nodes.sort_by_key(|node| !node.is_self);
    let sum = |of: fn(&NodeSummary) -> u64| nodes.iter().map(of).sum::<u64>();
    let total = json!({ "nodes": nodes.len(), "sockets": sum(|node| node.sockets), "joins": sum(|node| node.joins) });
    let told = |node: &NodeSummary| {
        let NodeSummary { incarnation, name, is_self, sockets, topics, joins, version, admin_url, .. } = node;
        json!({
            "node": incarnation, "name": name, "self": is_self, "version": version, "sockets": sockets, "topics": topics,
            "joins": joins, "published_per_s": node.published_per_s.map(rounded), "delivered_per_s": node.delivered_per_s.map(rounded),
            "p99_ms": node.p99.map(ms), "admin_url": admin_url
        })
    };
    let gone = |node: GoneNode| {
        let GoneNode { incarnation, name, version, heard, has_left, .. } = node;
        let heard_s = (heard.as_secs_f64() * 10.0).round() / 10.0;
        json!({ "node": incarnation, "name": name, "version": version, "heard_s": heard_s, "left": has_left })
    };
    let gone: Vec<_> = api.endpoint.gone_nodes().into_iter().map(gone).collect();
    Answer(json!({ "nodes": nodes.iter().map(told).collect::<Vec<_>>(), "gone": gone, "total": total }))
}

/// Who is present in a topic, as its members see it, and how many names there are: all that is told where they are only counted.
pub(super) async fn presence(
    State(api): State<Api>,
    topic: Result<Path<String>, PathRejection>,
    _: Wants<Nothing>,
) -> Result<Answer<Value>, ApiError> {
    let topic = of_path(topic)?;
    check_topic(&topic).map_err(|error| ApiError::invalid(error.to_string()))?;
    let presence: Value = api.endpoint.presences(&topic).await.to().unwrap_or_default();
    let count = api.endpoint.presence_count(&topic);
    Ok(Answer(json!({ "topic": topic, "count": count, "presence": presence })))
}

/// Which part of a history is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    limit: Option<usize>,
    since: Option<String>,
}

impl Parameters for Part {
    const TAKES: &'static [Parameter] = &[LIMIT, ("since", "a position such as 5e1f:42, or 0:0 for the beginning")];
}

/// What a topic has kept: all behind a position, or the newest.
pub(super) async fn history(
    State(api): State<Api>,
    topic: Result<Path<String>, PathRejection>,
    part: Result<Wants<Part>, ApiError>,
) -> Result<Answer<Kept>, ApiError> {
    let topic = of_path(topic)?;
    let Wants(part) = part?;
    let limit = checked_limit(part.limit)?;
    let since = match part.since {
        None => Since::Now,
        Some(text) => text.parse().map_err(|error| ApiError::invalid(format!("since: {text:.64?} is {error}")))?,
    };
    let replay = api.endpoint.history(&topic, since, limit).await?;
    let (position, recovered) = (replay.position().to_string(), replay.recovered());
    Ok(Answer(Kept { topic, position, recovered, messages: replay.messages().iter().map(raw).collect() }))
}

#[derive(Debug, Serialize)]
pub(super) struct Kept {
    topic: String,
    position: String,
    recovered: bool,
    /// Payloads go out as they came in, whatever their numbers are.
    messages: Vec<Box<RawValue>>,
}

fn raw(stored: &Stored) -> Box<RawValue> {
    let mut json = Vec::new();
    stored.write_json(&mut json);
    let json = String::from_utf8(json).expect("JSON is text");
    RawValue::from_string(json).expect("it is put together of JSON")
}

/// What was counted since the start, by name and reason.
pub(super) async fn counters(State(api): State<Api>, _: Wants<Nothing>) -> Answer<Value> {
    let counters = api.endpoint.counters();
    let of_engine = counters.iter().map(|(name, reason, value)| ((*name).to_owned(), *reason, *value));
    let live = api.live.load();
    let of_parts = live.parts.iter().flat_map(|part| {
        let name = format!("{}.{}", part.kind(), part.name());
        part.counters().into_iter().map(move |(reason, value)| (name.clone(), reason, value))
    });
    let list: Vec<_> = of_engine
        .chain(of_parts)
        .map(|(name, reason, value)| json!({ "name": name, "reason": reason, "value": value }))
        .collect();
    Answer(json!({ "counters": list }))
}
