//! What every store promises, run against each of them. A new store adds itself to [`Kind`]; what only it does is tested where it
//! is.

mod bounds;
mod figures;
mod order;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_proto::history::Retention;
use fanfare_proto::payload::{Payload, Text};
use fanfare_proto::position::{Epoch, Position, Since};
use serde_json::json;
use tokio::sync::oneshot;

use super::{Accepted, Append, History, HistoryLimits, HistorySync, Replay, Store, Wanted};
use crate::clock::Clock;
use crate::error::Error;
use crate::message::Draft;
use crate::policy::{Policies, Policy};

const PLENTY: Retention = Retention { messages_max: 100, bytes_max: 1 << 20, age_max_ms: 600_000 };

/// The stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    Directory(HistorySync),
}

const ALL: [Kind; 4] = [
    Kind::Memory,
    Kind::Directory(HistorySync::Always),
    Kind::Directory(HistorySync::Every(Duration::from_millis(5))),
    Kind::Directory(HistorySync::Never),
];

impl Kind {
    /// Whether what it keeps outlives the process.
    fn outlives(self) -> bool {
        self != Kind::Memory
    }
}

/// A store under test, and its time.
struct Tested {
    kind: Kind,
    limits: HistoryLimits,
    dir: Dir,
    now_ms: Arc<AtomicU64>,
    store: Option<Arc<dyn Store>>,
}

/// A directory of a test's own, which goes with it.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("fanfare-history-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Dir(std::env::temp_dir().join(name))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(
    dir: &Path,
    kind: Kind,
    limits: HistoryLimits,
    now_ms: &Arc<AtomicU64>,
    pattern: &str,
) -> Result<Arc<dyn Store>, Error> {
    let history = match kind {
        Kind::Memory => History::memory(),
        Kind::Directory(sync) => History::dir(dir).sync(sync),
    };
    let policies = Policies::new(vec![(pattern.to_owned(), Policy::new().history(PLENTY))])?;
    history.limits(limits).open(Clock::Virtual(now_ms.clone()), &policies)
}

/// Runs a test against each store.
async fn each(test: impl AsyncFn(Tested)) {
    for kind in ALL {
        test(Tested::new(kind, HistoryLimits::default())).await;
    }
}

impl Tested {
    fn new(kind: Kind, limits: HistoryLimits) -> Self {
        let (dir, now_ms) = (Dir::new(), Arc::new(AtomicU64::new(1_000)));
        let store = open(&dir.0, kind, limits, &now_ms, "*").unwrap();
        Tested { kind, limits, dir, now_ms, store: Some(store) }
    }

    fn store(&self) -> &dyn Store {
        self.store.as_deref().expect("it is open but within reopen")
    }

    fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::AcqRel);
    }

    /// Ends the store and opens it again, as a process that is replaced does.
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(open(&self.dir.0, self.kind, self.limits, &self.now_ms, "*").unwrap());
    }

    async fn append(&self, topic: &str, n: u64, options: Options<'_>) -> Result<(Position, bool), Error> {
        self.append_with(topic, json!({ "n": n }), options).await
    }

    async fn append_with(
        &self,
        topic: &str,
        payload: serde_json::Value,
        options: Options<'_>,
    ) -> Result<(Position, bool), Error> {
        let Options { key, expected, retention } = options;
        let (done, settled) = oneshot::channel();
        let settle = Box::new(move |accepted: Result<Accepted, Error>| {
            let _ = done.send(accepted.map(|accepted| match accepted {
                Accepted::New(message) => (message.position().unwrap(), false),
                Accepted::Repeated(position) => (position, true),
                Accepted::Kept(_) => unreachable!("a store of one node hands all on"),
            }));
        });
        let message = Draft::new(topic.into(), "n", payload.into()).unwrap();
        let key = key.map(Into::into);
        self.store().append(Append { message, retention, key, expected, settle });
        settled.await.expect("every message is settled")
    }

    async fn publish(&self, topic: &str, numbers: impl IntoIterator<Item = u64>) -> Position {
        let mut last = None;
        for n in numbers {
            last = Some(self.append(topic, n, Options::default()).await.unwrap().0);
        }
        last.expect("there is a number")
    }

    async fn read(&self, topic: &str, since: Since, limit: usize) -> Replay {
        self.store().read(topic, Wanted { since, limit, bytes_max: usize::MAX, newest: 0 }).await.unwrap()
    }

    /// The numbers that a reader gets who comes from somewhere; `None` if it is not recovered, and gets none.
    async fn recover(&self, topic: &str, since: Since, limit: usize) -> Option<Vec<u64>> {
        let replay = self.read(topic, since, limit).await;
        let numbers: Vec<u64> = replay.messages.iter().map(|stored| number(&stored.payload)).collect();
        assert!(replay.recovered || numbers.is_empty(), "never a part");
        replay.recovered.then_some(numbers)
    }
}

#[derive(Debug, Clone, Copy)]
struct Options<'a> {
    key: Option<&'a str>,
    expected: Option<Since>,
    retention: Retention,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { key: None, expected: None, retention: PLENTY }
    }
}

fn number(payload: &Payload) -> u64 {
    match payload {
        Payload::Json(json) => json.to::<serde_json::Value>().unwrap()["n"].as_u64().unwrap(),
        Payload::Text(_) | Payload::Binary(_) => panic!("these tests publish objects"),
    }
}

fn behind(position: Position) -> Since {
    Since::Position(position)
}

/// The recovery table, row by row; each store that outlives its process is asked again after a restart.
#[tokio::test]
async fn all_that_was_missed_or_nothing() {
    each(async |mut tested: Tested| {
        let all = usize::MAX;
        for is_restarted in [false, true] {
            let topic = |name: &str| format!("{name}:{is_restarted}");
            let check = async |tested: &Tested, what: &str, name: &str, since, limit, expected: Option<&[u64]>| {
                let got = tested.recover(&topic(name), since, limit).await;
                assert_eq!(got.as_deref(), expected, "{what}: {:?}, restarted: {is_restarted}", tested.kind);
            };
            tested.publish(&topic("five"), 1..=5).await;
            let first = tested.read(&topic("five"), Since::Start, all).await.messages[0].position();
            let at = |offset| Position { offset, ..first };
            let three = Options { retention: Retention { messages_max: 3, ..PLENTY }, ..Options::default() };
            for n in 1..=5 {
                tested.append(&topic("trimmed"), n, three).await.unwrap();
            }
            let short = Options { retention: Retention { age_max_ms: 1_000, ..PLENTY }, ..Options::default() };
            let expired = tested.append(&topic("expired"), 1, short).await.unwrap().0;
            tested.advance(1_000);
            if is_restarted && tested.kind.outlives() {
                tested.reopen();
                // What is kept follows the policy from then on; that of these tests keeps more.
                tested.append(&topic("trimmed"), 6, three).await.unwrap();
                tested.append(&topic("expired"), 2, short).await.unwrap();
            }
            let is_behind = is_restarted && tested.kind.outlives();
            let nothing = tested.read(&topic("nothing"), Since::Now, all).await.head;
            check(&tested, "empty stream", "nothing", Since::Start, all, Some(&[])).await;
            check(&tested, "empty stream, its position", "nothing", behind(nothing), all, Some(&[])).await;
            check(&tested, "from a position", "five", behind(at(2)), all, Some(&[3, 4, 5])).await;
            check(&tested, "the first of two pages", "five", behind(at(2)), 2, Some(&[3, 4])).await;
            check(&tested, "the last of two pages", "five", behind(at(4)), 2, Some(&[5])).await;
            let trimmed: &[u64] = if is_behind { &[4, 5, 6] } else { &[3, 4, 5] };
            let kept_from =
                Position { offset: trimmed[0] - 1, ..tested.read(&topic("trimmed"), Since::Now, 0).await.head };
            let gone = Position { offset: kept_from.offset - 1, ..kept_from };
            check(&tested, "more missed than is kept", "trimmed", behind(gone), all, None).await;
            check(&tested, "more missed than is kept, in pages", "trimmed", behind(gone), 1, None).await;
            check(&tested, "the oldest that is kept", "trimmed", behind(kept_from), all, Some(trimmed)).await;
            check(&tested, "the start, trimmed", "trimmed", Since::Start, all, None).await;
            check(&tested, "position in the future", "five", behind(at(6)), all, None).await;
            check(&tested, "same position", "five", behind(at(5)), all, Some(&[])).await;
            check(&tested, "zero position", "five", behind(at(0)), all, Some(&[1, 2, 3, 4, 5])).await;
            check(&tested, "the start", "five", Since::Start, all, Some(&[1, 2, 3, 4, 5])).await;
            check(&tested, "now", "five", Since::Now, 0, Some(&[])).await;
            let before = Position { offset: 0, ..expired };
            check(&tested, "expired stream", "expired", behind(before), all, None).await;
            let missed: &[u64] = if is_behind { &[2] } else { &[] };
            check(&tested, "same position in an expired stream", "expired", behind(expired), all, Some(missed)).await;
            let other = Epoch::new(at(5).epoch.number() ^ 1).unwrap();
            check(&tested, "another epoch", "five", behind(Position { epoch: other, ..at(5) }), all, None).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_restart_is_a_gap_or_none_at_all() {
    each(async |mut tested: Tested| {
        let last = tested.publish("a", 1..=3).await;
        let unknown = tested.read("unknown", Since::Now, 0).await.head;
        tested.reopen();
        let kind = tested.kind;
        let missed = tested.recover("a", behind(Position { offset: 1, ..last }), 100).await;
        assert_eq!(missed, kind.outlives().then(|| vec![2, 3]), "{kind:?}");
        assert_eq!(tested.recover("unknown", behind(unknown), 100).await, kind.outlives().then(Vec::new), "{kind:?}");
        let next = tested.publish("a", [4]).await;
        assert_eq!(next == Position { offset: 4, ..last }, kind.outlives(), "{kind:?}");
        assert_eq!(next.epoch == last.epoch, kind.outlives(), "{kind:?}");
    })
    .await;
}

/// Positions have no gaps, each publisher's messages are in its order, and messages are settled in the order of their positions.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_publishers_get_one_order() {
    const PUBLISHERS: u64 = 8;
    const EACH: u64 = 50;
    each(async |mut tested: Tested| {
        let settled: Arc<parking_lot::Mutex<Vec<(u64, u64)>>> = Arc::default();
        let store = tested.store.clone().unwrap();
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let (settled, store) = (settled.clone(), store.clone());
            tokio::task::spawn_blocking(move || {
                for n in 0..EACH {
                    let number = publisher * EACH + n;
                    let settled = settled.clone();
                    let settle = Box::new(move |accepted: Result<Accepted, Error>| match accepted {
                        Ok(Accepted::New(message)) => settled.lock().push((message.position().unwrap().offset, number)),
                        other => panic!("{other:?}"),
                    });
                    let message = Draft::new("a".into(), "n", json!({ "n": number }).into()).unwrap();
                    let retention = Retention { messages_max: 1_000, ..PLENTY };
                    store.append(Append { message, retention, key: None, expected: None, settle });
                }
            })
        });
        for publisher in publishers.collect::<Vec<_>>() {
            publisher.await.unwrap();
        }
        store.flush().await;
        drop(store);
        let settled = std::mem::take(&mut *settled.lock());
        let offsets: Vec<u64> = settled.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (1..=PUBLISHERS * EACH).collect::<Vec<_>>(), "{:?}", tested.kind);
        let numbers: Vec<u64> = settled.iter().map(|(_, number)| *number).collect();
        for publisher in 0..PUBLISHERS {
            let own = numbers.iter().filter(|number| **number / EACH == publisher);
            assert!(own.is_sorted(), "{:?}", tested.kind);
        }
        if tested.kind.outlives() {
            tested.reopen();
            let kept = tested.read("a", Since::Start, usize::MAX).await;
            let kept: Vec<u64> = kept.messages.iter().map(|stored| number(&stored.payload)).collect();
            // The policy of these tests keeps a hundred.
            assert_eq!(kept, numbers[numbers.len() - kept.len()..], "{:?}", tested.kind);
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_is_taken_once() {
    each(async |mut tested: Tested| {
        let key = |key| Options { key: Some(key), ..Options::default() };
        let (first, _) = tested.append("a", 1, key("k")).await.unwrap();
        assert_eq!(tested.append("a", 2, key("k")).await.unwrap(), (first, true));
        assert!(!tested.append("b", 3, key("k")).await.unwrap().1, "keys are a topic's own");
        assert!(!tested.append("a", 4, key("l")).await.unwrap().1);
        if tested.kind.outlives() {
            tested.reopen();
            assert_eq!(tested.append("a", 5, key("k")).await.unwrap(), (first, true), "{:?}", tested.kind);
        }
        tested.advance(5 * 60_000);
        assert!(!tested.append("a", 6, key("k")).await.unwrap().1, "it is forgotten: {:?}", tested.kind);
        assert_eq!(tested.recover("a", Since::Start, 100).await, Some(vec![1, 4, 6]));
    })
    .await;
}

/// Also of messages that come at once, of which a store may write several together.
#[tokio::test]
async fn of_those_that_expect_the_same_position_one_gets_it() {
    each(async |tested: Tested| {
        let expect = |expected| Options { expected: Some(expected), ..Options::default() };
        let (a, b, c) = tokio::join!(
            tested.append("a", 1, expect(Since::Start)),
            tested.append("a", 2, expect(Since::Start)),
            tested.append("a", 3, Options { key: Some("k"), ..expect(Since::Start) }),
        );
        let first = a.unwrap().0;
        assert_eq!(first.offset, 1);
        assert!(b.unwrap_err().is_conflict() && c.unwrap_err().is_conflict(), "{:?}", tested.kind);
        let second = tested.append("a", 4, expect(behind(first))).await.unwrap().0;
        assert!(tested.append("a", 5, expect(behind(first))).await.unwrap_err().is_conflict());
        let (d, e) = tokio::join!(
            tested.append("a", 6, Options { key: Some("k"), ..expect(behind(second)) }),
            tested.append("a", 7, Options { key: Some("k"), ..expect(behind(second)) }),
        );
        assert_eq!(e.unwrap(), (d.unwrap().0, true), "the key comes first: {:?}", tested.kind);
        assert_eq!(tested.recover("a", Since::Start, 100).await, Some(vec![1, 4, 6]));
    })
    .await;
}

#[tokio::test]
async fn bounds_hold() {
    for kind in ALL {
        let tested = Tested::new(kind, HistoryLimits::default());
        for (name, retention, kept) in [
            ("messages", Retention { messages_max: 3, ..PLENTY }, 3),
            ("bytes", Retention { bytes_max: 350, ..PLENTY }, 3),
            ("one", Retention { bytes_max: 1, ..PLENTY }, 1),
        ] {
            for n in 1..=9 {
                tested.append(name, n, Options { retention, ..Options::default() }).await.unwrap();
            }
            let newest = Wanted { since: Since::Start, limit: 100, bytes_max: usize::MAX, newest: 100 };
            let replay = tested.store().read(name, newest).await.unwrap();
            let numbers: Vec<u64> = replay.messages.iter().map(|stored| number(&stored.payload)).collect();
            assert_eq!(numbers, (10 - kept..=9).collect::<Vec<_>>(), "{name}: {kind:?}");
            assert!(!replay.recovered && replay.head.offset == 9);
        }
        // One of many topics gives way, and its readers are told.
        let topics_max = 32;
        let mut tested = Tested::new(kind, HistoryLimits { topics_max, ..HistoryLimits::default() });
        let mut told = Vec::new();
        for n in 0..topics_max as u64 * 8 {
            told.push((format!("room:{n}"), tested.publish(&format!("room:{n}"), [n]).await));
        }
        for is_restarted in [false, true] {
            let mut known = 0;
            for (topic, position) in &told {
                known += usize::from(tested.recover(topic, behind(*position), 100).await.is_some());
            }
            assert!((1..=topics_max).contains(&known), "{known} are known: {kind:?}, restarted: {is_restarted}");
            if !kind.outlives() {
                break;
            }
            tested.reopen();
        }
    }
}

#[tokio::test]
async fn ages_go_on_over_a_restart() {
    for kind in ALL.into_iter().filter(|kind| kind.outlives()) {
        let mut tested = Tested::new(kind, HistoryLimits::default());
        let first = tested.publish("a", [1]).await;
        tested.advance(PLENTY.age_max_ms / 2);
        tested.publish("a", [2]).await;
        tested.reopen();
        assert_eq!(tested.recover("a", Since::Start, 100).await, Some(vec![1, 2]));
        tested.advance(PLENTY.age_max_ms / 2);
        assert_eq!(tested.recover("a", Since::Start, 100).await, None, "the first is too old: {kind:?}");
        assert_eq!(tested.recover("a", behind(first), 100).await, Some(vec![2]));
        // The clock is set back: nothing becomes younger than the newest message was.
        tested.store = None;
        tested.now_ms.store(5, Ordering::Release);
        tested.reopen();
        assert_eq!(tested.recover("a", behind(first), 100).await, Some(vec![2]));
        tested.advance(PLENTY.age_max_ms);
        assert_eq!(tested.recover("a", behind(first), 100).await, None);
        let last = Position { offset: 2, ..first };
        assert_eq!(tested.recover("a", behind(last), 100).await, Some(vec![]), "expired, and missed nothing: {kind:?}");
        tested.reopen();
        assert_eq!(tested.recover("a", behind(last), 100).await, Some(vec![]));
    }
}

#[tokio::test]
async fn every_payload_comes_back_as_it_was() {
    let deep = "[".repeat(600) + &"]".repeat(600);
    let mut nested = json!(1);
    for _ in 0..600 {
        nested = json!([nested]);
    }
    for kind in ALL.into_iter().filter(|kind| kind.outlives()) {
        let payloads: [Payload; 4] = [
            json!({ "n": 1, "ü": [null, 1e300, "\u{1F600}"] }).into(),
            json!({ "deep": nested.clone() }).into(),
            Text::copy(&deep).into(),
            Payload::Binary(vec![0, 255, 10].into()),
        ];
        let mut tested = Tested::new(kind, HistoryLimits::default());
        for payload in &payloads {
            let (done, settled) = oneshot::channel();
            let message = Draft::new("a".into(), "some event", payload.clone()).unwrap();
            let settle = Box::new(move |accepted: Result<Accepted, Error>| drop(done.send(accepted.map(drop))));
            tested.store().append(Append { message, retention: PLENTY, key: None, expected: None, settle });
            settled.await.unwrap().unwrap();
        }
        tested.reopen();
        let replay = tested.read("a", Since::Start, 100).await;
        let found: Vec<Payload> = replay.messages.iter().map(|stored| stored.payload.clone()).collect();
        assert!(found == payloads && replay.messages.iter().all(|stored| &*stored.event == "some event"), "{found:?}");
    }
}

/// What follows is the directory's alone.
const DIRECTORY: Kind = Kind::Directory(HistorySync::Always);

#[tokio::test]
async fn a_directory_is_one_processes() {
    let tested = Tested::new(DIRECTORY, HistoryLimits::default());
    let refused = open(&tested.dir.0, DIRECTORY, tested.limits, &tested.now_ms, "*").unwrap_err();
    assert!(refused.is_unavailable());
    let text = refused.to_string();
    assert!(text.contains(&tested.dir.0.display().to_string()) && text.contains("another process"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let mut tested = Tested::new(DIRECTORY, HistoryLimits::default());
    tested.publish("a", [1]).await;
    tested.store = None;
    let open = |limits| open(&tested.dir.0, DIRECTORY, limits, &tested.now_ms, "*").unwrap_err().to_string();
    let small = open(HistoryLimits { log_bytes_max: 1_000, ..HistoryLimits::default() });
    assert_eq!(small, "log_bytes_max is 1000: use 65536 or more");
    // The same file by a Fanfare of another version.
    let file = tested.dir.0.join("0000000000000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[8] = 9;
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[..12]);
    bytes[12..16].copy_from_slice(&sum.sum().to_le_bytes());
    std::fs::write(&file, bytes).unwrap();
    let version = open(HistoryLimits::default());
    assert!(version.starts_with("the file 0000000000000001.log of the history's log has version 9"), "{version}");
    let file = Dir::new();
    std::fs::write(&file.0, "").unwrap();
    let no_dir = super::tests::open(&file.0.join("below"), DIRECTORY, tested.limits, &tested.now_ms, "*").unwrap_err();
    assert!(no_dir.is_unavailable() && no_dir.to_string().contains("cannot make the history's directory"), "{no_dir}");
    let _ = std::fs::remove_file(&file.0);
}

/// Messages that are published while topics keep no history are in no log.
#[tokio::test]
async fn who_comes_back_after_a_time_without_history_is_told() {
    let mut tested = Tested::new(DIRECTORY, HistoryLimits::default());
    let last = tested.publish("a:1", 1..=3).await;
    let kept = tested.publish("b:1", 1..=3).await;
    let unknown = tested.read("unknown", Since::Now, 0).await.head;
    for pattern in ["b:*", "*"] {
        tested.store = None;
        tested.store = Some(open(&tested.dir.0, DIRECTORY, tested.limits, &tested.now_ms, pattern).unwrap());
        assert_eq!(tested.recover("b:1", behind(kept), 100).await, Some(vec![]), "{pattern}");
    }
    assert_eq!(tested.recover("a:1", behind(last), 100).await, None);
    assert_eq!(tested.recover("unknown", behind(unknown), 100).await, None);
}

/// The log is made shorter while it is written to, and nothing that is kept gets lost by that.
#[tokio::test]
async fn a_log_has_a_bound() {
    let limits = HistoryLimits { log_bytes_max: 64 * 1024, ..HistoryLimits::default() };
    for kind in ALL.into_iter().filter(|kind| kind.outlives()) {
        let mut tested = Tested::new(kind, limits);
        let retention = Retention { messages_max: 20, ..PLENTY };
        let still = tested.publish("still", 1..=5).await;
        let key = Options { key: Some("k"), ..Options::default() };
        let keyed = tested.append("still", 6, key).await.unwrap();
        let mut largest = 0;
        for n in 1..=5_000 {
            tested.append("busy", n, Options { retention, ..Options::default() }).await.unwrap();
            if n % 200 == 0 {
                // Segments that are needed no more are there until what was copied from them is safe.
                tested.store().flush().await;
                let files = std::fs::read_dir(&tested.dir.0).unwrap();
                largest = largest.max(files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>());
            }
        }
        // What is written since, and a step behind.
        assert!(largest <= 3 * 64 * 1024, "{largest} bytes: {kind:?}");
        tested.reopen();
        assert_eq!(
            tested.recover("still", behind(Position { offset: 0, ..still }), 100).await,
            Some(vec![1, 2, 3, 4, 5, 6])
        );
        assert_eq!(tested.append("still", 7, key).await.unwrap(), (keyed.0, true), "{kind:?}");
        let head = tested.read("busy", Since::Now, 0).await.head;
        assert_eq!(head.offset, 5_000);
        let from = Position { offset: 4_980, ..head };
        assert_eq!(tested.recover("busy", behind(from), 100).await, Some((4_981..=5_000).collect()), "{kind:?}");
    }
}

/// A write that was cut off is left out. Anything else that is not as it was written is a gap, of which readers are told, and what
/// is left is kept.
#[tokio::test]
async fn damage_is_never_silent() {
    type Damage = fn(&mut Vec<Vec<u8>>);
    let cases: [(&str, Damage, bool); 7] = [
        ("nothing", |_| {}, false),
        ("the last write is cut off", |files| files.last_mut().unwrap().truncate(5_000), false),
        ("a beginning of one is there", |files| files.last_mut().unwrap().extend_from_slice(&[1, 2, 3]), false),
        ("a bit is another", |files| files[1][2_000] ^= 1, true),
        ("a bit of the last record is another", |files| *files.last_mut().unwrap().last_mut().unwrap() ^= 1, true),
        ("an end is not there", |files| files[1].truncate(2_000), true),
        ("a file is not there", |files| files[1].clear(), true),
    ];
    let limits = HistoryLimits { log_bytes_max: 256 * 1024, ..HistoryLimits::default() };
    for (what, damage, is_gap) in cases {
        let mut tested = Tested::new(DIRECTORY, limits);
        let payload = "x".repeat(1_000);
        for n in 1..=100 {
            let (done, settled) = oneshot::channel();
            let message = Draft::new("a".into(), "n", json!({ "n": n, "padding": payload }).into()).unwrap();
            let settle = Box::new(move |accepted: Result<Accepted, Error>| drop(done.send(accepted.map(drop))));
            tested.store().append(Append { message, retention: PLENTY, key: None, expected: None, settle });
            settled.await.unwrap().unwrap();
        }
        let head = tested.read("a", Since::Now, 0).await.head;
        tested.store = None;
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&tested.dir.0).unwrap().map(|file| file.unwrap().path()).collect();
        names.retain(|name| name.extension().is_some());
        names.sort();
        let mut files: Vec<Vec<u8>> = names.iter().map(|name| std::fs::read(name).unwrap()).collect();
        assert!(files.len() >= 3, "{} files", files.len());
        damage(&mut files);
        for (name, bytes) in names.iter().zip(&files) {
            match bytes.is_empty() {
                true => std::fs::remove_file(name).unwrap(),
                false => std::fs::write(name, bytes).unwrap(),
            }
        }
        let mut epoch = None;
        for _ in 0..2 {
            tested.reopen();
            let newest = Wanted { since: behind(head), limit: 100, bytes_max: usize::MAX, newest: 100 };
            let replay = tested.store().read("a", newest).await.unwrap();
            assert_eq!(replay.head.epoch != head.epoch, is_gap, "{what}");
            assert!(!(is_gap && replay.recovered) && replay.head.offset <= head.offset, "{what}");
            let kept = tested.read("a", behind(Position { offset: replay.head.offset - 20, ..replay.head }), 100).await;
            assert!(kept.recovered && kept.messages.len() == 20, "{what}: what is left is kept");
            assert!(epoch.is_none_or(|epoch| epoch == replay.head.epoch), "{what}: it is told once");
            epoch = Some(replay.head.epoch);
        }
    }
}
