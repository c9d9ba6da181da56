//! The endpoint without axum: its own HTTP server, and a service around it that answers everything else.
//!
//!     cargo run --release --no-default-features --example plain -- --port 4000

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use fanfare::serve::Server;
use fanfare::{Body, BoxError, Channel, Context, Drain, Endpoint, Joined, Mount, Payload, Refused, Reply};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::signal::unix::{SignalKind, signal};

/// Every `new_msg` goes to everybody in the room.
struct Lobby;

impl Channel for Lobby {
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
            _ => Err(format!("unknown event {event:?}").into()),
        }
    }
}

/// What is not below the mount is this program's own; an [`Endpoint`] alone is a service, too.
async fn answer(endpoint: Endpoint, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        "/" => Response::new(Body::from("connect to /socket\n")),
        _ => endpoint.call(request).await,
    })
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plain: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    let port = match (args.next().as_deref(), args.next().map(|port| port.parse::<u16>())) {
        (None, _) => 4000,
        (Some("--port"), Some(Ok(port))) => port,
        _ => return Err("usage: plain [--port N]".into()),
    };
    let mount = Mount::new().channel("room:*", Lobby);
    let endpoint = Endpoint::builder().mount("/socket", mount).build().await?;
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    println!("plain: listening on http://{}, join room:lobby at /socket", server.local_addr()?);
    let mounted = endpoint.clone();
    let service = service_fn(move |request| answer(mounted.clone(), request));
    let closing = server.serve(service, &endpoint, async { _ = terminate.recv().await }).await;
    endpoint.drain(Drain::default()).await;
    closing.finish(Duration::from_secs(5)).await;
    Ok(())
}
