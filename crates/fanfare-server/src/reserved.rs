//! Events that mean something to clients of the protocol, so that nobody may publish them by accident or in disguise.

/// Whether an event is the protocol's own: `phx_…` for the life of a channel, `presence_…` for who is in it.
pub(crate) fn is_reserved(event: &str) -> bool {
    event.starts_with("phx_") || event.starts_with("presence_")
}
