//! The writer on files that fail, with processes that are killed and machines that lose power, by many seeds. A failure prints
//! the seed that repeats it: `FANFARE_SIMULATION=n`; `FANFARE_SIMULATIONS=n` tries so many.
//!
//! However it went, after each start and for the epoch that a topic has then: every message that was acknowledged there is where
//! it was said to be, nothing is there twice, and what comes next comes behind it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::history::Retention;
use fanfare_proto::payload::Payload;
use fanfare_proto::position::{Epoch, Position, Since};
use parking_lot::Mutex;
use serde_json::json;

use super::files::faulty::{Ending, Faults, Faulty, Random};
use super::log::Stamp;
use super::recovery::Start;
use super::writer::Writer;
use super::{Accepted, Append, HistoryLimits, HistorySync, Wanted};
use crate::error::Error;
use crate::message::Draft;
use crate::policy::{Policies, Policy};

const SEEDS: u64 = 500;

/// Processes of one seed.
const LIVES: u64 = 6;

const RETENTION: Retention = Retention { messages_max: 40, bytes_max: 1 << 20, age_max_ms: 1 << 40 };

fn policies() -> Policies {
    Policies::new(vec![("*".to_owned(), Policy::new().history(RETENTION))]).unwrap()
}

/// The number of a message, and what became of it.
type Outcome = (u64, Result<Accepted, Error>);

/// What the publishers of all processes know.
#[derive(Debug, Default)]
struct Publishers {
    /// By topic, epoch and offset.
    acknowledged: BTreeMap<(String, u64), BTreeMap<u64, u64>>,
    /// Messages whose process stopped before it answered: topic and number, which is their key as well.
    unanswered: Vec<(String, u64)>,
    /// Messages that were refused.
    refused: HashSet<u64>,
    /// The epoch of each topic when it was last looked at.
    epochs: BTreeMap<String, u64>,
    next: u64,
}

struct Machine {
    random: Random,
    disk: Faulty,
    boot: u128,
    sync: HistorySync,
    /// Each process has another.
    changes_sync: bool,
    /// Something was written, since the log was last complete, that a power cut may take.
    is_exposed: bool,
    /// What a sync did not make safe is never made safe.
    has_failed_sync: bool,
    topics: u64,
    limits: HistoryLimits,
    now_ms: u64,
    publishers: Publishers,
    /// Since the last look, something happened after which topics may have new epochs.
    may_renew: bool,
    /// Something failed that lets refused messages be found later.
    may_find_refused: bool,
    /// More topics are published to than are remembered.
    may_evict: bool,
}

#[test]
fn whatever_fails() {
    let one = std::env::var("FANFARE_SIMULATION").ok().and_then(|seed| seed.parse().ok());
    let seeds = std::env::var("FANFARE_SIMULATIONS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let range = one.map_or(0..seeds, |seed| seed..seed + 1);
    let mut renewed = 0;
    let mut acknowledged = 0;
    for seed in range {
        let _seed = Seed(seed);
        let mut machine = Machine::new(seed);
        for _ in 0..LIVES {
            renewed += u64::from(machine.live());
        }
        acknowledged += machine.publishers.acknowledged.values().map(BTreeMap::len).sum::<usize>();
    }
    println!("{acknowledged} messages acknowledged, {renewed} lives with new epochs");
    if one.is_none() {
        assert!(renewed > 0 && acknowledged > 10_000, "{renewed} lives with new epochs, {acknowledged} messages");
    }
}

/// Says which seed it was that failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("FANFARE_SIMULATION={}", self.0);
        }
    }
}

impl Machine {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let disk = Faulty::new(random.next());
        // Some have more topics than are remembered.
        let may_evict = random.happens(300);
        let topics_max = if may_evict { 3 } else { 1_000 };
        let limits = HistoryLimits { topics_max, log_bytes_max: 64 * 1024, ..HistoryLimits::DEFAULT };
        Machine {
            disk,
            boot: 1,
            sync: any_sync(&mut random),
            changes_sync: random.happens(300),
            is_exposed: false,
            has_failed_sync: false,
            topics: 1 + random.below(6),
            limits,
            now_ms: 1_000_000,
            publishers: Publishers { next: 1, ..Publishers::default() },
            may_renew: false,
            may_find_refused: false,
            may_evict,
            random,
        }
    }

    /// One process, from its start to its end. Whether topics had new epochs at the start.
    fn live(&mut self) -> bool {
        if self.changes_sync {
            self.sync = any_sync(&mut self.random);
        }
        self.is_exposed |= self.sync != HistorySync::Always;
        if self.random.happens(200) {
            // Within the start, perhaps.
            self.disk.stop_in(1 + self.random.below(10));
        }
        let Ok(mut writer) = self.start() else {
            assert!(self.disk.has_stopped());
            self.end(None);
            return self.live();
        };
        let is_renewed = self.look(&mut writer);
        let faults = match self.random.below(3) {
            0 => Faults::default(),
            1 => Faults { full: self.random.below(200), remove: self.random.below(300), ..Faults::default() },
            _ => Faults { full: 100, truncate: 300, sync: self.random.below(100), remove: 100 },
        };
        self.may_find_refused |= faults.truncate > 0;
        self.disk.set_faults(faults);
        if self.random.happens(700) {
            self.disk.stop_in(1 + self.random.below(300));
        }
        for _ in 0..self.random.below(60) {
            match self.random.below(12) {
                0 => {
                    if let Some(unsynced) = writer.begin_sync() {
                        let result = unsynced.sync();
                        writer.end_sync(unsynced, &result);
                    }
                }
                1 => writer.mark(),
                2 | 3 => drop(writer.shorten()),
                _ => self.publish(&mut writer),
            }
            if self.disk.has_stopped() {
                break;
            }
        }
        self.end(Some((writer, faults)));
        is_renewed
    }

    fn start(&mut self) -> Result<Writer<Faulty>, Error> {
        let stamp = Stamp {
            boot: self.boot,
            is_synced_always: self.sync == HistorySync::Always,
            policies: policies().history_sum(),
            unknown: 0,
        };
        // The clock may have been set back or forth.
        let wall_ms = (self.now_ms + self.random.below(2_000)).saturating_sub(1_000);
        let seed = self.random.next();
        let start = Start { limits: self.limits, policies: &policies(), stamp, wall_ms, seed };
        let writer = Writer::open(self.disk.clone(), self.sync, start)?;
        assert!(writer.start_ms() >= wall_ms);
        self.now_ms = self.now_ms.max(writer.start_ms());
        Ok(writer)
    }

    /// The process ends, and perhaps the machine.
    fn end(&mut self, ended: Option<(Writer<Faulty>, Faults)>) {
        let is_proper = ended.is_some() && self.random.happens(300);
        self.has_failed_sync |= ended.as_ref().is_some_and(|(_, faults)| faults.sync > 0);
        if let Some((mut writer, _)) = ended
            && is_proper
        {
            self.disk.set_faults(Faults::default());
            writer.mark();
        }
        let is_proper = is_proper && !self.disk.has_stopped() && !self.has_failed_sync;
        self.is_exposed &= !is_proper;
        let ending = [Ending::Killed, Ending::PowerCut, Ending::PowerCutWithHoles][self.random.below(3) as usize];
        self.disk = self.disk.after(ending);
        if ending != Ending::Killed {
            self.boot += 1;
            // A file with holes cannot be told from a damaged one; then it is said to be one.
            let has_holes = ending == Ending::PowerCutWithHoles;
            self.may_renew |= self.is_exposed || !is_proper && (has_holes || self.has_failed_sync);
        }
        if self.random.happens(100) && self.disk.damage() {
            self.may_renew = true;
        }
    }

    fn publish(&mut self, writer: &mut Writer<Faulty>) {
        self.now_ms += self.random.below(20);
        let outcomes: Arc<Mutex<Vec<Outcome>>> = Arc::default();
        let mut published: Vec<(String, u64, bool)> = Vec::new();
        let mut appends = Vec::new();
        for _ in 0..1 + self.random.below(8) {
            let is_again = !self.publishers.unanswered.is_empty() && self.random.happens(300);
            let (topic, number) = match is_again {
                true => {
                    let at = self.random.below(self.publishers.unanswered.len() as u64) as usize;
                    self.publishers.unanswered.swap_remove(at)
                }
                false => {
                    self.publishers.next += 1;
                    (format!("room:{}", self.random.below(self.topics)), self.publishers.next - 1)
                }
            };
            let padding = "x".repeat(self.random.below(800) as usize);
            let payload = json!({ "n": number, "padding": padding }).into();
            let settle = |key: Option<Box<str>>| {
                let outcomes = outcomes.clone();
                appends.push(Append {
                    message: Draft::new(topic.as_str().into(), "n", payload).unwrap(),
                    retention: RETENTION,
                    key,
                    expected: None,
                    settle: Box::new(move |result| outcomes.lock().push((number, result))),
                });
            };
            settle(Some(number.to_string().into()));
            published.push((topic, number, is_again));
        }
        let settled = writer.commit(appends.into_iter(), self.now_ms);
        settled.into_iter().for_each(|(settle, accepted)| settle(accepted));
        let outcomes = Arc::into_inner(outcomes).unwrap().into_inner();
        let numbers: Vec<u64> = outcomes.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, published.iter().map(|(_, number, _)| *number).collect::<Vec<_>>(), "settled in order");
        for ((number, outcome), (topic, _, is_again)) in outcomes.into_iter().zip(published) {
            let position = match outcome {
                Ok(Accepted::New(message)) => message.position().unwrap(),
                Ok(Accepted::Repeated(position) | Accepted::Kept(position)) => {
                    assert!(is_again, "{number} has a key of its own");
                    position
                }
                Err(error) => {
                    assert!(error.is_unavailable(), "{error}");
                    match self.disk.has_stopped() || is_again {
                        true => self.publishers.unanswered.push((topic, number)),
                        false => drop(self.publishers.refused.insert(number)),
                    }
                    continue;
                }
            };
            let acknowledged = self.publishers.acknowledged.entry((topic, position.epoch.number())).or_default();
            assert_eq!(acknowledged.insert(position.offset, number), None, "{position} was another's");
        }
        if !self.disk.has_stopped() {
            self.look(writer);
        }
    }

    /// Looks at all topics. Whether one of them had a new epoch.
    fn look(&mut self, writer: &mut Writer<Faulty>) -> bool {
        let topics = writer.topics();
        let mut topics = topics.lock();
        let mut is_renewed = false;
        for topic in (0..self.topics).map(|number| format!("room:{number}")) {
            let all = Wanted { since: Since::Start, limit: usize::MAX, bytes_max: usize::MAX, newest: usize::MAX };
            let replay = topics.read(&topic, all, self.now_ms);
            let Position { epoch, offset: last } = replay.head;
            let kept = replay.messages.len() as u64;
            let found = replay.messages.iter().map(|stored| (stored.position(), number_of(&stored.payload)));
            let found: Vec<(Position, u64)> = found.collect();
            let offsets: Vec<u64> = found.iter().map(|(position, _)| position.offset).collect();
            assert_eq!(offsets, (last - kept + 1..=last).collect::<Vec<_>>(), "{topic}: all up to the head");
            let numbers: HashSet<u64> = found.iter().map(|(_, number)| *number).collect();
            assert_eq!(numbers.len(), found.len(), "{topic} has a message twice: {found:?}");
            if !self.may_find_refused {
                let refused = numbers.intersection(&self.publishers.refused);
                assert_eq!(refused.count(), 0, "{topic} has a message that was refused");
            }
            if let Some(acknowledged) = self.publishers.acknowledged.get(&(topic.clone(), epoch.number())) {
                let (&newest, _) = acknowledged.last_key_value().unwrap();
                assert!(newest <= last, "{topic}: {epoch:?}:{newest} was acknowledged, and it is at {last}");
                assert!(
                    kept >= last.min(RETENTION.messages_max as u64) || self.is_renewed(&topic, epoch),
                    "{topic}: {kept} of {last}"
                );
                for (position, number) in &found {
                    if let Some(expected) = acknowledged.get(&position.offset) {
                        assert_eq!(number, expected, "{topic} at {position}");
                    }
                }
                let position = Position { epoch, offset: newest };
                let wanted =
                    Wanted { since: Since::Position(position), limit: usize::MAX, bytes_max: usize::MAX, newest: 0 };
                let missed = topics.read(&topic, wanted, self.now_ms);
                assert!(missed.recovered, "{topic}: who was at {position} has missed {}", last - newest);
            }
            let before = self.publishers.epochs.insert(topic.clone(), epoch.number());
            // Nothing was ever said in the other epochs.
            let before = before.filter(|before| self.publishers.acknowledged.contains_key(&(topic.clone(), *before)));
            if before.is_some_and(|before| before != epoch.number()) {
                assert!(self.may_renew || self.may_evict, "{topic} has a new epoch without a reason");
                is_renewed = true;
            }
        }
        drop(topics);
        self.may_renew = false;
        is_renewed
    }

    fn is_renewed(&self, topic: &str, epoch: Epoch) -> bool {
        // What is kept under a new epoch may be less than was before it.
        self.publishers.acknowledged.keys().any(|(other, number)| other == topic && *number != epoch.number())
    }
}

fn any_sync(random: &mut Random) -> HistorySync {
    let every = HistorySync::Every(Duration::from_secs(1));
    [HistorySync::Always, every, HistorySync::Never][random.below(3) as usize]
}

/// The number of a message.
fn number_of(payload: &Payload) -> u64 {
    #[derive(serde::Deserialize)]
    struct Numbered {
        n: u64,
    }
    match payload {
        Payload::Json(json) => json.to::<Numbered>().unwrap().n,
        Payload::Text(_) | Payload::Binary(_) => panic!("these tests publish objects"),
    }
}
