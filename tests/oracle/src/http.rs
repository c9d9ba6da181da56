//! The oracle's plain HTTP endpoints, by which a test reaches into it.

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use fanfare::{Endpoint, Payload};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) fn routes(endpoint: Endpoint) -> Router {
    Router::new()
        .route("/health", get(async || "ok"))
        .route("/info", get(async || Json(json!({ "pid": std::process::id().to_string() }))))
        .route("/publish", post(publish))
        .route("/disconnect", any(disconnect))
        .route("/presence/{*topic}", get(presence))
        .fallback(async || (StatusCode::NOT_FOUND, "not found"))
        .with_state(endpoint)
}

#[derive(Deserialize)]
struct Publish {
    topic: String,
    event: String,
    payload: Option<Value>,
    payload_b64: Option<String>,
}

async fn publish(State(endpoint): State<Endpoint>, body: String) -> Response {
    let published = async {
        let Publish { topic, event, payload, payload_b64 } = serde_json::from_str(&body)?;
        let payload = match payload_b64 {
            Some(text) => Payload::Binary(base64::engine::general_purpose::STANDARD.decode(text)?.into()),
            None => payload.unwrap_or(json!({})).into(),
        };
        Ok::<_, fanfare::BoxError>(endpoint.broadcast(&topic, &event, payload).await?)
    };
    match published.await {
        Ok(()) => Json(json!({ "ok": true })).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[derive(Deserialize)]
struct Disconnect {
    id: String,
}

async fn disconnect(State(endpoint): State<Endpoint>, Query(query): Query<Disconnect>) -> Json<Value> {
    endpoint.disconnect(&query.id).await;
    Json(json!({ "ok": true }))
}

async fn presence(State(endpoint): State<Endpoint>, Path(topic): Path<String>) -> impl IntoResponse {
    let present = endpoint.presences(&topic).await;
    ([(CONTENT_TYPE, "application/json")], present.as_str().to_owned())
}
