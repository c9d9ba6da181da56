//! The records of a topic in their order, from one to another: a reader is made, asked for them, and thrown away.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::nats::Message;
use serde_json::json;

use super::super::{Nats, api, request::Request};
use crate::broker::{Done, Undone};

/// A reader that nobody has asked for so long is thrown away by the server, in seconds.
const READER_FOR_S: u64 = 10;

/// There is no last record that counts.
pub(in crate::broker::nats) const ALL: u64 = u64::MAX;

/// What is to be read.
pub(in crate::broker::nats) struct Scan {
    pub(in crate::broker::nats) stream: Arc<str>,
    pub(in crate::broker::nats) subject: String,
    pub(in crate::broker::nats) from: u64,
    /// The last record that counts, which is there; or [`ALL`].
    pub(in crate::broker::nats) until: u64,
    pub(in crate::broker::nats) keep: Keep,
}

/// Which of them are of interest.
pub(in crate::broker::nats) enum Keep {
    /// The first, up to so many, or until they are larger than that.
    First { count: usize, bytes: usize },
    /// The last, up to so many, and one at least, with not many more bytes.
    Newest { count: usize, bytes: usize },
    /// The one with this key.
    WithKey(String),
}

/// What was read.
pub(in crate::broker::nats) struct Scanned {
    /// How many there are from the first on.
    pub(in crate::broker::nats) total: u64,
    /// What time it was there.
    pub(in crate::broker::nats) now_ms: u64,
    pub(in crate::broker::nats) records: Vec<Record>,
}

/// A record of a topic.
pub(in crate::broker::nats) struct Record {
    pub(in crate::broker::nats) sequence: u64,
    pub(in crate::broker::nats) time_ms: u64,
    pub(in crate::broker::nats) payload: Bytes,
}

impl Nats {
    /// Reads.
    pub(in crate::broker::nats) fn scan(&self, scan: Scan, done: Done<Scanned>) {
        let number = self.server.number();
        let reader = self.server.subjects.reader(number);
        let (subject, body) = api::reader(&scan.stream, &reader, &scan.subject, scan.from, READER_FOR_S);
        let nats = self.clone();
        let made = move |answer| match answer {
            Err(undone) => done(Err(undone)),
            Ok(Err(refusal)) => done(Err(nats.refused(&refusal))),
            Ok(Ok(answer)) => match api::reading(&answer) {
                Some((0, now_ms)) => done(Ok(Scanned { total: 0, now_ms, records: Vec::new() })),
                Some((total, now_ms)) => {
                    nats.pull(number, &reader, scan, Scanned { total, now_ms, records: Vec::new() }, done)
                }
                None => done(Err(nats.unexpected())),
            },
        };
        Nats::ask(&self.bulk, self.server.number(), subject, Vec::new(), body.to_string().into(), made);
    }

    /// Asks a reader for all at once.
    fn pull(&self, number: u64, reader: &str, scan: Scan, scanned: Scanned, done: Done<Scanned>) {
        let batch = match &scan.keep {
            Keep::First { count, .. } => scanned.total.min(*count as u64),
            _ => scanned.total,
        };
        let stream = &scan.stream;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{reader}").into();
        let payload = json!({ "batch": batch.max(1), "no_wait": true }).to_string().into();
        let end = Request::Publish {
            subject: format!("$JS.API.CONSUMER.DELETE.{stream}.{reader}").into(),
            payload: Bytes::new(),
            // It goes by itself as well.
            done: Box::new(|_| ()),
        };
        let nats = self.clone();
        let mut gathering =
            Some((Gathering { scan, left: batch, bytes: 0, scanned, records: VecDeque::new() }, end, done));
        let answered = move |answer: Result<&Message<'_>, Undone>| {
            let Some((gathering_now, ..)) = &mut gathering else { return true };
            let outcome = match answer.map(|message| gathering_now.take(message)) {
                Ok(Some(outcome)) => outcome,
                Ok(None) => return false,
                Err(undone) => Err(undone),
            };
            if let Some((gathering, end, done)) = gathering.take() {
                nats.bulk.put(end);
                done(outcome.map(|()| gathering.into_scanned()));
            }
            true
        };
        self.bulk.put(Request::Ask { number, subject, headers: Vec::new(), payload, answered: Box::new(answered) });
    }
}

struct Gathering {
    scan: Scan,
    /// So many may come yet.
    left: u64,
    bytes: usize,
    scanned: Scanned,
    records: VecDeque<Record>,
}

impl Gathering {
    /// Takes what has come: how it has ended, if it has.
    fn take(&mut self, message: &Message<'_>) -> Option<Result<(), Undone>> {
        let Some(brought) = message.reply.and_then(api::brought) else {
            // There are no more, and the last one has not come.
            return Some(match self.scan.until {
                ALL => Ok(()),
                _ => Err(Undone::refused("the log is behind; read it again")),
            });
        };
        self.left = self.left.saturating_sub(1);
        if brought.sequence <= self.scan.until {
            let payload = Bytes::copy_from_slice(message.payload);
            self.add(Record { sequence: brought.sequence, time_ms: brought.time_ms, payload }, message);
        }
        let is_enough = match &self.scan.keep {
            Keep::First { count, bytes } => self.records.len() >= *count || self.bytes > *bytes,
            Keep::Newest { .. } => false,
            Keep::WithKey(_) => !self.records.is_empty(),
        };
        (is_enough || brought.sequence >= self.scan.until || self.left == 0).then_some(Ok(()))
    }

    fn add(&mut self, record: Record, message: &Message<'_>) {
        match &self.scan.keep {
            Keep::First { .. } => {
                // The first one is where the reader is.
                if !self.records.is_empty() {
                    self.bytes += record.payload.len();
                }
            }
            Keep::Newest { count, bytes } => {
                self.bytes += record.payload.len();
                while self.records.len() >= *count || (self.records.len() > 1 && self.bytes > 2 * bytes) {
                    let Some(gone) = self.records.pop_front() else { break };
                    self.bytes -= gone.payload.len();
                }
            }
            Keep::WithKey(key) => {
                if message.headers.get(api::KEY) != Some(key) {
                    return;
                }
            }
        }
        self.records.push_back(record);
    }

    fn into_scanned(self) -> Scanned {
        Scanned { records: self.records.into(), ..self.scanned }
    }
}
