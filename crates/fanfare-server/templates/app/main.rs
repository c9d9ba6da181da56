//! An axum application with channels at `/socket`.

mod channels;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use fanfare::serve::Server;
use fanfare::{BoxError, Drain, Endpoint};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let port = std::env::var("PORT").map_or(Ok(4000), |port| port.parse())?;
    let endpoint = Endpoint::builder().mount("/socket", channels::mount()).build().await?;
    let app = Router::new().route("/", get("Connect a Phoenix client to /socket")).merge(endpoint.routes());
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    println!("Listening on http://{}", server.local_addr()?);
    let closing = server.serve_app(app, &endpoint, async { _ = tokio::signal::ctrl_c().await }).await;
    // Clients are told to come back, and busy handlers may finish.
    endpoint.drain(Drain::default()).await;
    closing.finish(Duration::from_secs(5)).await;
    Ok(())
}
