//! What a log has at a start: its records, and whether some may be missing.

use std::collections::BTreeMap;

use super::segment::{Header, Next, Records, Stamp, VERSION, name, number, own};
use crate::error::Error;
use crate::history::files::{File, Files};

/// What was found.
#[derive(Debug, Default)]
pub(in super::super) struct Found {
    /// The segments that count, and how many bytes of each.
    pub(in super::super) segments: BTreeMap<u64, u64>,
    /// The number of the next segment.
    pub(in super::super) next: u64,
    /// Under what the newest segment was written. `None` for an empty directory.
    pub(in super::super) stamp: Option<Stamp>,
    /// The last record says that nothing is missing.
    pub(in super::super) is_marked: bool,
    /// Something may be missing that others relied on.
    pub(in super::super) is_incomplete: bool,
    /// Segments before this one are not needed any more, if nothing is missing in the others.
    pub(in super::super) oldest_needed: u64,
    /// Segments up to here are to be written anew, since one of them has something that is no record, or is not there.
    pub(in super::super) damaged: Option<u64>,
}

/// What a log tells.
#[derive(Debug)]
pub(in super::super) enum Seen<'a> {
    /// A record of its user's.
    Record(&'a [u8]),
    /// A segment begins: the epoch of topics that are not known, and the one that all others have from here on, 0 where they
    /// keep theirs.
    Header { unknown: u64, renewed: u64 },
    /// Whatever is worth knowing is in this segment or behind it.
    Oldest(u64),
}

/// Reads a log, and gives what it tells, with the segment's number, to `visit`, in order. `visit` says whether it made sense.
/// What was read is made safe from a power cut: it is relied on from now on, whoever has written it.
///
/// # Errors
/// A file cannot be read, or is of another version.
pub(in super::super) fn replay<F: Files>(
    files: &F,
    boot: u128,
    visit: &mut dyn FnMut(u64, Seen<'_>) -> bool,
) -> Result<Found, Error> {
    let failed = |what: &str, error| Error::unavailable(format!("{what} of the history's log cannot be read: {error}"));
    let names = files.list().map_err(|error| failed("the directory", error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    let found = Found { next: 1, is_marked: true, ..Found::default() };
    let mut replay = Replay { found, boot, missing: None, damages: Vec::new(), visit };
    let mut before: Option<Segment> = None;
    for number in numbers {
        replay.found.next = number + 1;
        let name = name(number);
        let bytes = files.read(&name).map_err(|error| failed(&format!("the file {name}"), error))?;
        let header = match Header::read(&bytes) {
            Ok(header) if header.number == number => header,
            Err(Some(version)) => {
                return Err(Error::unavailable(format!(
                    "the file {name} of the history's log has version {version}, and this Fanfare reads version {VERSION}: \
                     start the Fanfare that wrote it, or give another directory and begin without what is in this one"
                )));
            }
            // Records are written once the header is there: it has none.
            _ if bytes.len() < Header::SIZE => {
                files.remove(&name).map_err(|error| failed(&format!("the file {name}"), error))?;
                continue;
            }
            _ => {
                replay.damage(number, format!("{name} has no header, its {} bytes are lost", bytes.len()));
                continue;
            }
        };
        let synced = files.open(&name).and_then(|file| file.sync());
        synced.map_err(|error| failed(&format!("the file {name}"), error))?;
        match before.take() {
            None => replay.missing = Some((header.previous.0, number)),
            // It could be made, but neither relied on nor deleted; this is the one that was made instead.
            Some(void) if void.bytes.len() == Header::SIZE && void.header.previous == header.previous => {
                replay.found.segments.insert(void.header.number, 0);
            }
            Some(before) => {
                let (previous, mut size) = header.previous;
                if previous != before.header.number {
                    replay.missing = Some((previous, number));
                    size = before.bytes.len() as u64;
                }
                replay.read(&before, Some(size));
            }
        }
        before = Some(Segment { header, bytes });
    }
    if let Some(last) = before {
        replay.read(&last, None);
    }
    replay.judge_damages();
    files.sync_names().map_err(|error| failed("the directory", error))?;
    Ok(replay.end())
}

#[derive(Debug)]
struct Segment {
    header: Header,
    bytes: Vec<u8>,
}

struct Replay<'a> {
    found: Found,
    boot: u128,
    /// The last segment that is not there, and the one behind it.
    missing: Option<(u64, u64)>,
    /// Segments with something that is not as it was written.
    damages: Vec<(u64, String)>,
    visit: &'a mut dyn FnMut(u64, Seen<'_>) -> bool,
}

impl Replay<'_> {
    /// Reads a segment up to where it counts; of the newest one that is not known.
    fn read(&mut self, segment: &Segment, end: Option<u64>) {
        let Segment { header, bytes } = segment;
        let number = header.number;
        self.found.is_marked = false;
        self.found.stamp = Some(header.stamp);
        (self.visit)(number, Seen::Header { unknown: header.stamp.unknown, renewed: header.renewed });
        self.needs(number, header.oldest);
        let is_cut = end.is_some_and(|end| end > bytes.len() as u64);
        let counted = match end {
            Some(end) if !is_cut => &bytes[..end as usize],
            _ => &bytes[..],
        };
        let mut records = Records { bytes: counted, at: Header::SIZE.min(counted.len()) };
        let lost = loop {
            let at = records.at;
            match records.next() {
                Next::Record([0, own @ ..]) => {
                    self.found.is_marked = *own == own::SYNCED[1..];
                    if let Some(Ok(oldest)) = own.strip_prefix(&own::OLDEST[1..]).map(<[u8; 8]>::try_from) {
                        self.needs(number, u64::from_le_bytes(oldest));
                    }
                }
                Next::Record(record) => {
                    self.found.is_marked = false;
                    if !(self.visit)(number, Seen::Record(record)) {
                        records.at = at;
                        break Some("a record that means nothing");
                    }
                }
                Next::End => break is_cut.then_some("an end that is not there"),
                Next::Torn if end.is_none() => break None,
                // So it looks when a file became longer and what was to be there did not reach the disk.
                Next::Corrupt if end.is_none() && !self.is_same_boot(&header.stamp) && is_zeros(&records) => {
                    break None;
                }
                Next::Torn | Next::Corrupt => break Some("what is no record"),
            }
        };
        let left = counted.len() - records.at;
        let name = name(number);
        if let Some(what) = lost {
            self.damage(number, format!("{name} has {what} at byte {}, {left} bytes are lost", records.at));
        } else if left > 0 {
            tracing::warn!(
                file = name,
                bytes = left,
                "the last write to the history's log was cut off, and is left out"
            );
            self.found.is_marked = false;
        }
        self.found.segments.insert(number, records.at as u64);
    }

    fn needs(&mut self, number: u64, oldest: u64) {
        self.found.oldest_needed = oldest;
        (self.visit)(number, Seen::Oldest(oldest));
    }

    fn damage(&mut self, number: u64, what: String) {
        self.damages.push((number, what));
        // Its file goes with those that are written anew.
        self.found.segments.entry(number).or_default();
    }

    /// What is wrong with segments that are needed. Others were deleted, as far as that succeeded.
    fn judge_damages(&mut self) {
        if let Some((missing, next)) = self.missing
            && missing >= self.found.oldest_needed
            && missing > 0
        {
            self.damage(next, format!("{}, which is before {}, is not there", name(missing), name(next)));
        }
        for (number, what) in self.damages.drain(..).filter(|(number, _)| *number >= self.found.oldest_needed) {
            tracing::error!(
                "the history's log is damaged: {what}; clients that come back will be told that messages are gone"
            );
            self.found.damaged = self.found.damaged.max(Some(number));
        }
    }

    fn end(mut self) -> Found {
        self.found.is_incomplete = self.found.damaged.is_some();
        if let Some(stamp) = self.found.stamp
            && !self.found.is_marked
            && !stamp.is_synced_always
            && !self.is_same_boot(&stamp)
        {
            tracing::warn!(
                "the machine stopped while the history's log was open: what was written last may be gone, and clients that \
                 come back will be told so"
            );
            self.found.is_incomplete = true;
        }
        self.found
    }

    fn is_same_boot(&self, stamp: &Stamp) -> bool {
        self.boot != 0 && self.boot == stamp.boot
    }
}

fn is_zeros(records: &Records<'_>) -> bool {
    records.bytes[records.at..].iter().all(|byte| *byte == 0)
}
