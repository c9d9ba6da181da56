//! `POST /api/publish` and `POST /api/disconnect`.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use fanfare::{Connection, Publisher, check_topic};
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::answer::{Answer, ApiError};
use super::token::check_right;
use crate::access::Caller;
use crate::config::limits::API_BODY_SIZE_MAX;
use crate::config::section::listed;
use crate::config::token::Right;
use crate::message;

/// A message of this event closes the sockets whose id is its topic.
const DISCONNECT: &str = "disconnect";

/// This many hints are given.
const HINTS_MAX: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Disconnect {
    id: String,
}

/// Publishes all messages of a request or, if one of them is not in order, none. Then each stands for itself: one that
/// cannot be kept, or whose topic is not where it expects it, does not hold up the others.
pub(super) async fn publish(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let body = api.bodies.collect(&headers, body, API_BODY_SIZE_MAX as usize).await?;
    let messages = message::parse(&body).map_err(|fault| ApiError::invalid(fault.text))?;
    drop(body);
    if messages.iter().any(|message| message.event == DISCONNECT) {
        check_right(&caller, Right::Disconnect)?;
    }
    for (i, message) in messages.iter().enumerate() {
        let checked = api.contracts.check(&message.topic, &message.event, &message.payload).await;
        checked.map_err(|misfit| ApiError::invalid(format!("message {i}: {}", misfit.text())))?;
    }
    api.publishing.take(api.live.load().publish_rate, messages.len(), &api.endpoint, connection.peer)?;
    if let Some(tenant) = &caller.tenant {
        api.endpoint.take_publishes(tenant, messages.len(), Some(connection.peer))?;
    }
    // All are on their way, in their order, before the first is waited for: a store writes them together.
    let published = join_all(messages.iter().map(|message| message.publish(&api.endpoint, Publisher::Api)));
    let traceparent = headers.get("traceparent").and_then(|header| header.to_str().ok());
    let results = match api.endpoint.traced(traceparent) {
        None => published.await,
        Some(traced) => traced.scope(published).await,
    };
    let hints = hints(&api, messages.iter().map(|message| &*message.topic));
    let (mut published, mut failed, mut told) = (0, None, Vec::new());
    for result in results {
        told.push(match result {
            Ok(message) => {
                published += usize::from(!message.is_repeated());
                let position = message.position().map(|position| position.to_string());
                json!({ "position": position, "repeated": message.is_repeated() })
            }
            Err(error) => {
                let error = ApiError::from(error);
                let told = json!({ "error": error.told() });
                // Whoever may come back for a part of them is to learn it.
                if failed.as_ref().is_none_or(|failed: &ApiError| error.is_passing() && !failed.is_passing()) {
                    failed = Some(error);
                }
                told
            }
        });
    }
    let mut answer = json!({ "published": published });
    if !hints.is_empty() {
        answer["hints"] = hints.into();
    }
    if failed.is_some() || told.iter().any(|message| !message["position"].is_null()) {
        answer["messages"] = told.into();
    }
    Ok(match failed {
        None => Answer(answer).into_response(),
        Some(error) => {
            answer["error"] = error.told();
            error.respond(answer)
        }
    })
}

/// Closes every socket with an id.
pub(super) async fn disconnect(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer<Value>, ApiError> {
    let body = api.bodies.collect(&headers, body, API_BODY_SIZE_MAX as usize).await?;
    let Disconnect { id } = message::decode(&body, r#"{"id": "user_socket:7"}"#).map_err(ApiError::invalid)?;
    check_topic(&id).map_err(|error| ApiError::invalid(format!("id: {}", error.to_string().replace("topic", "id"))))?;
    let closed = api.endpoint.disconnect(&id).await;
    let mut answer = json!({ "ok": true, "closed": closed });
    // They do not say how many they have closed.
    let others = api.endpoint.nodes().iter().filter(|node| !node.is_self).count();
    if others > 0 {
        answer["other_nodes"] = others.into();
    }
    Ok(Answer(answer))
}

/// What to say of topics that nobody can be in: who publishes there has most likely mistyped one.
fn hints<'m>(api: &Api, topics: impl Iterator<Item = &'m str>) -> Vec<String> {
    let live = api.live.load();
    let mut strange: Vec<&str> =
        topics.filter(|topic| !live.topics.iter().any(|pattern| pattern.matches(topic))).collect();
    strange.sort_unstable();
    strange.dedup();
    strange.truncate(HINTS_MAX);
    let patterns: Vec<_> = live.topics.iter().map(ToString::to_string).collect();
    let known = if patterns.is_empty() { "none".to_owned() } else { listed(patterns.iter().map(String::as_str)) };
    let hint =
        |topic: &str| format!("no [[channel]] fits the topic {topic:?}, so that nobody can join it; they fit {known}");
    strange.into_iter().map(hint).collect()
}
