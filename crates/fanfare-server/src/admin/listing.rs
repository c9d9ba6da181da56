//! `GET /api/topics`, `/api/topic/TOPIC` and `/api/members/TOPIC`: which topics there are, what holds for one, and who is in it.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use fanfare::{Rates, Since, SocketHandle, TopicMember, TopicOrder, TopicQuery, TopicRow, check_topic};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError, of_path};
use super::connections::shown;
use super::query::checked_limit;
use super::sockets;
use super::wants::{AFTER, LIMIT, Nothing, Parameter, Parameters, Wants};
use crate::config::{from_text, value::Span};
use crate::identity::Identity;

/// For how long it is looked what passes through one topic.
const WINDOW: Duration = Duration::from_millis(500);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichTopics {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    sort: Sort,
    limit: Option<usize>,
    after: Option<String>,
    window: Option<String>,
}

impl Parameters for WhichTopics {
    const TAKES: &'static [Parameter] = &[
        ("prefix", "the beginning of topics"),
        ("sort", "name, members or rate"),
        LIMIT,
        AFTER,
        ("window", "a time such as 1s"),
    ];
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sort {
    #[default]
    Name,
    Members,
    Rate,
}

/// The topics with somebody in them, and those of hubs that are started; `next` is what to ask for as `after` to go on.
pub(super) async fn topics(
    State(api): State<Api>,
    query: Result<Wants<WhichTopics>, ApiError>,
) -> Result<Answer<Value>, ApiError> {
    let Wants(WhichTopics { prefix, sort, limit, after, window }) = query?;
    let query = TopicQuery {
        prefix,
        order: match sort {
            Sort::Name => TopicOrder::Name,
            Sort::Members => TopicOrder::Members,
            Sort::Rate => TopicOrder::Rate,
        },
        limit: checked_limit(limit)?,
        after,
        window: window.as_deref().map(checked_window).transpose()?,
        ..TopicQuery::default()
    };
    let _one_of_few = api.bounds.listing().await;
    let page = api.endpoint.list_topics(&query).await;
    let list: Vec<_> = page.topics.iter().map(row).collect();
    Ok(Answer(json!({ "topics": list, "total": page.total, "next": page.next })))
}

/// For how long something is looked at.
pub(super) fn checked_window(text: &str) -> Result<Duration, ApiError> {
    let span = from_text::<Span<100, 30_000>>(text).map_err(|faults| {
        let faults: String = faults.into_iter().map(|fault| fault.text).collect();
        ApiError::invalid(format!("window: {faults}"))
    })?;
    Ok(span.0)
}

/// A topic as lists have it.
pub(super) fn row(row: &TopicRow) -> Value {
    let topic = &row.summary;
    let mut told = json!({ "topic": topic.topic, "members": topic.members });
    if topic.is_started {
        let elsewhere = || topic.publisher_node.as_ref().map_or(Value::Null, |node| json!({ "node": node }));
        told["publisher"] = topic.publisher.as_ref().map_or_else(elsewhere, publisher);
    }
    if let Some(rates) = &row.rates {
        put_rates(&mut told, rates);
    }
    told
}

fn put_rates(told: &mut Value, rates: &Rates) {
    told["published_per_s"] = rounded(rates.published).into();
    told["delivered_per_s"] = rounded(rates.delivered).into();
    told["bytes_per_s"] = rounded(rates.bytes).into();
}

/// A rate with one digit behind the point: more would say nothing.
pub(super) fn rounded(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// In milliseconds, to a hundredth.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_micros() as f64 / 10.0).round() / 100.0
}

/// Whose connection a hub's publisher is. Of a key only its name is told.
fn publisher(socket: &SocketHandle) -> Value {
    let claim = |name| socket.info().assigns::<Identity>().and_then(|identity| identity.text(name));
    let is_key = socket.info().assigns::<Identity>().is_some_and(|identity| identity.api_key().is_some());
    json!({ "key": claim("key").filter(|_| is_key), "sub": claim("sub"), "peer": socket.info().peer().map(shown) })
}

/// What holds for a topic, who is there by shard, how much passes, and how much it has kept.
pub(super) async fn topic(
    State(api): State<Api>,
    topic: Result<Path<String>, PathRejection>,
    _: Wants<Nothing>,
) -> Result<Answer<Value>, ApiError> {
    let topic = checked_topic(topic)?;
    let report = api.endpoint.topic(&topic, WINDOW).await;
    let history = match &report.history {
        None => Value::Null,
        Some(kept) => {
            let mut told = json!({
                "messages_max": kept.messages_max,
                "bytes_max": kept.bytes_max,
                "ttl_s": kept.age_max_ms / 1_000,
            });
            // A store that cannot be read now says so elsewhere.
            if let Ok(replay) = api.endpoint.history(&topic, Since::Now, 1).await {
                told["position"] = replay.position().to_string().into();
            }
            told
        }
    };
    let mut told = json!({
        "topic": topic,
        "channel": report.channel,
        "members": report.members.iter().sum::<usize>(),
        "members_by_shard": report.members,
        "presence": api.endpoint.presence_count(&topic),
        "slow": report.slow.name(),
        "history": history,
    });
    put_rates(&mut told, &report.rates);
    Ok(Answer(told))
}

fn checked_topic(topic: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let topic = of_path(topic)?;
    check_topic(&topic).map_err(|error| ApiError::invalid(error.to_string()))?;
    Ok(topic)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichMembers {
    limit: Option<usize>,
    after: Option<String>,
}

impl Parameters for WhichMembers {
    const TAKES: &'static [Parameter] = &[LIMIT, AFTER];
}

/// The clients in a topic.
pub(super) async fn members(
    State(api): State<Api>,
    topic: Result<Path<String>, PathRejection>,
    query: Result<Wants<WhichMembers>, ApiError>,
) -> Result<Answer<Value>, ApiError> {
    let topic = checked_topic(topic)?;
    let Wants(WhichMembers { limit, after }) = query?;
    let from = match after {
        None => (0, 0),
        Some(after) => {
            let place = after.split_once(':').and_then(|(shard, at)| Some((shard.parse().ok()?, at.parse().ok()?)));
            place.ok_or_else(|| ApiError::invalid(format!("after: {after:.64?} is no `next` of this list")))?
        }
    };
    let (members, next) = api.endpoint.list_members(&topic, from, checked_limit(limit)?).await;
    let list: Vec<_> = members.iter().map(member).collect();
    Ok(Answer(json!({ "topic": topic, "members": list, "next": next.map(|(shard, at)| format!("{shard}:{at}")) })))
}

fn member(member: &TopicMember) -> Value {
    let mut told = sockets::row(&member.socket);
    told["resumes"] = member.resumes.into();
    told
}
