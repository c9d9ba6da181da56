//! What waits for the thread of a link: commands in their order, within bounds, and each is told once what became of it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mio::Waker;
use parking_lot::Mutex;

use super::{COMMANDS_WAITING_BYTES_MAX, COMMANDS_WAITING_MAX, Undone};

/// Something that a link is to do.
pub(super) trait Command: Send {
    /// About how much memory it takes.
    fn size(&self) -> usize;

    /// Whether it is taken also where there is no connection, or too much waits.
    fn is_always_taken(&self) -> bool;

    /// Tells whoever waits for it that it is not done.
    fn undone(self, why: Undone);
}

/// The commands of one link.
pub(super) struct Queue<C> {
    /// Where the link leads, for messages: what it is and where, without credentials.
    server: Arc<str>,
    /// What helps where too much waits.
    relief: &'static str,
    lane: Mutex<Lane<C>>,
    waker: Waker,
    /// What waits in the lane and for answers.
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
}

struct Lane<C> {
    commands: Vec<C>,
    /// Why commands are refused, if they are.
    refused: Option<Arc<str>>,
    stop: bool,
}

/// What has been put in.
pub(super) struct Taken<C> {
    pub(super) commands: Vec<C>,
    /// The link is not needed any more.
    pub(super) stop: bool,
}

impl<C: Command> Queue<C> {
    /// One for the thread that this wakes.
    pub(super) fn new(server: Arc<str>, relief: &'static str, waker: Waker) -> Self {
        let refused = Some(format!("{server} is not connected yet").into());
        Queue {
            server,
            relief,
            lane: Mutex::new(Lane { commands: Vec::new(), refused, stop: false }),
            waker,
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
        }
    }

    /// Puts a command in line, or says that it is refused.
    pub(super) fn put(&self, command: C) {
        self.put_all([command]);
    }

    /// The same with several that follow one another.
    pub(super) fn put_all<const N: usize>(&self, commands: [C; N]) {
        let size: usize = commands.iter().map(C::size).sum();
        let mut lane = self.lane.lock();
        let full = self.waiting.load(Ordering::Relaxed) + N > COMMANDS_WAITING_MAX
            || self.waiting_bytes.load(Ordering::Relaxed) + size > COMMANDS_WAITING_BYTES_MAX;
        let refused = if lane.stop {
            Some("the engine has ended".into())
        } else if commands.iter().all(C::is_always_taken) {
            None
        } else if full {
            Some(Arc::from(format!(
                "{COMMANDS_WAITING_MAX} commands or {COMMANDS_WAITING_BYTES_MAX} bytes wait for {}; publish less, or {}",
                self.server, self.relief
            )))
        } else {
            lane.refused.clone()
        };
        if let Some(why) = refused {
            drop(lane);
            return commands.into_iter().for_each(|command| command.undone(Undone::Refused(why.clone())));
        }
        self.waiting.fetch_add(N, Ordering::Relaxed);
        self.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        let wakes = lane.commands.is_empty();
        lane.commands.extend(commands);
        drop(lane);
        if wakes {
            self.wake();
        }
    }

    /// Ends the link.
    pub(super) fn stop(&self) {
        self.lane.lock().stop = true;
        self.wake();
    }

    fn wake(&self) {
        // It fails only where there is no thread any more.
        let _ = self.waker.wake();
    }

    /// What has been put in since the last time; commands only if they are wanted.
    pub(super) fn take(&self, wants_commands: bool) -> Taken<C> {
        let mut lane = self.lane.lock();
        Taken {
            commands: if wants_commands { std::mem::take(&mut lane.commands) } else { Vec::new() },
            stop: lane.stop,
        }
    }

    /// Refuses what comes from now on, or takes it.
    pub(super) fn refuse(&self, why: Option<Arc<str>>) {
        self.lane.lock().refused = why;
    }

    /// A command of this size does not wait any more.
    pub(super) fn settled(&self, size: usize) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
    }

    /// A command that was taken is not done.
    pub(super) fn undone(&self, command: C, why: Undone) {
        self.settled(command.size());
        command.undone(why);
    }
}

impl<C> fmt::Debug for Queue<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("server", &self.server).finish_non_exhaustive()
    }
}
