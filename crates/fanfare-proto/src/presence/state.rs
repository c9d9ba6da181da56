//! The text of a topic's `presence_state`, kept in pieces, so that a change costs its piece and not the whole.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;

use super::diff::{Extras, write_entry};
use super::{Meta, Place};
use crate::payload::JsonText;
use crate::websocket::deflate::Deflater;

/// A piece has at most this many keys.
const PIECE_KEYS_MAX: usize = 64;

/// A piece that has this many bytes gets no further key.
const PIECE_SIZE: usize = 8 * 1024;

/// The pieces of one topic by the first key that belongs in each. A piece without text has changed since it was written. A topic that
/// would have one piece keeps none, since its text is written as fast as it is found.
#[derive(Default)]
pub(super) struct Pieces(BTreeMap<Arc<str>, Option<Arc<Piece>>>);

/// The entries of some keys, in a row.
#[derive(Debug, Default)]
struct Piece {
    text: Bytes,
    /// The same as a part of a compressed message, once somebody was told it so.
    deflated: OnceLock<Bytes>,
}

impl From<Bytes> for Piece {
    fn from(text: Bytes) -> Self {
        Piece { text, deflated: OnceLock::new() }
    }
}

impl Pieces {
    /// Forgets the text that has this key.
    pub(super) fn changed(&mut self, key: &str) {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        if let Some((_, text)) = self.0.range_mut::<str, _>(up_to).next_back() {
            *text = None;
        }
    }

    /// The whole of a topic with this many keys and bytes. Writes what has changed since the last time.
    pub(super) fn state(&mut self, trackings: &BTreeMap<Place, Meta>, keys: usize, bytes: usize) -> State {
        // Pieces whose keys have left may be small; too many of them are begun again.
        let full_pieces = keys.div_ceil(PIECE_KEYS_MAX) + bytes / PIECE_SIZE;
        let is_small = keys <= PIECE_KEYS_MAX && bytes <= PIECE_SIZE;
        if is_small || self.0.len() > 4 * full_pieces {
            self.0.clear();
        }
        if is_small {
            return State(written(trackings.iter()).into_iter().map(|(_, piece)| piece).collect());
        }
        if self.0.is_empty() {
            self.0.insert("".into(), None);
        }
        self.write_changed(trackings);
        State(self.0.values().flatten().filter(|piece| !piece.text.is_empty()).cloned().collect())
    }

    #[cfg(test)]
    pub(super) fn texts(&self) -> impl Iterator<Item = &Bytes> {
        self.0.values().flatten().map(|piece| &piece.text)
    }

    fn write_changed(&mut self, trackings: &BTreeMap<Place, Meta>) {
        let mut firsts = self.0.iter().peekable();
        let mut changed = Vec::new();
        while let Some((first, text)) = firsts.next() {
            if text.is_none() {
                changed.push((first.clone(), firsts.peek().map(|(next, _)| Arc::clone(next))));
            }
        }
        for (first, next) in changed {
            let end = next.map_or(Bound::Unbounded, |next| Bound::Excluded((next, 0)));
            let range = trackings.range((Bound::Included((first.clone(), 0)), end));
            let mut pieces = written(range).into_iter();
            // The first piece of all stays, for keys that come before every other.
            match pieces.next() {
                Some((_, piece)) => drop(self.0.insert(first, Some(piece))),
                None if first.is_empty() => drop(self.0.insert(first, Some(Arc::default()))),
                None => drop(self.0.remove(&first)),
            }
            self.0.extend(pieces.map(|(first, piece)| (first, Some(piece))));
        }
    }
}

/// The entries of these trackings in pieces, with the first key of each.
fn written<'a>(trackings: impl Iterator<Item = (&'a Place, &'a Meta)>) -> Vec<(Arc<str>, Arc<Piece>)> {
    let mut pieces = Vec::new();
    let mut trackings = trackings.peekable();
    while let Some(((first, _), _)) = trackings.peek() {
        let first = Arc::clone(first);
        let mut text = Vec::new();
        for _ in 0..PIECE_KEYS_MAX {
            let Some(((key, _), _)) = trackings.peek().filter(|_| text.len() < PIECE_SIZE) else { break };
            let key = Arc::clone(key);
            let metas = std::iter::from_fn(|| trackings.next_if(|((of, _), _)| *of == key).map(|(_, meta)| meta));
            if !text.is_empty() {
                text.push(b',');
            }
            write_entry(&key, metas, &Extras::new(), &mut text);
        }
        pieces.push((first, Arc::new(Bytes::from(text).into())));
    }
    pieces
}

/// All present, in the order of the keys, as pieces of text. States share the pieces that are the same, so that one is cheap to take
/// while others wait, and cheap to keep for everybody who is told.
#[derive(Debug, Clone, Default)]
pub struct State(Vec<Arc<Piece>>);

/// What stands before the first piece, between two, and behind the last.
static PUNCTUATION: [Bytes; 3] = [Bytes::from_static(b"{"), Bytes::from_static(b","), Bytes::from_static(b"}")];

/// The same as parts of a compressed message.
static DEFLATED_PUNCTUATION: LazyLock<[Bytes; 3]> =
    LazyLock::new(|| PUNCTUATION.each_ref().map(|text| deflated(text, &mut Deflater::default())));

impl State {
    /// The size of its text, in bytes.
    pub fn size(&self) -> usize {
        self.parts().map(Bytes::len).sum()
    }

    /// The parts of its text, which share their bytes with other states.
    pub fn parts(&self) -> impl Iterator<Item = &Bytes> {
        self.punctuated(&PUNCTUATION, |piece| &piece.text)
    }

    /// The same as parts of a compressed message for peers with a full window, compressed once for all states that have them.
    pub fn deflated_parts(&self, deflater: &mut Deflater) -> impl Iterator<Item = &Bytes> {
        self.punctuated(&DEFLATED_PUNCTUATION, |piece| piece.deflated.get_or_init(|| deflated(&piece.text, deflater)))
    }

    /// Whether its text is one line. The texts that are written here are; other nodes may have written some.
    pub fn is_one_line(&self) -> bool {
        self.0.iter().all(|piece| !piece.text.iter().any(|byte| matches!(byte, b'\r' | b'\n')))
    }

    /// `{"<key>": {"metas": [...]}, ...}`: the payload of a `presence_state`.
    pub fn to_json(&self) -> JsonText {
        let mut out = Vec::with_capacity(self.size());
        self.parts().for_each(|part| out.extend_from_slice(part));
        JsonText::unchecked(out.into())
    }

    fn punctuated<'a>(
        &'a self,
        [begin, between, end]: &'a [Bytes; 3],
        mut bytes: impl FnMut(&'a Piece) -> &'a Bytes,
    ) -> impl Iterator<Item = &'a Bytes> {
        let pieces = self.0.iter().enumerate().flat_map(move |(index, piece)| {
            let comma = (index > 0).then_some(between);
            comma.into_iter().chain([bytes(piece)])
        });
        [begin].into_iter().chain(pieces).chain([end])
    }
}

impl From<&JsonText> for State {
    /// An object that was written elsewhere, as one piece.
    fn from(object: &JsonText) -> Self {
        let text = object.as_bytes();
        let inner = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).unwrap_or_default();
        let is_empty = inner.trim_ascii().is_empty();
        State(if is_empty { Vec::new() } else { vec![Arc::new(Bytes::copy_from_slice(inner).into())] })
    }
}

fn deflated(text: &[u8], deflater: &mut Deflater) -> Bytes {
    let mut out = Vec::with_capacity(text.len() / 2);
    deflater.compress_part(text, &mut out);
    out.shrink_to_fit();
    out.into()
}
