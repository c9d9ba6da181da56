//! Messages in, a log and the topics that it holds out: judged, written, kept and handed on, in this order and in batches.
//!
//! One caller at a time, and no threads: `disk` runs this on a thread of its own, and tests step by step.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fanfare_proto::history::Retention;
use fanfare_proto::position::{Position, Stamp};
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::compaction::{Compaction, Step};
use super::files::Files;
use super::log::{Log, Options, Unsynced, frame};
use super::record::Record;
use super::recovery::{Recovered, Start, recover};
use super::topics::{Entry, Standing, Topics, Verdict};
use super::{Accepted, Append, HistorySync, Settle};
use crate::error::Error;
use crate::message::Draft;

/// So much is copied in one step when the log is made shorter, in bytes, unless more than half of that was published.
const STEP_SIZE: usize = 256 * 1024;

/// The least that `log_bytes_max` may be.
const LOG_SIZE_MIN: u64 = 64 * 1024;

/// A segment of the log has about this part of all that the log may have.
const SEGMENTS: u64 = 8;

/// A segment has at most so many bytes, but for one write.
const SEGMENT_SIZE_MAX: u64 = 8 * 1024 * 1024;

/// A log, and the topics that it holds.
#[derive(Debug)]
pub(super) struct Writer<F: Files> {
    log: Log<F>,
    topics: Arc<Mutex<Topics>>,
    compaction: Compaction,
    log_bytes_max: u64,
    /// Records of topics that were forgotten since the last write, which the next one begins with.
    forgotten: Vec<u8>,
    buffer: Vec<u8>,
    /// The last write failed, and that was said. Others may look.
    is_failing: Arc<AtomicBool>,
    /// What the topics' time is.
    now_ms: u64,
}

impl<F: Files> Writer<F> {
    /// Reads the log, and goes on with it.
    ///
    /// # Errors
    /// It cannot be read; or it is to be written to at once and cannot be.
    pub(super) fn open(files: F, sync: HistorySync, start: Start<'_>) -> Result<Self, Error> {
        let log_bytes_max = start.limits.log_bytes_max as u64;
        if log_bytes_max < LOG_SIZE_MIN {
            return Err(Error::invalid(format!("log_bytes_max is {log_bytes_max}: use {LOG_SIZE_MIN} or more")));
        }
        let recovered = recover(&files, start)?;
        let Recovered { topics, found, stamp, renewed, forgotten, is_to_be_said, origins, now_ms } = recovered;
        let damaged = found.damaged;
        let segment_size_max = (log_bytes_max / SEGMENTS).min(SEGMENT_SIZE_MAX);
        let mut writer = Writer {
            log: Log::new(files, Options { sync, segment_size_max, stamp }, found, renewed),
            topics: Arc::new(Mutex::new(topics)),
            compaction: Compaction::new(origins),
            log_bytes_max,
            forgotten,
            buffer: Vec::new(),
            is_failing: Arc::default(),
            now_ms,
        };
        if is_to_be_said {
            let said = writer.say_and_repair(damaged);
            said.map_err(|error| Error::unavailable(format!("the history's log cannot be written to: {error}")))?;
        }
        Ok(writer)
    }

    pub(super) fn topics(&self) -> Arc<Mutex<Topics>> {
        self.topics.clone()
    }

    /// Whether the last write failed.
    pub(super) fn is_failing(&self) -> Arc<AtomicBool> {
        self.is_failing.clone()
    }

    /// The time at the start: that of the wall clock, but never before a time in the log.
    pub(super) fn start_ms(&self) -> u64 {
        self.now_ms
    }

    /// Judges messages, writes those that are to be kept and keeps them. Gives what is to be told of each, in their order.
    #[must_use = "all are to be settled before the next are committed"]
    pub(super) fn commit(&mut self, appends: impl Iterator<Item = Append>, now_ms: u64) -> Vec<Settled> {
        self.now_ms = now_ms;
        let judged = self.judge(appends);
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(&self.forgotten);
        let forgotten_size = buffer.len();
        for Judged { message, key, verdict, .. } in &judged {
            if let Ok(Verdict::Keep(position)) = *verdict {
                let Draft { topic, event, payload, .. } = message;
                let key = key.as_deref().unwrap_or_default();
                let record = Record::Message { topic, position, at_ms: now_ms, key, event, payload };
                frame(&mut buffer, |out| record.write(out));
            }
        }
        let published = buffer.len() - forgotten_size;
        let written = if published > 0 { self.write(&mut buffer, published * 2) } else { Ok(0) };
        self.say_whether_failing(written.as_ref().err());
        let settled = match written {
            Ok(segment) => self.keep(judged, segment),
            Err(error) => judged.into_iter().map(|judged| (judged.settle, Err(not_written(&error)))).collect(),
        };
        buffer.clear();
        buffer.shrink_to(STEP_SIZE * 4);
        self.buffer = buffer;
        settled
    }

    /// Goes on making the log shorter, by one step. Says whether more is to be done.
    pub(super) fn shorten(&mut self) -> bool {
        if !self.is_too_long() {
            return false;
        }
        let mut buffer = self.forgotten.clone();
        let written = self.write(&mut buffer, 0);
        self.say_whether_failing(written.as_ref().err());
        written.is_ok() && self.is_too_long() && self.log.oldest().is_some()
    }

    /// Whether as much as the log may have waits on the disk to be deleted, since what replaces it is not safe from a power cut: nothing may be
    /// written before it is.
    pub(super) fn is_held_back(&self) -> bool {
        self.log.retired_bytes() > self.log_bytes_max
    }

    /// What is to be made safe from a power cut now, if anything is.
    pub(super) fn begin_sync(&mut self) -> Option<Unsynced<F>> {
        self.log.begin_sync()
    }

    /// Learns what became of it.
    pub(super) fn end_sync(&mut self, synced: Unsynced<F>, result: &io::Result<()>) {
        self.log.end_sync(synced, result);
        if let Err(error) = result {
            tracing::error!(%error, "the history's log could not be made safe from a power cut");
        }
    }

    /// Makes all safe, and says so in the log.
    pub(super) fn mark(&mut self) {
        if let Err(error) = self.log.mark() {
            tracing::error!(%error, "the history's log could not be made safe from a power cut");
        }
    }

    /// Says what becomes of messages, of each as if those before it were kept.
    fn judge(&mut self, appends: impl Iterator<Item = Append>) -> Vec<Judged> {
        let mut topics = self.topics.lock();
        let mut ahead = Ahead::default();
        let judge = |append| {
            let Append { message, retention, key, expected, settle } = append;
            let mut standing = topics.standing(&message.topic, key.as_deref(), self.now_ms);
            ahead.correct(&mut standing, &message.topic, key.as_deref());
            let verdict = standing.judge(expected);
            if let Ok(Verdict::Keep(position)) = verdict {
                ahead.add(&message.topic, key.as_deref(), position);
            }
            Judged { message, retention, key, settle, verdict }
        };
        appends.map(judge).collect()
    }

    /// Keeps the messages that were written.
    fn keep(&mut self, judged: Vec<Judged>, segment: u64) -> Vec<Settled> {
        let mut topics = self.topics.lock();
        let settled = judged.into_iter().map(|judged| {
            let Judged { message, retention, key, settle, verdict } = judged;
            let accepted = verdict.map(|verdict| match verdict {
                Verdict::Repeated(position) => Accepted::Repeated(position),
                Verdict::Keep(position) => {
                    let entry = Entry { event: message.event.clone(), payload: message.payload.clone() };
                    let (topic, key) = (&message.topic, key.as_deref());
                    let kept = topics.keep(topic, position, entry, key, retention, self.now_ms, segment);
                    if kept.is_new {
                        self.compaction.add(topic.clone(), segment);
                    }
                    Accepted::New(message.into_kept(Stamp::in_row(position), kept.number))
                }
            });
            (settle, accepted)
        });
        let settled = settled.collect();
        topics.evict(self.now_ms, |record| frame(&mut self.forgotten, |out| record.write(out)));
        self.log.restamp(topics.unknown().epoch());
        settled
    }

    /// Writes records, which begin with those of forgotten topics, and where the log is too long a step that makes it shorter.
    /// Gives the segment where they are.
    fn write(&mut self, records: &mut Vec<u8>, step_size: usize) -> io::Result<u64> {
        let segment = self.log.prepare()?;
        let is_too_long = self.is_too_long();
        let oldest = self.log.oldest().filter(|_| is_too_long);
        let step = oldest.map(|oldest| self.step(oldest, segment, step_size.max(STEP_SIZE), records));
        self.log.write(records)?;
        self.forgotten.clear();
        if let Some(step) = step {
            self.finish(step);
        }
        Ok(segment)
    }

    fn step(&mut self, oldest: (u64, u64), target: u64, size: usize, out: &mut Vec<u8>) -> Step {
        self.compaction.step(&mut self.topics.lock(), oldest, target, size, self.now_ms, out)
    }

    fn finish(&mut self, step: Step) {
        if let Some(segment) = self.compaction.apply(step, &mut self.topics.lock()) {
            self.log.retire(segment);
        }
    }

    /// Begins a segment that says what is new, and writes anew what is worth keeping of damaged ones and those before.
    fn say_and_repair(&mut self, damaged: Option<u64>) -> io::Result<()> {
        self.log.prepare()?;
        self.log.write(&self.forgotten)?;
        self.forgotten.clear();
        while let Some(oldest) = self.log.oldest().filter(|oldest| Some(oldest.0) <= damaged) {
            let mut records = Vec::new();
            let target = self.log.prepare()?;
            let step = self.step(oldest, target, STEP_SIZE, &mut records);
            self.log.write(&records)?;
            self.finish(step);
        }
        self.log.sync_now()
    }

    fn is_too_long(&self) -> bool {
        let live = self.topics.lock().log_size() as u64;
        self.log.size() > self.log_bytes_max.max(live * 2)
    }

    /// Says once that the log cannot be written to, and once that it can be again.
    fn say_whether_failing(&mut self, error: Option<&io::Error>) {
        let was_failing = self.is_failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_failing => {
                tracing::error!(%error, "the history's log cannot be written to: messages are refused until it can be");
            }
            None if was_failing => tracing::info!("the history's log can be written to again"),
            _ => {}
        }
    }
}

/// Whom to tell what became of a message.
pub(super) type Settled = (Settle, Result<Accepted, Error>);

/// A message and what becomes of it, if it can be written.
struct Judged {
    message: Draft,
    retention: Retention,
    key: Option<Box<str>>,
    settle: Settle,
    verdict: Result<Verdict, Error>,
}

/// What the messages of a batch change, for those behind them.
#[derive(Debug, Default)]
struct Ahead(Map<Arc<str>, (Position, Keys)>);

/// Where the messages with these keys stand.
type Keys = Map<Box<str>, Position>;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

impl Ahead {
    fn correct(&self, standing: &mut Standing, topic: &str, key: Option<&str>) {
        if let Some((head, keys)) = self.0.get(topic) {
            standing.head = *head;
            standing.repeated = standing.repeated.or_else(|| keys.get(key?).copied());
        }
    }

    fn add(&mut self, topic: &Arc<str>, key: Option<&str>, position: Position) {
        let (head, keys) = self.0.entry_ref(&**topic).or_insert_with(|| (position, HashMap::default()));
        *head = position;
        if let Some(key) = key {
            keys.insert(key.into(), position);
        }
    }
}

fn not_written(error: &io::Error) -> Error {
    Error::unavailable(format!(
        "the message was not published, since its topic's history cannot be written: {error}; make room or mend the disk, \
         and publish again"
    ))
}
