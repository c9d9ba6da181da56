//! The row of another node, as far as it is known here.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use compact_str::CompactString;

use super::super::{Answer, Change, Delta, Diff, Digest, Meta, TopicPresence};
use super::{ASK_AGAIN_DOUBLED_MAX, ASK_AGAIN_MS, EMPTY_KEPT_MS, UNHEARD_MS, hash};

/// One row.
#[derive(Default)]
pub(super) struct Row {
    /// 0: what is here cannot be trusted.
    version: u64,
    trackings: BTreeMap<(Arc<str>, CompactString), Tracking>,
    /// Where only a number is told: who is in it.
    count: u64,
    /// Whether clients see who is in it.
    is_shown: bool,
    /// The highest version that it is known to have.
    newest: u64,
    /// It may be another by now, for all that was heard.
    is_doubtful: bool,
    heard_ms: u64,
    /// When it is asked for again, and how often it was.
    ask_ms: u64,
    asks: u32,
    parts: Option<Parts>,
}

struct Tracking {
    meta: Meta,
    /// Where it is among those present, if it is shown.
    number: u64,
}

/// The keys and metas in one part of an answer.
type Part = Vec<(Arc<str>, Meta)>;

/// An answer of which not all has come.
struct Parts {
    number: u64,
    version: u64,
    received: Vec<Option<Part>>,
}

impl Row {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.is_doubtful = false;
    }

    pub(super) fn heard_since(&self, since_ms: u64) -> bool {
        self.heard_ms > since_ms
    }

    pub(super) fn doubt_unless(&mut self, is_certain: bool) {
        self.is_doubtful |= !is_certain && !self.is_empty();
    }

    /// Whether the row is now what its node says.
    pub(super) fn take_delta<Id: Copy + Ord>(
        &mut self,
        delta: Delta,
        present: &mut TopicPresence<Id>,
        diff: &mut Diff,
    ) -> bool {
        if delta.to <= self.version {
            return false;
        }
        self.newest = self.newest.max(delta.to);
        match delta.change {
            Change::Count(count) => self.set_count(count, present),
            Change::Members { joined, left } => {
                let goes_on = delta.from == self.version || (delta.from == 0 && self.is_empty());
                if !goes_on {
                    return false;
                }
                for (key, meta) in joined {
                    self.insert(key, meta, present, diff);
                }
                for place in left {
                    self.remove(&place, present, diff);
                }
            }
        }
        self.is_at(delta.to)
    }

    /// The same of an answer.
    pub(super) fn take_answer<Id: Copy + Ord>(
        &mut self,
        answer: Answer,
        present: &mut TopicPresence<Id>,
        diff: &mut Diff,
    ) -> bool {
        let version = answer.version;
        if version < self.version {
            return false;
        }
        self.newest = self.newest.max(version);
        match self.whole(answer) {
            None => return false,
            Some(Change::Count(count)) => self.set_count(count, present),
            Some(Change::Members { joined, .. }) => {
                let stays = |joined: &BTreeMap<_, _>, place: &(Arc<str>, CompactString)| joined.contains_key(place);
                let joined: BTreeMap<_, _> =
                    joined.into_iter().map(|(key, meta)| ((key, meta.phx_ref().into()), meta)).collect();
                let left: Vec<_> = self.trackings.keys().filter(|place| !stays(&joined, place)).cloned().collect();
                for ((key, _), meta) in joined {
                    self.insert(key, meta, present, diff);
                }
                for place in left {
                    self.remove(&place, present, diff);
                }
                if self.count > 0 {
                    self.set_count(0, present);
                }
            }
        }
        self.is_at(version)
    }

    /// The same of a digest. Where only a number is told, it has it.
    pub(super) fn take_digest(&mut self, digest: Digest, counts_only: bool) -> bool {
        if digest.version < self.version {
            return false;
        }
        self.newest = self.newest.max(digest.version);
        let own = if counts_only { self.count } else { self.hash() };
        if own == digest.hash {
            return self.is_at(digest.version);
        }
        if digest.version == self.version {
            // It has gone wrong here: whatever the answer says is better.
            self.version = 0;
        }
        false
    }

    /// Lets clients see who is in it.
    pub(super) fn show<Id: Copy + Ord>(&mut self, present: &mut TopicPresence<Id>, diff: &mut Diff) {
        if std::mem::replace(&mut self.is_shown, true) {
            return;
        }
        present.counted += self.count as usize;
        for ((key, _), tracking) in &mut self.trackings {
            tracking.number = present.admit(key, tracking.meta.clone());
            diff.joins.push(key, tracking.meta.clone());
        }
    }

    /// Does not.
    pub(super) fn hide<Id: Copy + Ord>(&mut self, present: &mut TopicPresence<Id>, diff: &mut Diff) {
        if !std::mem::replace(&mut self.is_shown, false) {
            return;
        }
        present.counted -= self.count as usize;
        for ((key, _), tracking) in &self.trackings {
            present.dismiss(key, tracking.number, diff);
        }
    }

    /// Whether the row is to be asked for now. Counts as a question.
    pub(super) fn asks(&mut self, now_ms: u64) -> bool {
        if !self.is_wanted(now_ms) || now_ms < self.ask_ms {
            return false;
        }
        self.ask_ms = now_ms + (ASK_AGAIN_MS << self.asks.min(ASK_AGAIN_DOUBLED_MAX));
        self.asks += 1;
        true
    }

    /// Whether no part of an answer is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.parts.is_none()
    }

    /// Whether it need not be remembered.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.is_empty() && self.newest <= self.version && now_ms >= self.heard_ms + EMPTY_KEPT_MS
    }

    pub(super) fn due_ms(&self) -> u64 {
        let unheard_ms = self.heard_ms + if self.is_empty() { EMPTY_KEPT_MS } else { UNHEARD_MS };
        if self.newest > self.version || self.is_doubtful { self.ask_ms } else { unheard_ms.max(self.ask_ms) }
    }

    fn is_wanted(&self, now_ms: u64) -> bool {
        let is_unheard = !self.is_empty() && now_ms >= self.heard_ms + UNHEARD_MS;
        self.newest > self.version || self.is_doubtful || is_unheard
    }

    fn is_empty(&self) -> bool {
        self.trackings.is_empty() && self.count == 0
    }

    fn is_at(&mut self, version: u64) -> bool {
        self.version = version;
        if self.newest <= version {
            (self.ask_ms, self.asks) = (0, 0);
        }
        true
    }

    fn hash(&self) -> u64 {
        hash(self.trackings.keys().map(|(key, phx_ref)| (&**key, phx_ref.as_str())))
    }

    fn set_count<Id: Copy + Ord>(&mut self, count: u64, present: &mut TopicPresence<Id>) {
        let before = std::mem::replace(&mut self.count, count);
        if self.is_shown {
            present.counted = present.counted - before as usize + count as usize;
        }
    }

    fn insert<Id: Copy + Ord>(&mut self, key: Arc<str>, meta: Meta, present: &mut TopicPresence<Id>, diff: &mut Diff) {
        let is_shown = self.is_shown;
        if let btree_map::Entry::Vacant(vacant) = self.trackings.entry((key.clone(), meta.phx_ref().into())) {
            let number = if is_shown { present.admit(&key, meta.clone()) } else { 0 };
            if is_shown {
                diff.joins.push(&key, meta.clone());
            }
            vacant.insert(Tracking { meta, number });
        }
    }

    fn remove<Id: Copy + Ord>(
        &mut self,
        place: &(Arc<str>, CompactString),
        present: &mut TopicPresence<Id>,
        diff: &mut Diff,
    ) {
        if let Some(tracking) = self.trackings.remove(place)
            && self.is_shown
        {
            present.dismiss(&place.0, tracking.number, diff);
        }
    }

    /// What an answer says once all its parts are there.
    fn whole(&mut self, answer: Answer) -> Option<Change> {
        let Answer { number, version, part, parts, row } = answer;
        let Change::Members { joined, .. } = row else { return Some(row) };
        let joined = if parts == 1 {
            joined
        } else {
            let is_same =
                |kept: &Parts| (kept.number, kept.version, kept.received.len() as u64) == (number, version, parts);
            if !self.parts.as_ref().is_some_and(is_same) {
                if self.parts.as_ref().is_some_and(|kept| kept.number > number) {
                    return None;
                }
                self.parts = Some(Parts { number, version, received: vec![None; parts as usize] });
            }
            let received = &mut self.parts.as_mut()?.received;
            received[part as usize] = Some(joined);
            if received.iter().any(Option::is_none) {
                return None;
            }
            std::mem::take(received).into_iter().flatten().flatten().collect()
        };
        self.parts = None;
        Some(Change::Members { joined, left: Vec::new() })
    }
}
