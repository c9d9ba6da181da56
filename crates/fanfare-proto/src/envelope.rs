//! What nodes send to each other through a broker: a version, a kind, who sent it, and the content of that kind.
//!
//! All numbers are little-endian, a varint has seven bits a byte with the lowest first:
//!
//! | part | form |
//! |---|---|
//! | version | u8, [`VERSION`] |
//! | kind | u8, see [`Content`] |
//! | origin | u64, not 0: the incarnation of the node |
//! | number | varint: counts what the node has published; of several messages that of the first, each next one has the next |
//! | content | to the end |
//!
//! Topic and position are not inside: the one is the channel on which an envelope comes, the other is given by the log.
//!
//! Payloads travel as [`Payload`] has them. JSON is scanned again when it is received, since anybody who can write to the broker could
//! otherwise break the frames of clients. Nothing that a broker delivers makes the decoder panic or reserve more memory than came.

mod fields;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroU64;

use bytes::Bytes;

pub(crate) use self::fields::{Fields, write_varint};
use crate::payload::{JsonText, Payload, Text};

/// The version that [`Envelope::write`] writes and [`Envelope::read`] reads.
pub const VERSION: u8 = 1;

/// What an envelope takes besides events and payloads, for one message: version, kind, origin, number, flags, series and length of
/// the event.
pub const OVERHEAD_SIZE_MAX: usize = 1 + 1 + 8 + VARINT_SIZE_MAX + 1 + VARINT_SIZE_MAX + VARINT_SIZE_MAX;

/// How many messages one envelope holds at most.
pub const MESSAGES_MAX: usize = 1_024;

/// The longest varint, in bytes.
pub const VARINT_SIZE_MAX: usize = 10;

/// One start of one node: random, so that no two have the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(NonZeroU64);

impl Incarnation {
    /// The incarnation with this number; `None` for 0, which names none.
    pub const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a node sends to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Who sent it.
    pub origin: Incarnation,
    /// Counts what the node has published.
    pub number: u64,
    /// What it is about.
    pub content: Content<'a>,
}

/// What an envelope is about. The number of each kind is its first field on the wire after the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// 1: a message to the members of the topic.
    Message(Message<'a>),
    /// 2: several of them, at most [`MESSAGES_MAX`]. On the wire each has its length before it, as a varint.
    Messages(Vec<Message<'a>>),
    /// 3: what changed in a node's row of a topic's presences. The exchange of presences defines the bytes, also those of the next three.
    PresenceDelta(Bytes),
    /// 4: a node's row.
    PresenceRow(Bytes),
    /// 5: a question for the rows of others.
    PresenceAsk(Bytes),
    /// 6: which version of its row a node has.
    PresenceDigest(Bytes),
    /// 7: a request to another node. Who asks defines the bytes, also those of the response.
    Request(Bytes),
    /// 8: a response, or a part of one.
    Response(Bytes),
    /// 9: a node lives.
    Heartbeat(Heartbeat),
    /// 10: what a node sends to itself to see whether it can be reached. Its number tells them apart.
    Canary,
    /// 11: what all nodes do: disconnect sockets, drop a revoked key. The operation defines the bytes.
    Control(Bytes),
}

/// A message to the members of a topic: flags (bits 0 and 1 the kind of payload, bit 2 whether a series follows), the series as a
/// varint, the event with its length as a varint, and the payload to the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its event.
    pub event: &'a str,
    /// Its payload.
    pub payload: Payload,
    /// Where no log gives positions: how many messages of the topic the node has published, this one included.
    pub series: Option<NonZeroU64>,
}

/// What a node says of itself every few seconds. Fields may be added at the end, and a reader skips those that it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The lowest version of envelopes that the node reads.
    pub version_min: u8,
    /// The highest.
    pub version_max: u8,
    /// How many sockets it has.
    pub sockets: u64,
    /// How many joins they have.
    pub joins: u64,
    /// What it takes the broker's clock to be, in microseconds since 1970.
    pub clock_us: u64,
    /// How many topics have members there.
    pub topics: u64,
    /// The version of its program: three numbers, 0 where they are not known.
    pub release: [u64; 3],
    /// What it is called, in [`NODE_NAME_SIZE_MAX`] bytes at most; empty where that is not known.
    pub name: Box<str>,
    /// How many messages were published on it since the heartbeat before, in thousandths a second.
    pub published_rate: Option<u64>,
    /// How many were handed to its members, in thousandths a second.
    pub delivered_rate: Option<u64>,
    /// Within how many microseconds 99 of 100 messages were written.
    pub p99_us: Option<u64>,
    /// Where the page of its administrators is; empty where that is not known. See [`is_admin_url`].
    pub admin_url: Box<str>,
}

/// A node's name in a heartbeat has no more bytes; a longer one is not read.
pub const NODE_NAME_SIZE_MAX: usize = 64;

/// The URL of a node's admin page in a heartbeat has no more bytes; a longer one is not read.
pub const ADMIN_URL_SIZE_MAX: usize = 256;

/// Whether a text can be the URL of a node's admin page: one that a browser opens and does not run, in [`ADMIN_URL_SIZE_MAX`] bytes at
/// most. Others are not read.
pub fn is_admin_url(text: &str) -> bool {
    let is_page = ["https://", "http://"].iter().any(|scheme| text.starts_with(scheme));
    is_page && text.len() <= ADMIN_URL_SIZE_MAX
}

/// Why an envelope is dropped. Never an error for a client: another node may be newer, or the namespace shared with other software.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unread {
    /// It is of a version that this node does not read.
    Version(u8),
    /// It is of a kind that this node does not know.
    Kind(u8),
    /// It has flags that this node does not know.
    Flags(u8),
    /// It is not an envelope, or a broken one.
    Malformed,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "an envelope of version {version}, and this node reads {VERSION}"),
            Self::Kind(kind) => write!(f, "an envelope of the unknown kind {kind}"),
            Self::Flags(flags) => write!(f, "a message with the unknown flags {flags:#04x}"),
            Self::Malformed => f.write_str("not an envelope"),
        }
    }
}

impl std::error::Error for Unread {}

mod kind {
    pub(super) const MESSAGE: u8 = 1;
    pub(super) const MESSAGES: u8 = 2;
    pub(super) const PRESENCE_DELTA: u8 = 3;
    pub(super) const PRESENCE_ROW: u8 = 4;
    pub(super) const PRESENCE_ASK: u8 = 5;
    pub(super) const PRESENCE_DIGEST: u8 = 6;
    pub(super) const REQUEST: u8 = 7;
    pub(super) const RESPONSE: u8 = 8;
    pub(super) const HEARTBEAT: u8 = 9;
    pub(super) const CANARY: u8 = 10;
    pub(super) const CONTROL: u8 = 11;
}

mod flag {
    pub(super) const PAYLOAD: u8 = 0b0000_0011;
    pub(super) const SERIES: u8 = 0b0000_0100;

    pub(super) const JSON: u8 = 0;
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
}

impl<'a> Envelope<'a> {
    /// Reads an envelope. Payloads share its bytes.
    ///
    /// # Errors
    /// Why it is to be dropped.
    pub fn read(bytes: &'a Bytes) -> Result<Self, Unread> {
        let mut fields = Fields::new(bytes);
        match fields.byte()? {
            VERSION => {}
            version => return Err(Unread::Version(version)),
        }
        let kind = fields.byte()?;
        let origin = Incarnation::new(fields.u64()?).ok_or(Unread::Malformed)?;
        let number = fields.varint()?;
        let content = match kind {
            kind::MESSAGE => Content::Message(Message::read(fields)?),
            kind::MESSAGES => Content::Messages(read_messages(fields)?),
            kind::PRESENCE_DELTA => Content::PresenceDelta(fields.rest()),
            kind::PRESENCE_ROW => Content::PresenceRow(fields.rest()),
            kind::PRESENCE_ASK => Content::PresenceAsk(fields.rest()),
            kind::PRESENCE_DIGEST => Content::PresenceDigest(fields.rest()),
            kind::REQUEST => Content::Request(fields.rest()),
            kind::RESPONSE => Content::Response(fields.rest()),
            kind::HEARTBEAT => Content::Heartbeat(Heartbeat::read(fields)?),
            kind::CANARY => Content::Canary,
            kind::CONTROL => Content::Control(fields.rest()),
            kind => return Err(Unread::Kind(kind)),
        };
        Ok(Envelope { origin, number, content })
    }

    /// Appends the envelope. Of [`Content::Messages`] there are at most [`MESSAGES_MAX`], or no node will read them.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(self.content.kind());
        out.extend_from_slice(&self.origin.number().to_le_bytes());
        write_varint(self.number, out);
        match &self.content {
            Content::Message(message) => message.write(out),
            Content::Messages(messages) => {
                for message in messages {
                    write_varint(message.size() as u64, out);
                    message.write(out);
                }
            }
            Content::PresenceDelta(bytes)
            | Content::PresenceRow(bytes)
            | Content::PresenceAsk(bytes)
            | Content::PresenceDigest(bytes)
            | Content::Request(bytes)
            | Content::Response(bytes)
            | Content::Control(bytes) => out.extend_from_slice(bytes),
            Content::Heartbeat(heartbeat) => heartbeat.write(out),
            Content::Canary => {}
        }
    }

    /// The envelope's bytes.
    pub fn to_bytes(&self) -> Bytes {
        let size = match &self.content {
            Content::Message(message) => message.event.len() + message.payload.size(),
            _ => 0,
        };
        let mut out = Vec::with_capacity(OVERHEAD_SIZE_MAX + size);
        self.write(&mut out);
        out.into()
    }
}

impl Content<'_> {
    fn kind(&self) -> u8 {
        match self {
            Self::Message(_) => kind::MESSAGE,
            Self::Messages(_) => kind::MESSAGES,
            Self::PresenceDelta(_) => kind::PRESENCE_DELTA,
            Self::PresenceRow(_) => kind::PRESENCE_ROW,
            Self::PresenceAsk(_) => kind::PRESENCE_ASK,
            Self::PresenceDigest(_) => kind::PRESENCE_DIGEST,
            Self::Request(_) => kind::REQUEST,
            Self::Response(_) => kind::RESPONSE,
            Self::Heartbeat(_) => kind::HEARTBEAT,
            Self::Canary => kind::CANARY,
            Self::Control(_) => kind::CONTROL,
        }
    }
}

fn read_messages<'a>(mut fields: Fields<'a>) -> Result<Vec<Message<'a>>, Unread> {
    let mut messages = Vec::new();
    while !fields.is_empty() {
        if messages.len() == MESSAGES_MAX {
            return Err(Unread::Malformed);
        }
        let size = fields.varint()?;
        messages.push(Message::read(fields.part(size)?)?);
    }
    Ok(messages)
}

impl<'a> Message<'a> {
    fn read(mut fields: Fields<'a>) -> Result<Self, Unread> {
        let flags = fields.byte()?;
        if flags & !(flag::PAYLOAD | flag::SERIES) != 0 {
            return Err(Unread::Flags(flags));
        }
        let series = match flags & flag::SERIES {
            0 => None,
            _ => Some(NonZeroU64::new(fields.varint()?).ok_or(Unread::Malformed)?),
        };
        let event = fields.text()?;
        let content = fields.rest();
        let payload = match flags & flag::PAYLOAD {
            flag::JSON => Payload::Json(JsonText::parse(content).map_err(|_| Unread::Malformed)?),
            flag::TEXT => Payload::Text(Text::checked(content).ok_or(Unread::Malformed)?),
            flag::BINARY => Payload::Binary(content),
            _ => return Err(Unread::Flags(flags)),
        };
        Ok(Message { event, payload, series })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let (kind, content) = match &self.payload {
            Payload::Json(json) => (flag::JSON, json.as_bytes()),
            Payload::Text(text) => (flag::TEXT, text.as_bytes()),
            Payload::Binary(data) => (flag::BINARY, &data[..]),
        };
        out.push(kind | if self.series.is_some() { flag::SERIES } else { 0 });
        if let Some(series) = self.series {
            write_varint(series.get(), out);
        }
        write_text(self.event, out);
        out.extend_from_slice(content);
    }

    fn size(&self) -> usize {
        let series = self.series.map_or(0, |series| varint_size(series.get()));
        1 + series + varint_size(self.event.len() as u64) + self.event.len() + self.payload.size()
    }
}

impl Heartbeat {
    fn read(mut fields: Fields<'_>) -> Result<Self, Unread> {
        Ok(Heartbeat {
            version_min: fields.byte()?,
            version_max: fields.byte()?,
            sockets: fields.varint()?,
            joins: fields.varint()?,
            clock_us: fields.varint()?,
            // Those before 0.2 end here.
            topics: fields.varint().unwrap_or_default(),
            release: [(); 3].map(|()| fields.varint().unwrap_or_default()),
            name: fields.text().ok().filter(|name| name.len() <= NODE_NAME_SIZE_MAX).unwrap_or_default().into(),
            published_rate: read_figure(&mut fields),
            delivered_rate: read_figure(&mut fields),
            p99_us: read_figure(&mut fields),
            admin_url: fields.text().ok().filter(|url| is_admin_url(url)).unwrap_or_default().into(),
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.version_min, self.version_max]);
        let numbers = [self.sockets, self.joins, self.clock_us, self.topics];
        numbers.iter().chain(&self.release).for_each(|number| write_varint(*number, out));
        write_text(&self.name, out);
        for figure in [self.published_rate, self.delivered_rate, self.p99_us] {
            // 0 is none.
            write_varint(figure.map_or(0, |figure| figure.saturating_add(1)), out);
        }
        write_text(&self.admin_url, out);
    }
}

fn read_figure(fields: &mut Fields<'_>) -> Option<u64> {
    fields.varint().ok()?.checked_sub(1)
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    write_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

fn varint_size(value: u64) -> usize {
    ((64 - (value | 1).leading_zeros()) as usize).div_ceil(7)
}
