//! The logs of topics: streams, which the scripts write and read.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::position::{Position, Since};
use fanfare_proto::resp::Value;
use parking_lot::Mutex;

use super::names::Kind;
use super::request::{Appends, Request, bounds, unexpected};
use super::scripts::{self, Script};
use super::slots::Slot;
use super::{Place, Redis};
use crate::broker::{Append, Done, Entry, LinkId, Log, Page, Read, Stamp, Transport as _, Undone};

/// So many heads are asked for at once: a script must not take long.
const HEADS_MAX: usize = 64;

impl Log for Redis {
    fn append(&self, append: Append) {
        match self.carries(append.envelope.len()) {
            Err(undone) => (append.done)(Err(undone)),
            Ok(()) => self.put(&append.topic.clone(), [Request::Append(Appends::new(append))]),
        }
    }

    fn read(&self, topic: &Arc<str>, read: Read, done: Done<Page>) {
        let place = match self.place(topic) {
            Ok(place) => place,
            Err(undone) => return done(Err(undone)),
        };
        let server = &place.server;
        let parts = vec![
            Bytes::from_static(b"2"),
            server.names.of(Kind::Stream, topic).into(),
            server.names.of(Kind::Meta, topic).into(),
            Bytes::copy_from_slice(&server.session().to_le_bytes()),
            Bytes::copy_from_slice(&server.draw().to_le_bytes()),
            wanted(&read, server.now_ms()).into(),
        ];
        let answered = Box::new(move |answer: Result<Value<'_>, Undone>| {
            done(answer.and_then(|value| page(value, &read).ok_or_else(|| unexpected("the read"))));
        });
        place.bulk.put(Request::Call { script: Some(Script::Read), parts, answered });
    }

    fn heads(&self, topics: Vec<Arc<str>>, done: Done<Vec<Position>>) {
        if topics.is_empty() {
            return done(Ok(Vec::new()));
        }
        let parts = match self.by_place(&topics) {
            Ok(parts) => parts,
            Err(undone) => return done(Err(undone)),
        };
        let gathered = Gathered { heads: vec![None; topics.len()], parts: parts.len(), done: Some(done) };
        let gathered = Arc::new(Mutex::new(gathered));
        for (place, indexes) in parts {
            let names: Vec<&str> = indexes.iter().map(|index| &*topics[*index]).collect();
            let gathered = gathered.clone();
            let answered = move |answer: Result<Value<'_>, Undone>| {
                let count = indexes.len();
                let heads = answer.and_then(|value| heads(value, count).ok_or_else(|| unexpected("the heads")));
                Gathered::add(&gathered, &indexes, heads);
            };
            place.bulk.put(place.heads_of(names, Box::new(answered)));
        }
    }
}

/// Topics of which one command asks, by their places in a list, and the server that it goes to.
type Part = (Arc<Place>, Vec<usize>);

/// Heads that have come so far.
struct Gathered {
    heads: Vec<Option<Position>>,
    /// How many answers are still to come.
    parts: usize,
    done: Option<Done<Vec<Position>>>,
}

impl Gathered {
    fn add(gathered: &Mutex<Gathered>, indexes: &[usize], heads: Result<Vec<Position>, Undone>) {
        let mut gathered = gathered.lock();
        gathered.parts -= 1;
        let outcome = match heads {
            Ok(heads) => {
                for (index, head) in indexes.iter().zip(heads) {
                    gathered.heads[*index] = Some(head);
                }
                if gathered.parts > 0 {
                    return;
                }
                let heads: Option<Vec<_>> = std::mem::take(&mut gathered.heads).into_iter().collect();
                heads.ok_or_else(|| unexpected("the heads"))
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

fn heads(value: Value<'_>, count: usize) -> Option<Vec<Position>> {
    let heads: Option<Vec<_>> = value.items()?.map(|meta| Some(scripts::head(meta.text()?)?.position)).collect();
    heads.filter(|heads| heads.len() == count)
}

impl Redis {
    /// Where topics are, as many to a command as it may ask for.
    fn by_place(&self, topics: &[Arc<str>]) -> Result<Vec<Part>, Undone> {
        let mut parts: Vec<Part> = Vec::new();
        // By server and slot, the one to which the next topic is added.
        let mut open: BTreeMap<(LinkId, Option<Slot>), usize> = BTreeMap::new();
        for (index, topic) in topics.iter().enumerate() {
            let place = self.place(topic)?;
            let key = (place.id, self.slot(topic));
            match open.get(&key).and_then(|part| parts.get_mut(*part)) {
                Some((_, indexes)) if indexes.len() < HEADS_MAX => indexes.push(index),
                _ => {
                    open.insert(key, parts.len());
                    parts.push((place, vec![index]));
                }
            }
        }
        Ok(parts)
    }
}

/// What a reader wants, as the script unpacks it.
fn wanted(read: &Read, now_ms: u64) -> Vec<u8> {
    let Read { since, limit, bytes_max, newest, retention } = read;
    let (since, epoch, offset) = match since {
        Since::Now => (0, 0, 0),
        Since::Start => (1, 0, 0),
        Since::Position(Position { epoch, offset }) => (2, epoch.number(), *offset),
    };
    let mut wanted = Vec::with_capacity(73);
    wanted.extend_from_slice(&now_ms.to_le_bytes());
    wanted.push(since);
    wanted.extend_from_slice(&epoch.to_le_bytes());
    for number in [offset, *limit as u64, *bytes_max as u64, *newest as u64] {
        // Lua counts exactly up to here.
        wanted.extend_from_slice(&number.min(1 << 52).to_le_bytes());
    }
    bounds(retention, &mut wanted);
    wanted
}

/// Reads the answer: meta, whether it is recovered, and entries by id and envelope.
fn page(value: Value<'_>, read: &Read) -> Option<Page> {
    let mut items = value.items()?;
    let head = scripts::head(items.next()?.text()?)?;
    let recovered = items.next()?.number()? == 1;
    let mut entries = Vec::with_capacity(items.len() / 2);
    // A recovered reader's position is the predecessor of the first.
    let mut prev = match read.since {
        Since::Position(position) if recovered => Some(position),
        _ => None,
    };
    let oldest = head.epochs.iter().next().map(|(epoch, _)| epoch);
    while let (Some(id), Some(envelope)) = (items.next(), items.next()) {
        let id = id.text()?;
        let digits = id.split(|byte| *byte == b'-').next()?;
        let offset: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
        // Of epochs that are forgotten no position is recovered, whatever is told of it here.
        let at = |offset| Some(Position { epoch: head.epochs.at(offset).or(oldest)?, offset });
        let (position, before) = (at(offset)?, at(offset.checked_sub(1)?)?);
        let prev = prev.replace(position).unwrap_or(before);
        entries.push(Entry { stamp: Stamp { position, prev }, envelope: Bytes::copy_from_slice(envelope.text()?) });
    }
    Some(Page { head, recovered, entries })
}
