//! Holes are filled from the log; what the log does not have is told as a gap.

use std::sync::Arc;

use fanfare_proto::history::Retention;
use fanfare_proto::position::{Position, Since};

use super::arrive::Arrived;
use super::chain::Chain;
use super::timers::Timer;
use super::topic::{CHECK_MS, Phase};
use super::{Cluster, Todo, Topics};
use crate::broker::{Entry, LinkId, Page, Read, Undone};
use crate::event::Event;

/// A missing message may still come for so long, before the log is read.
pub(super) const HOLE_MS: u64 = 50;

/// A repair that has failed is tried again after this.
const AGAIN_MS: u64 = 1_000;

/// What was just repaired is compared once more after this: a message may have been lost without one after it.
const CHECK_AFTER_REPAIR_MS: u64 = 2_000;

/// So many heads are compared with one command.
const HEADS_MAX: usize = 500;

/// What a repair reads at a time.
const PAGE_MESSAGES: usize = 256;
const PAGE_BYTES: usize = 1024 * 1024;

/// What a repair reads.
pub(super) fn page(since: Position, retention: Retention) -> Read {
    Read {
        since: Since::Position(since),
        limit: PAGE_MESSAGES,
        bytes_max: PAGE_BYTES,
        newest: PAGE_MESSAGES,
        retention,
    }
}

impl Cluster {
    /// A link is up again, confirmed: all that was published meanwhile to its topics is to be found.
    pub(super) fn link_is_up(&self, link: LinkId) {
        if self.parts.get().is_none() {
            return;
        }
        let mut to_be_compared = Vec::new();
        for stripe in &self.stripes {
            self.within(stripe, |topics| {
                let of_link = topics.by_name.keys().filter(|name| self.link_of(name) == Some(link));
                let mut names: Vec<Arc<str>> = of_link.cloned().collect();
                names.sort_unstable();
                for name in names {
                    let Some(known) = topics.by_name.get(&name) else { continue };
                    match (known.phase, known.retention) {
                        (Phase::Attached, Some(_)) => to_be_compared.push(name),
                        (Phase::Attached, None) => {
                            let detail =
                                format_args!("the link to the broker was down: what was sent meanwhile is lost");
                            self.note_lost(&name, Event::BrokerGap, 1, detail);
                            if let Some(local) = self.local.get() {
                                local.has_lost(&name, None, None);
                            }
                        }
                        (Phase::Unattached, _) => self.attach_again(topics, &name),
                        (Phase::Attaching | Phase::Detaching, _) => {}
                    }
                }
            });
        }
        self.compare_heads(to_be_compared);
    }

    /// Asks for the heads of topics.
    pub(super) fn compare_heads(&self, topics: Vec<Arc<str>>) {
        for some in topics.chunks(HEADS_MAX) {
            self.ask(Todo::Heads(some.to_vec()));
        }
    }

    /// A topic may have lost messages without a loss of the link.
    pub(super) fn doubt(&self, topic: &str) {
        self.with(topic, |topics| {
            let Some(known) = topics.by_name.get(topic) else { return };
            let (name, has_log) = (known.name.clone(), known.retention.is_some());
            if has_log {
                self.start_repair(topics, &name);
            } else if let Some(local) = self.local.get() {
                let detail = format_args!("the broker may have lost messages while it was connected");
                self.note_lost(&name, Event::BrokerGap, 1, detail);
                local.has_lost(&name, None, None);
            }
        });
    }

    /// Where logs are, by the broker.
    pub(super) fn compare(&self, names: &[Arc<str>], heads: Result<Vec<Position>, Undone>) {
        let now_ms = self.now_ms();
        let Ok(heads) = heads else {
            names.iter().for_each(|name| self.with(name, |topics| topics.look_again(name, now_ms + AGAIN_MS)));
            return;
        };
        for (name, head) in names.iter().zip(heads) {
            self.with(name, |topics| {
                let Some(known) = topics.by_name.get(name) else { return };
                let Some(chain) = &known.chain else { return };
                // It may only be that live messages have come since: then the read finds nothing new. A head further back is a lost tail.
                if head != chain.last() || chain.has_hole() || !known.parked.is_empty() {
                    self.start_repair(topics, name);
                }
            });
        }
    }

    /// Begins to read what comes behind the last message.
    pub(super) fn start_repair(&self, topics: &mut Topics, topic: &Arc<str>) {
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        let (Some(chain), Some(retention), false) = (&known.chain, known.retention, known.is_repairing) else { return };
        known.is_repairing = true;
        self.count(topic, Event::BrokerRepair);
        let (since, mark) = (chain.last(), chain.mark());
        topics.todo.push(Todo::Repair { topic: topic.clone(), since, mark, retention });
    }

    /// The log was read behind a position, and has what was held up to a mark, or will never have it.
    pub(super) fn repaired(&self, topic: &Arc<str>, since: Position, mark: u64, page: Result<Page, Undone>) {
        let now_ms = self.now_ms();
        self.with(topic, |topics| {
            let Some(known) = topics.by_name.get_mut(topic) else { return };
            known.is_repairing = false;
            let Some(chain) = &mut known.chain else { return };
            let Ok(Page { head, recovered, entries }) = page else {
                return topics.look_again(topic, now_ms + AGAIN_MS);
            };
            let (newest, mut from) = (head.position, since);
            if !recovered {
                if chain.last() != since {
                    // It has gone on meanwhile, and the log may have what it has now.
                    return self.start_repair(topics, topic);
                }
                let detail = format_args!("the log does not have the messages behind {since} any more");
                self.note_lost(topic, Event::BrokerGap, 1, detail);
                // Another log than the one that was known has perhaps everything since its beginning, and the same one its newest messages.
                let is_another = head.epochs.iter().all(|(epoch, _)| epoch != since.epoch);
                let oldest = entries.first().map(|entry| head.back_at(entry.stamp.prev));
                let later = head.beginning().filter(|_| is_another).or(oldest).filter(|later| later.position != since);
                let head = later.unwrap_or(head);
                let to = head.position;
                tracing::warn!(%topic, from = %since, %to, "messages of the topic are gone");
                chain.jump(head);
                topics.windows.forget(topic);
                if let Some(local) = self.local.get() {
                    local.has_lost(topic, Some(since), Some(to));
                }
                if to == newest {
                    return self.end_repair(topics, topic, mark, now_ms);
                }
                if entries.first().is_none_or(|first| first.stamp.prev != to) {
                    // The page has the newest alone of what is there.
                    return self.start_repair(topics, topic);
                }
                from = to;
            }
            for Entry { stamp, envelope } in entries {
                let arrived = Arrived::read(&envelope).unwrap_or_else(|| Arrived::unread(self.incarnation));
                self.take(topics, topic, stamp, arrived);
            }
            let Some(chain) = topics.by_name.get(topic).and_then(|known| known.chain.as_ref()) else { return };
            match (chain.has(newest), chain.last() == from) {
                (true, _) => self.end_repair(topics, topic, mark, now_ms),
                (false, false) => self.start_repair(topics, topic),
                // There is no room for what was read.
                (false, true) => topics.look_again(topic, now_ms + HOLE_MS),
            }
        });
    }

    fn end_repair(&self, topics: &mut Topics, topic: &Arc<str>, mark: u64, now_ms: u64) {
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        let Some(chain) = &mut known.chain else { return };
        let dropped = chain.forget_held(mark);
        let own = dropped.into_iter().filter(|(_, arrived)| arrived.origin == self.incarnation);
        let own: Vec<_> = own.map(|(stamp, arrived)| (stamp, arrived.number, chain.has(stamp.position))).collect();
        let mut next = Vec::new();
        chain.follow(&mut next);
        if chain.has_hole() {
            topics.timers.set(now_ms + HOLE_MS, Timer::Hole, topic);
        }
        known.check_ms = now_ms + CHECK_AFTER_REPAIR_MS;
        topics.timers.set(now_ms + CHECK_AFTER_REPAIR_MS, Timer::Check, topic);
        for (stamp, number, is_kept) in own {
            topics.settle_dropped([(stamp, number)], |_| is_kept);
        }
        self.hand_on(topics, topic, next);
        self.read_parked_again(topics, topic);
    }

    pub(super) fn look_at_hole(&self, topics: &mut Topics, topic: &Arc<str>) {
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        let has_hole = known.chain.as_ref().is_some_and(Chain::has_hole);
        // With the link down, all is compared once it is up.
        if (std::mem::take(&mut known.is_doubtful) || has_hole || !known.parked.is_empty()) && self.is_up(topic) {
            self.start_repair(topics, topic);
        }
    }
}

impl Topics {
    /// The log is to be read again then, whether something is held or not.
    pub(super) fn look_again(&mut self, topic: &Arc<str>, due_ms: u64) {
        if let Some(known) = self.by_name.get_mut(topic) {
            known.is_doubtful = true;
            self.timers.set(due_ms, Timer::Hole, topic);
        }
    }

    /// Whether the head of a log is to be compared now; then it is again after a while.
    pub(super) fn checks(&mut self, topic: &Arc<str>, now_ms: u64) -> bool {
        let Some(known) = self.by_name.get(topic) else { return false };
        let is_due = known.phase == Phase::Attached && known.chain.is_some() && known.check_ms <= now_ms;
        if is_due {
            self.schedule_check(topic, now_ms);
        }
        is_due
    }

    pub(super) fn schedule_check(&mut self, topic: &Arc<str>, now_ms: u64) {
        if let Some(known) = self.by_name.get_mut(topic) {
            known.check_ms = now_ms + CHECK_MS;
            self.timers.set(known.check_ms, Timer::Check, topic);
        }
    }
}
