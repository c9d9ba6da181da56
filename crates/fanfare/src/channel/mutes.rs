//! What of its topic a member does not get.

use fanfare_proto::event::Reserved;

/// What of its topic a member does not get, since it has no right to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mutes {
    pub(crate) messages: bool,
    pub(crate) presence: bool,
}

impl Mutes {
    pub(crate) const NOTHING: Mutes = Mutes { messages: false, presence: false };

    /// Whether this is of an event.
    pub(crate) fn has(self, event: &str) -> bool {
        match Reserved::of(event) {
            None => self.messages,
            Some(Reserved::Presence) => self.presence,
            Some(Reserved::Protocol | Reserved::Disconnect) => false,
        }
    }
}
