//! Socket.IO in Rust, with the events `join` (room), answered by `joined`, and `msg` (room, payload), over WebSocket only.
//!
//! Its handlers are tasks: two messages that follow each other closely may change places on the way.

use axum::Router;
use axum::serve::ListenerExt;
use socketioxide::extract::{Data, SocketRef};
use socketioxide::handler::ConnectHandler;
use socketioxide::{SocketIo, TransportType};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: socketioxide PORT");
    let (layer, io) = SocketIo::builder()
        .transports([TransportType::Websocket])
        .max_buffer_size(1024)
        .ws_read_buffer_size(4096)
        .build_layer();
    io.ns("/", (async || {}).with(listen));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("socketioxide: listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a TCP option"));
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = axum::serve(listener, Router::new().layer(layer)) => Ok(ended?),
        _ = terminated.recv() => Ok(()),
    }
}

/// As middleware, which comes before the client is told that it is connected: the handler of a connection is a task, and a client
/// that is quick to join may come before it.
async fn listen(socket: SocketRef) -> Result<(), std::convert::Infallible> {
    socket.on("join", async |socket: SocketRef, Data(room): Data<String>| {
        socket.join(room);
        _ = socket.emit("joined", &());
    });
    socket.on("msg", async |io: SocketIo, Data((room, payload)): Data<(String, String)>| {
        _ = io.to(room).emit("msg", &payload).await;
    });
    Ok(())
}
