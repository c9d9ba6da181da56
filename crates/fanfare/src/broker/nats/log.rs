//! The logs of topics: what is appended, where they are, and what a reader gets of them. `log/` has `scan`: messages of a topic in their order.
//!
//! **A topic begins with a record without content**, which whoever first looks at it or publishes to it has kept, provided that there is nothing
//! yet. So each position is that of a record, also before the first message; "from the start" can be told from "from the oldest that is left";
//! and a position is in the log iff its record is there. Streams keep one record more than their topics keep messages.

pub(super) mod scan;

use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::position::{Position, Since};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::scan::{Keep, Scan, Scanned};
use super::Nats;
use super::api::{self, Refusal};
use super::link::Link;
use super::request::{self, Headers, Outcome, Request};
use super::stream::Known;
use crate::broker::{Append, Appended, Done, Entry, Epochs, Head, Log, Page, Read, Stamp, Undone};

/// A number that no message has.
const NEVER: u64 = i64::MAX as u64;

/// How often it is looked for the head of a topic that begins meanwhile.
const TRIES: u32 = 3;

/// The last record of a topic.
#[derive(Debug, Clone)]
pub(super) struct Last {
    known: Known,
    sequence: u64,
    /// It has no messages behind its beginning.
    is_beginning: bool,
}

impl Last {
    pub(super) fn head(&self) -> Head {
        Head { position: self.known.at(self.sequence), epochs: Epochs::new(self.known.epoch(), 0) }
    }
}

impl Log for Nats {
    fn append(&self, append: Append) {
        let known = match self.known(&append.topic) {
            Ok(known) => known,
            Err(undone) => return (append.done)(Err(undone)),
        };
        if let Err(undone) = self.server.carries(append.envelope.len(), api::HEADERS_SIZE_MAX) {
            return (append.done)(Err(undone));
        }
        match append.expected {
            None | Some(Since::Now) => self.keep(append, None),
            Some(Since::Position(position)) => {
                let is_its = position.epoch == known.epoch();
                self.keep(append, Some(if is_its { position.offset } else { NEVER }));
            }
            Some(Since::Start) => {
                let nats = self.clone();
                let topic = append.topic.clone();
                let done = Box::new(move |last: Result<Last, Undone>| match last {
                    Ok(last) => nats.keep(append, Some(if last.is_beginning { last.sequence } else { NEVER })),
                    Err(undone) => (append.done)(Err(undone)),
                });
                self.last(&self.live, &topic, done);
            }
        }
    }

    fn read(&self, topic: &Arc<str>, read: Read, done: Done<Page>) {
        let nats = self.clone();
        let name = topic.clone();
        let found = move |last: Result<Last, Undone>| match last {
            Ok(last) => nats.read_to(last, &name, read, done),
            Err(undone) => done(Err(undone)),
        };
        self.last(&self.bulk, topic, Box::new(found));
    }

    fn heads(&self, topics: Vec<Arc<str>>, done: Done<Vec<Position>>) {
        if topics.is_empty() {
            return done(Ok(Vec::new()));
        }
        let left = topics.len();
        let gathered = Arc::new(Mutex::new(Gathered { heads: vec![None; left], left, done: Some(done) }));
        for (place, topic) in topics.iter().enumerate() {
            let gathered = gathered.clone();
            let done = move |last: Result<Last, Undone>| Gathered::add(&gathered, place, last);
            self.last(&self.bulk, topic, Box::new(done));
        }
    }
}

/// Heads that have come so far.
struct Gathered {
    heads: Vec<Option<Position>>,
    left: usize,
    done: Option<Done<Vec<Position>>>,
}

impl Gathered {
    fn add(gathered: &Mutex<Gathered>, place: usize, last: Result<Last, Undone>) {
        let mut gathered = gathered.lock();
        gathered.left -= 1;
        let outcome = match last {
            Ok(last) => {
                gathered.heads[place] = Some(last.head().position);
                if gathered.left > 0 {
                    return;
                }
                Ok(std::mem::take(&mut gathered.heads).into_iter().flatten().collect())
            }
            Err(undone) => Err(undone),
        };
        let done = gathered.done.take();
        drop(gathered);
        if let Some(done) = done {
            done(outcome);
        }
    }
}

impl Nats {
    /// Where a topic is kept.
    fn known(&self, topic: &str) -> Result<Known, Undone> {
        let stream = self.server.stream_of(topic).ok_or_else(|| Undone::refused("the topic has no history"))?;
        stream.known().ok_or_else(|| self.server.is_away())
    }

    fn kept_subject(&self, topic: &str) -> String {
        let class = self.server.stream_of(topic).map_or(0, |stream| stream.class);
        self.server.subjects.kept(class, topic)
    }

    /// Has a message kept, if the topic's last record is this one.
    fn keep(&self, append: Append, expected: Option<u64>) {
        let Append { topic, envelope, key, done, .. } = append;
        let mut headers: Headers = Vec::new();
        let key = key.map(|key| {
            let digest =
                Sha256::new().chain_update(topic.as_bytes()).chain_update([0]).chain_update(key.as_bytes()).finalize();
            digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        });
        headers.extend(key.clone().map(|key| (api::KEY, key)));
        headers.extend(expected.map(|expected| (api::EXPECTED, expected.to_string())));
        let subject = self.kept_subject(&topic).into();
        let (nats, name) = (self.clone(), topic.clone());
        let ended = move |outcome: Result<Outcome, Undone>| match outcome {
            Ok(Outcome::New(stamp)) => done(Ok(Appended::New(stamp))),
            Ok(Outcome::Repeated(position)) => done(Ok(Appended::Repeated(position))),
            Ok(Outcome::WrongLast) => nats.conflict(&name, key, done),
            Err(undone) => done(Err(undone)),
        };
        let append = request::Append { topic, subject, headers, payload: envelope, done: Box::new(ended) };
        self.live.put(Request::Append(append));
    }

    /// A message was not expected where the topic is. Newer servers look at that before they look for its key.
    fn conflict(&self, topic: &Arc<str>, key: Option<String>, done: Done<Appended>) {
        let (nats, name) = (self.clone(), topic.clone());
        let found = move |last: Result<Last, Undone>| match (last, key) {
            (Err(undone), _) => done(Err(undone)),
            (Ok(last), None) => done(Ok(Appended::Conflict(last.known.at(last.sequence)))),
            (Ok(last), Some(key)) => {
                let scan = nats.scan_of(&last, &name, 1, Keep::WithKey(key));
                let known = last.known;
                nats.scan(
                    scan,
                    Box::new(move |scanned| {
                        done(scanned.map(|scanned| match scanned.records.first() {
                            Some(record) => Appended::Repeated(known.at(record.sequence)),
                            None => Appended::Conflict(known.at(last.sequence)),
                        }));
                    }),
                );
            }
        };
        self.last(&self.live, topic, Box::new(found));
    }

    /// Finds the last record of a topic. One that has none begins.
    pub(super) fn last(&self, link: &Arc<Link>, topic: &Arc<str>, done: Done<Last>) {
        self.try_last(link, topic, TRIES, None, done);
    }

    /// `not_begun` is why it could not begin before.
    fn try_last(&self, link: &Arc<Link>, topic: &Arc<str>, tries: u32, not_begun: Option<Refusal>, done: Done<Last>) {
        let known = match self.known(topic) {
            Ok(known) => known,
            Err(undone) => return done(Err(undone)),
        };
        let (nats, on, name) = (self.clone(), link.clone(), topic.clone());
        let subject = self.kept_subject(topic);
        let asked = format!("$JS.API.STREAM.MSG.GET.{}", known.name);
        let body = json!({ "last_by_subj": subject });
        let answered = move |answer: Result<Result<Value, Refusal>, Undone>| match answer {
            Err(undone) => done(Err(undone)),
            Ok(Ok(answer)) => done(match api::last(&answer) {
                Some((sequence, is_beginning)) => {
                    if let Some((stream, _)) = nats.server.stream_named(&known.name) {
                        stream.saw(sequence);
                    }
                    Ok(Last { known, sequence, is_beginning })
                }
                None => Err(nats.unexpected()),
            }),
            Ok(Err(refusal)) if refusal.is_no_message() && tries > 0 => {
                let (link, number) = (on.clone(), nats.server.number());
                // Whoever loses the race finds the other's.
                let begun = move |begun: Result<Result<Value, Refusal>, Undone>| {
                    let not_begun = begun.ok().and_then(Result::err);
                    nats.try_last(&on, &name, tries - 1, not_begun, done);
                };
                let expected = vec![(api::EXPECTED, "0".to_owned())];
                Nats::ask(&link, number, subject, expected, Bytes::new(), begun);
            }
            Ok(Err(refusal)) => {
                let not_begun = not_begun.filter(|_| refusal.is_no_message());
                done(Err(nats.refused(&not_begun.unwrap_or(refusal))));
            }
        };
        Nats::ask(link, self.server.number(), asked, Vec::new(), body.to_string().into(), answered);
    }

    /// Asks something that has one answer.
    pub(super) fn ask(
        link: &Link,
        number: u64,
        subject: String,
        headers: Headers,
        payload: Bytes,
        answered: impl FnOnce(Result<Result<Value, Refusal>, Undone>) + Send + 'static,
    ) {
        let mut answered = Some(answered);
        let once = move |answer: Result<&fanfare_proto::nats::Message<'_>, Undone>| {
            if let Some(answered) = answered.take() {
                answered(answer.map(api::answer));
            }
            true
        };
        link.put(Request::Ask { number, subject: subject.into(), headers, payload, answered: Box::new(once) });
    }

    pub(super) fn refused(&self, refusal: &Refusal) -> Undone {
        refusal.undone(&self.server.name)
    }

    pub(super) fn unexpected(&self) -> Undone {
        Undone::unknown(format!("{}: the answer of its JetStream makes no sense", self.server.name))
    }

    /// What a reader gets up to the last record.
    fn read_to(&self, last: Last, topic: &Arc<str>, read: Read, done: Done<Page>) {
        let from = match read.since {
            Since::Now => return self.newest(last, topic, read, true, done),
            Since::Start if last.is_beginning => return done(Ok(page(&last, true, Vec::new()))),
            Since::Start => 1,
            Since::Position(position) if position == last.known.at(last.sequence) => {
                return done(Ok(page(&last, true, Vec::new())));
            }
            Since::Position(position) if position.epoch == last.known.epoch() && position.offset < last.sequence => {
                position.offset
            }
            Since::Position(_) => return self.newest(last, topic, read, false, done),
        };
        let (nats, name) = (self.clone(), topic.clone());
        let keep = Keep::First { count: read.limit.saturating_add(1), bytes: read.bytes_max };
        let scan = self.scan_of(&last, topic, from, keep);
        let scanned = move |scanned: Result<Scanned, Undone>| match scanned.map(|scanned| behind(&last, &read, scanned))
        {
            Err(undone) => done(Err(undone)),
            Ok(Some(entries)) => done(Ok(page(&last, true, entries))),
            Ok(None) => nats.newest(last, &name, read, false, done),
        };
        self.scan(scan, Box::new(scanned));
    }

    /// The newest messages, for whoever does not go on from a position.
    fn newest(&self, last: Last, topic: &Arc<str>, read: Read, recovered: bool, done: Done<Page>) {
        if read.newest == 0 || last.is_beginning {
            return done(Ok(page(&last, recovered, Vec::new())));
        }
        let count = read.newest.min(read.retention.messages_max);
        // One more, which says what is before them.
        let keep = Keep::Newest { count: count.saturating_add(1), bytes: read.retention.bytes_max };
        let scan = self.scan_of(&last, topic, 1, keep);
        let scanned = move |scanned: Result<Scanned, Undone>| {
            done(scanned.map(|Scanned { now_ms, records, .. }| {
                let oldest_ms = now_ms.saturating_sub(read.retention.age_max_ms);
                let mut bytes = 0;
                let mut before = 0;
                let mut entries = Vec::new();
                for (number, record) in records.iter().enumerate().rev() {
                    bytes += record.payload.len();
                    let is_too_much = number + 1 < records.len() && bytes > read.retention.bytes_max;
                    let is_over = is_too_much || entries.len() == count || record.time_ms < oldest_ms;
                    if is_over || record.payload.is_empty() {
                        before = record.sequence;
                        break;
                    }
                    entries.push((record.sequence, record.payload.clone()));
                }
                entries.reverse();
                page(&last, recovered, chained(&last.known, before, entries))
            }));
        };
        self.scan(scan, Box::new(scanned));
    }

    fn scan_of(&self, last: &Last, topic: &str, from: u64, keep: Keep) -> Scan {
        let (stream, subject) = (last.known.name.clone(), self.kept_subject(topic));
        Scan { stream, subject, from, until: last.sequence, keep }
    }
}

/// The messages behind a reader's position, if the log has all of them: the first record is the position's.
fn behind(last: &Last, read: &Read, scanned: Scanned) -> Option<Vec<Entry>> {
    let Scanned { total, now_ms, records } = scanned;
    let (first, records) = records.split_first()?;
    let is_there = match read.since {
        Since::Position(position) => first.sequence == position.offset,
        _ => first.payload.is_empty(),
    };
    let oldest = records.first()?;
    let kept_ms = now_ms.saturating_sub(read.retention.age_max_ms);
    if !is_there || total > read.retention.messages_max as u64 + 1 || oldest.time_ms < kept_ms {
        return None;
    }
    // Of a page that does not reach the end it is not known how large the rest is. More than was promised is no harm.
    let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
    let reaches_the_end = records.last().is_some_and(|record| record.sequence == last.sequence);
    if reaches_the_end && records.len() > 1 && bytes > read.retention.bytes_max {
        return None;
    }
    let mut bytes = 0;
    let within = records.iter().take(read.limit).enumerate().take_while(|(number, record)| {
        bytes += record.payload.len();
        *number == 0 || bytes <= read.bytes_max
    });
    let entries = within.map(|(_, record)| (record.sequence, record.payload.clone())).collect();
    Some(chained(&last.known, first.sequence, entries))
}

/// Messages, each behind the one before it.
fn chained(known: &Known, mut before: u64, messages: Vec<(u64, Bytes)>) -> Vec<Entry> {
    let entry = |(sequence, envelope)| {
        let prev = known.at(std::mem::replace(&mut before, sequence));
        Entry { stamp: Stamp { position: known.at(sequence), prev }, envelope }
    };
    messages.into_iter().map(entry).collect()
}

fn page(last: &Last, recovered: bool, entries: Vec<Entry>) -> Page {
    Page { head: last.head(), recovered, entries }
}
