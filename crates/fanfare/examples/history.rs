//! Topics that keep their recent messages: the newest come with the join, and a reader by server-sent events goes on where it was.
//!
//!     cargo run --release --example history
//!     curl -N http://127.0.0.1:4000/stream?topic=news:sports
//!     curl -d 'Two nil' http://127.0.0.1:4000/publish/sports

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use fanfare::{
    BoxError, Channel, Context, Endpoint, Joined, Mount, Payload, Policy, Publish, Refused, Reply, Retention,
};
use serde::Serialize;
use serde_json::json;

#[derive(Serialize)]
struct Headline {
    text: String,
}

/// The topics `news:*`, for readers: nothing is published by clients.
struct News;

impl Channel for News {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        // The reply is {"messages": […]}, and what is published after the last of them follows without a gap.
        Ok(Joined::new(()).catch_up(20))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::error(json!({ "reason": "readers only" })))
    }
}

/// `POST /publish/sports` with a text as its body. The answer is where the message stands.
async fn publish(
    State(endpoint): State<Endpoint>,
    Path(section): Path<String>,
    text: String,
) -> Result<String, (StatusCode, String)> {
    let publish = Publish::new(&format!("news:{section}"), "headline", Headline { text });
    match endpoint.publish(publish).await {
        Ok(published) => Ok(published.position().map(|position| position.to_string()).unwrap_or_default()),
        Err(error) if error.is_unavailable() => Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        Err(error) => Err((StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
    }
}

pub(crate) async fn app() -> Result<Router, BoxError> {
    let kept = Retention { messages_max: 1_000, age_max_ms: 24 * 3_600_000, ..Retention::default() };
    let endpoint = Endpoint::builder()
        .policy("news:*", Policy::new().history(kept))
        .mount("/socket", Mount::new().channel("news:*", News))
        // An `EventSource` that reconnects sends `Last-Event-ID`, and gets what it has missed.
        .mount("/stream", Mount::stream().channel("news:*", News))
        .build()
        .await?;
    Ok(Router::new().route("/publish/{section}", post(publish)).merge(endpoint.routes()).with_state(endpoint))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await?;
    println!("history: listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app().await?).await?)
}
