//! One file of a log: its header, and records that show whether they are whole.
//!
//! All numbers are little-endian. A file begins with eight bytes that say what it is, the version of all that follows in four,
//! and the CRC-32 of these twelve, in every version. The header is a record. A record is the length of its content, the content's CRC-32, the CRC-32 of these eight bytes
//! (four bytes each), and the content.

use flate2::Crc;

/// What a file of a log begins with.
const MAGIC: [u8; 8] = *b"fanfare\n";

/// What comes before the header: these eight bytes, the version, and the checksum of both.
const PREFACE_SIZE: usize = 16;

/// The version of all that is written here.
pub(super) const VERSION: u32 = 1;

/// What comes before a record's content.
const FRAME_SIZE: usize = 12;

const NAME_END: &str = ".log";

/// The records that are the log's own begin with a zero; those of others must not.
pub(super) mod own {
    /// All that is before it is on the disk.
    pub(in super::super) const SYNCED: [u8; 2] = [0, 1];
    /// A number follows: segments before it are not needed any more.
    pub(in super::super) const OLDEST: [u8; 2] = [0, 2];
}

/// Under what a segment is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Stamp {
    /// The machine's run, from one start of its kernel to the next; 0 where that is not known.
    pub(in super::super) boot: u128,
    /// Whether every write was made safe from a power cut before it was relied on.
    pub(in super::super) is_synced_always: bool,
    /// What stands for the topics that keep a history.
    pub(in super::super) policies: u32,
    /// The epoch of topics that are not known.
    pub(in super::super) unknown: u64,
}

/// What a segment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    /// The segment before it, and how many bytes of that count; zeros before the first.
    pub(super) previous: (u64, u64),
    /// Segments before this one were not needed any more.
    pub(super) oldest: u64,
    /// The epoch that all topics have from here on; 0 where they keep theirs.
    pub(super) renewed: u64,
    pub(super) stamp: Stamp,
}

impl Header {
    /// The header in bytes.
    pub(super) const SIZE: usize = PREFACE_SIZE + FRAME_SIZE + 5 * 8 + 16 + 1 + 4 + 8;

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32(&out).to_le_bytes());
        frame(&mut out, |out| {
            let Header { number, previous, oldest, renewed, stamp } = self;
            let numbers = [number, previous.0, previous.1, oldest, renewed];
            numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
            out.extend_from_slice(&stamp.boot.to_le_bytes());
            out.push(stamp.is_synced_always.into());
            out.extend_from_slice(&stamp.policies.to_le_bytes());
            out.extend_from_slice(&stamp.unknown.to_le_bytes());
        });
        debug_assert_eq!(out.len(), Header::SIZE);
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// There is none, or one of another version, whose number is given.
    pub(super) fn read(bytes: &[u8]) -> Result<Header, Option<u32>> {
        let preface = bytes.first_chunk::<PREFACE_SIZE>().ok_or(None)?;
        let number = |at: usize| u32::from_le_bytes([preface[at], preface[at + 1], preface[at + 2], preface[at + 3]]);
        if preface[..8] != MAGIC || number(12) != crc32(&preface[..12]) {
            return Err(None);
        }
        if number(8) != VERSION {
            return Err(Some(number(8)));
        }
        let mut records = Records { bytes, at: PREFACE_SIZE };
        match records.next() {
            Next::Record(content) if records.at == Header::SIZE => Header::parse(content).ok_or(None),
            _ => Err(None),
        }
    }

    /// `None` where it is shorter than a header.
    fn parse(mut content: &[u8]) -> Option<Header> {
        fn take<const N: usize>(content: &mut &[u8]) -> Option<[u8; N]> {
            let (number, rest) = content.split_first_chunk()?;
            *content = rest;
            Some(*number)
        }
        let content = &mut content;
        Some(Header {
            number: u64::from_le_bytes(take(content)?),
            previous: (u64::from_le_bytes(take(content)?), u64::from_le_bytes(take(content)?)),
            oldest: u64::from_le_bytes(take(content)?),
            renewed: u64::from_le_bytes(take(content)?),
            stamp: Stamp {
                boot: u128::from_le_bytes(take(content)?),
                is_synced_always: take::<1>(content)? != [0],
                policies: u32::from_le_bytes(take(content)?),
                unknown: u64::from_le_bytes(take(content)?),
            },
        })
    }
}

/// The name of a segment's file.
pub(super) fn name(number: u64) -> String {
    format!("{number:016}{NAME_END}")
}

/// The number of the segment with this file name; `None` for other files.
pub(super) fn number(file_name: &str) -> Option<u64> {
    let number = file_name.strip_suffix(NAME_END)?.parse().ok()?;
    (name(number) == file_name).then_some(number)
}

/// Appends a record.
pub(in super::super) fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_SIZE]);
    write(out);
    let (head, content) = out[start..].split_at_mut(FRAME_SIZE);
    let size = u32::try_from(content.len()).expect("a record is shorter than 4 GiB");
    head[..4].copy_from_slice(&size.to_le_bytes());
    head[4..8].copy_from_slice(&crc32(content).to_le_bytes());
    let check = crc32(&head[..8]);
    head[8..].copy_from_slice(&check.to_le_bytes());
}

/// The records of a file, one after the other.
#[derive(Debug)]
pub(super) struct Records<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the next one begins.
    pub(super) at: usize,
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    Record(&'a [u8]),
    /// Nothing.
    End,
    /// The beginning of a record, as a write leaves it that was cut off.
    Torn,
    /// Something that no write leaves.
    Corrupt,
}

impl<'a> Records<'a> {
    pub(super) fn next(&mut self) -> Next<'a> {
        let rest = &self.bytes[self.at..];
        let Some((head, rest)) = rest.split_first_chunk::<FRAME_SIZE>() else {
            return if rest.is_empty() { Next::End } else { Next::Torn };
        };
        let [size, sum, check] =
            [0, 4, 8].map(|at| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]));
        if crc32(&head[..8]) != check {
            return Next::Corrupt;
        }
        match rest.get(..size as usize) {
            None => Next::Torn,
            Some(content) if crc32(content) != sum => Next::Corrupt,
            Some(content) => {
                self.at += FRAME_SIZE + content.len();
                Next::Record(content)
            }
        }
    }
}

/// The checksum of what is stored, that of zlib.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (file_name, expected) in [
            ("0000000000000042.log", Some(42)),
            ("18446744073709551615.log", Some(u64::MAX)),
            ("42.log", None),
            ("+000000000000042.log", None),
            ("0000000000000042.log.damaged", None),
            ("lock", None),
            ("", None),
        ] {
            assert_eq!(number(file_name), expected, "{file_name}");
            assert!(expected.is_none_or(|number| name(number) == file_name));
        }
    }

    #[test]
    fn headers() {
        let stamp = Stamp { boot: 1 << 100, is_synced_always: true, policies: 7, unknown: u64::MAX };
        let header = Header { number: 3, previous: (2, 77), oldest: 1, renewed: 9, stamp };
        let bytes = header.to_bytes();
        assert_eq!(Header::read(&bytes), Ok(header));
        for size in 0..bytes.len() {
            assert_eq!(Header::read(&bytes[..size]), Err(None), "the first {size} bytes");
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            assert_eq!(Header::read(&broken), Err(None), "byte {at}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        let check = crc32(&newer[..12]);
        newer[12..16].copy_from_slice(&check.to_le_bytes());
        assert_eq!(Header::read(&newer), Err(Some(2)));
    }

    /// A record that is cut off looks like one, and a changed one never does.
    #[test]
    fn records_show_whether_they_are_whole() {
        let mut bytes = Vec::new();
        for content in [&b"first"[..], b"", b"third"] {
            frame(&mut bytes, |out| out.extend_from_slice(content));
        }
        let ends = [17, 29, 46];
        let read = |bytes: &[u8]| {
            let mut records = Records { bytes, at: 0 };
            loop {
                match records.next() {
                    Next::Record(_) => {}
                    end => return (records.at, format!("{end:?}")),
                }
            }
        };
        for size in 0..=bytes.len() {
            let whole = ends.into_iter().filter(|end| *end <= size).max().unwrap_or(0);
            let end = if whole == size { "End" } else { "Torn" };
            assert_eq!(read(&bytes[..size]), (whole, end.to_owned()), "the first {size} bytes");
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x80;
            let whole = ends.into_iter().filter(|end| *end <= at).max().unwrap_or(0);
            assert_eq!(read(&broken), (whole, "Corrupt".to_owned()), "byte {at}");
        }
        assert_eq!(read(&[0; 100]), (0, "Corrupt".to_owned()), "zeros are no record");
    }
}
