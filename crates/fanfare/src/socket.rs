//! One client connection: who it is, what carries it, its joins, and all that it does when it has its turn.
//!
//! A shard lends a socket what its sockets have in common, as a [`Turn`]; nothing else is touched, so that no socket can
//! change another. `socket/` has the parts: `hear` (what a frame of the client's means), `joins`, `resume`, `feed`, `jobs` and
//! `leaves` (the life of a join), `replies` (what the protocol itself answers), `credentials` (sent and renewed in band),
//! `topics` (joins without a channel), `present` (who is present in a topic), `reach` (how messages reach a join), `rates` (how often clients may do what they do), `tenant` (for whom they count), `waiting` (frames that do not leave at once),
//! `writing` (when they do), `missed` (what was read for a join and not sent), `rations` (in which order it is),
//! `inbox` (what it holds of what its client has sent), `relief` (what waits takes too much memory), `due` (what it waits for in time), `watch` (when that has come), `close` (its end).

mod close;
mod credentials;
mod due;
mod feed;
mod hear;
mod inbox;
mod jobs;
mod joins;
mod leaves;
mod missed;
mod present;
mod rates;
mod rations;
mod reach;
mod reading;
mod relief;
mod replies;
mod resume;
mod seat;
mod tenant;
mod topics;
mod traced;
mod turn;
mod waiting;
mod watch;
mod writing;

use std::collections::VecDeque;
use std::sync::Arc;

use fanfare_proto::frame::Form;
use fanfare_proto::message::Incoming;
use fanfare_proto::session::{Entry, Session};

use crate::close_reason::CloseReason;
use crate::connect::{SocketHandle, SocketInfo};
use crate::dialect::Dialect;
use crate::endpoint::Ownership;
use crate::key::{JoinKey, SocketId, SocketKey};
use crate::mailbox::AdmittedSocket;
use crate::message::{Carriage, Variant};
use crate::observer::Observer;
use crate::tenant::Meter;
use crate::timers::Alarm;
use crate::transport::Carrier;
use crate::transport::streaming::Streaming;

use rates::Buckets;
use rations::Hunger;
pub(crate) use reading::Reading;
pub(crate) use seat::{CatchingUp, Seat};
pub(crate) use turn::{Errand, Turn};
pub(crate) use waiting::Backlog;

/// A socket in its shard.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) key: SocketKey,
    pub(crate) info: Arc<SocketInfo>,
    pub(crate) dialect: Dialect,
    /// Of a hub's publisher.
    ownership: Option<Box<Ownership>>,
    pub(crate) carrier: Carrier,
    pub(crate) session: Session<Seat>,
    /// When it came.
    pub(crate) began_ms: u64,
    /// How many messages the client has sent.
    pub(crate) received: u32,
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
    /// Whether its joins wait to be sent more of what they missed.
    hunger: Hunger,
    /// Set once something did not fit its outbox: nothing is queued or written until it is closed for that, or a client would
    /// get what comes behind a gap of which it knows nothing.
    pub(crate) overflowed: bool,
    /// How much it may do of what has a rate.
    pub(crate) buckets: Buckets,
    /// By which it counts for its tenant.
    pub(crate) meter: Meter,
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
        let AdmittedSocket { info, dialect, ownership, .. } = admitted;
        let pending_ms = now_ms.saturating_add(info.mount.credential_timeout.as_millis() as u64);
        let credentials = Credentials { due_ms: pending_ms, ..Credentials::default() };
        Socket {
            key,
            session: Session::new(info.mount.limits.joins_max),
            credentials: info.is_pending.then(|| Box::new(credentials)),
            info,
            dialect,
            ownership,
            carrier,
            began_ms: now_ms,
            received: 0,
            heard_ms: now_ms,
            waiting_bytes: 0,
            reading: Reading::Goes,
            is_unread: false,
            is_dirty: false,
            stage: Stage::Open,
            hunger: Hunger::Nothing,
            overflowed: false,
            buckets: Buckets::default(),
            meter: Meter::NONE,
            malformed: 0,
            alarm: Alarm::OFF,
        }
    }

    /// The client has sent a message.
    #[inline]
    pub(crate) fn count_received(&mut self, turn: &mut Turn) {
        self.received = self.received.wrapping_add(1);
        turn.received(self.dialect);
        if self.meter != Meter::NONE {
            turn.backlog.meters.received(self.meter);
        }
    }

    /// Whether it is neither being closed nor gone.
    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// What it is called on its node.
    fn id(&self) -> SocketId {
        SocketId::new(self.info.shard.number(), self.key)
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
        let observers = &turn.observers;
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
