//! What carries frames: WebSocket connections and long-poll sessions, and the HTTP requests that begin them.

pub(crate) mod bullet;
pub(crate) mod longpoll;
#[cfg(feature = "testing")]
pub(crate) mod memory;
pub(crate) mod stream;
pub(crate) mod watched;
pub(crate) mod websocket;
