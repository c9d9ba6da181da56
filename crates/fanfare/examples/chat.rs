//! A chat: rooms, who is there, and an announcement from outside of any channel.
//!
//!     cargo run --release --example chat -- --port 4000

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use fanfare::serve::Server;
use fanfare::{
    BoxError, Channel, Connect, ConnectRequest, Connected, Context, Drain, Endpoint, Flow, Joined, Mount, Payload,
    Refused, Rejected, Reply,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

/// Who a socket belongs to.
struct User {
    name: String,
}

/// Takes the name from the connect params. The examples `jwt` and `session` know better who somebody is.
struct ByName;

impl Connect for ByName {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let name = request.params.str("name").map(str::trim).filter(|name| (1..=40).contains(&name.len()));
        let name = name.ok_or_else(|| Rejected::reason("a name of 1 to 40 bytes is needed"))?;
        Ok(Connected::new().id(format!("user:{name}")).assigns(User { name: name.to_owned() }))
    }
}

/// What a client pushes as `new_msg`.
#[derive(Deserialize)]
struct NewMessage {
    body: String,
}

/// What all members of the room get.
#[derive(Serialize)]
struct Message<'a> {
    from: &'a str,
    body: &'a str,
}

/// The topics `room:*`.
struct Room;

/// What a join tells itself.
struct Joining;

impl Channel for Room {
    type State = ();
    type Params = Payload;
    type Info = Joining;

    async fn join(&self, cx: &mut Context<Joining>, _: Payload) -> Result<Joined<()>, Refused> {
        if cx.topic() == "room:private" {
            return Err(Refused::reason("this room is private"));
        }
        // Presence begins once the client has the reply.
        cx.send(Joining)?;
        Ok(Joined::new(()).reply(json!({ "room": cx.topic() })))
    }

    async fn handle_in(
        &self,
        _: &mut (),
        cx: &mut Context<Joining>,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, BoxError> {
        match event {
            "new_msg" => {
                let NewMessage { body } = payload.to()?;
                let from = name(cx);
                cx.broadcast("new_msg", Message { from: &from, body: &body }).await?;
                Ok(Reply::empty())
            }
            _ => Ok(Reply::error(json!({ "reason": "unknown event" }))),
        }
    }

    async fn handle_info(&self, _: &mut (), cx: &mut Context<Joining>, Joining: Joining) -> Result<Flow, BoxError> {
        cx.track(&name(cx), json!({ "via": cx.socket().transport().name() })).await?;
        cx.push_presence_state().await?;
        Ok(Flow::Continue)
    }
}

fn name<I>(cx: &Context<I>) -> String {
    cx.assigns::<User>().map(|user| user.name.clone()).unwrap_or_default()
}

/// `POST /announce/lobby` with a text as its body.
async fn announce(State(endpoint): State<Endpoint>, Path(room): Path<String>, body: String) -> StatusCode {
    match endpoint.broadcast(&format!("room:{room}"), "announcement", json!({ "body": body })).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

pub(crate) async fn run(server: Server, shutdown: impl Future<Output = ()>) -> Result<(), BoxError> {
    let mount = Mount::new().connect(ByName).channel("room:*", Room);
    let endpoint = Endpoint::builder().mount("/socket", mount).build().await?;
    let app =
        Router::new().route("/announce/{room}", post(announce)).merge(endpoint.routes()).with_state(endpoint.clone());
    let closing = server.serve_app(app, &endpoint, shutdown).await;
    endpoint.drain(Drain::default()).await;
    closing.finish(Duration::from_secs(5)).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    let port = match (args.next().as_deref(), args.next().map(|port| port.parse::<u16>())) {
        (None, _) => 4000,
        (Some("--port"), Some(Ok(port))) => port,
        _ => return Err("usage: chat [--port N]".into()),
    };
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let address = server.local_addr()?;
    println!("chat: listening on http://{address}");
    println!("In a browser, with the npm package `phoenix`:");
    println!("    const socket = new Socket(\"ws://{address}/socket\", {{params: {{name: \"ada\"}}}})");
    println!("    socket.connect()");
    println!("    const room = socket.channel(\"room:lobby\")");
    println!("    room.on(\"new_msg\", console.log)");
    println!("    room.join().receive(\"ok\", () => room.push(\"new_msg\", {{body: \"hello\"}}))");
    println!("From a shell: curl -d 'Tea is ready' http://{address}/announce/lobby");
    let mut terminate = signal(SignalKind::terminate())?;
    run(server, async { _ = terminate.recv().await }).await
}
