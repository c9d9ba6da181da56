//! Cells of the broker that one node at a time changes: who owns what, and leases.

use std::fmt;

use bytes::Bytes;

use super::Done;

/// The largest value of a cell, in bytes; above it a write is refused.
pub(crate) const REGISTER_SIZE_MAX: usize = 4 * 1024;

/// Compare and set. **Linearizable as long as the broker loses nothing**; a holder learns of a loss by a renewal that fails.
///
/// A revision is the larger one of the previous revision plus one and the broker's time in microseconds, so that it grows even over a
/// loss of the cell: it is the number by which what an earlier holder did is refused.
pub(crate) trait Registers: Send + Sync + fmt::Debug {
    /// What a cell has, if it is there.
    fn get(&self, name: &str, done: Done<Option<Cell>>);

    /// Writes a cell if it has this revision, or, with `None`, if it is not there.
    fn put_if(&self, name: &str, revision: Option<u64>, value: Bytes, done: Done<Swapped>);

    /// Takes a cell away if it has this revision. The revision of the answer is that which was taken away.
    fn delete_if(&self, name: &str, revision: u64, done: Done<Swapped>);

    /// All cells whose names begin so, with their names.
    fn list(&self, prefix: &str, done: Done<Vec<(String, Cell)>>);
}

/// The value of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) revision: u64,
    pub(crate) value: Bytes,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Swapped {
    /// It was made, and the cell has this revision.
    Done(u64),
    /// The cell is not as expected, but this, or not there. Nothing was written.
    Not(Option<Cell>),
}
