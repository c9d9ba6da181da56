//! Socket.IO in Rust, with the events `join` (room), answered by `joined`, and `msg` (room, payload), over WebSocket only.

use axum::Router;
use axum::serve::ListenerExt;
use socketioxide::extract::{Data, SocketRef};
use socketioxide::{SocketIo, TransportType};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: socketioxide PORT");
    let (layer, io) = SocketIo::builder().transports([TransportType::Websocket]).max_buffer_size(1024).build_layer();
    io.ns("/", async |socket: SocketRef| {
        socket.on("join", async |socket: SocketRef, Data(room): Data<String>| {
            socket.join(room);
            _ = socket.emit("joined", &());
        });
        socket.on("msg", async |io: SocketIo, Data((room, payload)): Data<(String, String)>| {
            _ = io.to(room).emit("msg", &payload).await;
        });
    });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("socketioxide: listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a TCP option"));
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = axum::serve(listener, Router::new().layer(layer)) => Ok(ended?),
        _ = terminated.recv() => Ok(()),
    }
}
