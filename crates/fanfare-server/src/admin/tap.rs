//! `GET /api/tap`: what is published, what clients send, and what they are answered, as it happens.
//!
//! A stream of server-sent events, or of JSON lines for whoever accepts `application/x-ndjson`. It ends after an hour, when the server
//! drains, when its token or its session counts no more, or when its reader goes.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use fanfare::{Direction, Tap, TapFilter, Tapped};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Api;
use super::answer::{ApiError, Code};
use super::mask::{self, Shown};
use super::stream::{Form, LOOK, may_go_on};
use super::token::check_right;
use super::wants::{Parameter, Parameters, Wants};
use crate::access::Caller;
use crate::config::token::Right;
use crate::moment;

/// So many messages a second are told at most.
const RATE_MAX: u32 = 200;

const TIME_MAX: Duration = Duration::from_secs(3_600);

/// After so many looks without a message the reader is sent something, so that one that has vanished is found out.
const QUIET_LOOKS: u32 = 30;

/// What is watched.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    topic: Option<String>,
    user: Option<String>,
    address: Option<IpAddr>,
    socket: Option<String>,
    direction: Option<Way>,
    /// Several with commas between them.
    event: Option<String>,
    payload: Option<Payloads>,
    rate: Option<u32>,
}

impl Parameters for Asked {
    const TAKES: &'static [Parameter] = &[
        ("topic", "a topic, or a pattern such as room:*"),
        ("user", "the id of a socket"),
        ("address", "an IP address"),
        ("socket", "the id of a socket in GET /api/sockets"),
        ("direction", "in or out"),
        ("event", "names of events, with commas between them"),
        ("payload", "masked, none or full"),
        ("rate", "1 to 200"),
    ];
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    In,
    Out,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Payloads {
    Masked,
    None,
    Full,
}

/// What goes on from message to message.
struct Running {
    tap: Tap,
    api: Api,
    caller: Caller,
    shown: Shown,
    form: Form,
    ends: Instant,
    looks: tokio::time::Interval,
    quiet: u32,
}

pub(super) async fn tap(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    asked: Result<Wants<Asked>, ApiError>,
) -> Result<Response, ApiError> {
    let Wants(asked) = asked?;
    if asked.topic.is_none() && asked.user.is_none() && asked.address.is_none() && asked.socket.is_none() {
        return Err(ApiError::invalid("name what to watch: topic (such as room:*), user, address or socket"));
    }
    if matches!(asked.payload, Some(Payloads::Full)) {
        check_right(&caller, Right::Operate)?;
    }
    let rate = asked.rate.unwrap_or(RATE_MAX);
    if !(1..=RATE_MAX).contains(&rate) {
        return Err(ApiError::invalid(format!("rate: {rate} is not accepted: it takes 1 to {RATE_MAX}")));
    }
    let topic = asked.topic.map(|text| text.parse().map_err(|error| ApiError::invalid(format!("topic: {error}"))));
    let socket =
        asked.socket.map(|id| id.parse().map_err(|error| ApiError::invalid(format!("socket: {id:.64?} is {error}"))));
    let filter = TapFilter {
        topic: topic.transpose()?,
        user: asked.user,
        address: asked.address,
        socket: socket.transpose()?,
        direction: asked.direction.map(|way| match way {
            Way::In => Direction::In,
            Way::Out => Direction::Out,
        }),
        events: asked.event.iter().flat_map(|events| events.split(',')).map(str::to_owned).collect(),
    };
    let tap = api.endpoint.tap(filter, rate).map_err(|error| ApiError::new(Code::TooMany, error.to_string()))?;
    let form = Form::of(&headers);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let running = Running {
        tap,
        api,
        caller,
        shown: match asked.payload {
            Some(Payloads::None) => Shown::None,
            Some(Payloads::Full) => Shown::Full,
            Some(Payloads::Masked) | None => Shown::Masked,
        },
        form,
        ends: Instant::now() + TIME_MAX,
        looks,
        // The first look is at once, and sends the beginning: the reader knows then that it watches.
        quiet: QUIET_LOOKS,
    };
    Ok(form.answer(stream::unfold(running, |mut running| async move {
        Some((Ok::<_, Infallible>(running.next().await?), running))
    })))
}

impl Running {
    /// What is sent next; `None` ends the stream.
    async fn next(&mut self) -> Option<String> {
        loop {
            tokio::select! {
                biased;
                _ = self.looks.tick() => {
                    if Instant::now() >= self.ends || !may_go_on(&self.api, &self.caller) {
                        return None;
                    }
                    self.quiet += 1;
                    if self.quiet > QUIET_LOOKS {
                        self.quiet = 0;
                        return Some(self.form.nothing());
                    }
                }
                tapped = self.tap.recv() => {
                    self.quiet = 0;
                    let line = line(&tapped?, self.shown);
                    return Some(self.form.item("tap", &line));
                }
            }
        }
    }
}

fn line(tapped: &Tapped, shown: Shown) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    put("at", moment::rfc3339(tapped.at).into());
    put("direction", if tapped.direction == Direction::In { "in" } else { "out" }.into());
    put("user", json!(tapped.user));
    put("address", json!(tapped.address));
    put("socket", json!(tapped.socket.map(|socket| socket.to_string())));
    put("topic", tapped.topic.as_str().into());
    put("event", tapped.event.as_str().into());
    put("status", json!(tapped.status));
    put("bytes", tapped.bytes.into());
    put("left_out", json!((tapped.left_out > 0).then_some(tapped.left_out)));
    if let Some(payload) = &tapped.payload {
        mask::show(payload, &tapped.event, shown, &mut fields);
    }
    fields.into()
}
