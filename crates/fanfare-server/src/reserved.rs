//! Events that mean something to clients of the protocol or to the engine, so that nobody may publish them by accident or in
//! disguise.

/// Published on the topic that is a socket's id, it closes that socket.
pub(crate) const DISCONNECT: &str = "disconnect";

/// Whether an event is the protocol's own: `phx_…` for the life of a channel, `presence_…` for who is in it.
pub(crate) fn is_reserved(event: &str) -> bool {
    event.starts_with("phx_") || event.starts_with("presence_")
}

/// Whether clients may not publish it, whatever a channel allows: a topic that is somebody's id would let them close sockets of
/// others.
pub(crate) fn is_kept_from_clients(event: &str) -> bool {
    is_reserved(event) || event == DISCONNECT
}
