//! What is counted outside of shards, by many threads, and is no event.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use fanfare_proto::presence::Diff;
use parking_lot::Mutex;

use super::{Histogram, TRANSPORTS};
use crate::address::Places;

/// What threads count together.
#[derive(Debug, Default)]
pub(crate) struct SharedFigures {
    /// By transport: from the connection to the answer that lets the client in.
    pub(crate) handshakes: [Histogram<AtomicU64>; TRANSPORTS],
    pub(crate) appends: Appends,
    pub(crate) presence: PresenceFigures,
    listeners: Mutex<Vec<Weak<ListenerFigures>>>,
}

/// Messages that a history was to keep.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    /// Those that were not; the others were kept.
    pub(crate) repeated: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) took: Histogram<AtomicU64>,
}

/// Of the members of this node.
#[derive(Debug, Default)]
pub(crate) struct PresenceFigures {
    pub(crate) came: AtomicU64,
    pub(crate) went: AtomicU64,
    pub(crate) diffs: AtomicU64,
}

/// What a listener counts.
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "metrics alone tell of them"))]
#[derive(Debug)]
pub(crate) struct ListenerFigures {
    pub(crate) name: &'static str,
    pub(crate) accepted: AtomicU64,
    /// Handshakes of TLS that came about, and that did not.
    pub(crate) tls: [AtomicU64; 2],
    places: Arc<Places>,
    handshakes: Arc<Places>,
}

impl ListenerFigures {
    /// Of a listener with so many places, and so many for connections that have not asked for anything yet.
    pub(crate) fn new(name: &'static str, places: Arc<Places>, handshakes: Arc<Places>) -> Arc<Self> {
        let (accepted, tls) = Default::default();
        Arc::new(ListenerFigures { name, accepted, tls, places, handshakes })
    }

    /// A handshake of TLS has ended.
    #[cfg(feature = "tls")]
    pub(crate) fn shook_hands(&self, is_done: bool) {
        self.tls[usize::from(!is_done)].fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections have a place.
    #[cfg(feature = "metrics")]
    pub(crate) fn connections(&self) -> u64 {
        self.places.taken() as u64
    }

    /// How many have not asked for anything yet.
    #[cfg(feature = "metrics")]
    pub(crate) fn handshakes(&self) -> u64 {
        self.handshakes.taken() as u64
    }
}

impl SharedFigures {
    /// A listener begins. It is told of as long as it lives.
    pub(crate) fn listens(&self, listener: &Arc<ListenerFigures>) {
        let mut listeners = self.listeners.lock();
        listeners.retain(|known| known.strong_count() > 0);
        listeners.push(Arc::downgrade(listener));
    }

    /// The listeners that there are.
    #[cfg(feature = "metrics")]
    pub(crate) fn listeners(&self) -> Vec<Arc<ListenerFigures>> {
        self.listeners.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

impl PresenceFigures {
    /// Members have come and gone.
    pub(crate) fn changed(&self, diff: &Diff) {
        for (presences, counter) in [(&diff.joins, &self.came), (&diff.leaves, &self.went)] {
            if !presences.is_empty() {
                let metas: usize = presences.iter().map(|(_, metas)| metas.len()).sum();
                counter.fetch_add(metas as u64, Ordering::Relaxed);
            }
        }
    }
}
