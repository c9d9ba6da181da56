//! Histories for clients that come back: from the window, from the log, or one read for all who want the same.

use std::sync::Arc;

use fanfare_proto::position::Since;
use tokio::sync::oneshot;

use super::arrive::Arrived;
use super::repair::HOLE_MS;
use super::timers::Timer;
use super::topic::{AGAIN_MS, Phase};
use super::{Cluster, Todo, Topics};
use crate::broker::{Page, Undone};
use crate::error::Error;
use crate::history::{Replay, Stored, Wanted};

/// A read is waited for so long, with all that has to be handed on before it is answered.
const READ_MAX_MS: u64 = 5_000;

type Answer = oneshot::Sender<Result<Replay, Error>>;

/// Someone who reads.
#[derive(Debug)]
pub(super) struct Reader {
    wanted: Wanted,
    /// It has not been given what was handed on up to this number: an older page, read for another, would leave a hole.
    at_least: u64,
    pub(super) deadline_ms: u64,
    answer: Answer,
}

/// A read under way, for all who want the same.
#[derive(Debug)]
pub(super) struct Shared {
    wanted: Wanted,
    readers: Vec<Reader>,
}

/// A page that says more than this node has handed on.
#[derive(Debug)]
pub(super) struct Parked {
    page: Page,
    readers: Vec<Reader>,
}

impl Reader {
    pub(super) fn fails(self, error: Error) {
        self.answers(Err(error));
    }

    fn answers(self, replay: Result<Replay, Error>) {
        // The reader may have gone.
        let _ = self.answer.send(replay);
    }
}

impl Cluster {
    /// Reads the history of a topic.
    pub(super) fn begin_reading(&self, topic: &str, wanted: Wanted) -> oneshot::Receiver<Result<Replay, Error>> {
        let now_ms = self.now_ms();
        let (answer, replay) = oneshot::channel();
        let reader = Reader { wanted, at_least: 0, deadline_ms: now_ms + READ_MAX_MS, answer };
        self.with(topic, |topics| {
            let name: Arc<str> = topics.by_name.get(topic).map_or_else(|| topic.into(), |known| known.name.clone());
            topics.timers.set(reader.deadline_ms, Timer::Waiting, &name);
            self.serve(topics, &name, reader, now_ms);
        });
        replay
    }

    /// Answers a reader, or has the log read for it.
    fn serve(&self, topics: &mut Topics, topic: &Arc<str>, mut reader: Reader, now_ms: u64) {
        let Some(retention) = self.policies.retention(topic) else {
            return reader.fails(Error::invalid(format!("the topic {topic:?} keeps no history")));
        };
        let Some(known) = topics.by_name.get_mut(topic) else {
            // Nobody is in it: there is no chain with which an answer would have to agree.
            self.add(topics, topic);
            if let Some(known) = topics.by_name.get_mut(topic) {
                known.readers.push(reader);
            }
            return self.is_idle(topics, topic, now_ms);
        };
        match (known.phase, &known.chain) {
            (Phase::Attaching | Phase::Detaching, _) | (Phase::Attached, None) => return known.readers.push(reader),
            (Phase::Unattached, _) if self.is_beginning(topic) => return known.readers.push(reader),
            (Phase::Unattached, _) => {
                return reader.fails(Error::unavailable("the broker is not connected: the history cannot be read"));
            }
            (Phase::Attached, Some(chain)) => {
                let Wanted { since, limit, bytes_max, newest } = reader.wanted;
                let (head, number) = (chain.last(), chain.number());
                reader.at_least = number;
                let replay = |messages| Replay { head, number, recovered: true, messages };
                let from_window = match since {
                    Since::Now if newest == 0 => Some(Vec::new()),
                    Since::Position(at) if at == head => Some(Vec::new()),
                    Since::Position(at) => topics.windows.after(topic, at, limit, bytes_max, &retention, now_ms),
                    Since::Now | Since::Start => None,
                };
                if let Some(messages) = from_window.filter(|_| self.is_up(topic)) {
                    return reader.answers(Ok(replay(messages)));
                }
            }
        }
        let wanted = reader.wanted;
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        match known.shared.iter_mut().find(|shared| shared.wanted == wanted) {
            Some(shared) => shared.readers.push(reader),
            None => {
                known.shared.push(Shared { wanted, readers: vec![reader] });
                topics.todo.push(Todo::Read { topic: topic.clone(), wanted, retention });
            }
        }
    }

    /// Those that waited for the attachment.
    pub(super) fn serve_readers(&self, topics: &mut Topics, topic: &Arc<str>, now_ms: u64) {
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        for reader in std::mem::take(&mut known.readers) {
            self.serve(topics, topic, reader, now_ms);
        }
    }

    /// The log was read.
    pub(super) fn page_read(&self, topic: &Arc<str>, wanted: Wanted, page: Result<Page, Undone>) {
        let now_ms = self.now_ms();
        self.with(topic, |topics| {
            let Some(known) = topics.by_name.get_mut(topic) else { return };
            let Some(index) = known.shared.iter().position(|shared| shared.wanted == wanted) else { return };
            let Shared { readers, .. } = known.shared.swap_remove(index);
            match page {
                // Reads have a link of their own, which may come up after that of the messages.
                Err(Undone::Refused(_)) if self.is_up(topic) => {
                    known.readers.extend(readers);
                    topics.timers.set(now_ms + AGAIN_MS, Timer::Waiting, topic);
                }
                Err(undone) => readers.into_iter().for_each(|reader| {
                    reader.fails(Error::unavailable(format!("the history cannot be read, {undone}")));
                }),
                Ok(page) => {
                    known.parked.push(Parked { page, readers });
                    self.serve_parked(topics, topic, now_ms);
                }
            }
        });
    }

    /// Answers those who read what the node has handed on by now. A page that is ahead of it waits, and one of another branch has the
    /// chain repaired.
    pub(super) fn serve_parked(&self, topics: &mut Topics, topic: &Arc<str>, now_ms: u64) {
        let Some(known) = topics.by_name.get_mut(topic).filter(|known| !known.parked.is_empty()) else { return };
        let Some(chain) = &known.chain else {
            for Parked { readers, .. } in std::mem::take(&mut known.parked) {
                readers
                    .into_iter()
                    .for_each(|reader| reader.fails(Error::unavailable("the topic was left: read again")));
            }
            return;
        };
        let mut too_early = Vec::new();
        for Parked { page, readers } in known.parked.extract_if(.., |parked| chain.has(parked.page.head.position)) {
            let number = chain.number_of(page.head.position);
            let (early, answered): (Vec<_>, Vec<_>) = readers.into_iter().partition(|reader| reader.at_least > number);
            too_early.extend(early);
            let replay = replay(page, number);
            answered.into_iter().for_each(|reader| match &replay {
                Some(replay) => reader.answers(Ok(replay.clone())),
                None => reader.fails(Error::unavailable(
                    "the history has messages that this node cannot read: is it older than the others?",
                )),
            });
        }
        if !known.parked.is_empty() {
            topics.timers.set(now_ms + HOLE_MS, Timer::Hole, topic);
        }
        if !too_early.is_empty() {
            // The page was read before, or the log has lost its tail.
            self.start_repair(topics, topic);
            too_early.into_iter().for_each(|reader| self.serve(topics, topic, reader, now_ms));
        }
    }

    /// What is still parked after a repair was read before it.
    pub(super) fn read_parked_again(&self, topics: &mut Topics, topic: &Arc<str>) {
        let now_ms = self.now_ms();
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        for reader in std::mem::take(&mut known.parked).into_iter().flat_map(|parked| parked.readers) {
            self.serve(topics, topic, reader, now_ms);
        }
    }

    pub(super) fn look_at_parked(&self, topics: &mut Topics, topic: &Arc<str>, now_ms: u64) {
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        let lists = known.parked.iter_mut().map(|parked| &mut parked.readers);
        for readers in lists.chain(known.shared.iter_mut().map(|shared| &mut shared.readers)) {
            for reader in readers.extract_if(.., |reader| reader.deadline_ms <= now_ms) {
                reader.fails(Error::unavailable("the broker takes too long: read the history again"));
            }
        }
        known.parked.retain(|parked| !parked.readers.is_empty());
    }
}

/// What a reader gets of a page, if all of it can be read.
fn replay(page: Page, number: u64) -> Option<Replay> {
    let Page { head, recovered, entries } = page;
    let count = entries.len();
    let stored = entries.into_iter().filter_map(|entry| Arrived::read(&entry.envelope)?.into_stored(entry.stamp));
    let messages: Vec<Stored> = stored.collect();
    (messages.len() == count).then_some(Replay { head: head.position, number, recovered, messages })
}
