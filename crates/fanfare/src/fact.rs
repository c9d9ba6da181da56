//! Facts about clients: who was refused, closed, or lost something, and why. A fact is one value; its counter, its line in the log and
//! its entry among the last facts come from it, and nothing else writes them.
//!
//! The detail names the value, what is allowed, and the next step; never credentials or contents.

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use tracing::field::display;

use crate::address::shown_address;
use crate::event::past::{News, PastFact};
use crate::event::{Event, HeldBack, Tally};
use crate::path::MountPath;
use crate::trace::Traced;

macro_rules! kinds {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal;)*) => {
        /// What kind of fact it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $(#[doc = $doc] $variant,)* }

        impl Kind {
            pub(crate) const NAMES: &'static [&'static str] = &[$($name,)*];

            #[cfg(test)]
            pub(crate) const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// When it is told, in the words of the guide.
            #[cfg(test)]
            pub(crate) fn about(self) -> &'static str {
                match self { $(Kind::$variant => $doc,)* }
            }

            /// What lines call it. Programs read this: it is never renamed.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }
        }
    };
}

kinds! {
    /// a connection or request was refused, see above; `code` is the status of the answer
    Refused = "refused";
    /// a socket sent a credential that is not accepted
    CredentialRefused = "credential_refused";
    /// a client could not join a topic
    JoinRefused = "join_refused";
    /// a push was answered with an error, or was for a topic that is not joined
    PushRefused = "push_refused";
    /// a client did something more often than a [rate](limits.md) allows
    Limited = "limited";
    /// the server ended a join of a Supabase client, whose token no longer counts
    Ended = "ended";
    /// the server closed a socket; `code` is the [close code](#close-codes). The sockets of a drain have no lines
    Closed = "closed";
    /// a message was not kept, or a member not tracked
    Dropped = "dropped";
    /// a channel's code failed
    Crashed = "crashed";
    /// a trusted proxy's header has something else than an address
    Misread = "misread";
}

impl PastFact {
    /// All kinds of facts.
    pub const KINDS: &'static [&'static str] = Kind::NAMES;
}

impl Kind {
    /// Whether somebody has to look after the server, rather than after a client.
    fn is_a_fault(self) -> bool {
        matches!(self, Kind::Dropped | Kind::Crashed | Kind::Misread)
    }
}

/// Whom a fact concerns, as far as that is known.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Who<'f> {
    /// The id of the socket, unless that is a credential.
    pub(crate) user: Option<&'f str>,
    pub(crate) address: Option<SocketAddr>,
    /// The path of the mount.
    pub(crate) endpoint: Option<&'f MountPath>,
}

/// Something that happened to a client and that somebody will ask about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fact<'f> {
    pub(crate) kind: Kind,
    /// What is counted; its reason is that of the line.
    pub(crate) event: Event,
    pub(crate) who: Who<'f>,
    pub(crate) topic: Option<&'f str>,
    /// The status of the answer, or the code of the close frame.
    pub(crate) code: Option<u16>,
    /// For people: the value, what is allowed, the next step.
    pub(crate) detail: fmt::Arguments<'f>,
}

impl Fact<'_> {
    /// Counts and keeps it, and writes its line. Clients can cause facts at will: of each event ten lines a second are written, and the
    /// next one says how many were left out.
    pub(crate) fn tell(self, counters: &impl Tally) {
        self.note(counters, 1);
        let Some(held_back) = LINES[self.event as usize].pass() else { return };
        let Fact { kind, event, who: Who { user, address, endpoint }, topic, code, detail } = self;
        let (event, (_, reason)) = (kind.name(), event.name());
        let (address, endpoint, detail) =
            (address.map(|address| display(shown_address(address))), endpoint.map(display), detail.to_string());
        let trace_id = Traced::current().map(|traced| traced.trace_id());
        if kind.is_a_fault() {
            tracing::warn!(event, reason, endpoint, user, address, topic, code, detail, held_back, trace_id);
        } else {
            tracing::info!(event, reason, endpoint, user, address, topic, code, detail, held_back, trace_id);
        }
    }

    /// Counts and keeps it without a line: one of which the log would be full.
    pub(crate) fn note(&self, counters: &impl Tally, times: u64) {
        counters.add(self.event, times);
        self.keep(counters, times);
    }

    /// Keeps what is counted elsewhere.
    pub(crate) fn keep(&self, counters: &impl Tally, times: u64) {
        let Fact { kind, event, who: Who { user, address, endpoint }, topic, code, detail } = *self;
        let (kind, reason, address) = (kind.name(), event.name().1, address.map(|address| address.ip()));
        let news = News { kind, reason, code, detail, user, address, endpoint, topic };
        counters.past().enter(news, times, SystemTime::now());
    }
}

/// How many lines about clients were left out since the start of the process.
#[cfg(feature = "metrics")]
pub(crate) fn lines_left_out() -> u64 {
    LINES.iter().map(HeldBack::ever).sum()
}

/// One for each event, so that a flood of one keeps no other out of the log.
static LINES: [HeldBack; Event::ALL.len()] = [const { HeldBack::new(10, 1) }; Event::ALL.len()];
