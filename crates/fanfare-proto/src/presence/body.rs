//! What nodes write to each other about the presences of a topic: the contents of the kinds 3 to 6 of an
//! [`Envelope`](crate::envelope::Envelope).
//!
//! Numbers are varints unless said otherwise, texts have their length before them:
//!
//! | kind | form |
//! |---|---|
//! | 3, delta | flags u8, from, to, and as the flags say: 0: number of joined, key, ref and meta of each, number of left, key and ref of each; 1: a count |
//! | 4, answer | topic, number of the question, version, part, number of parts, flags u8, and as the flags say: 0: key, ref and meta of each to the end; 1: a count |
//! | 5, ask | topic, number of the question, incarnation (u64) and version of each row that is known, to the end |
//! | 6, digest | topic, number of the question or 0, version, hash (u64) |
//!
//! The topic is empty where it is that of the channel on which the envelope comes; a question for the empty topic in an inbox asks for digests
//! of all topics. Nothing that comes makes the decoder panic or reserve more memory than came.

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use super::Meta;
use crate::envelope::{Content, Fields, Incarnation, Unread, write_varint};
use crate::payload::JsonText;

/// The longest ref, in bytes.
const REF_SIZE_MAX: usize = 64;

/// As many parts as an answer may have.
pub(super) const PARTS_MAX: u64 = 4_096;

mod flag {
    pub(super) const MEMBERS: u8 = 0;
    pub(super) const COUNT: u8 = 1;
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// To all: how a row has changed.
    Delta(Delta),
    /// To one: a row, or a part of it.
    Answer(Answer),
    /// To all or one: what is your row?
    Ask(Ask),
    /// To all or one: which row should you have?
    Digest(Digest),
}

/// How the row of its sender has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// The version before, or 0 if the row was empty.
    pub from: u64,
    /// The version after it.
    pub to: u64,
    /// What has changed.
    pub change: Change,
}

/// What has changed in a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Who has come and gone. An update is both, under one key.
    Members {
        /// Keys and metas.
        joined: Vec<(Arc<str>, Meta)>,
        /// Keys and refs.
        left: Vec<(Arc<str>, CompactString)>,
    },
    /// How many there are now, where only their number is told.
    Count(u64),
}

/// A row of its sender, or a part of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The question that it answers.
    pub number: u64,
    /// The version of the row.
    pub version: u64,
    /// Which part it is, from 0.
    pub part: u64,
    /// How many parts there are.
    pub parts: u64,
    /// All who are in it; nobody has left.
    pub row: Change,
}

/// A question for a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Counts the questions of the node that asks.
    pub number: u64,
    /// Which rows it has: whose has not changed since answers with a digest.
    pub known: Vec<(Incarnation, u64)>,
}

/// What a row should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The question that it answers, if it is an answer.
    pub number: u64,
    /// The version of the row.
    pub version: u64,
    /// See [`Rows`](super::Rows): of who is in it.
    pub hash: u64,
}

impl Body {
    /// The content of an envelope. `topic` is left out (`""`) where the envelope goes to the topic's own channel.
    pub fn to_content(&self, topic: &str) -> Content<'static> {
        let mut out = Vec::new();
        match self {
            Self::Delta(delta) => {
                delta.write(&mut out);
                Content::PresenceDelta(out.into())
            }
            Self::Answer(answer) => {
                write_text(topic, &mut out);
                answer.write(&mut out);
                Content::PresenceRow(out.into())
            }
            Self::Ask(ask) => {
                write_text(topic, &mut out);
                write_varint(ask.number, &mut out);
                for (incarnation, version) in &ask.known {
                    out.extend_from_slice(&incarnation.number().to_le_bytes());
                    write_varint(*version, &mut out);
                }
                Content::PresenceAsk(out.into())
            }
            Self::Digest(digest) => {
                write_text(topic, &mut out);
                write_varint(digest.number, &mut out);
                write_varint(digest.version, &mut out);
                out.extend_from_slice(&digest.hash.to_le_bytes());
                Content::PresenceDigest(out.into())
            }
        }
    }

    /// Reads the content of an envelope, and the topic that stands in it; `None` if it is of another kind.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub fn of_content(content: &Content<'_>) -> Option<Result<(CompactString, Self), Unread>> {
        Some(match content {
            Content::PresenceDelta(bytes) => read_delta(bytes),
            Content::PresenceRow(bytes) => read_answer(bytes),
            Content::PresenceAsk(bytes) => read_ask(bytes),
            Content::PresenceDigest(bytes) => read_digest(bytes),
            _ => return None,
        })
    }
}

impl Delta {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.change.flag());
        write_varint(self.from, out);
        write_varint(self.to, out);
        match &self.change {
            Change::Members { joined, left } => {
                write_varint(joined.len() as u64, out);
                joined.iter().for_each(|(key, meta)| write_tracking(key, meta, out));
                write_varint(left.len() as u64, out);
                for (key, phx_ref) in left {
                    write_text(key, out);
                    write_text(phx_ref, out);
                }
            }
            Change::Count(count) => write_varint(*count, out),
        }
    }
}

impl Answer {
    fn write(&self, out: &mut Vec<u8>) {
        [self.number, self.version, self.part, self.parts].iter().for_each(|number| write_varint(*number, out));
        out.push(self.row.flag());
        match &self.row {
            Change::Members { joined, .. } => joined.iter().for_each(|(key, meta)| write_tracking(key, meta, out)),
            Change::Count(count) => write_varint(*count, out),
        }
    }
}

impl Change {
    fn flag(&self) -> u8 {
        match self {
            Self::Members { .. } => flag::MEMBERS,
            Self::Count(_) => flag::COUNT,
        }
    }
}

/// About what a tracking takes in an envelope.
pub(super) fn size(key: &str, meta: &Meta) -> usize {
    key.len() + meta.phx_ref().len() + meta.as_json().as_bytes().len() + 8
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn write_tracking(key: &str, meta: &Meta, out: &mut Vec<u8>) {
    write_text(key, out);
    write_text(meta.phx_ref(), out);
    write_text(meta.as_json().as_str(), out);
}

fn read_ref(fields: &mut Fields<'_>) -> Result<CompactString, Unread> {
    let phx_ref = fields.text()?;
    if phx_ref.len() > REF_SIZE_MAX { Err(Unread::Malformed) } else { Ok(phx_ref.into()) }
}

/// Copies what it keeps: what comes with it in an envelope may be much more.
fn read_tracking(fields: &mut Fields<'_>) -> Result<(Arc<str>, Meta), Unread> {
    let key = fields.text()?.into();
    let phx_ref = read_ref(fields)?;
    let json = JsonText::parse(Bytes::copy_from_slice(fields.text()?.as_bytes())).map_err(|_| Unread::Malformed)?;
    if json.is_object() { Ok((key, Meta::received(phx_ref, json))) } else { Err(Unread::Malformed) }
}

fn read_delta(bytes: &Bytes) -> Result<(CompactString, Body), Unread> {
    let mut fields = Fields::new(bytes);
    let flags = fields.byte()?;
    let (from, to) = (fields.varint()?, fields.varint()?);
    let change = match flags {
        flag::MEMBERS => {
            let (mut joined, mut left) = (Vec::new(), Vec::new());
            for _ in 0..fields.varint()? {
                joined.push(read_tracking(&mut fields)?);
            }
            for _ in 0..fields.varint()? {
                left.push((fields.text()?.into(), read_ref(&mut fields)?));
            }
            Change::Members { joined, left }
        }
        flag::COUNT => Change::Count(fields.varint()?),
        flags => return Err(Unread::Flags(flags)),
    };
    if from >= to {
        return Err(Unread::Malformed);
    }
    at_end((CompactString::default(), Body::Delta(Delta { from, to, change })), &fields)
}

fn read_answer(bytes: &Bytes) -> Result<(CompactString, Body), Unread> {
    let mut fields = Fields::new(bytes);
    let topic = fields.text()?.into();
    let (number, version, part, parts) = (fields.varint()?, fields.varint()?, fields.varint()?, fields.varint()?);
    if part >= parts || parts > PARTS_MAX {
        return Err(Unread::Malformed);
    }
    let row = match fields.byte()? {
        flag::MEMBERS => {
            let mut joined = Vec::new();
            while !fields.is_empty() {
                joined.push(read_tracking(&mut fields)?);
            }
            Change::Members { joined, left: Vec::new() }
        }
        flag::COUNT => Change::Count(fields.varint()?),
        flags => return Err(Unread::Flags(flags)),
    };
    at_end((topic, Body::Answer(Answer { number, version, part, parts, row })), &fields)
}

fn read_ask(bytes: &Bytes) -> Result<(CompactString, Body), Unread> {
    let mut fields = Fields::new(bytes);
    let (topic, number) = (fields.text()?.into(), fields.varint()?);
    let mut known = Vec::new();
    while !fields.is_empty() {
        known.push((Incarnation::new(fields.u64()?).ok_or(Unread::Malformed)?, fields.varint()?));
    }
    Ok((topic, Body::Ask(Ask { number, known })))
}

fn read_digest(bytes: &Bytes) -> Result<(CompactString, Body), Unread> {
    let mut fields = Fields::new(bytes);
    let topic = fields.text()?.into();
    let digest = Digest { number: fields.varint()?, version: fields.varint()?, hash: fields.u64()? };
    at_end((topic, Body::Digest(digest)), &fields)
}

fn at_end<T>(read: T, fields: &Fields<'_>) -> Result<T, Unread> {
    if fields.is_empty() { Ok(read) } else { Err(Unread::Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Map;

    use super::*;

    fn incarnation() -> impl Strategy<Value = Incarnation> {
        (1..=u64::MAX).prop_map(|number| Incarnation::new(number).expect("not 0"))
    }

    fn trackings() -> impl Strategy<Value = Vec<(Arc<str>, Meta)>> {
        let tracking = (".{0,9}", "[a-f0-9]{1,64}", ".{0,9}").prop_map(|(key, phx_ref, name)| {
            let fields = Map::from_iter([("name".to_owned(), name.into())]);
            (Arc::from(key), Meta::new(fields, &phx_ref, None))
        });
        prop::collection::vec(tracking, 0..4)
    }

    fn any_body() -> impl Strategy<Value = Body> {
        let left = prop::collection::vec((".{0,9}", "[a-f0-9]{1,64}"), 0..4);
        let left = left.prop_map(|left| left.into_iter().map(|(key, r)| (Arc::from(key), r.into())).collect());
        let change = prop_oneof![
            (trackings(), left).prop_map(|(joined, left)| Change::Members { joined, left }),
            any::<u64>().prop_map(Change::Count),
        ];
        let row = prop_oneof![
            trackings().prop_map(|joined| Change::Members { joined, left: Vec::new() }),
            any::<u64>().prop_map(Change::Count),
        ];
        let known = prop::collection::vec((incarnation(), any::<u64>()), 0..4);
        prop_oneof![
            (0..u64::MAX, change).prop_map(|(from, change)| Body::Delta(Delta { from, to: u64::MAX, change })),
            (any::<u64>(), any::<u64>(), 0..7_u64, row).prop_map(|(number, version, part, row)| Body::Answer(Answer {
                number,
                version,
                part,
                parts: 7,
                row
            })),
            (any::<u64>(), known).prop_map(|(number, known)| Body::Ask(Ask { number, known })),
            (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(number, version, hash)| Body::Digest(Digest {
                number,
                version,
                hash
            })),
        ]
    }

    fn contents(bytes: &Bytes) -> [Content<'static>; 4] {
        [Content::PresenceDelta, Content::PresenceRow, Content::PresenceAsk, Content::PresenceDigest]
            .map(|kind: fn(Bytes) -> Content<'static>| kind(bytes.clone()))
    }

    fn bytes_of(content: &Content<'_>) -> Bytes {
        match content {
            Content::PresenceDelta(bytes)
            | Content::PresenceRow(bytes)
            | Content::PresenceAsk(bytes)
            | Content::PresenceDigest(bytes) => bytes.clone(),
            _ => panic!("of another kind"),
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(body in any_body(), topic in ".{0,9}") {
            let content = body.to_content(&topic);
            let named = if matches!(body, Body::Delta(_)) { "" } else { &topic };
            prop_assert_eq!(Body::of_content(&content), Some(Ok((named.into(), body))));
        }

        #[test]
        fn whatever_comes_is_read_or_dropped(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for content in contents(&bytes.into()) {
                let _ = Body::of_content(&content);
            }
        }

        /// Of what is cut short nothing counts, and one wrong byte does not make the rest of a frame something else.
        #[test]
        fn what_is_damaged_is_still_json_or_dropped(body in any_body(), at in any::<prop::sample::Index>(), byte: u8) {
            let whole = bytes_of(&body.to_content("room:1"));
            let mut damaged = whole.to_vec();
            let at = at.index(damaged.len());
            damaged[at] = byte;
            for bytes in [whole.slice(..at), damaged.into()] {
                for content in contents(&bytes) {
                    let Some(Ok((_, Body::Answer(Answer { row: Change::Members { joined, .. }, .. })))) =
                        Body::of_content(&content)
                    else {
                        continue;
                    };
                    for (_, meta) in joined {
                        prop_assert!(meta.as_json().to::<serde_json::Value>().is_ok_and(|json| json.is_object()));
                    }
                }
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_dropped() {
        #[track_caller]
        fn check(content: Content<'_>, unread: Unread) {
            assert_eq!(Body::of_content(&content), Some(Err(unread)));
        }
        check(Content::PresenceDelta(Bytes::from_static(b"\x00\x05\x05\x00\x00")), Unread::Malformed);
        check(Content::PresenceDelta(Bytes::from_static(b"\x02\x01\x05")), Unread::Flags(2));
        check(Content::PresenceDelta(Bytes::from_static(b"\x00\x01\x05\xff\xff\xff\x7f")), Unread::Malformed);
        check(Content::PresenceRow(Bytes::from_static(b"\x00\x01\x01\x01\x01\x00")), Unread::Malformed);
        check(Content::PresenceRow(Bytes::from_static(b"\x00\x01\x01\x00\xff\xff\x7f\x00")), Unread::Malformed);
        check(Content::PresenceRow(Bytes::from_static(b"\x00\x01\x01\x00\x01\x00\x01a\x01r\x02[]")), Unread::Malformed);
        check(Content::PresenceAsk(Bytes::from_static(b"\x00\x01\0\0\0\0\0\0\0\0\x01")), Unread::Malformed);
        check(Content::PresenceDigest(Bytes::from_static(b"\x00\x01\x01\0\0\0\0\0\0\0\0!")), Unread::Malformed);
        assert_eq!(Body::of_content(&Content::Canary), None);
    }
}
