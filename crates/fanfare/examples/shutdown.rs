//! A deploy without a storm, and an endpoint without axum: its own HTTP server, and a service around it that answers everything else.
//!
//! On SIGTERM it stops accepting, closes its sockets at an even pace with 1012, so that clients come back one after the other, lets busy
//! handlers finish, and ends.
//!
//!     cargo run --release --no-default-features --example shutdown

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use fanfare::serve::Server;
use fanfare::{Body, BoxError, Channel, Context, Drain, Endpoint, Joined, Mount, Payload, Refused, Reply};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

struct Room;

impl Channel for Room {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context, event: &str, payload: Payload) -> Result<Reply, BoxError> {
        match event {
            "new_msg" => {
                cx.broadcast("new_msg", payload).await?;
                Ok(Reply::empty())
            }
            _ => Ok(Reply::error(json!({ "reason": "unknown event" }))),
        }
    }
}

/// What is not below the mount is this program's own. An [`Endpoint`] alone is a service, too.
async fn answer(endpoint: Endpoint, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        "/" => Response::new(Body::from("connect to /socket\n")),
        _ => endpoint.call(request).await,
    })
}

pub(crate) async fn run(server: Server, drain: Drain, shutdown: impl Future<Output = ()>) -> Result<(), BoxError> {
    let endpoint = Endpoint::builder()
        .mount("/socket", Mount::new().channel("room:*", Room))
        // The other side of a restart: so many new clients a second, and as many at a time.
        .accept_rate(2_000, 4_000)
        .build()
        .await?;
    let mounted = endpoint.clone();
    let service = service_fn(move |request| answer(mounted.clone(), request));
    let closing = server.serve(service, &endpoint, shutdown).await;
    endpoint.drain(drain).await;
    closing.finish(Duration::from_secs(5)).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 4000))).await?;
    println!("shutdown: listening on http://{}", server.local_addr()?);
    let mut terminate = signal(SignalKind::terminate())?;
    run(server, Drain::default(), async { _ = terminate.recv().await }).await
}
