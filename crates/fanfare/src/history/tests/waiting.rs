//! What becomes of messages and readers while the disk takes its time.

use std::io;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::*;
use crate::history::disk::Disk;
use crate::history::files::faulty::{Faulty, FaultyFile};
use crate::history::files::{File, Files};

/// What becomes of a message, once that is known.
type Outcome = oneshot::Receiver<Result<Position, Error>>;

/// Where whoever writes or syncs waits while it is shut.
#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<Shut>,
    opened: Condvar,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Shut {
    #[default]
    Open,
    /// For syncs; writes go into the system's memory.
    ForSyncs,
    ForAll,
}

impl Gate {
    fn pass(&self) {
        self.opened.wait_while(&mut self.shut.lock(), |shut| *shut == Shut::ForAll);
    }

    fn pass_with_sync(&self) {
        self.opened.wait_while(&mut self.shut.lock(), |shut| *shut != Shut::Open);
    }

    fn set(&self, shut: Shut) {
        *self.shut.lock() = shut;
        self.opened.notify_all();
    }
}

/// Files, or one of them, on a disk that stalls.
#[derive(Debug)]
struct Stalling<T>(T, Arc<Gate>);

impl Files for Stalling<Faulty> {
    type File = Stalling<FaultyFile>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.0.read(name)
    }

    fn create(&self, name: &str) -> io::Result<Self::File> {
        Ok(Stalling(self.0.create(name)?, self.1.clone()))
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        Ok(Stalling(self.0.open(name)?, self.1.clone()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.1.pass_with_sync();
        self.0.sync_names()
    }
}

impl File for Stalling<FaultyFile> {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.1.pass();
        self.0.append(bytes)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.truncate(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.pass_with_sync();
        self.0.sync()
    }
}

/// A store whose disk is stalled, with one message in it before.
struct Stalled {
    store: Disk<Stalling<Faulty>>,
    files: Faulty,
    gate: Arc<Gate>,
    retention: Retention,
}

impl Stalled {
    async fn new(sync: HistorySync, limits: HistoryLimits) -> Self {
        let gate = Arc::new(Gate::default());
        let faulty = Faulty::new(1);
        let files = Stalling(faulty.clone(), gate.clone());
        let policies = Policies::new(vec![("*".to_owned(), Policy::new().history(PLENTY))]).unwrap();
        let clock = Clock::Virtual(Arc::new(AtomicU64::new(1_000)));
        let store = Disk::start(files, sync, limits, clock, &policies).unwrap();
        let stalled = Stalled { store, files: faulty, gate, retention: PLENTY };
        stalled.append(0, json!({ "n": 0 })).await.unwrap().unwrap();
        stalled.store.flush().await;
        stalled.gate.set(Shut::ForAll);
        stalled
    }

    /// The bytes of all files.
    fn on_disk(&self) -> usize {
        let names = self.files.list().unwrap();
        names.iter().map(|name| self.files.read(name).map_or(0, |content| content.len())).sum()
    }

    async fn head(&self) -> u64 {
        let wanted = Wanted { since: Since::Now, limit: 0, bytes_max: usize::MAX, newest: 0 };
        self.store.read("a", wanted).await.unwrap().head.offset
    }

    fn append(&self, n: u64, payload: serde_json::Value) -> Outcome {
        let (done, settled) = oneshot::channel();
        let settle = Box::new(move |accepted: Result<Accepted, Error>| {
            let position = accepted.map(|accepted| match accepted {
                Accepted::New(message) => message.position().unwrap(),
                Accepted::Repeated(position) | Accepted::Kept(position) => position,
            });
            let _ = done.send(position);
        });
        let (message, key) = (Draft::new("a".into(), "n", payload.into()).unwrap(), Some(n.to_string().into()));
        self.store.append(Append { message, retention: self.retention, key, expected: None, settle });
        settled
    }
}

const SYNCS: [HistorySync; 3] = [HistorySync::Always, HistorySync::Every(Duration::from_millis(5)), HistorySync::Never];

/// Those that are being written count, and so does what they are: a bound is a bound.
#[tokio::test]
async fn messages_that_wait_have_bounds_with_names() {
    let messages = HistoryLimits { waiting_messages_max: 4, ..HistoryLimits::default() };
    // Of 256 bytes, and what is in them.
    let bytes = HistoryLimits { waiting_bytes_max: 1_000, ..HistoryLimits::default() };
    for (limits, name, waiting) in [(messages, "waiting_messages_max", 4), (bytes, "waiting_bytes_max", 3)] {
        for sync in SYNCS {
            let stalled = Stalled::new(sync, limits).await;
            let mut outcomes = Vec::new();
            for n in 1..=20 {
                outcomes.push(stalled.append(n, json!({ "n": n })));
                // The writer takes some of them in hand.
                std::thread::sleep(Duration::from_millis(1));
            }
            stalled.gate.set(Shut::Open);
            let mut accepted = 0;
            for outcome in outcomes {
                match outcome.await.unwrap() {
                    Ok(position) => {
                        accepted += 1;
                        assert_eq!(position.offset, 1 + accepted, "{sync:?}");
                    }
                    Err(error) => assert!(error.is_unavailable() && error.to_string().contains(name), "{error}"),
                }
            }
            assert_eq!(accepted, waiting, "waited: {name}, {sync:?}");
            assert_eq!(stalled.head().await, 1 + waiting, "those that were refused are not kept");
            // There is room again as soon as one is answered, also for one that is larger than all of it.
            for n in 100..200 {
                let large = json!({ "n": n, "padding": "x".repeat(2_000) });
                let position = stalled.append(n, large).await.unwrap().unwrap();
                assert_eq!(position.offset, waiting + n - 98, "{sync:?}");
            }
        }
    }
}

/// Neither does a publisher wait within a call, nor a reader at all.
#[tokio::test]
async fn nobody_waits_in_a_call_for_a_stalled_disk() {
    for sync in SYNCS {
        let stalled = Stalled::new(sync, HistoryLimits::default()).await;
        let begun = Instant::now();
        let mut outcomes: Vec<Outcome> = (1..=1_000).map(|n| stalled.append(n, json!({ "n": n }))).collect();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(stalled.head().await, 1, "what is not written is not there: {sync:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {sync:?}", begun.elapsed());
        assert!(outcomes.iter_mut().all(|outcome| outcome.try_recv().is_err()), "none is answered: {sync:?}");
        stalled.gate.set(Shut::Open);
        for (n, outcome) in (2..).zip(outcomes) {
            assert_eq!(outcome.await.unwrap().unwrap().offset, n, "{sync:?}");
        }
    }
}

/// Publishing does not wait for a sync, until as much waits for it on the disk as the log may have. Then it waits, within its bounds.
#[tokio::test]
async fn a_log_whose_sync_has_stalled_has_a_bound_on_the_disk() {
    const LOG: usize = 64 * 1024;
    let limits = HistoryLimits { log_bytes_max: LOG, waiting_messages_max: 4, ..HistoryLimits::default() };
    let stalled = Stalled::new(HistorySync::Every(Duration::from_millis(5)), limits).await;
    let stalled = Stalled { retention: Retention { messages_max: 2, ..PLENTY }, ..stalled };
    let padding = "x".repeat(1_000);
    // The first message behind a mark is made safe at once.
    stalled.gate.set(Shut::Open);
    stalled.append(1, json!({ "n": 1 })).await.unwrap().unwrap();
    stalled.gate.set(Shut::ForSyncs);
    let (mut waiting, mut published, mut refused) = (Vec::new(), 0, 0);
    for n in 2..2_000 {
        let mut outcome = stalled.append(n, json!({ "padding": padding }));
        match tokio::time::timeout(Duration::from_millis(300), &mut outcome).await {
            Ok(outcome) => match outcome.unwrap() {
                Ok(_) => published += 1,
                Err(error) => {
                    assert!(error.to_string().contains("waiting_messages_max"), "{error}");
                    refused += 1;
                }
            },
            Err(_) => waiting.push(outcome),
        }
        if refused == 3 {
            break;
        }
    }
    assert!(published > 60, "{published}: publishing does not wait for syncs");
    assert_eq!((waiting.len(), refused), (4, 3));
    assert!(stalled.on_disk() < 4 * LOG, "{}", stalled.on_disk());
    stalled.gate.set(Shut::Open);
    for outcome in waiting {
        outcome.await.unwrap().unwrap();
    }
    stalled.store.flush().await;
    assert!(stalled.on_disk() < 2 * LOG, "{}", stalled.on_disk());
}

/// Whoever lets a store go does not wait for ever, and neither do publishers whose messages will not be written.
#[tokio::test]
async fn a_store_whose_disk_has_stalled_can_be_let_go() {
    let stalled = Stalled::new(HistorySync::Always, HistoryLimits::default()).await;
    let gate = stalled.gate.clone();
    let first = stalled.append(1, json!({ "n": 1 }));
    // The writer has it in hand.
    std::thread::sleep(Duration::from_millis(100));
    let behind = stalled.append(2, json!({ "n": 2 }));
    let begun = Instant::now();
    drop(stalled);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let error = behind.await.unwrap().unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains("stalled"), "{error}");
    gate.set(Shut::Open);
    first.await.unwrap().unwrap();
}
