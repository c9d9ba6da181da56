//! An axum application that runs several times behind a load balancer: each process is a node, and a Redis is between them.
//!
//!     redis-server --port 6390 --save "" &
//!     cargo run --example cluster --features redis -- --port 4000 --redis redis://127.0.0.1:6390 &
//!     cargo run --example cluster --features redis -- --port 4001 --redis redis://127.0.0.1:6390
//!
//! What is said on one is heard on the other, and a client that comes back to another node gets what it missed there:
//!
//!     curl -N http://127.0.0.1:4001/events/room:lobby &
//!     curl -d "Tea is ready" http://127.0.0.1:4000/say/lobby

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use fanfare::serve::Server;
use fanfare::{
    BoxError, Broker, Channel, Context, Drain, Endpoint, Joined, Mount, Payload, Policy, RedisBroker, Refused, Reply,
    Retention,
};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// The topics `room:*`: whoever joins hears what is said there.
#[derive(Clone)]
struct Room;

impl Channel for Room {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context<()>, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context<()>, event: &str, text: Payload) -> Result<Reply, BoxError> {
        if event != "say" {
            return Ok(Reply::error(json!({ "reason": "unknown event" })));
        }
        cx.broadcast("said", text).await?;
        Ok(Reply::empty())
    }
}

/// `POST /say/lobby` with a text as its body.
async fn say(State(endpoint): State<Endpoint>, Path(room): Path<String>, body: String) -> StatusCode {
    match endpoint.broadcast(&format!("room:{room}"), "said", json!({ "body": body })).await {
        Ok(()) => StatusCode::NO_CONTENT,
        // The broker is away: nobody has heard it, and it can be said again.
        Err(error) if error.is_unavailable() => StatusCode::SERVICE_UNAVAILABLE,
        Err(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, redis] = match &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--port", port, "--redis", redis] => [*port, *redis].map(str::to_owned),
        _ => return Err("usage: cluster --port N --redis URL".into()),
    };
    let redis = RedisBroker::new(&redis).namespace("example");
    let endpoint = Endpoint::builder()
        .broker(Broker::redis(&redis))
        .policy("room:*", Policy::new().history(Retention::default()))
        .mount("/socket", Mount::new().channel("room:*", Room))
        .mount("/events", Mount::stream().channel("room:*", Room))
        .build()
        .await?;
    let app = Router::new().route("/say/{room}", post(say)).with_state(endpoint.clone()).merge(endpoint.routes());
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], port.parse()?))).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!("cluster: listening on http://{}", server.local_addr()?);
    let closing = server.serve_app(app, &endpoint, async { _ = terminate.recv().await }).await;
    endpoint.drain(Drain::default()).await;
    closing.finish(Duration::from_secs(5)).await;
    Ok(())
}
