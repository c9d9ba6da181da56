//! What carries frames: WebSocket connections, streams over HTTP and long-poll sessions.

mod carrier;
pub(crate) mod handover;
pub(crate) mod longpoll;
#[cfg(feature = "testing")]
pub(crate) mod memory;
pub(crate) mod stream;
pub(crate) mod streaming;
pub(crate) mod watched;
pub(crate) mod wire;

pub(crate) use carrier::Carrier;
#[cfg(feature = "testing")]
pub(crate) use carrier::LocalFrame;

/// What carries a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Transport {
    /// A WebSocket connection.
    WebSocket,
    /// A long-poll session.
    LongPoll,
    /// A stream of server-sent events.
    EventStream,
    /// This process: the test kit.
    Local,
}

impl Transport {
    /// Each of them.
    pub const ALL: [Transport; 4] =
        [Transport::WebSocket, Transport::LongPoll, Transport::EventStream, Transport::Local];

    /// The name that applications see: `websocket`, `longpoll`, `sse` or `local`.
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::LongPoll => "longpoll",
            Transport::EventStream => "sse",
            Transport::Local => "local",
        }
    }
}
