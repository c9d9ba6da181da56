//! The application that the recorded transcripts of a real Phoenix were made with, written against Fanfare's API.
//!
//!     cargo run --release --package fanfare-oracle --bin oracle -- --port 4000
//!
//! It has a channel for every rule of the protocol: replies of every kind, crashes, slow joins, presences.

mod http;
mod presence;
mod room;
mod sockets;

use std::net::SocketAddr;
use std::time::Duration;

use fanfare::serve::Server;
use fanfare::{
    BoxError, Broker, Drain, Endpoint, Mount, OriginPattern, OriginPolicy, Presence, RedisBroker, Route, Version,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::presence::{Names, PresenceRoom};
use crate::room::{Bench, Room};
use crate::sockets::{Auth, Info, Unassigned, User};

/// The same as in the server `fanfare`, since this program is what comparisons measure.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("oracle: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let usage = || BoxError::from("usage: oracle --port N [--shards N] [--redis URL]");
    let (mut port, mut shards, mut redis) = (None, None, None);
    let mut args = std::env::args().skip(1);
    while let (Some(flag), value) = (args.next(), args.next()) {
        let number = value.as_ref().and_then(|value| value.parse::<u16>().ok());
        match flag.as_str() {
            "--port" => port = number,
            "--shards" => shards = number,
            "--redis" => redis = value,
            _ => return Err(usage()),
        }
    }
    let port = port.ok_or_else(usage)?;
    let endpoint = endpoint(shards, redis.as_deref()).await?;
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?.upgrades_first();
    let mut terminate = signal(SignalKind::terminate())?;
    println!("oracle: listening on http://{}", server.local_addr()?);
    let app = axum::Router::new().merge(endpoint.routes()).merge(http::routes(endpoint.clone()));
    let closing = server.serve_app(app, &endpoint, async { _ = terminate.recv().await }).await;
    endpoint.drain(Drain::default()).await;
    closing.finish(Duration::from_secs(5)).await;
    Ok(())
}

/// With a Redis it is a node of a cluster.
async fn endpoint(shards: Option<u16>, redis: Option<&str>) -> Result<Endpoint, BoxError> {
    let names = Presence::new().hooks(Names);
    // Pages of the tests' own servers connect as well.
    let mount = || Mount::new().origin(OriginPolicy::Any);
    let user = || {
        mount()
            .connect(User)
            .channel("room:*", Room::default())
            .channel("bench:*", Bench)
            .channel("presence:*", PresenceRoom { names: false })
            .channel_with(Route::new("fpresence:*", PresenceRoom { names: true }).presence(names.clone()))
            .channel("exact", Room { from_route: Some("yes") })
    };
    let origins = OriginPolicy::List(vec![OriginPattern::parse("//ok.example")?]);
    let bench = mount()
        .connect(User)
        .channel("room:*", Room::default())
        .channel("bench:*", Bench)
        .channel("presence:*", PresenceRoom { names: false })
        .joins_max(usize::MAX);
    let info = || mount().connect(Info).channel("*", Room::default());
    let short = user().idle_timeout(Duration::from_millis(1_500)).longpoll_window(Duration::from_secs(1));
    let builder = match shards {
        Some(shards) => Endpoint::builder().shards(shards.into()),
        None => Endpoint::builder(),
    };
    let builder = match redis {
        Some(url) => builder.broker(Broker::redis(&RedisBroker::new(url))),
        None => builder,
    };
    let built = builder
        .mount("/socket", user())
        .mount("/bench", bench)
        .mount("/short", short)
        .mount("/origin", user().origin(origins))
        .mount("/comp", user().compression(true).longpoll(false))
        .mount("/maxframe", user().message_size_max(4096).longpoll(false))
        .mount("/info", info())
        .mount("/err", user().longpoll(false).on_reject(sockets::on_reject))
        .mount("/path/:tenant", info().websocket_path("custom/:shard").longpoll(false))
        .mount("/subp", user().subprotocols(["proto.a", "proto.b"]).longpoll(false))
        .mount("/v2only", user().versions([Version::V2]).longpoll(false))
        .mount("/auth", mount().connect(Auth).auth_token(true).channel("room:*", Room::default()))
        .mount("/maxch", mount().connect(Unassigned).joins_max(3).longpoll(false).channel("room:*", Room::default()))
        .build()
        .await;
    Ok(built?)
}
