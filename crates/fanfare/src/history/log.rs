//! A log in files of bounded size: records in, the same records out after a restart, or a word on what is missing.
//!
//! What a record means is another's business. This knows where it ends and whether it is whole, which files count and up to
//! where, and what a power cut can have taken. `log/` has the parts: `segment` (one file), `replay` (all of them at a start).
//!
//! Files are only ever added to, and deleted as a whole, oldest first. Each start and each failed write that could not be
//! taken back begins a new one, whose header says up to where the one before it counts.

pub(super) mod replay;
mod segment;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use fanfare_proto::position::Epoch;

use super::HistorySync;
use super::files::{File, Files};
pub(super) use replay::{Found, Seen, replay};
use segment::{Header, own};
pub(super) use segment::{Stamp, frame};

/// A segment counts as this part of a full one at least: starts and marks make small ones, and files have a price as well.
const SMALL_SEGMENTS: u64 = 8;

/// A log that is open for writing.
#[derive(Debug)]
pub(super) struct Log<F: Files> {
    files: Arc<F>,
    options: Options,
    /// The segments that count, and how many bytes of each.
    segments: BTreeMap<u64, u64>,
    /// The file of the newest of them. Without it the next write begins another.
    newest: Option<Arc<F::File>>,
    next: u64,
    /// The epoch that all topics have from here on, until a segment has said so.
    renewed: Option<Epoch>,
    /// The last record says that all is on the disk.
    is_marked: bool,
    /// Nothing was written since the start or the last mark. What is written next makes the log unclean, which must be on the
    /// disk before anybody relies on it: otherwise a power cut would leave the mark as the last record.
    is_unchanged: bool,
    unsynced: Unsynced<F>,
    /// What the segments take that are there though nobody needs them, since what was copied from them is not safe yet.
    retired_bytes: u64,
    /// A file could not be made safe: nothing that this process has written there is known to be on the disk.
    has_lost_trust: bool,
}

/// How a log is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) sync: HistorySync,
    /// A segment that has so many bytes gets no more.
    pub(super) segment_size_max: u64,
    pub(super) stamp: Stamp,
}

/// What is not safe from a power cut yet; making it so can be left to another thread.
#[derive(Debug)]
pub(super) struct Unsynced<F: Files> {
    files: Arc<F>,
    segments: BTreeMap<u64, Arc<F::File>>,
    has_names: bool,
    /// Segments that nobody needs once the others are safe, and the bytes of each.
    retired: BTreeMap<u64, u64>,
}

impl<F: Files> Log<F> {
    /// Goes on behind what was found.
    pub(super) fn new(files: F, options: Options, found: Found, renewed: Option<Epoch>) -> Self {
        let Found { mut segments, next, is_marked, damaged, oldest_needed, .. } = found;
        let files = Arc::new(files);
        let mut unsynced = Unsynced::new(files.clone());
        if damaged.is_none() {
            // What was copied from them is there.
            let needed = segments.split_off(&oldest_needed);
            unsynced.retired.extend(segments);
            segments = needed;
        }
        let retired_bytes = unsynced.retired.values().sum();
        Log {
            unsynced,
            files,
            options,
            segments,
            newest: None,
            next,
            renewed,
            is_marked,
            is_unchanged: true,
            retired_bytes,
            has_lost_trust: false,
        }
    }

    /// The bytes of all segments that are needed.
    pub(super) fn size(&self) -> u64 {
        let size_min = self.options.segment_size_max / SMALL_SEGMENTS;
        self.segments.values().map(|&size| size.max(size_min)).sum()
    }

    /// What the segments take that go once all is safe.
    pub(super) fn retired_bytes(&self) -> u64 {
        self.retired_bytes
    }

    /// The oldest segment that is needed, and the one behind it. `None` while there is one only.
    pub(super) fn oldest(&self) -> Option<(u64, u64)> {
        let mut numbers = self.segments.keys().copied();
        Some((numbers.next()?, numbers.next()?))
    }

    /// What new segments say of the topics that are not known.
    pub(super) fn restamp(&mut self, unknown: Epoch) {
        self.options.stamp.unknown = unknown.number();
    }

    /// The segment that the next write goes to, once it is there.
    ///
    /// # Errors
    /// A new segment is due and cannot be made.
    pub(super) fn prepare(&mut self) -> io::Result<u64> {
        match self.segments.last_key_value() {
            Some((&number, &size)) if self.newest.is_some() && size < self.options.segment_size_max => Ok(number),
            _ => self.begin(),
        }
    }

    /// Writes records to the prepared segment: all of them or, as far as a reader can see, none.
    ///
    /// # Errors
    /// They could not be written, or be made safe where that is asked of every write.
    pub(super) fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let (Some(file), Some((&number, size))) = (self.newest.clone(), self.segments.iter_mut().next_back()) else {
            return Err(io::Error::other("no segment was prepared"));
        };
        let is_always = self.options.sync == HistorySync::Always;
        let appended = file.append(records);
        let synced = if appended.is_ok() && is_always { file.sync() } else { Ok(()) };
        let is_suspect = synced.is_err();
        match appended.and(synced) {
            Ok(()) => {
                *size += records.len() as u64;
                if !is_always {
                    self.unsynced.segments.insert(number, file);
                }
                Ok(())
            }
            Err(error) => {
                if file.truncate(*size).is_err() || is_suspect {
                    self.newest = None;
                }
                Err(error)
            }
        }
    }

    /// Knows that a segment is not needed any more, as the records say that were written last.
    pub(super) fn retire(&mut self, number: u64) {
        let size = self.segments.remove(&number).unwrap_or_default();
        self.unsynced.segments.remove(&number);
        self.unsynced.retired.insert(number, size);
        self.retired_bytes += size;
        if !matches!(self.options.sync, HistorySync::Every(_)) {
            let retired = std::mem::take(&mut self.unsynced.retired);
            self.remove(retired);
        }
    }

    /// What is to be made safe now, if anything is.
    pub(super) fn begin_sync(&mut self) -> Option<Unsynced<F>> {
        let Unsynced { segments, has_names, retired, .. } = &self.unsynced;
        let is_all_safe = segments.is_empty() && !has_names && retired.is_empty();
        (!is_all_safe).then(|| std::mem::replace(&mut self.unsynced, Unsynced::new(self.files.clone())))
    }

    /// Learns what became of it.
    pub(super) fn end_sync(&mut self, synced: Unsynced<F>, result: &io::Result<()>) {
        match result {
            Ok(()) => self.remove(synced.retired),
            Err(_) => {
                self.unsynced.retired.extend(synced.retired);
                self.has_lost_trust = true;
                self.newest = None;
            }
        }
    }

    /// Makes all safe, and says so in the log: whoever finds this at its end knows that nothing is missing.
    ///
    /// # Errors
    /// It is not safe.
    pub(super) fn mark(&mut self) -> io::Result<()> {
        self.sync_now()?;
        if self.is_marked || self.has_lost_trust {
            return Ok(());
        }
        self.prepare()?;
        let mut mark = Vec::new();
        frame(&mut mark, |out| out.extend_from_slice(&own::SYNCED));
        // It may be on the disk even if this fails: what is written next may not be added to it without a sync.
        self.is_unchanged = true;
        let written = self.write(&mark);
        self.newest = None;
        written?;
        self.sync_now()?;
        self.is_marked = true;
        Ok(())
    }

    /// Makes all safe that is not.
    ///
    /// # Errors
    /// It is not safe.
    pub(super) fn sync_now(&mut self) -> io::Result<()> {
        let Some(unsynced) = self.begin_sync() else { return Ok(()) };
        let result = unsynced.sync();
        self.end_sync(unsynced, &result);
        result
    }

    fn begin(&mut self) -> io::Result<u64> {
        let number = self.next;
        let previous = self.segments.last_key_value().map_or((0, 0), |(&number, &size)| (number, size));
        let oldest = self.segments.first_key_value().map_or(number, |(&oldest, _)| oldest);
        let renewed = self.renewed.map_or(0, Epoch::number);
        let header = Header { number, previous, oldest, renewed, stamp: self.options.stamp }.to_bytes();
        let name = segment::name(number);
        let file = self.files.create(&name)?;
        // The name is taken from now on, whatever becomes of the file.
        self.next += 1;
        let is_relied_on = self.options.sync == HistorySync::Always || self.is_unchanged;
        let written = file.append(&header).and_then(|()| match is_relied_on {
            true => file.sync().and_then(|()| self.files.sync_names()),
            false => Ok(()),
        });
        if let Err(error) = written {
            // What stays is at most a header without records, which readers pass over.
            let _ = file.truncate(0);
            let _ = self.files.remove(&name);
            return Err(error);
        }
        let file = Arc::new(file);
        if !is_relied_on {
            self.unsynced.segments.insert(number, file.clone());
            self.unsynced.has_names = true;
        }
        (self.is_marked, self.is_unchanged, self.renewed) = (false, false, None);
        self.segments.insert(number, header.len() as u64);
        self.newest = Some(file);
        Ok(number)
    }

    fn remove(&mut self, retired: BTreeMap<u64, u64>) {
        for (number, size) in retired {
            self.retired_bytes -= size;
            if let Err(error) = self.files.remove(&segment::name(number)) {
                tracing::warn!(%error, number, "a file of the history's log that is needed no more cannot be deleted");
                // It is tried again, and nobody waits for it.
                self.unsynced.retired.insert(number, 0);
            }
        }
    }
}

impl<F: Files> Unsynced<F> {
    fn new(files: Arc<F>) -> Self {
        Unsynced { files, segments: BTreeMap::new(), has_names: false, retired: BTreeMap::new() }
    }

    /// Makes it safe.
    ///
    /// # Errors
    /// A part of it is not.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.segments.values().try_for_each(|file| file.sync())?;
        if self.has_names { self.files.sync_names() } else { Ok(()) }
    }
}

/// Says that segments before this one are not needed any more.
pub(super) fn oldest_needed(number: u64, out: &mut Vec<u8>) {
    frame(out, |out| {
        out.extend_from_slice(&own::OLDEST);
        out.extend_from_slice(&number.to_le_bytes());
    });
}
