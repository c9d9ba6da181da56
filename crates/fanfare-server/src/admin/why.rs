//! `GET /api/why`: the last facts about clients, and what to do about each.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use fanfare::PastFact;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError};
use super::next_step::next_step;
use super::query::checked_limit;
use super::wants::{LIMIT, Parameter, Parameters, Wants};
use crate::config::section::listed;
use crate::config::{from_text, value::Span};
use crate::moment;

/// Which facts are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    user: Option<String>,
    address: Option<String>,
    topic: Option<String>,
    kind: Option<String>,
    since: Option<String>,
    limit: Option<usize>,
}

impl Parameters for Asked {
    const TAKES: &'static [Parameter] = &[
        ("user", "the id of a socket"),
        ("address", "an IP address"),
        ("topic", "a topic"),
        ("kind", "a kind of fact, such as refused"),
        ("since", "a time such as 10m"),
        LIMIT,
    ];
}

/// The same, understood.
struct Filter {
    user: Option<String>,
    address: Option<IpAddr>,
    topic: Option<String>,
    kind: Option<String>,
    since: Option<SystemTime>,
}

/// The facts that fit, the newest first, and how many there are.
pub(super) async fn why(
    State(api): State<Api>,
    asked: Result<Wants<Asked>, ApiError>,
) -> Result<Answer<Value>, ApiError> {
    let Wants(asked) = asked?;
    let limit = checked_limit(asked.limit)?;
    let filter = Filter::read(asked)?;
    let mut facts = api.endpoint.facts();
    facts.retain(|fact| filter.lets(fact));
    let shown: Vec<_> = facts.iter().rev().take(limit).map(show).collect();
    Ok(Answer(json!({ "facts": shown, "total": facts.len() })))
}

impl Filter {
    fn read(asked: Asked) -> Result<Self, ApiError> {
        let Asked { user, address, topic, kind, since, .. } = asked;
        let address = address.map(|text| {
            text.parse().map_err(|_| {
                ApiError::invalid(format!(
                    "address: {text:.64?} is not accepted: it takes an IP address without a port"
                ))
            })
        });
        if let Some(kind) = kind.as_deref().filter(|kind| !PastFact::KINDS.contains(kind)) {
            let kinds = listed(PastFact::KINDS.iter().copied());
            return Err(ApiError::invalid(format!("kind: {kind:.64?} is not accepted: it takes {kinds}")));
        }
        let since = since.map(|text| {
            let span = from_text::<Span<1_000, 31_536_000_000>>(&text).map_err(|faults| {
                let faults: String = faults.into_iter().map(|fault| fault.text).collect();
                ApiError::invalid(format!("since: {faults}"))
            })?;
            Ok::<_, ApiError>(SystemTime::now().checked_sub(span.0).unwrap_or(SystemTime::UNIX_EPOCH))
        });
        Ok(Self { user, address: address.transpose()?, topic, kind, since: since.transpose()? })
    }

    fn lets(&self, fact: &PastFact) -> bool {
        self.user.as_deref().is_none_or(|user| fact.is_of_user(user))
            && self.address.is_none_or(|address| fact.address == Some(address))
            && self.topic.as_deref().is_none_or(|topic| fact.is_about(topic))
            && self.kind.as_deref().is_none_or(|kind| fact.kind == kind)
            && self.since.is_none_or(|since| fact.at >= since)
    }
}

fn show(fact: &PastFact) -> Value {
    let seconds = fact.at.duration_since(fact.first).unwrap_or(Duration::ZERO).as_secs();
    json!({
        "at": moment::rfc3339(fact.at),
        "first": moment::rfc3339(fact.first),
        "for_s": seconds,
        "count": fact.count,
        "kind": fact.kind,
        "reason": fact.reason,
        "code": fact.code,
        "detail": fact.detail,
        "user": fact.user,
        "address": fact.address,
        "endpoint": fact.endpoint,
        "topic": fact.topic,
        "next": next_step(fact),
    })
}
