//! What clients speak: which dialects there are, and what is simply so of each. How they are spoken is in `protocol`.

use fanfare_proto::supabase;

/// What the frames of a connection mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Phoenix Channels.
    Phoenix,
    /// JSON frames that join, leave and say something.
    Rooms,
    /// Supabase Realtime.
    Supabase,
    /// Every frame is published on the topic that the socket owns.
    HubPublisher,
    /// Frames are thrown away.
    HubSubscriber,
    /// Texts of bullet.js.
    Bullet,
    /// Server-sent events of one topic.
    Events,
    /// JSON lines of one topic.
    Lines,
    /// Every message comes back as it is: for conformance tests.
    Echo,
    /// No frames: sockets of this process.
    Local,
}

/// What protocols are called where they are counted, by their numbers.
pub(crate) const PROTOCOL_NAMES: [&str; crate::figures::PROTOCOLS] =
    ["phoenix", "rooms", "supabase", "hub", "bullet", "stream", "echo", "local"];

impl Dialect {
    /// Whether a client joins and leaves by itself, through channels. The others have their topics from connect.
    pub(crate) fn has_channels(self) -> bool {
        matches!(self, Dialect::Phoenix | Dialect::Rooms | Dialect::Supabase | Dialect::Events | Dialect::Lines)
    }

    /// The number under which it is counted.
    #[inline]
    pub(crate) fn protocol(self) -> usize {
        match self {
            Dialect::Phoenix => 0,
            Dialect::Rooms => 1,
            Dialect::Supabase => 2,
            Dialect::HubPublisher | Dialect::HubSubscriber => 3,
            Dialect::Bullet => 4,
            Dialect::Events | Dialect::Lines => 5,
            Dialect::Echo => 6,
            Dialect::Local => 7,
        }
    }

    /// What the protocol is called.
    pub(crate) fn protocol_name(self) -> &'static str {
        PROTOCOL_NAMES[self.protocol()]
    }

    /// Whether clients ask in their joins to be told of a message what is different from the one before it.
    pub(crate) fn hears_of_deltas(self) -> bool {
        self == Dialect::Phoenix
    }

    /// Whether a client has one topic for as long as it is connected.
    pub(crate) fn is_stream(self) -> bool {
        matches!(self, Dialect::Events | Dialect::Lines)
    }

    /// The subprotocol by which a stock client asks for it, if there is one.
    pub(crate) fn subprotocol(self) -> Option<&'static str> {
        (self == Dialect::Phoenix).then_some("phoenix")
    }

    /// Whether clients send heartbeats of their own. Others are pinged.
    pub(crate) fn has_heartbeats(self) -> bool {
        matches!(self, Dialect::Phoenix | Dialect::Bullet)
    }

    /// Whether the id of a socket may be its client's credential, which no log may have.
    pub(crate) fn is_named_by_key(self) -> bool {
        self == Dialect::Bullet
    }

    /// Whether there is a client, and not code of this process.
    pub(crate) fn has_client(self) -> bool {
        self != Dialect::Local
    }

    /// Whether a client that resumes is told so by a message of its own. Phoenix has it in the reply to the join.
    pub(crate) fn says_joined(self) -> bool {
        self != Dialect::Phoenix
    }

    /// Whether a client is told why a channel stopped with an error. Elsewhere the channel is the user's, and the reason may not be for
    /// clients.
    pub(crate) fn says_why_it_stops(self) -> bool {
        self == Dialect::Supabase
    }

    /// Whether clients are told of a message that it was kept for them.
    pub(crate) fn marks_kept(self) -> bool {
        self == Dialect::Supabase
    }

    /// Whether a client can be in a topic at all: in a private channel of Supabase's clients, only they can, and they alone are told of a
    /// table's changes, row by row.
    pub(crate) fn reaches(self, topic: &str) -> bool {
        self == Dialect::Supabase || !(supabase::is_private(topic) || topic.starts_with(supabase::CHANGES))
    }

    /// Whether what is published on a topic that connect gave reaches the socket. A publisher has its place among the socket's
    /// topics only.
    pub(crate) fn receives(self) -> bool {
        self != Dialect::HubPublisher
    }

    /// Whether a socket ends with the topic that connect gave it.
    pub(crate) fn ends_with_topic(self) -> bool {
        self == Dialect::HubSubscriber
    }

    /// Whether clients give up for ever where they are refused by a status. They are told to come again in another way.
    pub(crate) fn gives_up(self) -> bool {
        self == Dialect::Events
    }

    /// Whether a mount takes any path below its own, but for those below another mount.
    pub(crate) fn takes_any_path(self) -> bool {
        self == Dialect::Rooms
    }
}
