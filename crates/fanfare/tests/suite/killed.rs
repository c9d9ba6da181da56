//! Scoreboard row 6: a process that publishes to topics whose history is in a directory is killed at moments of chance, many
//! times. What it had acknowledged is there afterwards, or readers are told that it is not: nothing is lost silently.
//!
//! `FANFARE_KILLS=100` kills it so often; by itself a few times. The process is this test binary, with one ignored test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::{Endpoint, History, HistoryLimits, HistorySync, Policy, Position, Publish, Retention, Since};
use serde_json::json;

/// Where the process that is killed keeps its history, and how.
const DIR: &str = "FANFARE_KILLED_DIR";
const SYNC: &str = "FANFARE_KILLED_SYNC";

const SYNCS: [HistorySync; 3] =
    [HistorySync::Always, HistorySync::Every(Duration::from_millis(20)), HistorySync::Never];

const TOPICS: u64 = 6;

/// Each topic keeps so many, so that the log is made shorter while it is written to.
const KEPT: usize = 3_000;

async fn endpoint(dir: &Path, sync: HistorySync) -> Endpoint {
    let retention = Retention { messages_max: KEPT, bytes_max: 1 << 30, age_max_ms: 1 << 40 };
    let limits = HistoryLimits { log_bytes_max: 1024 * 1024, ..HistoryLimits::default() };
    Endpoint::builder()
        .shards(1)
        .policy("room:*", Policy::new().history(retention))
        .history(History::dir(dir).sync(sync).limits(limits))
        .build()
        .await
        .unwrap()
}

/// Publishes until it is killed, and says what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is killed by the other test"]
async fn the_process_that_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let sync = SYNCS[std::env::var(SYNC).unwrap().parse::<usize>().unwrap()];
    let endpoint = endpoint(Path::new(&dir), sync).await;
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let publishers = (0..16).map(|publisher| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let topic = format!("room:{}", (publisher + n) % TOPICS);
                // Unlike any other, also of processes before.
                let number = format!("{started}-{publisher}-{n}");
                let padding = "x".repeat((n * 37 % 400) as usize);
                let message = Publish::new(&topic, "n", json!({ "n": number, "padding": padding }));
                let published = endpoint.publish(message).await.unwrap();
                println!("ack {topic} {} {number}", published.position().unwrap());
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
}

/// Offset and number of every message that was acknowledged, by topic and epoch.
type Acknowledged = BTreeMap<(String, String), BTreeMap<u64, String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_kill_9() {
    let kills: usize = std::env::var("FANFARE_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6);
    let dir = Dir(std::env::temp_dir().join(format!("fanfare-killed-{}", std::process::id())));
    let (mut acknowledged, mut checked, mut told) = (Acknowledged::new(), 0, 0);
    for kill in 0..kills {
        run_and_kill(&dir.0, kill % SYNCS.len(), &mut acknowledged);
        let endpoint = endpoint(&dir.0, SYNCS[(kill + 1) % SYNCS.len()]).await;
        for ((topic, epoch), messages) in &acknowledged {
            let newest = *messages.keys().next_back().unwrap();
            let from = newest.saturating_sub(KEPT as u64 - 200);
            let since: Since = format!("{epoch}:{from}").parse().unwrap();
            let replay = endpoint.history(topic, since, usize::MAX).await.unwrap();
            if !replay.recovered() {
                // Since a kill leaves what was written, only those of an earlier epoch, or of long ago.
                told += 1;
                let Position { offset, .. } = replay.position();
                assert!(offset - from > KEPT as u64, "{topic}: who was at {since:?} is told of a gap, at {offset}");
                continue;
            }
            let found: BTreeMap<u64, String> =
                replay.messages().iter().map(|stored| (stored.position().offset, number(stored.payload()))).collect();
            for (offset, number) in messages.range(from + 1..) {
                assert_eq!(found.get(offset), Some(number), "{topic} at {epoch}:{offset}, after kill {kill}");
                checked += 1;
            }
            let mut numbers: Vec<&String> = found.values().collect();
            numbers.sort();
            numbers.dedup();
            assert_eq!(numbers.len(), found.len(), "{topic} has a message twice");
        }
        assert_eq!(acknowledged.len(), TOPICS as usize, "the epochs are those of before: {:?}", acknowledged.keys());
    }
    let published: usize = acknowledged.values().map(BTreeMap::len).sum();
    println!(
        "{kills} kills, {published} messages acknowledged, {checked} looked for and found, {told} readers told of a gap"
    );
    assert!(published > kills * 20, "{published} messages are too few");
}

/// Starts the process, and kills it after a while.
fn run_and_kill(dir: &Path, sync: usize, acknowledged: &mut Acknowledged) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::the_process_that_is_killed", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .env(SYNC, sync.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap());
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let alive = Duration::from_micros(u64::from(nanos / 1_000 % 200_000));
    let mut killer = None;
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).unwrap() > 0 {
        let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
        // What it could not say to the end was acknowledged to nobody.
        let Some(ack) = text.strip_prefix("ack ").and_then(|ack| ack.strip_suffix('\n')) else { continue };
        let [topic, position, number] = ack.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (epoch, offset) = position.split_once(':').unwrap();
        let messages = acknowledged.entry((topic.to_owned(), epoch.to_owned())).or_default();
        let before = messages.insert(offset.parse().unwrap(), number.to_owned());
        assert_eq!(before, None, "{topic} {position} was acknowledged twice");
        if killer.is_none() {
            // Only now: a process that has not begun yet has nothing to lose.
            let id = process.id().to_string();
            killer = Some(std::thread::spawn(move || {
                std::thread::sleep(alive);
                Command::new("kill").args(["-9", &id]).status().unwrap();
            }));
        }
    }
    killer.expect("it has published").join().unwrap();
    process.wait().unwrap();
}

fn number(payload: &fanfare::Payload) -> String {
    match payload {
        fanfare::Payload::Json(json) => json.to::<serde_json::Value>().unwrap()["n"].as_str().unwrap().to_owned(),
        fanfare::Payload::Text(_) | fanfare::Payload::Binary(_) => panic!("only objects were published"),
    }
}

struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
