//! Histories in memory and in a directory: they outlive the process.
//!
//! A thread writes. It takes all that waits, writes it at once, and only then keeps it, hands it on and answers: what could not
//! be written was neither published nor acknowledged. Reads are answered from memory, and never wait for the disk.

use std::collections::VecDeque;
use std::fs;
use std::future::{Future, ready};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::files::{Directory, Files};
use super::log::{Stamp, Unsynced};
use super::recovery::Start;
use super::topics::Topics;
use super::writer::Writer;
use super::{Append, HistoryLimits, HistorySync, Reading, Store, Wanted};
use crate::clock::Clock;
use crate::error::Error;
use crate::policy::Policies;

/// What a waiting message takes beside its topic, event, key and payload, about.
const WAITING_SIZE: usize = 256;

/// A store that is let go waits for so long for a disk that has stalled. What was acknowledged is the operating system's by then;
/// what was not is refused.
pub(crate) const ENDING_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two attempts to make the log safe that nothing may be written to before.
const HELD_BACK_INTERVAL: Duration = Duration::from_millis(100);

/// So many bytes are written at once, but for one message.
const BATCH_SIZE_MAX: usize = 4 * 1024 * 1024;

/// A store in a directory.
#[derive(Debug)]
pub(super) struct Disk<F: Files = Directory> {
    limits: HistoryLimits,
    topics: Arc<Mutex<Topics>>,
    time: Time,
    desk: Arc<Desk<F>>,
    is_failing: Arc<AtomicBool>,
    /// Until it is let go.
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Where the writer finds its work.
#[derive(Debug)]
struct Desk<F: Files> {
    work: Mutex<Work<F>>,
    arrived: Condvar,
    /// Told when there is no writer any more.
    ended: Condvar,
}

#[derive(Debug)]
struct Work<F: Files> {
    appends: VecDeque<Append>,
    /// Those, and the ones that the writer has in hand.
    waiting: Waiting,
    flushes: Vec<oneshot::Sender<()>>,
    /// What another thread was to make safe, and what became of it.
    synced: Option<(Unsynced<F>, io::Result<()>)>,
    /// The store was let go: the writer ends once all is done.
    is_ending: bool,
    /// There is no writer.
    has_ended: bool,
}

/// Messages that are not written yet.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    messages: usize,
    bytes: usize,
}

/// The topics' time, which goes on where the process before has left it.
#[derive(Debug, Clone)]
struct Time {
    clock: Clock,
    /// What is added to the clock.
    ahead_ms: u64,
}

impl Disk {
    /// Opens a directory, and reads what is there.
    ///
    /// # Errors
    /// The directory cannot be used, or another process uses it; its files cannot be read, or are of another version.
    pub(super) fn open(
        path: &Path,
        sync: HistorySync,
        limits: HistoryLimits,
        clock: Clock,
        policies: &Policies,
    ) -> Result<Self, Error> {
        Disk::start(Directory::open(path)?, sync, limits, clock, policies)
    }
}

impl<F: Files> Disk<F> {
    /// Reads files, and goes on with them.
    ///
    /// # Errors
    /// They cannot be read, or are of another version.
    pub(super) fn start(
        files: F,
        sync: HistorySync,
        limits: HistoryLimits,
        clock: Clock,
        policies: &Policies,
    ) -> Result<Self, Error> {
        let seed =
            getrandom::u64().map_err(|error| Error::failed(format!("the system gives no random bytes: {error}")))?;
        let stamp = Stamp {
            boot: boot_id(),
            is_synced_always: sync == HistorySync::Always,
            policies: policies.history_sum(),
            unknown: 0,
        };
        let start = Start { limits, policies, stamp, wall_ms: wall_ms(&clock), seed };
        let writer = Writer::open(files, sync, start)?;
        let time = Time { ahead_ms: writer.start_ms().saturating_sub(clock.now_ms()), clock };
        let (topics, is_failing) = (writer.topics(), writer.is_failing());
        let desk = Arc::new(Desk { work: Mutex::new(Work::new()), arrived: Condvar::new(), ended: Condvar::new() });
        let interval = match sync {
            HistorySync::Every(interval) => Some(interval),
            HistorySync::Always | HistorySync::Never => None,
        };
        let work =
            Worker { writer, desk: desk.clone(), time: time.clone(), interval, sync_at: None, is_syncing: false };
        let thread = thread::Builder::new().name("fanfare-history".to_owned()).spawn(move || work.run());
        let thread = thread.map_err(|error| Error::io("the history's thread could not be started", error))?;
        Ok(Disk { limits, topics, time, desk, is_failing, writer: Mutex::new(Some(thread)) })
    }

    /// What there is no room for, if a message of this size is one too many.
    fn full(&self, work: &Work<F>, size: usize) -> Option<String> {
        let HistoryLimits { waiting_messages_max, waiting_bytes_max, .. } = self.limits;
        let Waiting { messages, bytes } = work.waiting;
        if messages >= waiting_messages_max {
            return Some(format!("{messages} messages wait for the disk, the most that may (waiting_messages_max)"));
        }
        (bytes + size > waiting_bytes_max && messages > 0)
            .then(|| format!("{bytes} bytes wait for the disk, and {waiting_bytes_max} may (waiting_bytes_max)"))
    }
}

impl<F: Files> Store for Disk<F> {
    fn append(&self, append: Append) {
        let size = waiting_size(&append);
        let mut work = self.desk.work.lock();
        let refused = match (work.is_ending, work.has_ended) {
            (true, _) => Some("its history is closed, since another process takes over".to_owned()),
            (_, true) => Some("the history's thread has ended".to_owned()),
            _ => self.full(&work, size),
        };
        if let Some(why) = refused {
            drop(work);
            let error = Error::unavailable(format!("the message was not published: {why}; publish it again later"));
            return (append.settle)(Err(error));
        }
        work.waiting.messages += 1;
        work.waiting.bytes += size;
        work.appends.push_back(append);
        // It looks before it waits: only the first of many has to wake it.
        if work.appends.len() == 1 {
            self.desk.arrived.notify_one();
        }
    }

    fn read(&self, topic: &str, wanted: Wanted) -> Reading {
        let replay = self.topics.lock().read(topic, wanted, self.time.now_ms());
        Box::pin(ready(Ok(replay)))
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (done, flushed) = oneshot::channel();
        let mut work = self.desk.work.lock();
        if !work.has_ended {
            work.flushes.push(done);
        }
        drop(work);
        self.desk.arrived.notify_one();
        Box::pin(async move {
            // Without a writer nothing is left to be done.
            let _ = flushed.await;
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        self.desk.work.lock().is_ending = true;
        self.desk.arrived.notify_one();
        let writer = self.writer.lock().take();
        Box::pin(async move {
            // The directory is let go of when the thread is gone. A panic was seen where it was.
            let closed = tokio::task::spawn_blocking(|| drop(writer.map(JoinHandle::join)));
            if tokio::time::timeout(ENDING_TIMEOUT, closed).await.is_err() {
                tracing::error!("the history's disk has stalled: its directory is not let go of");
            }
            true
        })
    }

    #[cfg(feature = "metrics")]
    fn size(&self) -> Option<super::StoreSize> {
        let kept = self.topics.lock();
        let (topics, bytes) = kept.taken();
        Some(super::StoreSize { topics, messages: kept.messages(), bytes })
    }

    #[cfg(feature = "metrics")]
    fn kind(&self) -> &'static str {
        "disk"
    }

    fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed) || self.desk.work.lock().has_ended
    }
}

impl<F: Files> Drop for Disk<F> {
    /// Waits until all is written and the log says that it is complete, unless the disk takes too long.
    fn drop(&mut self) {
        let mut work = self.desk.work.lock();
        work.is_ending = true;
        self.desk.arrived.notify_one();
        let Some(writer) = self.writer.get_mut().take() else { return };
        // What the writer has handed on may have been the last that held the store.
        if writer.thread().id() == thread::current().id() {
            return;
        }
        self.desk.ended.wait_while_for(&mut work, |work| !work.has_ended, ENDING_TIMEOUT);
        if work.has_ended {
            drop(work);
            // A panic was seen where it was.
            let _ = writer.join();
            return;
        }
        let refused = std::mem::take(&mut work.appends);
        drop(work);
        tracing::error!(
            messages = refused.len(),
            "the history's disk has stalled: what waits for it is not published, and its log does not say that it is complete"
        );
        for Append { settle, .. } in refused {
            settle(Err(Error::unavailable("the message was not published: the server ends, and its disk has stalled")));
        }
    }
}

/// The thread that writes.
struct Worker<F: Files> {
    writer: Writer<F>,
    desk: Arc<Desk<F>>,
    time: Time,
    /// Between two times when all is made safe.
    interval: Option<Duration>,
    /// The next of them, if there is something to be made safe.
    sync_at: Option<Instant>,
    /// Another thread makes things safe just now.
    is_syncing: bool,
}

/// What a turn has to do.
struct Turn<F: Files> {
    batch: Vec<Append>,
    size: Waiting,
    flushes: Vec<oneshot::Sender<()>>,
    synced: Option<(Unsynced<F>, io::Result<()>)>,
    is_last: bool,
}

impl<F: Files> Worker<F> {
    fn run(mut self) {
        let _ending = Ending(self.desk.clone());
        let mut is_to_be_shortened = false;
        loop {
            let Turn { batch, size, flushes, synced, is_last } = self.next(is_to_be_shortened);
            if let Some((synced, result)) = synced {
                self.is_syncing = false;
                self.writer.end_sync(synced, &result);
            }
            match batch.is_empty() {
                false => {
                    let settled = self.writer.commit(batch.into_iter(), self.time.now_ms());
                    // First, so that whoever is answered finds the room that its message had.
                    self.desk.work.lock().waiting.remove(size);
                    settled.into_iter().for_each(|(settle, accepted)| settle(accepted));
                    is_to_be_shortened = true;
                }
                true if self.writer.is_held_back() => {}
                true => is_to_be_shortened = is_to_be_shortened && self.writer.shorten(),
            }
            if !flushes.is_empty() || is_last {
                self.writer.mark();
                flushes.into_iter().for_each(|done| {
                    // Whoever asked may not wait for it.
                    let _ = done.send(());
                });
            }
            if is_last {
                return;
            }
            self.sync_when_due();
        }
    }

    /// Waits for something to do.
    fn next(&mut self, is_to_be_shortened: bool) -> Turn<F> {
        let mut work = self.desk.work.lock();
        loop {
            // Two that make the same file safe would not both learn of an error: these wait for the other thread.
            let may_mark = !self.is_syncing && work.appends.is_empty();
            let (is_last, is_flushed) = (work.is_ending && may_mark, !work.flushes.is_empty() && may_mark);
            let is_due = self.sync_at.is_some_and(|at| at <= Instant::now()) && !self.is_syncing;
            let may_write = !self.writer.is_held_back();
            let has_appends = !work.appends.is_empty() && may_write;
            let has_work = has_appends || work.synced.is_some() || (is_to_be_shortened && may_write);
            if has_work || is_due || is_last || is_flushed {
                let flushes = if is_flushed { std::mem::take(&mut work.flushes) } else { Vec::new() };
                let (batch, size) = if may_write { work.take_batch() } else { Default::default() };
                return Turn { batch, size, flushes, synced: work.synced.take(), is_last };
            }
            match self.sync_at.filter(|_| !self.is_syncing) {
                Some(at) => drop(self.desk.arrived.wait_until(&mut work, at)),
                None => self.desk.arrived.wait(&mut work),
            }
        }
    }

    /// Has another thread make safe what was written, so that publishing does not wait for it.
    fn sync_when_due(&mut self) {
        let Some(interval) = self.interval else { return };
        if self.is_syncing {
            return;
        }
        let mut at = *self.sync_at.get_or_insert_with(|| Instant::now() + interval);
        if self.writer.is_held_back() {
            at = at.min(Instant::now() + HELD_BACK_INTERVAL);
            self.sync_at = Some(at);
        }
        if at > Instant::now() {
            return;
        }
        self.sync_at = None;
        let Some(unsynced) = self.writer.begin_sync() else { return };
        self.is_syncing = true;
        let desk = self.desk.clone();
        let work = Arc::new(Mutex::new(Some(unsynced)));
        let theirs = work.clone();
        let spawned = thread::Builder::new().name("fanfare-sync".to_owned()).spawn(move || {
            if let Some(unsynced) = theirs.lock().take() {
                let result = unsynced.sync();
                desk.work.lock().synced = Some((unsynced, result));
                desk.arrived.notify_one();
            }
        });
        if spawned.is_err()
            && let Some(unsynced) = work.lock().take()
        {
            self.is_syncing = false;
            let result = unsynced.sync();
            self.writer.end_sync(unsynced, &result);
        }
    }
}

impl<F: Files> Work<F> {
    fn new() -> Self {
        Work {
            appends: VecDeque::new(),
            waiting: Waiting::default(),
            flushes: Vec::new(),
            synced: None,
            is_ending: false,
            has_ended: false,
        }
    }

    fn take_batch(&mut self) -> (Vec<Append>, Waiting) {
        let mut taken = Waiting::default();
        for append in &self.appends {
            taken.bytes += waiting_size(append);
            taken.messages += 1;
            if taken.bytes >= BATCH_SIZE_MAX {
                break;
            }
        }
        (self.appends.drain(..taken.messages).collect(), taken)
    }
}

impl Waiting {
    fn remove(&mut self, written: Waiting) {
        self.messages -= written.messages;
        self.bytes -= written.bytes;
    }
}

impl Time {
    fn now_ms(&self) -> u64 {
        self.clock.now_ms() + self.ahead_ms
    }
}

/// Lets nobody wait for a writer that is not there any more, however it ended.
struct Ending<F: Files>(Arc<Desk<F>>);

impl<F: Files> Drop for Ending<F> {
    fn drop(&mut self) {
        let mut work = self.0.work.lock();
        work.has_ended = true;
        self.0.ended.notify_all();
        let left = (std::mem::take(&mut work.appends), std::mem::take(&mut work.flushes));
        drop(work);
        // Those who wait learn that nobody will answer.
        drop(left);
    }
}

fn waiting_size(append: &Append) -> usize {
    let Append { message, key, .. } = append;
    let key_size = key.as_ref().map_or(0, |key| key.len());
    WAITING_SIZE + message.topic.len() + message.event.len() + key_size + message.payload.size()
}

/// The wall clock in milliseconds since 1970. Where time is moved by hand, that is the time.
fn wall_ms(clock: &Clock) -> u64 {
    if clock.is_virtual() {
        return clock.now_ms();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Tells one run of the machine's kernel from the next; 0 where the system does not say.
fn boot_id() -> u128 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or_default()
}
