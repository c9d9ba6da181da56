//! A WebSocket echo at `/` under the conformance profile, for Autobahn's cases.
//!
//!     cargo run --release --package fanfare-oracle --bin echo -- --port 9001

use std::net::SocketAddr;

use fanfare::serve::Server;
use fanfare::{BoxError, Drain, Endpoint, Mount};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    let port = match (args.next().as_deref(), args.next().map(|port| port.parse::<u16>())) {
        (Some("--port"), Some(Ok(port))) => port,
        _ => return Err("usage: echo --port N".into()),
    };
    let endpoint = Endpoint::builder().mount("/", Mount::echo()).build().await?;
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?.upgrades_first();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    println!("echo: listening on ws://{}", server.local_addr()?);
    let closing = server.serve(endpoint.clone(), &endpoint, async { _ = terminate.recv().await }).await;
    endpoint.drain(Drain::default()).await;
    closing.finish(std::time::Duration::from_secs(5)).await;
    Ok(())
}
