//! What a Rust program does without Fanfare: axum's WebSockets, a task per socket, a `broadcast` channel per room.
//!
//! What a client of `/{room}` sends goes to everybody in the room. As in axum's example `chat`, a socket is split and has a
//! task for each direction. Unlike there the messages are shared bytes (`Utf8Bytes`), frames that are ready are written
//! together (`feed` until nothing is ready, then `flush`), and a member that lags is cut off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::broadcast::{self, Receiver, Sender};

/// Messages that a room keeps for its slowest member.
const ROOM_CAPACITY: usize = 128;

type Rooms = Arc<Mutex<HashMap<String, Sender<Message>>>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: axum-ws PORT");
    let app = Router::new().route("/{room}", any(upgrade)).with_state(Rooms::default());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("axum-ws: listening on ws://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("a TCP option"));
    tokio::select! {
        ended = axum::serve(listener, app) => ended,
        () = terminated() => Ok(()),
    }
}

async fn upgrade(request: WebSocketUpgrade, Path(room): Path<String>, State(rooms): State<Rooms>) -> Response {
    // Messages are small, and the default of 128 KB is for each socket.
    request.read_buffer_size(4096).on_upgrade(move |socket| member(socket, room, rooms))
}

async fn member(socket: WebSocket, room: String, rooms: Rooms) {
    let (sender, receiver) = {
        let mut rooms = rooms.lock().expect("nothing panics while it holds the lock");
        let sender = rooms.entry(room.clone()).or_insert_with(|| broadcast::channel(ROOM_CAPACITY).0).clone();
        let receiver = sender.subscribe();
        (sender, receiver)
    };
    let (sink, mut stream) = socket.split();
    let mut writer = tokio::spawn(write(sink, receiver));
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => drop(sender.send(message)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            },
            _ = &mut writer => break,
        }
    }
    writer.abort();
    _ = writer.await;
    let mut rooms = rooms.lock().expect("nothing panics while it holds the lock");
    if sender.receiver_count() == 0 {
        rooms.remove(&room);
    }
}

/// Writes until the socket breaks or lags behind the room by more than its capacity.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut room: Receiver<Message>) {
    while let Ok(message) = room.recv().await {
        if sink.feed(message).await.is_err() {
            return;
        }
        loop {
            match room.try_recv() {
                Ok(message) => {
                    if sink.feed(message).await.is_err() {
                        return;
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Lagged(_) | TryRecvError::Closed) => return,
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
    }
}

async fn terminated() {
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signals work");
    signal.recv().await;
}
