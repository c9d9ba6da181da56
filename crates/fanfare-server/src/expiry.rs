//! Credentials end by the wall clock as well. The engine counts the time that a credential has left by a clock that nobody
//! sets, and that stands still while the machine sleeps: after either, sockets would outlive their credentials.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::{Observer, SocketHandle};

use crate::identity::Identity;

/// How often the clock is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// The engine is given so long to close a socket itself, and to say why.
const LATE: Duration = Duration::from_secs(2);

/// The sockets whose credentials end.
#[derive(Debug, Clone)]
pub(crate) struct Expiry(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared(Mutex<Ends<SocketHandle>>);

impl Expiry {
    /// Begins to look at the clock.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        tokio::spawn(watch(Arc::downgrade(&shared)));
        Self(shared)
    }
}

impl Shared {
    fn ends(&self) -> MutexGuard<'_, Ends<SocketHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watch(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(shared) = shared.upgrade() else { return };
        let due = shared.ends().take_due(SystemTime::now());
        if !due.is_empty() {
            tracing::info!(
                sockets = due.len(),
                "the wall clock has moved on: sockets with expired credentials are closed"
            );
        }
        due.iter().for_each(SocketHandle::close);
    }
}

impl Observer for Expiry {
    fn opened(&self, socket: &SocketHandle) {
        if let Some(end) = end_of(socket) {
            self.0.ends().add(end, socket.clone());
        }
    }

    fn closed(&self, socket: &SocketHandle) {
        if let Some(end) = end_of(socket) {
            self.0.ends().remove(end, socket);
        }
    }
}

fn end_of(socket: &SocketHandle) -> Option<SystemTime> {
    socket.info().assigns::<Identity>()?.expires_at()
}

/// What ends when, to the second.
struct Ends<T>(BTreeMap<u64, HashSet<T>>);

impl<T: Hash + Eq> Ends<T> {
    fn add(&mut self, end: SystemTime, what: T) {
        self.0.entry(seconds(end)).or_default().insert(what);
    }

    fn remove(&mut self, end: SystemTime, what: &T) {
        let end = seconds(end);
        if let Some(all) = self.0.get_mut(&end) {
            all.remove(what);
            if all.is_empty() {
                self.0.remove(&end);
            }
        }
    }

    /// Takes what has ended for some time.
    fn take_due(&mut self, now: SystemTime) -> Vec<T> {
        let left = self.0.split_off(&(seconds(now).saturating_sub(LATE.as_secs())));
        std::mem::replace(&mut self.0, left).into_values().flatten().collect()
    }
}

impl<T> Default for Ends<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> fmt::Debug for Ends<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("times", &self.0.len()).finish_non_exhaustive()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_due_a_little_later() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut ends = Ends::default();
        for (end, what) in [(100, "a"), (100, "b"), (101, "c"), (200, "d")] {
            ends.add(at(end), what);
        }
        ends.remove(at(100), &"b");
        assert!(ends.take_due(at(102)).is_empty());
        assert_eq!(ends.take_due(at(103)), ["a"]);
        assert_eq!(ends.take_due(at(150)), ["c"]);
        ends.remove(at(100), &"a");
        ends.remove(at(200), &"d");
        assert!(ends.0.is_empty());
    }
}
