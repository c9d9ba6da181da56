//! When a shard has to look at something again.
//!
//! A socket has one timer, which is due at the earliest of all that it waits for; what was put off meanwhile is found out
//! then. So a socket that hears something need not touch its timer, and one that ends takes it along.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::key::{JoinKey, SocketKey};

/// Timers fire at multiples of this.
const GRAIN_MS: u64 = 10;

/// The timer of a socket: when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alarm(u64);

impl Alarm {
    /// Not set.
    pub(crate) const OFF: Alarm = Alarm(u64::MAX);
}

/// What is due after all time is never due.
fn grained(due_ms: u64) -> u64 {
    due_ms.checked_next_multiple_of(GRAIN_MS).unwrap_or(u64::MAX)
}

/// When something for a join is due, and which of those that are due then.
type Later = (u64, u64);

/// What is due.
pub(crate) enum Due {
    /// A socket looks what it waited for. Its alarm is off.
    Socket(SocketKey),
    /// What a channel has sent to itself.
    Info(JoinKey, Box<dyn Any + Send>),
    /// Code of the engine's.
    Run(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Due")
    }
}

/// The timers of one shard.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    sockets: BTreeSet<(Alarm, SocketKey)>,
    later: BTreeMap<Later, Due>,
    /// Those of joins, so that they go with them.
    of_joins: BTreeSet<(JoinKey, Later)>,
    next_serial: u64,
}

impl Timers {
    /// Sets a socket's alarm, unless it is set to an earlier time.
    pub(crate) fn wake(&mut self, socket: SocketKey, alarm: &mut Alarm, due_ms: u64) {
        let due = Alarm(grained(due_ms));
        if due < *alarm {
            self.cancel(socket, alarm);
            *alarm = due;
            self.sockets.insert((due, socket));
        }
    }

    /// Turns a socket's alarm off.
    pub(crate) fn cancel(&mut self, socket: SocketKey, alarm: &mut Alarm) {
        if *alarm != Alarm::OFF {
            self.sockets.remove(&(*alarm, socket));
            *alarm = Alarm::OFF;
        }
    }

    /// Keeps what a channel has sent to itself.
    pub(crate) fn send_later(&mut self, join: JoinKey, due_ms: u64, info: Box<dyn Any + Send>) {
        let later = self.insert(due_ms, Due::Info(join, info));
        self.of_joins.insert((join, later));
    }

    /// Forgets what a join that has ended has sent to itself.
    pub(crate) fn forget(&mut self, join: JoinKey) {
        while let Some(&(of, later)) = self.of_joins.range((join, (0, 0))..).next()
            && of == join
        {
            self.of_joins.remove(&(join, later));
            self.later.remove(&later);
        }
    }

    /// Runs something of the engine's later.
    pub(crate) fn run_later(&mut self, due_ms: u64, run: Box<dyn FnOnce() + Send>) {
        self.insert(due_ms, Due::Run(run));
    }

    fn insert(&mut self, due_ms: u64, due: Due) -> Later {
        let later = (grained(due_ms), self.next_serial);
        self.next_serial += 1;
        self.later.insert(later, due);
        later
    }

    /// When the next one is due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        let socket = self.sockets.first().map(|(due, _)| due.0);
        let later = self.later.first_key_value().map(|((due_ms, _), _)| *due_ms);
        socket.into_iter().chain(later).min()
    }

    /// All that is set from now on is newer than this.
    pub(crate) fn newest(&self) -> u64 {
        self.next_serial
    }

    /// Takes the next one that is due by now and not newer than that, so that a channel that sends to itself at once does not
    /// hold up what else is to be done.
    pub(crate) fn take_due(&mut self, now_ms: u64, newest: u64) -> Option<Due> {
        let due_ms = self.next_ms().filter(|&due_ms| due_ms <= now_ms)?;
        if let Some(&(alarm, socket)) = self.sockets.first()
            && alarm.0 == due_ms
        {
            self.sockets.pop_first();
            return Some(Due::Socket(socket));
        }
        let (later, due) = self.later.first_entry().filter(|entry| entry.key().1 < newest)?.remove_entry();
        if let Due::Info(join, _) = &due {
            self.of_joins.remove(&(*join, later));
        }
        Some(due)
    }

    /// How many there are.
    #[cfg(feature = "testing")]
    pub(crate) fn len(&self) -> usize {
        self.sockets.len() + self.later.len()
    }
}
