//! This node's own row, as others are told of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;

use super::super::{Answer, Body, Change, Delta, Diff, Digest, Meta, TopicPresence, body};
use super::{COUNT_INTERVAL_MS, DELTA_INTERVAL_MS, DIGEST_AFTER_MS, DIGEST_EVERY_MS, PART_SIZE_MAX, hash};

/// What others have been told, and have not.
#[derive(Default)]
pub(super) struct Own {
    /// The version that was told last; 0 if none was, or nobody need know any more.
    version: u64,
    /// How many were in it then.
    told: usize,
    untold: BTreeMap<Arc<str>, Untold>,
    /// When the next delta may be told.
    delta_ms: u64,
    digest_ms: Option<u64>,
}

/// What has changed under one key.
#[derive(Default)]
struct Untold {
    joined: Vec<Meta>,
    left: Vec<CompactString>,
}

impl Own {
    /// Who has joined and left between two deltas is not in the second.
    pub(super) fn changed(&mut self, diff: &Diff) {
        for (key, metas) in diff.joins.entries() {
            self.untold.entry(key.clone()).or_default().joined.extend_from_slice(metas);
        }
        for (key, metas) in diff.leaves.entries() {
            let untold = self.untold.entry(key.clone()).or_default();
            for meta in metas {
                match untold.joined.iter().position(|joined| joined.phx_ref() == meta.phx_ref()) {
                    Some(index) => drop(untold.joined.remove(index)),
                    None => untold.left.push(meta.phx_ref().into()),
                }
            }
            if untold.joined.is_empty() && untold.left.is_empty() {
                self.untold.remove(key);
            }
        }
    }

    pub(super) fn is_due<Id: Copy + Ord>(&self, present: &TopicPresence<Id>, counts_only: bool, now_ms: u64) -> bool {
        self.is_untold(present, counts_only) && now_ms >= self.delta_ms
    }

    pub(super) fn due_ms<Id: Copy + Ord>(&self, present: &TopicPresence<Id>, counts_only: bool) -> Option<u64> {
        if self.is_untold(present, counts_only) { Some(self.delta_ms) } else { self.digest_ms }
    }

    /// What others have not been told.
    pub(super) fn tell<Id: Copy + Ord>(
        &mut self,
        present: &TopicPresence<Id>,
        counts_only: bool,
        next: impl Fn() -> u64,
        now_ms: u64,
    ) -> Vec<Delta> {
        if !self.is_untold(present, counts_only) {
            return Vec::new();
        }
        let mut version = if self.told == 0 { 0 } else { self.version };
        let mut deltas = Vec::new();
        let mut add = |change| {
            let from = std::mem::replace(&mut version, next());
            deltas.push(Delta { from, to: version, change });
        };
        if counts_only {
            self.told = present.own_keys();
            add(Change::Count(self.told as u64));
        } else {
            self.told = present.own_len();
            let (mut joined, mut left, mut size) = (Vec::new(), Vec::new(), 0);
            for (key, untold) in std::mem::take(&mut self.untold) {
                size += untold.joined.iter().map(|meta| body::size(&key, meta)).sum::<usize>();
                size += untold.left.iter().map(|phx_ref| key.len() + phx_ref.len() + 8).sum::<usize>();
                if size > PART_SIZE_MAX && !(joined.is_empty() && left.is_empty()) {
                    add(Change::Members { joined: std::mem::take(&mut joined), left: std::mem::take(&mut left) });
                    size = 0;
                }
                joined.extend(untold.joined.into_iter().map(|meta| (key.clone(), meta)));
                left.extend(untold.left.into_iter().map(|phx_ref| (key.clone(), phx_ref)));
            }
            add(Change::Members { joined, left });
        }
        self.version = version;
        self.delta_ms = now_ms + if counts_only { COUNT_INTERVAL_MS } else { DELTA_INTERVAL_MS };
        self.digest_ms = Some(now_ms + DIGEST_AFTER_MS);
        deltas
    }

    pub(super) fn tell_digest(&mut self, now_ms: u64) {
        if self.version > 0 {
            self.digest_ms = Some(self.digest_ms.map_or(now_ms, |digest_ms| digest_ms.min(now_ms)));
        }
    }

    /// The digest that is due. It waits for the delta, where there is something to tell.
    pub(super) fn digest<Id: Copy + Ord>(
        &mut self,
        present: &TopicPresence<Id>,
        counts_only: bool,
        now_ms: u64,
    ) -> Option<(u64, u64)> {
        self.digest_ms.filter(|digest_ms| *digest_ms <= now_ms && !self.is_untold(present, counts_only))?;
        let version = self.version;
        if self.told == 0 {
            // Who joins next begins a row of which nothing need be known.
            (self.digest_ms, self.version) = (None, 0);
        } else {
            let spread = version.wrapping_mul(0x9e37_79b9_7f4a_7c15) % (DIGEST_EVERY_MS / 2);
            self.digest_ms = Some(now_ms + DIGEST_EVERY_MS + spread);
        }
        Some((version, own_hash(present, counts_only)))
    }

    /// The row for one who asks and knows this version. All that has changed must have been told.
    pub(super) fn answers<Id: Copy + Ord>(
        &self,
        present: &TopicPresence<Id>,
        counts_only: bool,
        number: u64,
        known: Option<u64>,
        last: u64,
    ) -> Vec<Body> {
        let version = if self.version > 0 { self.version } else { last };
        if known == Some(version) {
            return vec![Body::Digest(Digest { number, version, hash: own_hash(present, counts_only) })];
        }
        if counts_only {
            let row = Change::Count(self.told as u64);
            return vec![Body::Answer(Answer { number, version, part: 0, parts: 1, row })];
        }
        let mut parts = vec![Vec::new()];
        let mut size = 0;
        for (key, meta) in present.own() {
            let more = body::size(key, meta);
            if size + more > PART_SIZE_MAX && size > 0 && (parts.len() as u64) < body::PARTS_MAX {
                parts.push(Vec::new());
                size = 0;
            }
            size += more;
            if let Some(part) = parts.last_mut() {
                part.push((key.clone(), meta.clone()));
            }
        }
        let count = parts.len() as u64;
        let answer = |(part, joined)| {
            let row = Change::Members { joined, left: Vec::new() };
            Body::Answer(Answer { number, version, part, parts: count, row })
        };
        (0..).zip(parts).map(answer).collect()
    }

    fn is_untold<Id: Copy + Ord>(&self, present: &TopicPresence<Id>, counts_only: bool) -> bool {
        if counts_only { present.own_keys() != self.told } else { !self.untold.is_empty() }
    }
}

fn own_hash<Id: Copy + Ord>(present: &TopicPresence<Id>, counts_only: bool) -> u64 {
    if counts_only {
        present.own_keys() as u64
    } else {
        hash(present.own().map(|(key, meta)| (&**key, meta.phx_ref())))
    }
}
