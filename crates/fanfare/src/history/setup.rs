//! Where histories are kept, and how much of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Store;
use super::disk::Disk;
use super::memory::Memory;
use crate::clock::Clock;
use crate::error::Error;
use crate::policy::Policies;

/// Where an endpoint keeps the histories of its topics: in memory, or in a directory as well.
///
/// ```no_run
/// use fanfare::{Endpoint, History, HistorySync, Policy, Retention};
///
/// let builder = Endpoint::builder()
///     .policy("room:*", Policy::new().history(Retention::default()))
///     .history(History::dir("/var/lib/chat/history").sync(HistorySync::Always));
/// # drop(builder);
/// ```
#[derive(Debug, Clone)]
pub struct History {
    place: Place,
    sync: HistorySync,
    limits: HistoryLimits,
}

#[derive(Debug, Clone)]
enum Place {
    Memory,
    Dir(PathBuf),
    #[cfg(feature = "testing")]
    Faulty(super::Faults),
}

impl History {
    /// In memory. Histories end with the process: clients that come back to the next one are told that messages are gone.
    pub fn memory() -> Self {
        History { place: Place::Memory, sync: HistorySync::default(), limits: HistoryLimits::default() }
    }

    /// In memory and in a directory, which is made if it is not there: histories outlive the process. A message is published,
    /// and acknowledged, once it is written there; reads are answered from memory.
    ///
    /// One process at a time may use a directory. It knows what was published while it was in use: a process that kept the
    /// same topics elsewhere in between, or a copy of the directory from an earlier time, makes it tell clients that they have
    /// missed nothing when they have. Begin with an empty directory then.
    pub fn dir(path: impl Into<PathBuf>) -> Self {
        History { place: Place::Dir(path.into()), ..History::memory() }
    }

    /// Whether it is not only in memory.
    pub(crate) fn is_elsewhere(&self) -> bool {
        !matches!(self.place, Place::Memory)
    }

    #[cfg(feature = "testing")]
    pub(crate) fn faulty(faults: &super::Faults) -> Self {
        History { place: Place::Faulty(faults.clone()), ..History::memory() }
    }

    /// When what is written to a directory is made safe from a power cut.
    pub fn sync(mut self, sync: HistorySync) -> Self {
        self.sync = sync;
        self
    }

    /// What all histories may take together.
    pub fn limits(mut self, limits: HistoryLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    /// See [`Builder::build`](crate::Builder::build).
    pub(crate) fn open(self, clock: Clock, policies: &Policies) -> Result<Arc<dyn Store>, Error> {
        let History { place, sync, limits } = self;
        Ok(match place {
            Place::Memory => Arc::new(Memory::new(limits, clock)?),
            Place::Dir(path) => Arc::new(Disk::open(&path, sync, limits, clock, policies)?),
            #[cfg(feature = "testing")]
            Place::Faulty(faults) => faults.store(&clock),
        })
    }
}

/// What an acknowledgement of a message means that is kept in a directory. By any of these, what was acknowledged outlives the
/// process, however it ends: also by `kill -9`.
///
/// Where the machine itself stops, by a power cut or a crash of its kernel, and messages may be gone, clients that come back
/// are told so, never that they have missed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistorySync {
    /// It is on the disk: it outlives a power cut. Messages that come at the same time share the wait for the disk.
    Always,
    /// It is on the disk after so long. A power cut may take what came since; then all clients that come back are told that
    /// messages are gone.
    Every(Duration),
    /// It is on the disk when the operating system likes it, and after a proper end. After a power cut all clients that come
    /// back are told that messages are gone.
    Never,
}

impl Default for HistorySync {
    /// Every second.
    fn default() -> Self {
        HistorySync::Every(Duration::from_secs(1))
    }
}

/// What all histories of a node may take together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Bytes of kept messages. Above it the topics to which nobody has published for the longest time lose theirs, and their
    /// readers are told. The newest message of the topic that was published to last stays in any case. Default 256 MiB.
    pub bytes_max: usize,
    /// Topics that are remembered, with or without messages; the same happens above it. The names of as many forgotten topics
    /// are remembered too, so that no reader is told of a gap in a topic that never had a message. Default 1,000,000.
    pub topics_max: usize,
    /// Messages that wait to be written to a directory. Above it publishing fails, and may be tried again. Default 65,536.
    pub waiting_messages_max: usize,
    /// Bytes of messages that wait to be written; the same happens above it. Default 64 MiB.
    pub waiting_bytes_max: usize,
    /// Bytes of the log in a directory, at least 64 KiB. Above it, and above twice what all that is kept takes there, it is
    /// made shorter. Default 64 MiB.
    pub log_bytes_max: usize,
}

impl HistoryLimits {
    pub(super) const DEFAULT: HistoryLimits = HistoryLimits {
        bytes_max: 256 * 1024 * 1024,
        topics_max: 1_000_000,
        waiting_messages_max: 65_536,
        waiting_bytes_max: 64 * 1024 * 1024,
        log_bytes_max: 64 * 1024 * 1024,
    };
}

impl Default for HistoryLimits {
    fn default() -> Self {
        HistoryLimits::DEFAULT
    }
}
