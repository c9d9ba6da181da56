//! What a node keeps of one topic: whether it is attached, where its chain is, who waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare_proto::history::Retention;
use fanfare_proto::position::Stamp;
use tokio::sync::oneshot;

use super::arrive::Arrived;
use super::chain::Chain;
use super::read::{Parked, Reader, Shared};
use super::timers::Timer;
use super::{COMMANDS, Cluster, NODES, Todo, Topics};
use crate::broker::{Attached, Incarnation, Undone};
use crate::error::Error;
use crate::event::Event;
use crate::interest::Watch;

/// So many topics without members stay attached; others are detached at once.
const LINGERING_MAX: usize = 10_000;

/// A join waits so long for the attachment of its topic.
const ATTACH_MAX_MS: u64 = 1_000;

/// What the broker did not take is asked again after this, while a node begins.
pub(super) const AGAIN_MS: u64 = 100;

/// So many messages that come while a topic is being attached are held; others are read from the log.
const EARLY_MAX: usize = 64;

/// The head of every log is compared with the broker's as often as this.
pub(super) const CHECK_MS: u64 = 60_000;

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    /// How much its log keeps, if it has one.
    pub(super) retention: Option<Retention>,
    pub(super) phase: Phase,
    /// Of a log, from the first attachment on.
    pub(super) chain: Option<Chain<Arrived>>,
    /// Of a log, what came before the answer to the attachment.
    early: Vec<(Stamp, Arrived)>,
    joins: Vec<Joining>,
    pub(super) readers: Vec<Reader>,
    /// Reads under way.
    pub(super) shared: Vec<Shared>,
    pub(super) parked: Vec<Parked>,
    pub(super) is_repairing: bool,
    /// The log is to be read, whatever is held.
    pub(super) is_doubtful: bool,
    /// Members were let in while it could not be attached.
    has_missed: bool,
    /// Since when it has no members.
    idle_since_ms: Option<u64>,
    pub(super) check_ms: u64,
    /// Without a log: what each node has published last.
    pub(super) series: Vec<(Incarnation, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The broker was asked.
    Attaching,
    Attached,
    /// The broker could not be asked, or has not answered: it is asked when the link is up.
    Unattached,
    /// It is being detached, and perhaps attached again after that.
    Detaching,
}

/// A join that waits for its topic.
#[derive(Debug)]
struct Joining {
    deadline_ms: u64,
    answer: oneshot::Sender<Result<(), Error>>,
}

impl Topic {
    fn new(name: Arc<str>, retention: Option<Retention>) -> Self {
        Topic {
            name,
            retention,
            phase: Phase::Attaching,
            chain: None,
            early: Vec::new(),
            joins: Vec::new(),
            readers: Vec::new(),
            shared: Vec::new(),
            parked: Vec::new(),
            is_repairing: false,
            is_doubtful: false,
            has_missed: false,
            idle_since_ms: None,
            check_ms: 0,
            series: Vec::new(),
        }
    }

    /// A message of a log that is not attached yet.
    pub(super) fn is_early(&mut self, stamp: Stamp, arrived: Arrived) {
        if self.early.len() < EARLY_MAX {
            self.early.push((stamp, arrived));
        }
    }
}

impl Cluster {
    /// A topic has got its first member on this node, or lost its last one. Told without a lock, and so perhaps late: what counts is how
    /// it is now.
    pub(super) fn interest_changed(&self, topic: &Arc<str>) {
        let now_ms = self.now_ms();
        self.with(topic, |topics| {
            let is_interested = self.local.get().is_some_and(|local| local.is_interested(topic));
            match topics.by_name.get_mut(topic) {
                Some(known) if is_interested => {
                    let was_idle = known.idle_since_ms.take().is_some();
                    self.lingering.fetch_sub(usize::from(was_idle), Ordering::Relaxed);
                }
                Some(_) => self.is_idle(topics, topic, now_ms),
                None if is_interested => self.add(topics, topic),
                None => {}
            }
        });
    }

    /// Resolves when a topic is attached, so that nothing that is published from then on is missed; `None` if it is. With the link
    /// down there is nothing to wait for, unless it is about to come up for the first time.
    pub(crate) fn attachment(&self, topic: &Arc<str>) -> Option<oneshot::Receiver<Result<(), Error>>> {
        let now_ms = self.now_ms();
        self.with(topic, |topics| {
            if !topics.by_name.contains_key(topic) {
                self.add(topics, topic);
                self.is_idle(topics, topic, now_ms);
            }
            let known = topics.by_name.get_mut(topic)?;
            let waits = match known.phase {
                Phase::Attaching | Phase::Detaching => self.is_up(topic) || self.is_beginning(topic),
                Phase::Unattached => self.is_beginning(topic),
                Phase::Attached => false,
            };
            waits.then(|| {
                let (answer, attached) = oneshot::channel();
                let deadline_ms = now_ms + ATTACH_MAX_MS;
                known.joins.push(Joining { deadline_ms, answer });
                topics.timers.set(deadline_ms, Timer::Waiting, topic);
                attached
            })
        })
    }

    /// The broker has answered.
    pub(super) fn attached(&self, topic: &Arc<str>, attached: Result<Attached, Undone>) {
        let now_ms = self.now_ms();
        let is_attached = attached.is_ok();
        self.with(topic, |topics| {
            let Some(known) = topics.by_name.get_mut(topic).filter(|known| known.phase == Phase::Attaching) else {
                return;
            };
            let early = std::mem::take(&mut known.early);
            match attached {
                Ok(Attached { head }) => {
                    known.phase = Phase::Attached;
                    known.joins.drain(..).for_each(Joining::goes_on);
                    if std::mem::take(&mut known.has_missed)
                        && let Some(local) = self.local.get()
                    {
                        local.has_lost(topic, None, head.as_ref().map(|head| head.position));
                    }
                    if let Some(head) = head.filter(|_| known.retention.is_some()) {
                        self.begin_chain(topics, topic, head, now_ms);
                        early.into_iter().for_each(|(stamp, arrived)| self.take(topics, topic, stamp, arrived));
                        self.serve_readers(topics, topic, now_ms);
                    }
                }
                Err(_) if self.is_beginning(topic) => {
                    known.phase = Phase::Unattached;
                    topics.timers.set(now_ms + AGAIN_MS, Timer::Waiting, topic);
                }
                Err(undone) => {
                    known.phase = Phase::Unattached;
                    known.has_missed = true;
                    self.counters.count(Event::BrokerAttachFailed);
                    known.joins.drain(..).for_each(Joining::goes_on);
                    let error = || Error::unavailable(format!("the topic {topic:?} is not attached: {undone}"));
                    known.readers.drain(..).for_each(|reader| reader.fails(error()));
                    topics.timers.set(now_ms + ATTACH_MAX_MS, Timer::Waiting, topic);
                }
            }
        });
        if is_attached && let Some(local) = self.local.get() {
            local.attached(topic);
        }
    }

    pub(super) fn detached(&self, topic: &Arc<str>) {
        self.with(topic, |topics| {
            let Some(known) = topics.by_name.get(topic).filter(|known| known.phase == Phase::Detaching) else { return };
            let is_wanted = !known.joins.is_empty()
                || !known.readers.is_empty()
                || self.local.get().is_some_and(|local| local.is_interested(topic));
            let Some(gone) = topics.by_name.remove(topic) else { return };
            if gone.idle_since_ms.is_some() {
                self.lingering.fetch_sub(1, Ordering::Relaxed);
            }
            topics.windows.forget(topic);
            if is_wanted {
                self.add(topics, topic);
                if let Some(known) = topics.by_name.get_mut(topic) {
                    (known.joins, known.readers) = (gone.joins, gone.readers);
                }
            }
        });
    }

    /// Begins to attach a topic.
    pub(super) fn add(&self, topics: &mut Topics, topic: &Arc<str>) {
        let retention = match **topic == *NODES {
            true => self.parts.get().and_then(|parts| parts.log.as_ref()).map(|_| COMMANDS),
            false => self.policies.retention(topic),
        };
        topics.by_name.insert(topic.clone(), Topic::new(topic.clone(), retention));
        topics.todo.push(Todo::Attach { topic: topic.clone(), wants_head: retention.is_some() });
    }

    pub(super) fn is_idle(&self, topics: &mut Topics, topic: &Arc<str>, now_ms: u64) {
        let Some(known) = topics.by_name.get_mut(topic).filter(|known| known.idle_since_ms.is_none()) else { return };
        known.idle_since_ms = Some(now_ms);
        let lingering = self.lingering.fetch_add(1, Ordering::Relaxed);
        // A fifth more or less, so that topics that were left together are not detached together.
        let jitter =
            self.published.load(Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) % (self.grace_ms * 2 / 5).max(1);
        let grace_ms = if lingering >= LINGERING_MAX { 0 } else { self.grace_ms * 4 / 5 + jitter };
        topics.timers.set(now_ms + grace_ms, Timer::Idle, topic);
    }

    pub(super) fn look_at_idle(&self, topics: &mut Topics, topic: &Arc<str>, now_ms: u64) {
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        let Some(since_ms) = known.idle_since_ms else { return };
        let is_over =
            since_ms + self.grace_ms * 4 / 5 <= now_ms || self.lingering.load(Ordering::Relaxed) > LINGERING_MAX;
        let is_used = !known.joins.is_empty() || !known.readers.is_empty() || !known.parked.is_empty();
        let is_held = || self.local.get().is_some_and(|local| !local.lets_go(topic));
        if !is_over || is_used || known.phase == Phase::Attaching || is_held() {
            return topics.timers.set(now_ms + ATTACH_MAX_MS, Timer::Idle, topic);
        }
        if known.phase != Phase::Detaching {
            known.phase = Phase::Detaching;
            known.chain = None;
            topics.todo.push(Todo::Detach(topic.clone()));
        }
    }

    pub(super) fn look_at_waiting(&self, topics: &mut Topics, topic: &Arc<str>, now_ms: u64) {
        self.look_at_parked(topics, topic, now_ms);
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        for joining in known.joins.extract_if(.., |joining| joining.deadline_ms <= now_ms) {
            if known.phase == Phase::Unattached {
                // As where the link is down.
                known.has_missed = true;
                joining.goes_on();
                continue;
            }
            let late = Error::unavailable("the broker takes too long to attach the topic: join again");
            // The join may have gone.
            let _ = joining.answer.send(Err(late));
        }
        for reader in known.readers.extract_if(.., |reader| reader.deadline_ms <= now_ms) {
            reader.fails(Error::unavailable("the broker takes too long to attach the topic: read again"));
        }
        match known.phase {
            Phase::Unattached if self.is_up(topic) => self.attach_again(topics, topic),
            // Those whose read was not sent.
            Phase::Attached if known.chain.is_some() => self.serve_readers(topics, topic, now_ms),
            _ => {}
        }
    }

    pub(super) fn attach_again(&self, topics: &mut Topics, topic: &Arc<str>) {
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        known.phase = Phase::Attaching;
        let wants_head = known.retention.is_some();
        topics.todo.push(Todo::Attach { topic: topic.clone(), wants_head });
    }
}

impl Joining {
    fn goes_on(self) {
        // The join may have gone.
        let _ = self.answer.send(Ok(()));
    }
}

impl Watch for Cluster {
    fn changed(&self, topic: &Arc<str>) {
        self.interest_changed(topic);
    }
}
