//! What carries frames: WebSocket connections, streams over HTTP and long-poll sessions.

pub(crate) mod bullet;
pub(crate) mod handover;
pub(crate) mod longpoll;
#[cfg(feature = "testing")]
pub(crate) mod memory;
pub(crate) mod stream;
pub(crate) mod streaming;
pub(crate) mod watched;
pub(crate) mod wire;
