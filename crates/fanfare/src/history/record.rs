//! The records of a history in a log: one for each message, and what is still worth knowing when messages are gone.
//!
//! A record is a byte that says which it is, and its fields. Numbers are little-endian; names and keys have their length in
//! two bytes before them, events in four; a payload has a byte for its kind and goes to the end.

use bytes::Bytes;
use fanfare_proto::payload::{JsonText, Payload, Text};
use fanfare_proto::position::{Epoch, Position};

/// What a record takes beside its names, event, key and payload, at most; with what the log puts around it.
pub(super) const RECORD_SIZE: usize = 64;

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A message was published. `key` is empty where it has none.
    Message { topic: &'a str, position: Position, at_ms: u64, key: &'a str, event: &'a str, payload: &'a Payload },
    /// A topic stood here at that time, whatever is kept of it.
    Head { topic: &'a str, position: Position, at_ms: u64 },
    /// A message with a key was published, and may be kept no more.
    Key { topic: &'a str, position: Position, at_ms: u64, key: &'a str },
    /// A topic is not known any more, and begins with this epoch when it is again.
    Forgotten { topic: &'a str, epoch: Epoch },
    /// The epoch of all topics that are not known: what was forgotten before has no other any more.
    Unknown { epoch: Epoch },
}

/// The first byte of each. Zero is the log's.
mod kind {
    pub(super) const MESSAGE: u8 = 1;
    pub(super) const HEAD: u8 = 2;
    pub(super) const KEY: u8 = 3;
    pub(super) const FORGOTTEN: u8 = 4;
    pub(super) const UNKNOWN: u8 = 5;
}

impl Record<'_> {
    /// Appends the record.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Record::Message { topic, position, at_ms, key, event, payload } => {
                out.push(kind::MESSAGE);
                write_place(topic, position, at_ms, out);
                write_name(key, out);
                out.extend_from_slice(&(event.len() as u32).to_le_bytes());
                out.extend_from_slice(event.as_bytes());
                let (kind, content) = match payload {
                    Payload::Json(json) => (1, json.as_bytes()),
                    Payload::Text(text) => (2, text.as_bytes()),
                    Payload::Binary(data) => (3, &data[..]),
                };
                out.push(kind);
                out.extend_from_slice(content);
            }
            Record::Head { topic, position, at_ms } => {
                out.push(kind::HEAD);
                write_place(topic, position, at_ms, out);
            }
            Record::Key { topic, position, at_ms, key } => {
                out.push(kind::KEY);
                write_place(topic, position, at_ms, out);
                write_name(key, out);
            }
            Record::Forgotten { topic, epoch } => {
                out.push(kind::FORGOTTEN);
                write_name(topic, out);
                out.extend_from_slice(&epoch.number().to_le_bytes());
            }
            Record::Unknown { epoch } => {
                out.push(kind::UNKNOWN);
                out.extend_from_slice(&epoch.number().to_le_bytes());
            }
        }
    }
}

/// Gives the record that the bytes are to `take`; `None` if they are none.
pub(super) fn read<T>(bytes: &[u8], take: impl FnOnce(Record<'_>) -> T) -> Option<T> {
    let mut fields = Fields(bytes);
    let [kind] = fields.array()?;
    let payload;
    let record = match kind {
        kind::MESSAGE => {
            let (topic, position, at_ms) = fields.place()?;
            let key = fields.name()?;
            let event_size = u32::from_le_bytes(fields.array()?);
            let event = fields.text(event_size as usize)?;
            let [kind] = fields.array()?;
            let content = std::mem::take(&mut fields.0);
            payload = match kind {
                1 => Payload::Json(JsonText::checked_before(Bytes::copy_from_slice(content))?),
                2 => Payload::Text(Text::copy(str::from_utf8(content).ok()?)),
                3 => Payload::Binary(Bytes::copy_from_slice(content)),
                _ => return None,
            };
            Record::Message { topic, position, at_ms, key, event, payload: &payload }
        }
        kind::HEAD => {
            let (topic, position, at_ms) = fields.place()?;
            Record::Head { topic, position, at_ms }
        }
        kind::KEY => {
            let (topic, position, at_ms) = fields.place()?;
            Record::Key { topic, position, at_ms, key: fields.name()? }
        }
        kind::FORGOTTEN => Record::Forgotten { topic: fields.name()?, epoch: fields.epoch()? },
        kind::UNKNOWN => Record::Unknown { epoch: fields.epoch()? },
        _ => return None,
    };
    fields.0.is_empty().then(|| take(record))
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    // Topics and keys have at most 255 bytes.
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn write_place(topic: &str, position: Position, at_ms: u64, out: &mut Vec<u8>) {
    write_name(topic, out);
    [position.epoch.number(), position.offset, at_ms].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
}

/// What is left of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn epoch(&mut self) -> Option<Epoch> {
        Epoch::new(self.number()?)
    }

    fn text(&mut self, size: usize) -> Option<&'a str> {
        let (text, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        str::from_utf8(text).ok()
    }

    fn name(&mut self) -> Option<&'a str> {
        let size = u16::from_le_bytes(self.array()?);
        self.text(size.into())
    }

    fn place(&mut self) -> Option<(&'a str, Position, u64)> {
        let topic = self.name()?;
        let position = Position { epoch: self.epoch()?, offset: self.number()? };
        Some((topic, position, self.number()?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let position = Position { epoch: Epoch::new(u64::MAX).unwrap(), offset: 7 };
        let payloads =
            [Payload::from(json!({"a": "ü"})), Text::copy("not JSON {").into(), Payload::Binary(vec![0, 255].into())];
        let messages = payloads.iter().map(|payload| {
            let key = "k".repeat(255);
            (key, payload)
        });
        let mut records: Vec<Vec<u8>> = Vec::new();
        let mut check = |record: Record<'_>| {
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            assert_eq!(read(&bytes, |read| read == record), Some(true), "{record:?}");
            assert!(bytes[0] != 0, "that is the log's");
            records.push(bytes);
        };
        for (key, payload) in messages {
            check(Record::Message { topic: "room:1", position, at_ms: 9, key: &key, event: "e", payload });
        }
        check(Record::Message { topic: "t", position, at_ms: 9, key: "", event: "", payload: &Payload::default() });
        check(Record::Head { topic: "room:1", position, at_ms: 1 });
        check(Record::Key { topic: "room:1", position, at_ms: 1, key: "k" });
        check(Record::Forgotten { topic: "room:1", epoch: position.epoch });
        check(Record::Unknown { epoch: position.epoch });
        // Whatever the bytes are, reading them ends; and but for payloads none of them can be left out or added.
        for bytes in &records {
            for size in 0..bytes.len() {
                let is_read = read(&bytes[..size], |_| ()).is_some();
                assert!(!is_read || bytes[0] == kind::MESSAGE, "the first {size} of {bytes:?}");
            }
        }
        for bytes in [&[][..], &[0], &[6], &[kind::HEAD, 255, 255, 0], &[kind::UNKNOWN, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(read(bytes, |_| ()), None, "{bytes:?}");
        }
    }
}
