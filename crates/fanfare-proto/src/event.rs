//! Event names: how long they are, and which of them are not an application's.

/// The longest event that configurations and interfaces for publishing take, in bytes. It is what the one length byte of a
/// binary frame can say.
pub const EVENT_SIZE_MAX: usize = 255;

/// Published on the topic that is a socket's id, it closes that socket.
pub const DISCONNECT: &str = "disconnect";

/// What an event means that is not an application's. Clients or the server act on it, so that nobody may publish it by accident
/// or in disguise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reserved {
    /// `phx_…`: the life of a channel. A client that receives `phx_close` leaves.
    Protocol,
    /// `presence_…`: who is in a topic.
    Presence,
    /// [`DISCONNECT`].
    Disconnect,
}

impl Reserved {
    /// What an event means; `None` for those of applications.
    pub fn of(event: &str) -> Option<Self> {
        if event.starts_with("phx_") {
            Some(Self::Protocol)
        } else if event.starts_with("presence_") {
            Some(Self::Presence)
        } else {
            (event == DISCONNECT).then_some(Self::Disconnect)
        }
    }

    /// Whether clients act on it: a disconnect is the server's alone.
    pub fn concerns_clients(self) -> bool {
        self != Self::Disconnect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_an_event_is() {
        for (event, expected) in [
            ("phx_join", Some(Reserved::Protocol)),
            ("phx_close", Some(Reserved::Protocol)),
            ("phx_", Some(Reserved::Protocol)),
            ("phx_anything", Some(Reserved::Protocol)),
            ("presence_state", Some(Reserved::Presence)),
            ("presence_diff", Some(Reserved::Presence)),
            ("disconnect", Some(Reserved::Disconnect)),
            ("disconnected", None),
            ("Disconnect", None),
            ("PHX_JOIN", None),
            ("phx", None),
            (" phx_join", None),
            ("presence", None),
            ("heartbeat", None),
            ("", None),
        ] {
            assert_eq!(Reserved::of(event), expected, "{event:?}");
        }
    }
}
