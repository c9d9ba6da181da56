//! What the engine keeps for a join: how far it is, what waits for it, and its channel's state while that does not run.

use std::collections::VecDeque;
use std::sync::Arc;

use fanfare_proto::message::Ref;
use fanfare_proto::payload::JsonText;
use fanfare_proto::position::{Position, Since};
use fanfare_proto::session::Answered;

use super::missed::Missed;
use crate::channel::{Instance, Job, Mutes};
use crate::history::Wanted;
use crate::hub::Place;
use crate::message::Message;
use crate::tenant::TenantJoin;

/// What the engine keeps for a join.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) phase: Phase,
    /// What waits for the join to be answered, or for the channel's code.
    pub(crate) jobs: VecDeque<Job>,
    /// Its memberships of other topics.
    pub(crate) listens: Vec<Place>,
    /// What [`crate::Endpoint::members`] tells.
    pub(crate) meta: Option<JsonText>,
    /// Behind here it has been sent all, if it resumes and was answered.
    pub(crate) complete_from: Option<Box<Position>>,
    /// How many of the jobs are messages of its topic: those that come have to wait behind them.
    pub(crate) outs: u32,
    /// Its route in the socket's mount.
    pub(crate) route: u32,
    /// Its messages carry positions.
    pub(crate) resumes: bool,
    /// Its client wants to hear of messages that have given way because it was slow. One that resumes does so in any case.
    pub(crate) hears_gaps: bool,
    /// Its client wants to be told what is different from the message before.
    pub(crate) wants_deltas: bool,
    /// It has sent something to itself that is not due yet.
    pub(crate) sends_later: bool,
    /// What of its topic it does not get.
    pub(crate) mutes: Mutes,
    /// Counts among the joins of its socket's tenant while it lasts.
    pub(crate) _of_tenant: Option<TenantJoin>,
}

/// The life of a join. Its end is not among these: a join that has ended is no more, and if its channel's code runs at the time,
/// that is an orphan of its shard's.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Its channel decides whether it lets it in.
    Asked {
        /// From where on the client wants what the topic has kept.
        since: Option<Since>,
        began_ms: u64,
        /// The join that this one replaces is told of its end after this one is answered, or when that takes time.
        replaced: Option<Box<Ref>>,
    },
    /// Its channel has let it in, and what its topic has kept is read for the answer. It is a member for which all is held.
    Admitted { place: Place, page: Box<Page>, began_ms: u64, replaced: Option<Box<Ref>> },
    /// It was answered, or needs no answer.
    Live(Membership),
}

/// A join that was answered.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// Where it stands in its topic. A hub's publisher stands nowhere.
    pub(crate) place: Option<Place>,
    pub(crate) code: Code,
    /// Until it has caught up with its topic.
    pub(crate) catching_up: Option<Box<CatchingUp>>,
}

/// A join's channel.
#[derive(Debug, Default)]
pub(crate) enum Code {
    /// It has none.
    #[default]
    None,
    /// It waits for something to do.
    Idle(Instance),
    /// It runs.
    Runs {
        /// What it handles is an intercepted message.
        is_out: bool,
        /// Of the intercepted message that it handles: what is pushed meanwhile takes the place of that.
        handled: Option<Box<Position>>,
    },
}

/// How far a join is that gets what its topic has kept.
#[derive(Debug)]
pub(crate) enum CatchingUp {
    /// A page is being read.
    Reading(Page),
    /// What was read is sent, as fast as the client takes it.
    Feeding(Feed),
    /// What comes up to here it has got already.
    Behind {
        /// For its client.
        head: Position,
        /// For comparing it with messages.
        number: u64,
    },
}

/// A page of the history that is being read.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) wanted: Wanted,
    pub(crate) held: Held,
    /// Whether it follows one that was sent.
    pub(crate) is_next: bool,
}

impl Page {
    pub(crate) fn new(wanted: Wanted) -> Self {
        Page { wanted, held: Some(Withheld::default()), is_next: false }
    }
}

/// What was published since a history was read. `None`: too much, and it is in the history.
pub(crate) type Held = Option<Withheld>;

/// Messages that come after what is read.
#[derive(Debug, Default)]
pub(crate) struct Withheld {
    pub(crate) messages: Vec<Arc<Message>>,
    /// The bytes of their payloads.
    pub(crate) bytes: usize,
}

/// A page of the history on its way to a client.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) page: Missed,
    /// It has been sent all up to here.
    pub(crate) at: Position,
    /// Where the topic was when the page was read. If the page ends before, there is another.
    pub(crate) head: Position,
    /// By which messages are compared with that.
    pub(crate) number: u64,
    pub(crate) held: Held,
    /// Its channel has something to say before.
    pub(crate) waits: bool,
}

impl Seat {
    pub(crate) fn new(phase: Phase) -> Self {
        Seat {
            phase,
            jobs: VecDeque::new(),
            listens: Vec::new(),
            meta: None,
            complete_from: None,
            outs: 0,
            route: 0,
            resumes: false,
            hears_gaps: false,
            wants_deltas: false,
            sends_later: false,
            mutes: Mutes::NOTHING,
            _of_tenant: None,
        }
    }
}

impl Answered for Seat {
    fn is_answered(&self) -> bool {
        matches!(self.phase, Phase::Live(_))
    }
}

impl Phase {
    /// Where the join stands in its own topic.
    pub(crate) fn place(&self) -> Option<Place> {
        match self {
            Phase::Asked { .. } => None,
            Phase::Admitted { place, .. } => Some(*place),
            Phase::Live(membership) => membership.place,
        }
    }

    pub(crate) fn place_mut(&mut self) -> Option<&mut Place> {
        match self {
            Phase::Asked { .. } => None,
            Phase::Admitted { place, .. } => Some(place),
            Phase::Live(membership) => membership.place.as_mut(),
        }
    }

    /// When it was asked for, if it has not been answered.
    pub(crate) fn began_ms(&self) -> Option<u64> {
        match self {
            Phase::Asked { began_ms, .. } | Phase::Admitted { began_ms, .. } => Some(*began_ms),
            Phase::Live(_) => None,
        }
    }

    /// The join that this one replaces, to be told of its end.
    pub(crate) fn take_replaced(&mut self) -> Option<Box<Ref>> {
        match self {
            Phase::Asked { replaced, .. } | Phase::Admitted { replaced, .. } => replaced.take(),
            Phase::Live(_) => None,
        }
    }

    pub(crate) fn catching_up(&self) -> Option<&CatchingUp> {
        match self {
            Phase::Live(membership) => membership.catching_up.as_deref(),
            _ => None,
        }
    }

    /// What holds what is published, while something else comes first.
    pub(crate) fn held(&mut self) -> Option<&mut Held> {
        match self {
            Phase::Asked { .. } => None,
            Phase::Admitted { page, .. } => Some(&mut page.held),
            Phase::Live(membership) => match membership.catching_up.as_deref_mut()? {
                CatchingUp::Reading(page) => Some(&mut page.held),
                CatchingUp::Feeding(feed) => Some(&mut feed.held),
                CatchingUp::Behind { .. } => None,
            },
        }
    }

    /// The channel's state, if that is here.
    pub(crate) fn instance_mut(&mut self) -> Option<&mut Instance> {
        match self {
            Phase::Live(Membership { code: Code::Idle(instance), .. }) => Some(instance),
            _ => None,
        }
    }

    /// Whether the channel waits for something to do.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self, Phase::Live(Membership { code: Code::Idle(_), .. }))
    }

    /// Whether the channel's code runs for an intercepted message.
    pub(crate) fn handles_out(&self) -> bool {
        matches!(self, Phase::Live(Membership { code: Code::Runs { is_out: true, .. }, .. }))
    }

    /// The channel's state is back from a run.
    pub(crate) fn rest(&mut self, instance: Instance) {
        if let Phase::Live(membership) = self {
            membership.code = Code::Idle(instance);
        }
    }

    /// Takes the channel's part of a join that ends.
    pub(crate) fn take_code(&mut self) -> Code {
        match self {
            Phase::Asked { .. } | Phase::Admitted { .. } => Code::Runs { is_out: false, handled: None },
            Phase::Live(membership) => std::mem::replace(&mut membership.code, Code::None),
        }
    }

    /// Takes the channel's state for a run.
    pub(crate) fn start(&mut self, is_out: bool, handled: Option<Position>) -> Option<Instance> {
        let Phase::Live(Membership { code: code @ Code::Idle(_), .. }) = self else { return None };
        match std::mem::replace(code, Code::Runs { is_out, handled: handled.map(Box::new) }) {
            Code::Idle(instance) => Some(instance),
            Code::None | Code::Runs { .. } => None,
        }
    }
}
