//! The scripts that a server runs: each effect on a log is one script, so that a reader sees all of it or nothing.

use fanfare_proto::position::{Epoch, Position};

use super::request::position;
use crate::broker::{Epochs, Head, Stamp};

/// A script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Script {
    Append,
    Heads,
    Read,
    ChangeCell,
    ListCells,
}

impl Script {
    pub(super) const ALL: [Script; 5] =
        [Script::Append, Script::Heads, Script::Read, Script::ChangeCell, Script::ListCells];

    /// Its text.
    pub(super) fn text(self) -> &'static str {
        match self {
            Script::Append => include_str!("append.lua"),
            Script::Heads => include_str!("heads.lua"),
            Script::Read => include_str!("read.lua"),
            Script::ChangeCell => include_str!("registers.lua"),
            Script::ListCells => include_str!("cells.lua"),
        }
    }
}

/// By which the server knows the scripts, as it has said.
#[derive(Debug, Default)]
pub(super) struct Shas([Box<[u8]>; Script::ALL.len()]);

impl Shas {
    pub(super) fn of(&self, script: Script) -> &[u8] {
        &self.0[script as usize]
    }

    pub(super) fn set(&mut self, script: Script, sha: &[u8]) {
        self.0[script as usize] = sha.into();
    }
}

/// A message as it comes by subscription: with a stamp in front where it is in a log, and several of them at once if they were
/// added so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Live<'a> {
    /// The stamp of the first.
    pub(super) stamp: Option<Stamp>,
    envelopes: &'a [u8],
    several: bool,
}

/// Bit 7 tells a stamp from an envelope, which begins with its version.
const STAMPED: u8 = 0b1000_0000;
const BEGINS_EPOCH: u8 = 0b01;
const SEVERAL: u8 = 0b10;

impl<'a> Live<'a> {
    /// Reads what came; `None` if it is neither.
    pub(super) fn read(content: &'a [u8]) -> Option<Self> {
        let (flags, rest) = content.split_first()?;
        if flags & STAMPED == 0 {
            return Some(Live { stamp: None, envelopes: content, several: false });
        }
        let at = position(rest)?;
        let mut rest = &rest[16..];
        let before = if flags & BEGINS_EPOCH == 0 { at.epoch } else { epoch(&mut rest)? };
        let prev = Position { epoch: before, offset: at.offset.checked_sub(1)? };
        let is_known = flags & !(STAMPED | BEGINS_EPOCH | SEVERAL) == 0;
        let stamp = Some(Stamp { position: at, prev });
        is_known.then_some(Live { stamp, envelopes: rest, several: flags & SEVERAL != 0 })
    }
}

impl<'a> Iterator for Live<'a> {
    type Item = (&'a [u8], Option<Stamp>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.envelopes.is_empty() {
            return None;
        }
        let stamp = self.stamp;
        let envelope = if self.several {
            let (size, rest) = self.envelopes.split_first_chunk()?;
            let (envelope, rest) = rest.split_at_checked(u32::from_le_bytes(*size) as usize)?;
            self.envelopes = rest;
            envelope
        } else {
            std::mem::take(&mut self.envelopes)
        };
        self.stamp = stamp.map(|Stamp { position, .. }| Stamp {
            position: Position { offset: position.offset + 1, ..position },
            prev: position,
        });
        Some((envelope, stamp))
    }
}

/// Reads a meta: session, offset, two counts of bytes, a time, and the epochs.
pub(super) fn head(meta: &[u8]) -> Option<Head> {
    let offset = u64::from_le_bytes(*meta.get(8..)?.first_chunk()?);
    let epochs = meta.get(40..)?.chunks_exact(16).map(position).collect::<Option<Vec<_>>>()?;
    let epochs = Epochs::from_list(epochs.into_iter().map(|Position { epoch, offset }| (epoch, offset)))?;
    Some(Head { position: Position { epoch: epochs.newest(), offset }, epochs })
}

fn epoch(bytes: &mut &[u8]) -> Option<Epoch> {
    let (epoch, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Epoch::new(u64::from_le_bytes(*epoch))
}
