//! How commands reach a shard: from its own thread through a plain queue, from others through a mailbox and one wake-up.
//!
//! Order holds per sender. A channel's code begins on the shard's thread and may go on elsewhere; that is safe because a
//! shard empties its own queue before it takes from the mailbox.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mio::Waker;
use parking_lot::Mutex;

use crate::command::Command;
use crate::event::Counters;

/// A shard's address: cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub(crate) struct ShardHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    mailbox: Mutex<Vec<Command>>,
    /// Whether the shard knows already that its mailbox is not empty.
    woken: AtomicBool,
    waker: Waker,
    counters: Counters,
    sockets: AtomicUsize,
}

/// The queue of the shard that runs on this thread.
#[derive(Debug)]
struct Local {
    shard: ShardHandle,
    queue: VecDeque<Command>,
    /// Commands for other shards, handed over in one go at the end of a turn's work.
    outgoing: Vec<(ShardHandle, Vec<Command>)>,
}

thread_local!(static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) });

impl ShardHandle {
    pub(crate) fn new(waker: Waker) -> Self {
        ShardHandle(Arc::new(Shared {
            mailbox: Mutex::default(),
            woken: AtomicBool::new(false),
            waker,
            counters: Counters::default(),
            sockets: AtomicUsize::new(0),
        }))
    }

    /// Queues a command. It is carried out after all that this sender queued before.
    pub(crate) fn send(&self, command: Command) {
        let remote = LOCAL.with_borrow_mut(|local| match local {
            None => Some(command),
            Some(local) if local.shard == *self => {
                local.queue.push_back(command);
                None
            }
            Some(local) => {
                match local.outgoing.iter_mut().find(|(shard, _)| shard == self) {
                    Some((_, commands)) => commands.push(command),
                    None => local.outgoing.push((self.clone(), vec![command])),
                }
                None
            }
        });
        if let Some(command) = remote {
            self.0.mailbox.lock().push(command);
            self.wake();
        }
    }

    /// Tells shards apart.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// The shard's own counters.
    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// How many sockets the shard owns: the next connection goes to the shard with the fewest.
    pub(crate) fn sockets(&self) -> usize {
        self.0.sockets.load(Ordering::Relaxed)
    }

    pub(crate) fn socket_came(&self) {
        self.0.sockets.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn socket_went(&self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes this thread the shard's: its sends go to the plain queue from now on.
    pub(crate) fn own_thread(&self) {
        let local = Local { shard: self.clone(), queue: VecDeque::new(), outgoing: Vec::new() };
        LOCAL.set(Some(local));
    }

    /// Gives the thread back: it may be another shard's next. The shard must have done its turn.
    #[cfg(feature = "testing")]
    pub(crate) fn leave_thread(&self) {
        let local = LOCAL.take();
        debug_assert!(local.is_none_or(|local| local.queue.is_empty()), "a turn leaves nothing to do");
    }

    /// Whether others sent something that the shard has not taken.
    #[cfg(feature = "testing")]
    pub(crate) fn has_mail(&self) -> bool {
        self.0.woken.load(Ordering::Acquire)
    }

    /// Takes all that others sent. `into` must be empty; its memory is used for what comes next.
    pub(crate) fn take_mailbox(&self, into: &mut Vec<Command>) {
        // Cleared before the swap: a sender that comes between the two wakes the shard once too often, never too seldom.
        if self.0.woken.swap(false, Ordering::AcqRel) {
            std::mem::swap(&mut *self.0.mailbox.lock(), into);
        }
    }

    fn wake(&self) {
        if !self.0.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.0.waker.wake()
        {
            // An eventfd write fails only when the shard is gone.
            tracing::debug!(%error, "a shard could not be woken");
        }
    }
}

impl PartialEq for ShardHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The next command that this thread's shard sent to itself.
pub(crate) fn next_local() -> Option<Command> {
    LOCAL.with_borrow_mut(|local| local.as_mut()?.queue.pop_front())
}

/// Hands over what this thread's shard sent to other shards: one lock and at most one wake-up each.
pub(crate) fn flush_outgoing() {
    LOCAL.with_borrow_mut(|local| {
        let Some(local) = local else { return };
        for (shard, commands) in &mut local.outgoing {
            if !commands.is_empty() {
                shard.0.mailbox.lock().append(commands);
                shard.wake();
            }
        }
    });
}
