//! `GET /api/live`: figures of the node, again and again, as a stream. And `GET /api/info`: what the node is.

use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use fanfare::{Overview, TopicOrder, TopicQuery};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::Api;
use super::answer::{Answer, ApiError};
use super::listing::{self, ms, rounded};
use super::stream::{Form, LOOK, may_go_on};
use super::wants::{Nothing, Parameter, Parameters, Wants};
use crate::access::Caller;
use crate::config::{from_text, value::Span};
use crate::metrics::{cpu_seconds, resident_bytes};
use crate::moment;

/// So many topics are in a sample: those with most deliveries.
const TOPICS: usize = 50;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    what: Option<String>,
    every: Option<String>,
}

impl Parameters for What {
    const TAKES: &'static [Parameter] =
        &[("what", "overview, topics, shards and health, with commas between them"), ("every", "a time such as 1s")];
}

/// What a sample has.
#[derive(Debug, Clone, Copy, Default)]
struct Parts {
    overview: bool,
    topics: bool,
    shards: bool,
    health: bool,
}

/// What goes on from sample to sample.
struct Running {
    api: Api,
    caller: Caller,
    form: Form,
    parts: Parts,
    every: Duration,
    before: (Overview, Instant),
    is_first: bool,
    _one_of_few: OwnedSemaphorePermit,
}

/// The streams of samples.
pub(super) async fn live(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    query: Result<Wants<What>, ApiError>,
) -> Result<Response, ApiError> {
    let Wants(What { what, every }) = query?;
    let mut parts = Parts::default();
    for name in what.as_deref().unwrap_or("overview").split(',') {
        *match name {
            "overview" => &mut parts.overview,
            "topics" => &mut parts.topics,
            "shards" => &mut parts.shards,
            "health" => &mut parts.health,
            _ => {
                let text = format!(
                    "what: {name:.64?} is not accepted: it takes overview, topics, shards and health, with commas"
                );
                return Err(ApiError::invalid(text));
            }
        } = true;
    }
    let every = match every {
        None => Duration::from_secs(1),
        Some(text) => {
            let span = from_text::<Span<500, 60_000>>(&text).map_err(|faults| {
                let faults: String = faults.into_iter().map(|fault| fault.text).collect();
                ApiError::invalid(format!("every: {faults}"))
            })?;
            span.0
        }
    };
    let permit = api.bounds.stream()?;
    let form = Form::of(&headers);
    let before = (api.endpoint.overview(), Instant::now());
    let running = Running { api, caller, form, parts, every, before, is_first: true, _one_of_few: permit };
    Ok(form.answer(stream::unfold(running, |mut running| async move {
        let sample = running.next().await?;
        Some((Ok::<_, Infallible>(sample), running))
    })))
}

impl Running {
    /// The next sample; `None` ends the stream.
    async fn next(&mut self) -> Option<String> {
        let (api, caller) = (self.api.clone(), self.caller.clone());
        let ends = async {
            while may_go_on(&api, &caller) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = ends => None,
            sample = self.sample() => Some(sample),
        }
    }

    async fn sample(&mut self) -> String {
        // The first is there at once: with what there is, and without rates.
        let topics = if std::mem::take(&mut self.is_first) {
            None
        } else if self.parts.topics {
            let query = TopicQuery {
                order: TopicOrder::Rate,
                limit: TOPICS,
                window: Some(self.every),
                ..TopicQuery::default()
            };
            Some(self.api.endpoint.list_topics(&query).await)
        } else {
            tokio::time::sleep(self.every).await;
            None
        };
        let now = (self.api.endpoint.overview(), Instant::now());
        let before = std::mem::replace(&mut self.before, now);
        let mut sample = Map::new();
        sample.insert("at".into(), moment::rfc3339(SystemTime::now()).into());
        if self.parts.overview {
            sample.insert("overview".into(), overview(&before, &self.before, resident_bytes()));
        }
        if let Some(page) = topics {
            let rows: Vec<_> = page.topics.iter().map(listing::row).collect();
            sample.insert("topics".into(), json!({ "topics": rows, "total": page.total }));
        }
        if self.parts.shards {
            sample.insert("shards".into(), shards(&before, &self.before));
        }
        if self.parts.health {
            let (is_ready, reasons) = self.api.health.ready();
            let parts = crate::health::report(&self.api.live.load().parts, &self.api.endpoint.broker_links());
            sample.insert("health".into(), json!({ "ready": is_ready, "reasons": reasons, "parts": parts }));
        }
        self.form.item("sample", &sample.into())
    }
}

/// What a node has, and does from one moment to another.
pub(super) struct Since {
    overview: Overview,
    at: Instant,
    cpu_s: Option<f64>,
}

impl Since {
    pub(super) fn now(api: &Api) -> Self {
        Self { overview: api.endpoint.overview(), at: Instant::now(), cpu_s: cpu_seconds() }
    }

    /// The node in a line, from then until now.
    pub(super) fn node(self, api: &Api) -> Value {
        let (before, now) = ((self.overview, self.at), (api.endpoint.overview(), Instant::now()));
        let seconds = now.1.duration_since(before.1).as_secs_f64().max(0.001);
        let cpu = self.cpu_s.zip(cpu_seconds()).map(|(before, now)| rounded((now - before).max(0.0) / seconds));
        let mut node = overview(&before, &now, resident_bytes());
        node["node"] = api.live.load().node.clone().into();
        node["ready"] = api.health.ready().0.into();
        node["cpu"] = cpu.into();
        node
    }
}

fn overview((before, at): &(Overview, Instant), (now, now_at): &(Overview, Instant), memory: Option<u64>) -> Value {
    let seconds = now_at.duration_since(*at).as_secs_f64().max(0.001);
    let rate = |before: u64, now: u64| rounded(now.saturating_sub(before) as f64 / seconds);
    let dropped: Map<String, Value> = before
        .dropped
        .iter()
        .zip(&now.dropped)
        .map(|((reason, before), (_, now))| ((*reason).to_owned(), rate(*before, *now)))
        .filter(|(_, rate)| *rate > 0.0)
        .map(|(reason, rate)| (reason, rate.into()))
        .collect();
    json!({
        "sockets": now.sockets,
        "members": now.members,
        "published_per_s": rate(before.published, now.published),
        "delivered_per_s": rate(before.delivered, now.delivered),
        "received_per_s": rate(before.received, now.received),
        "sent_bytes_per_s": rate(before.sent_bytes, now.sent_bytes),
        "p99_ms": now.p99_since(before).map(ms),
        "dropped_per_s": dropped,
        "waiting_sockets": now.waiting_sockets,
        "waiting_bytes": now.waiting_bytes,
        "memory_bytes": memory,
    })
}

fn shards((before, at): &(Overview, Instant), (now, now_at): &(Overview, Instant)) -> Value {
    let micros = now_at.duration_since(*at).as_micros().max(1) as f64;
    let shards = before.shards.iter().zip(&now.shards);
    let shard = |(before, now): (&fanfare::ShardFigures, &fanfare::ShardFigures)| {
        json!({
            "sockets": now.sockets,
            "busy": ((now.busy_us.saturating_sub(before.busy_us) as f64 / micros).min(1.0) * 1_000.0).round() / 1_000.0,
            "turn_age_ms": now.turn_age_us / 1_000,
            "left_over": now.left_over,
        })
    };
    shards.map(shard).collect()
}

/// What the node is, and since when.
pub(super) async fn info(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    _: Wants<Nothing>,
) -> Answer<Value> {
    let overview = api.endpoint.overview();
    Answer(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": moment::rfc3339(api.bounds.started_at),
        "now": moment::rfc3339(SystemTime::now()),
        "shards": overview.shards.len(),
        "generation": api.live.load().generation,
        "token": &*caller.name,
        "rights": caller.rights.names(),
        "draining": api.endpoint.is_draining(),
    }))
}
