//! Presences by key, changes of them, and the JSON of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Meta, bounds};
use crate::frame::write_string;
use crate::payload::JsonText;

/// What an application's fetch hook adds beside `metas`, by key. Its own `metas` would be ignored.
pub type Extras = BTreeMap<String, Map<String, Value>>;

/// Metas by key, in the order of the keys. The payload of a `presence_state`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Presences(BTreeMap<Arc<str>, Vec<Meta>>);

impl Presences {
    /// The keys with their metas, of which each has at least one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[Meta])> {
        self.0.iter().map(|(key, metas)| (&**key, metas.as_slice()))
    }

    /// The metas of one key.
    pub fn get(&self, key: &str) -> &[Meta] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `{"<key>": {"metas": [...], ...extra}, ...}`
    pub fn to_json(&self, extras: &Extras) -> JsonText {
        let mut out = Vec::new();
        self.write(extras, &mut out);
        JsonText::unchecked(out.into())
    }

    pub(super) fn push(&mut self, key: &Arc<str>, meta: Meta) {
        self.0.entry(key.clone()).or_default().push(meta);
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &[Meta])> {
        self.0.iter().map(|(key, metas)| (key, metas.as_slice()))
    }

    /// What all of it counts for bounds on bytes.
    fn size(&self) -> usize {
        self.iter().map(|(key, metas)| size_of_key(key, metas)).sum()
    }

    fn append(&mut self, later: Self) {
        for (key, metas) in later.0 {
            self.0.entry(key).or_default().extend(metas);
        }
    }

    fn write(&self, extras: &Extras, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (key, metas)) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_entry(key, metas.iter(), extras, out);
        }
        out.push(b'}');
    }
}

/// Appends `"<key>": {"metas": [...], ...extra}`.
pub(super) fn write_entry<'a>(key: &str, metas: impl Iterator<Item = &'a Meta>, extras: &Extras, out: &mut Vec<u8>) {
    write_string(key, out);
    out.extend_from_slice(b":{\"metas\":[");
    for (index, meta) in metas.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(meta.as_json().as_bytes());
    }
    out.push(b']');
    for (name, value) in extras.get(key).into_iter().flatten().filter(|(name, _)| *name != "metas") {
        out.push(b',');
        write_string(name, out);
        out.push(b':');
        serde_json::to_writer(&mut *out, value).expect("a JSON value has a JSON form");
    }
    out.push(b'}');
}

/// What a diff has beside its entries.
const DIFF_AROUND: usize = r#"{"joins":{},"leaves":{}}"#.len();

/// A change of presences. The payload of a `presence_diff`.
///
/// Clients apply the joins before the leaves and know a meta by its ref, which is never used again. So a diff may tell
/// of a meta that joined and left, and what holds after all of it is what clients see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diff {
    /// The metas that are new.
    pub joins: Presences,
    /// The metas that are gone, as they were.
    pub leaves: Presences,
}

impl Diff {
    /// Whether nothing changed, so that there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty() && self.leaves.is_empty()
    }

    /// Appends a later change, to send both as one. Both parts of an update stay together, and a meta that joins here
    /// and leaves later stays in both parts: a client that learned of it from a `presence_state` in between still
    /// needs the leave.
    pub fn merge(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.joins.append(later.joins);
        self.leaves.append(later.leaves);
    }

    /// The same in parts of about this many bytes, each key in one of them; none if nothing changed.
    pub fn into_parts(mut self, size_max: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        if self.joins.size() + self.leaves.size() <= size_max {
            if !self.is_empty() {
                parts.push(self);
            }
            return parts;
        }
        let mut size = 0;
        let mut keys: Vec<Arc<str>> = Vec::new();
        let of_key = |presences: &Presences, key: &str| size_of_key(key, presences.get(key));
        let all: BTreeSet<Arc<str>> = self.joins.0.keys().chain(self.leaves.0.keys()).cloned().collect();
        for key in all {
            let more = of_key(&self.joins, &key) + of_key(&self.leaves, &key);
            if size + more > size_max && !keys.is_empty() {
                parts.push(self.take(&std::mem::take(&mut keys)));
                size = 0;
            }
            size += more;
            keys.push(key);
        }
        if !self.is_empty() {
            parts.push(self);
        }
        parts
    }

    fn take(&mut self, keys: &[Arc<str>]) -> Self {
        let of = |presences: &mut Presences| {
            Presences(keys.iter().filter_map(|key| presences.0.remove_entry(key)).collect())
        };
        Self { joins: of(&mut self.joins), leaves: of(&mut self.leaves) }
    }

    /// `{"joins": {...}, "leaves": {...}}`, both as in [`Presences::to_json`].
    pub fn to_json(&self, extras: &Extras) -> JsonText {
        let mut out = Vec::with_capacity(self.joins.size() + self.leaves.size() + DIFF_AROUND);
        out.extend_from_slice(b"{\"joins\":");
        self.joins.write(extras, &mut out);
        out.extend_from_slice(b",\"leaves\":");
        self.leaves.write(extras, &mut out);
        out.push(b'}');
        JsonText::unchecked(out.into())
    }
}

fn size_of_key(key: &str, metas: &[Meta]) -> usize {
    metas.iter().map(|meta| bounds::size(key, meta)).sum()
}
