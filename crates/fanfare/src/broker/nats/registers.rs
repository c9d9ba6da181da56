//! Registers: the last message of a subject each, in a stream of their own.
//!
//! A cell's message has its name, revision and value. It is changed by a message that is kept only while the one before it is the last of
//! its subject, and taken away by one without a value, which is thrown away itself then.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::Nats;
use super::api::{self, Refusal};
use super::log::scan::{ALL, Keep, Scan, Scanned};
use super::stream::{Known, REGISTERS};
use crate::broker::{Cell, Done, REGISTER_SIZE_MAX, Registers, Swapped, Undone};

/// How often a change is tried whose cell changes meanwhile without being another one: only by what is thrown away.
const TRIES: u32 = 5;

/// What a subject has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// The number of its last message; 0 without one.
    sequence: u64,
    /// The last revision that is known.
    revision: u64,
    /// `None` where the cell was taken away.
    value: Option<Bytes>,
}

impl Found {
    const NOTHING: Found = Found { sequence: 0, revision: 0, value: None };

    fn cell(&self) -> Option<Cell> {
        self.value.clone().map(|value| Cell { revision: self.revision, value })
    }
}

/// A change that is wanted.
struct Change {
    name: Box<str>,
    expected: Option<u64>,
    /// `None` takes the cell away.
    value: Option<Bytes>,
    done: Done<Swapped>,
}

impl Registers for Nats {
    fn get(&self, name: &str, done: Done<Option<Cell>>) {
        self.find(name, move |found| done(found.map(|found| found.cell())));
    }

    fn put_if(&self, name: &str, revision: Option<u64>, value: Bytes, done: Done<Swapped>) {
        if value.len() > REGISTER_SIZE_MAX {
            let size = value.len();
            return done(Err(Undone::refused(format!(
                "a register of {size} bytes is larger than {REGISTER_SIZE_MAX}"
            ))));
        }
        self.change(Change { name: name.into(), expected: revision, value: Some(value), done }, TRIES);
    }

    fn delete_if(&self, name: &str, revision: u64, done: Done<Swapped>) {
        self.change(Change { name: name.into(), expected: Some(revision), value: None, done }, TRIES);
    }

    fn list(&self, prefix: &str, done: Done<Vec<(String, Cell)>>) {
        let known = match self.of_registers() {
            Ok(known) => known,
            Err(undone) => return done(Err(undone)),
        };
        let (stream, subject) = (known.name, self.server.subjects.kept_all(REGISTERS));
        let keep = Keep::First { count: usize::MAX, bytes: usize::MAX };
        let scan = Scan { stream, subject, from: 1, until: ALL, keep };
        let prefix = prefix.to_owned();
        let scanned = move |scanned: Result<Scanned, Undone>| {
            done(scanned.map(|scanned| {
                let cells = scanned.records.into_iter().filter_map(|record| {
                    let (name, found) = read(record.sequence, &record.payload)?;
                    Some((name.starts_with(&prefix).then(|| name.to_owned())?, found.cell()?))
                });
                let mut cells: Vec<_> = cells.collect();
                cells.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                cells
            }));
        };
        self.scan(scan, Box::new(scanned));
    }
}

impl Nats {
    fn of_registers(&self) -> Result<Known, Undone> {
        let stream = self.server.streams.iter().find(|stream| stream.class == REGISTERS);
        stream.and_then(|stream| stream.known()).ok_or_else(|| self.server.is_away())
    }

    /// Asks for the last message of a cell, of the server that keeps it.
    fn find(&self, name: &str, found: impl FnOnce(Result<Found, Undone>) + Send + 'static) {
        let known = match self.of_registers() {
            Ok(known) => known,
            Err(undone) => return found(Err(undone)),
        };
        let nats = self.clone();
        let answered = move |answer: Result<Result<Value, Refusal>, Undone>| {
            found(answer.and_then(|answer| {
                match answer {
                    Ok(answer) => api::last_content(&answer)
                        .and_then(|(sequence, content)| Some(read(sequence, &content)?.1))
                        .ok_or_else(|| nats.unexpected()),
                    Err(refusal) if refusal.is_no_message() => Ok(Found::NOTHING),
                    Err(refusal) => Err(nats.refused(&refusal)),
                }
            }));
        };
        let body = json!({ "last_by_subj": self.server.subjects.kept(REGISTERS, name) }).to_string();
        let subject = format!("$JS.API.STREAM.MSG.GET.{}", known.name);
        Nats::ask(&self.bulk, self.server.number(), subject, Vec::new(), body.into(), answered);
    }

    fn change(&self, change: Change, tries: u32) {
        let nats = self.clone();
        let name = change.name.clone();
        self.find(&name, move |found| match found {
            Err(undone) => (change.done)(Err(undone)),
            Ok(found) if change.expected != found.cell().map(|cell| cell.revision) => {
                (change.done)(Ok(Swapped::Not(found.cell())));
            }
            Ok(found) => nats.write(change, &found, tries),
        });
    }

    /// Writes what is wanted, if nothing has been written since.
    fn write(&self, change: Change, found: &Found, tries: u32) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let revision = now.max(found.revision + 1);
        let payload = write(&change.name, revision, change.value.as_deref());
        let subject = self.server.subjects.kept(REGISTERS, &change.name);
        let expected = vec![(api::EXPECTED, found.sequence.to_string())];
        let nats = self.clone();
        let to = subject.clone();
        let answered = move |answer: Result<Result<Value, Refusal>, Undone>| match answer {
            Err(undone) => (change.done)(Err(undone)),
            Ok(Err(refusal)) if refusal.is_wrong_last() && tries > 0 => nats.change(change, tries - 1),
            Ok(Err(refusal)) => (change.done)(Err(nats.refused(&refusal))),
            Ok(Ok(answer)) => match (api::kept(&answer), change.value.is_some()) {
                (None, _) => (change.done)(Err(nats.unexpected())),
                (Some(_), true) => (change.done)(Ok(Swapped::Done(revision))),
                (Some(kept), false) => {
                    nats.forget(&kept.stream, &to, kept.sequence);
                    (change.done)(Ok(Swapped::Done(change.expected.unwrap_or_default())));
                }
            },
        };
        Nats::ask(&self.bulk, self.server.number(), subject, expected, payload, answered);
    }

    /// Throws away what says that a cell was taken away, unless there is something newer.
    fn forget(&self, stream: &str, subject: &str, sequence: u64) {
        let body = json!({ "filter": subject, "seq": sequence + 1 }).to_string();
        let purge = format!("$JS.API.STREAM.PURGE.{stream}");
        // Where it stays it does no harm, and goes with the next one.
        Nats::ask(&self.bulk, self.server.number(), purge, Vec::new(), body.into(), |_| ());
    }
}

fn write(name: &str, revision: u64, value: Option<&[u8]>) -> Bytes {
    let size = u16::try_from(name.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![u8::from(value.is_some())];
    bytes.extend_from_slice(&revision.to_le_bytes());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(value.unwrap_or_default());
    bytes.into()
}

/// `None` if a later version, or other software, has written it.
fn read(sequence: u64, bytes: &[u8]) -> Option<(&str, Found)> {
    let (&[is_there @ 0..=1], rest) = bytes.split_first_chunk::<1>()? else { return None };
    let (revision, rest) = rest.split_first_chunk::<8>()?;
    let (size, rest) = rest.split_first_chunk::<2>()?;
    let (name, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*size)))?;
    let value = (is_there == 1).then(|| Bytes::copy_from_slice(value));
    Some((str::from_utf8(name).ok()?, Found { sequence, revision: u64::from_le_bytes(*revision), value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_says_is_read_back_and_anything_else_is_nobodys() {
        for (name, value) in [("hub/a", Some(&b"x"[..])), ("", Some(b"")), ("ü", None)] {
            let found = Found { sequence: 3, revision: 9, value: value.map(Bytes::copy_from_slice) };
            assert_eq!(read(3, &write(name, 9, value)), Some((name, found)));
        }
        for other in [
            &b""[..],
            b"\x01short",
            b"\x02\0\0\0\0\0\0\0\0\0\0",
            b"\x01\0\0\0\0\0\0\0\0\x01\0",
            b"\x01\0\0\0\0\0\0\0\0\x01\0\xff",
        ] {
            assert_eq!(read(1, other), None, "{other:?}");
        }
    }
}
