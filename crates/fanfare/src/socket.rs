//! One client connection: who it is, what carries it, its joins, and all that it does when it has its turn.
//!
//! A shard lends a socket what its sockets have in common, as a [`Turn`]; nothing else is touched, so that no socket can
//! change another. `socket/` has the parts: `hear` (what a frame of the client's means), `joins`, `resume`, `feed`, `jobs` and
//! `leaves` (the life of a join), `replies` (what the protocol itself answers), `credentials` (sent and renewed in band),
//! `topics` (joins without a channel), `present` (who is present in a topic), `reach` (how messages reach a join), `waiting` (frames that do not leave at once),
//! `writing` (when they do), `due` (what it waits for in time), `watch` (when that has come), `close` (its end).

mod close;
mod credentials;
mod due;
mod feed;
mod hear;
mod jobs;
mod joins;
mod leaves;
mod present;
mod reach;
mod reading;
mod replies;
mod resume;
mod surroundings;
mod topics;
mod turn;
mod waiting;
mod watch;
mod writing;

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use fanfare_proto::frame::Form;
use fanfare_proto::message::Incoming;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use fanfare_proto::session::{Entry, Session};
use tokio::sync::mpsc;

use crate::address::ConnectionSlot;
use crate::channel::Broadcast;
use crate::close_reason::CloseReason;
use crate::connect::{Connected, GivenTopic};
use crate::dialect::{Dialect, Ownership};
use crate::endpoint::Endpoint;
use crate::event::{Event, Tally};
use crate::fact::{Fact, Kind, Who};
#[cfg(feature = "metrics")]
use crate::figures::TRANSPORTS;
use crate::join::Seat;
use crate::key::{JoinKey, SocketKey};
use crate::mailbox::ShardHandle;
use crate::message::{Carriage, Variant};
use crate::mount::Mount;
use crate::observer::{Observer, SocketHandle};
use crate::outbox::Outbox;
use crate::timers::Alarm;
use crate::transport::longpoll::PollSession;
use crate::transport::streaming::Streaming;
use crate::transport::wire::Wire;

pub(crate) use credentials::Verified;
pub(crate) use reading::Reading;
pub(crate) use surroundings::Surroundings;
pub(crate) use turn::{Errand, Turn};
pub(crate) use waiting::Backlog;

/// What carries a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Transport; TRANSPORTS] =
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

/// What is known about a socket since it connected.
pub struct SocketInfo {
    pub(crate) id: Option<Arc<str>>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) assigns: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) version: Version,
    pub(crate) transport: Transport,
    pub(crate) mount: Arc<Mount>,
    pub(crate) endpoint: Endpoint,
    pub(crate) shard: ShardHandle,
    /// When its credential expires, in milliseconds of the engine's clock.
    pub(crate) expires_ms: Option<u64>,
    /// It has to send a credential before anything else.
    pub(crate) is_pending: bool,
    /// From where it wants to go on with its topics, in a protocol whose joins do not say.
    pub(crate) since: Option<Since>,
    /// Of a hub's publisher.
    pub(crate) ownership: Option<Ownership>,
    /// Counts among its server's connections while it lives.
    pub(crate) _slot: Option<Arc<ConnectionSlot>>,
}

impl SocketInfo {
    /// The id that connect gave it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The client's address, where the transport knows it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// What connect assigned, if it is of this type.
    pub fn assigns<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.assigns.as_ref()?.downcast_ref()
    }

    /// The protocol version that the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What carries the socket.
    pub fn transport(&self) -> Transport {
        self.transport
    }
}

impl SocketInfo {
    /// Whose facts are told.
    pub(crate) fn who(&self) -> Who<'_> {
        Who {
            user: self.id().filter(|_| !self.mount.dialect.is_named_by_key()),
            address: self.peer,
            endpoint: self.mount.path.as_ref(),
        }
    }

    /// Counts and keeps what happens to a socket, without a line in the log: what its clients can cause in numbers.
    pub(crate) fn note(
        &self,
        counters: &impl Tally,
        (kind, event): (Kind, Event),
        topic: Option<&str>,
        detail: fmt::Arguments<'_>,
    ) {
        Fact { kind, event, who: self.who(), topic, code: None, detail }.note(counters, 1);
    }

    /// The same socket with other assigns.
    pub(crate) fn assigned(old: &SocketInfo, assigns: Arc<dyn Any + Send + Sync>) -> Self {
        SocketInfo { assigns: Some(assigns), ..old.copied() }
    }

    fn copied(&self) -> Self {
        SocketInfo {
            id: self.id.clone(),
            peer: self.peer,
            assigns: self.assigns.clone(),
            version: self.version,
            transport: self.transport,
            mount: self.mount.clone(),
            endpoint: self.endpoint.clone(),
            shard: self.shard.clone(),
            expires_ms: self.expires_ms,
            is_pending: self.is_pending,
            since: self.since,
            // Sockets of a hub's publishers run no channel and renew no credential.
            ownership: None,
            _slot: self._slot.clone(),
        }
    }

    /// The same socket with what a renewed credential says.
    pub(crate) fn refreshed(old: &SocketInfo, connected: Connected) -> Self {
        SocketInfo {
            expires_ms: connected.expires_ms(old.endpoint.clock()),
            id: connected.id.map(Arc::from),
            assigns: connected.assigns,
            is_pending: false,
            ..old.copied()
        }
    }
}

impl fmt::Debug for SocketInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Assigns may hold secrets.
        f.debug_struct("SocketInfo").field("id", &self.id).field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// What is known of a connection before it has a carrier.
#[derive(Debug)]
pub(crate) struct AdmittedSocket {
    pub(crate) info: Arc<SocketInfo>,
    pub(crate) dialect: Dialect,
    /// What it is joined to at once, without a channel. A hub's publisher gets nothing from its own.
    pub(crate) topics: Vec<GivenTopic>,
}

/// A connection on its way to its shard.
#[derive(Debug)]
pub(crate) struct NewSocket {
    pub(crate) admitted: AdmittedSocket,
    pub(crate) carrier: Carrier,
    /// What the client sent right behind its handshake.
    pub(crate) received: Vec<u8>,
    /// Told where the socket lives.
    pub(crate) attached: Option<tokio::sync::oneshot::Sender<SocketKey>>,
}

/// What carries the bytes, with what it needs.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// A connection, of a WebSocket or of a stream over HTTP.
    Wire(Wire),
    Poll(Box<PollSession>),
    /// Encoded frames for the test kit; `None` tells the close code.
    #[cfg(feature = "testing")]
    Frames(mpsc::UnboundedSender<LocalFrame>),
    /// Broadcasts for the registry's sockets, bounded.
    Broadcasts(mpsc::Sender<Broadcast>),
}

impl Carrier {
    /// The bytes and frames that wait for the client to take them.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        match self {
            Carrier::Wire(wire) => wire.waiting(),
            Carrier::Poll(session) => session.waiting(),
            _ => (0, 0),
        }
    }

    /// What waits, if that is an outbox's.
    pub(crate) fn outbox_if_any(&mut self) -> Option<&mut Outbox> {
        match self {
            Carrier::Wire(wire) => wire.outbox_if_any(),
            Carrier::Poll(session) => Some(session.outbox()),
            _ => None,
        }
    }

    /// Gives up what waits, if that can be done between two messages: there may be a gap in it.
    pub(crate) fn cut(&mut self) {
        match self {
            Carrier::Wire(wire) => wire.cut(),
            Carrier::Poll(session) => session.cut(),
            _ => {}
        }
    }
}

/// What a socket of the test kit receives.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub(crate) enum LocalFrame {
    Text(bytes::Bytes),
    Closed(u16),
}

/// A socket in its shard.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) key: SocketKey,
    pub(crate) info: Arc<SocketInfo>,
    pub(crate) dialect: Dialect,
    pub(crate) carrier: Carrier,
    pub(crate) session: Session<Seat>,
    /// When the client's last complete frame came.
    pub(crate) heard_ms: u64,
    /// The bytes of all frames that wait behind joins and busy channels.
    pub(crate) waiting_bytes: usize,
    /// Whether what the client sends is handled as it comes.
    pub(crate) reading: Reading,
    /// Whether the socket is on the shard's list of those with more to read.
    pub(crate) is_unread: bool,
    /// Whether the socket is on the shard's list of those with something to write.
    pub(crate) is_dirty: bool,
    pub(crate) stage: Stage,
    /// Joins of it wait for room to be sent more of what they missed.
    pub(crate) is_behind: bool,
    /// Set once something did not fit its outbox: nothing is queued or written until it is closed for that, or a client would
    /// get what comes behind a gap of which it knows nothing.
    pub(crate) overflowed: bool,
    /// How many of its frames meant nothing, where that does not close it at once.
    pub(crate) malformed: u16,
    /// Where credentials are checked or awaited.
    credentials: Option<Box<Credentials>>,
    /// When it looks again what is due.
    pub(crate) alarm: Alarm,
}

/// How far a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Open,
    /// It is being closed: nothing is read or queued any more.
    Closing,
    /// It has ended, and its shard forgets it as soon as its turn is over.
    Gone,
}

/// What a socket has sent to be let in, or to stay.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    /// How many are being checked.
    pub(crate) checking: u16,
    /// Until when the first one has to be there.
    pub(crate) due_ms: u64,
    /// What came behind the first one while that is checked.
    pub(crate) held: VecDeque<Incoming<'static>>,
}

impl Socket {
    /// A socket that has just come to its shard.
    pub(crate) fn new(key: SocketKey, admitted: AdmittedSocket, carrier: Carrier, now_ms: u64) -> Self {
        let AdmittedSocket { info, dialect, .. } = admitted;
        let pending_ms = now_ms.saturating_add(info.mount.credential_timeout.as_millis() as u64);
        let credentials = Credentials { due_ms: pending_ms, ..Credentials::default() };
        Socket {
            key,
            session: Session::new(info.mount.limits.joins_max),
            credentials: info.is_pending.then(|| Box::new(credentials)),
            info,
            dialect,
            carrier,
            heard_ms: now_ms,
            waiting_bytes: 0,
            reading: Reading::Goes,
            is_unread: false,
            is_dirty: false,
            stage: Stage::Open,
            is_behind: false,
            overflowed: false,
            malformed: 0,
            alarm: Alarm::OFF,
        }
    }

    /// Whether it is neither being closed nor gone.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// A join of it, in the shard's terms.
    fn join(&self, slot: usize) -> JoinKey {
        JoinKey { socket: self.key, serial: self.session.entry(slot).serial() }
    }

    /// Where the join with this serial is.
    fn slot(&self, serial: u32) -> Option<usize> {
        self.session.position(serial)
    }

    /// Has the socket closed when it has done what it does.
    fn close_later(&self, turn: &mut Turn, reason: CloseReason) {
        turn.errands.push_back(Errand::Close(self.key, reason));
    }

    fn entry(&mut self, slot: usize) -> &mut Entry<Seat> {
        self.session.entry_mut(slot)
    }

    fn seat(&mut self, slot: usize) -> &mut Seat {
        &mut self.session.entry_mut(slot).data
    }

    /// Tells the observers of it, unless it is a socket of this process.
    fn tell(&self, turn: &Turn, what: impl Fn(&dyn Observer, &SocketHandle)) {
        let observers = &turn.surroundings.observers;
        if !observers.is_empty() && self.dialect.has_client() {
            let handle = SocketHandle { info: self.info.clone(), key: self.key };
            observers.tell(|observer| what(observer, &handle));
        }
    }

    /// The form of its frames.
    pub(crate) fn form(&self) -> Form {
        self.dialect.form(&self.info, matches!(self.carrier, Carrier::Wire(_)))
    }

    pub(crate) fn carriage(&self) -> Carriage {
        match &self.carrier {
            Carrier::Wire(wire) => wire.carriage(),
            _ => Carriage::Text,
        }
    }

    /// The form of what it gets of topics that it resumes.
    pub(crate) fn resuming_form(&self) -> Form {
        match self.form() {
            Form::Phoenix(format) => Form::Resuming(format),
            Form::Bare | Form::BareText | Form::Rooms { .. } => Form::Envelope,
            form => form,
        }
    }

    /// How it takes the broadcasts of such topics.
    pub(crate) fn resuming_variant(&self) -> Variant {
        Variant::new(self.resuming_form(), self.carriage())
    }

    /// What it has as a stream over HTTP, if it is one.
    pub(crate) fn streaming(&mut self) -> Option<&mut Streaming> {
        let Carrier::Wire(wire) = &mut self.carrier else { return None };
        wire.streaming.as_deref_mut()
    }

    /// Whether the events of its stream have ids of their own.
    pub(crate) fn gives_ids(&self) -> bool {
        let Carrier::Wire(wire) = &self.carrier else { return false };
        wire.streaming.as_ref().is_some_and(|streaming| streaming.gives_ids())
    }

    /// How this socket takes broadcasts, unless it takes them one by one.
    pub(crate) fn variant(&self) -> Variant {
        Variant::new(self.form(), self.carriage())
    }
}
