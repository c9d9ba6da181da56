//! A broadcast, encoded at most once per variant and shared by all its subscribers.

mod broadcast;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock, OnceLock};

use bytes::Bytes;
use fanfare_proto::chunked;
use fanfare_proto::delta;
use fanfare_proto::frame::{Form, Kind};
use fanfare_proto::payload::{IntoPayload, Payload};
use fanfare_proto::phoenix::codec::FIELD_SIZE_MAX;
use fanfare_proto::phoenix::message::{Format, Version};
use fanfare_proto::position::{Position, Stamp};
use fanfare_proto::websocket::deflate::{Deflater, WINDOW_BITS_MAX};
use fanfare_proto::websocket::frame::{self, Opcode};
use fanfare_proto::wire;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::trace::Traced;

pub use broadcast::Broadcast;

/// Payloads below this many bytes go uncompressed: deflate would hardly make them smaller.
const DEFLATE_SIZE_MIN: usize = 256;

/// What is around the data of most chunks, at most.
const CHUNK_OVERHEAD: usize = 10;

/// What carries a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// A WebSocket frame, header included.
    WebSocket,
    /// The same, compressed where that pays.
    Deflated,
    /// A chunk of an HTTP answer, for streams.
    Chunked,
    /// The bare text, for long-poll answers and the test kit.
    Text,
}

/// How a subscriber wants its frames: a form on a carriage. One byte, since there is one for every member of every topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant(u8);

impl Variant {
    /// How many variants there are.
    pub(crate) const COUNT: usize = Variant::STREAMS + Variant::FORMS * Variant::CARRIAGES.len();

    /// Those of streams, whose forms have one carriage. They come first.
    const STREAMS: usize = 3;

    /// Forms whose broadcasts differ: first those that say nothing of positions.
    const FORMS: usize = 8;
    const PLAIN_FORMS: usize = 3;

    /// What carries the other forms.
    const CARRIAGES: [Carriage; 3] = [Carriage::WebSocket, Carriage::Deflated, Carriage::Text];

    /// Forms whose broadcasts are the same on a carriage are the same variant.
    pub(crate) const fn new(form: Form, carriage: Carriage) -> Self {
        let form = match form {
            Form::Events => return Variant(0),
            Form::Lines => return Variant(1),
            Form::Data => return Variant(2),
            Form::Phoenix(Format::V1) => 0,
            Form::Phoenix(Format::V2 | Format::V2Text) => 1,
            Form::Bare | Form::BareText | Form::Rooms { .. } => 2,
            Form::Resuming(Format::V1) => 3,
            Form::Resuming(Format::V2 | Format::V2Text) => 4,
            Form::Envelope => 5,
            Form::Supabase(Version::V1) => 6,
            Form::Supabase(Version::V2) => 7,
        };
        let carriage = match carriage {
            Carriage::WebSocket => 0,
            Carriage::Deflated => 1,
            // Chunks carry the forms above.
            Carriage::Text | Carriage::Chunked => 2,
        };
        Variant((Variant::STREAMS + carriage * Variant::FORMS) as u8 + form)
    }

    pub(crate) fn form(self) -> Form {
        let Some((carriage, form)) = self.carriage_and_form() else {
            return [Form::Events, Form::Lines, Form::Data][self.index()];
        };
        match (form, Variant::CARRIAGES[carriage]) {
            (0, _) => Form::Phoenix(Format::V1),
            (1, Carriage::Text) => Form::Phoenix(Format::V2Text),
            (1, _) => Form::Phoenix(Format::V2),
            (2, Carriage::Text) => Form::BareText,
            (2, _) => Form::Bare,
            (3, _) => Form::Resuming(Format::V1),
            (4, Carriage::Text) => Form::Resuming(Format::V2Text),
            (4, _) => Form::Resuming(Format::V2),
            (5, _) => Form::Envelope,
            (6, _) => Form::Supabase(Version::V1),
            _ => Form::Supabase(Version::V2),
        }
    }

    pub(crate) fn carriage(self) -> Carriage {
        self.carriage_and_form().map_or(Carriage::Chunked, |(carriage, _)| Variant::CARRIAGES[carriage])
    }

    /// The numbers of both; `None` for a stream's.
    fn carriage_and_form(self) -> Option<(usize, usize)> {
        let index = self.index().checked_sub(Variant::STREAMS)?;
        Some((index / Variant::FORMS, index % Variant::FORMS))
    }

    /// Whether nothing in its bytes says where a message ends. Asked once a delivery.
    pub(crate) fn is_text(self) -> bool {
        self.index() >= Variant::STREAMS + 2 * Variant::FORMS
    }

    /// Whether its bytes say where a message stands.
    fn resumes(self) -> bool {
        self.carriage_and_form().is_none_or(|(_, form)| form >= Variant::PLAIN_FORMS)
    }

    /// Whether it is a stream's over HTTP.
    pub(crate) fn is_stream(self) -> bool {
        self.index() < Variant::STREAMS
    }

    /// The variant with an [index](Variant::index).
    pub(crate) fn numbered(index: usize) -> Self {
        Variant(index as u8)
    }

    /// A number below `COUNT`.
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A message that nobody has yet: checked, and without a place in its topic's history.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) topic: Arc<str>,
    pub(crate) event: Arc<str>,
    pub(crate) payload: Payload,
    /// When it was published, by the engine's clock in microseconds; 0 where that is not known.
    pub(crate) born_us: u64,
    /// Where it stands in its trace, if it is traced.
    pub(crate) trace: Option<Box<Traced>>,
}

impl Draft {
    /// Checks what every later step relies on.
    ///
    /// # Errors
    /// When the payload is neither an object nor a text nor binary, or a binary payload's topic or event is over 255 bytes.
    #[inline]
    pub(crate) fn new(topic: Arc<str>, event: impl Into<Arc<str>>, payload: Payload) -> Result<Draft, Error> {
        let event = event.into();
        check_pushable(&event, &payload)?;
        if matches!(payload, Payload::Binary(_)) && topic.len() > FIELD_SIZE_MAX {
            return Err(too_long("topic", topic.len()));
        }
        Ok(Draft { topic, event, payload, born_us: 0, trace: None })
    }

    /// The message, of a topic that keeps none.
    #[inline]
    pub(crate) fn into_message(self) -> Arc<Message> {
        self.into_message_at(None, 0)
    }

    /// The message, with its place in its topic's history. Of a topic's messages that are handed on on this node, each has a larger
    /// number than the one before, whatever becomes of the topic's epochs; one that was read has 0.
    pub(crate) fn into_kept(self, stamp: Stamp, number: u64) -> Arc<Message> {
        self.into_message_at(Some(stamp), number)
    }

    #[inline]
    fn into_message_at(self, stamp: Option<Stamp>, number: u64) -> Arc<Message> {
        let Draft { topic, event, payload, born_us, trace } = self;
        Arc::new(Message {
            topic,
            event,
            payload,
            born_us,
            trace,
            stamp,
            number,
            first: OnceLock::new(),
            others: OnceLock::new(),
        })
    }
}

/// A message on its way to the subscribers of a topic.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) topic: Arc<str>,
    pub(crate) event: Arc<str>,
    pub(crate) payload: Payload,
    /// Where it stands in its topic's history, if that has one.
    pub(crate) stamp: Option<Stamp>,
    /// By which it is compared with what was read of that history: positions of two epochs say nothing of which comes first.
    pub(crate) number: u64,
    /// When it was published; 0 where that is not measured.
    pub(crate) born_us: u64,
    /// Where it stands in its trace, if it is traced.
    pub(crate) trace: Option<Box<Traced>>,
    /// The variant that was asked for first, and its bytes: most messages are never asked for another.
    first: OnceLock<(Variant, Bytes)>,
    /// What few messages need, once it is asked for: every message is made and moved at the cost of its size.
    others: OnceLock<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others {
    /// The bytes of each further variant.
    encoded: [OnceLock<Bytes>; Variant::COUNT],
    /// What is the same in those that it replaces where only the newest count.
    key: OnceLock<u64>,
}

impl Message {
    /// Where it stands in its topic's history, if that has one.
    pub(crate) fn position(&self) -> Option<Position> {
        self.stamp.map(|stamp| stamp.position)
    }

    /// A message that stands in no history.
    ///
    /// # Errors
    /// As [`Draft::new`].
    pub(crate) fn new(topic: Arc<str>, event: impl Into<Arc<str>>, payload: Payload) -> Result<Arc<Message>, Error> {
        Draft::new(topic, event, payload).map(|draft| draft.into_message())
    }

    /// The bytes for one variant, made on first use.
    pub(crate) fn encoded(&self, variant: Variant) -> &Bytes {
        let encode = || self.encode(variant, self.position());
        let (first, bytes) = self.first.get_or_init(|| (variant, encode()));
        if *first == variant {
            return bytes;
        }
        self.others().encoded[variant.index()].get_or_init(encode)
    }

    /// The same for a reader who is told that it stands somewhere else.
    pub(crate) fn encoded_at(&self, variant: Variant, position: Option<Position>) -> Bytes {
        if variant.resumes() && position != self.position() {
            self.encode(variant, position)
        } else {
            self.encoded(variant).clone()
        }
    }

    /// What it shares with those that it replaces where only the newest count: its event, and the value of a member of its
    /// payload, as it is written. A topic's messages are all asked for the same member.
    pub(crate) fn key(&self, member: Option<&str>) -> u64 {
        /// Clients must not be able to choose two values that are taken for one.
        static HASH: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        *self.others().key.get_or_init(|| {
            let text = match &self.payload {
                Payload::Json(json) => json.as_str(),
                Payload::Text(text) => text.as_str(),
                Payload::Binary(_) => "",
            };
            let value = member.and_then(|member| {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
                Some(members.get(member)?.get())
            });
            HASH.hash_one((&self.event, value))
        })
    }

    fn encode(&self, variant: Variant, position: Option<Position>) -> Bytes {
        with_buffer(|text| {
            let Message { topic, event, payload, .. } = self;
            let kind = wire::broadcast(variant.form(), topic, event, payload, position, text)
                .expect("field lengths were checked when the message was made");
            match kind {
                Some(kind) => carry(variant.carriage(), kind, text),
                None => nothing(variant.carriage()),
            }
        })
    }

    /// The bytes of the difference to the message before it, in its place; `None` where the variant has none.
    pub(crate) fn encoded_delta(&self, variant: Variant, key: Option<&str>, patch: &str) -> Option<Bytes> {
        with_buffer(|text| {
            let names = (&*self.topic, &*self.event);
            delta::write(variant.form(), names, self.position(), key, patch, text)
                .then(|| carry(variant.carriage(), Kind::Text, text))
        })
    }

    fn others(&self) -> &Others {
        self.others.get_or_init(Box::default)
    }
}

/// The payload of an event.
pub(crate) fn payload_of(event: &str, payload: impl IntoPayload) -> Result<Payload, Error> {
    payload.into_payload().map_err(|error| Error::unserializable(&format!("the payload of {event:?}"), &error))
}

/// Refuses what cannot be pushed or broadcast.
#[inline]
pub(crate) fn check_pushable(event: &str, payload: &Payload) -> Result<(), Error> {
    if !payload.is_pushable() {
        return Err(not_pushable(event));
    }
    if matches!(payload, Payload::Binary(_)) && event.len() > FIELD_SIZE_MAX {
        return Err(too_long("event", event.len()));
    }
    Ok(())
}

#[cold]
fn not_pushable(event: &str) -> Error {
    Error::invalid(format!(
        "the payload of {event:?} is neither an object nor a text nor binary: wrap it in an object (a reply may be any JSON)"
    ))
}

#[cold]
fn too_long(field: &str, size: usize) -> Error {
    Error::invalid(format!("the {field} has {size} bytes, a binary frame holds at most {FIELD_SIZE_MAX}: shorten it"))
}

/// Wraps an encoded message for its carrier.
pub(crate) fn carry(carriage: Carriage, kind: Kind, text: &[u8]) -> Bytes {
    match carriage {
        Carriage::Text => Bytes::copy_from_slice(text),
        Carriage::Chunked => {
            let mut out = Vec::with_capacity(text.len() + CHUNK_OVERHEAD);
            chunked::encode(text, &mut out);
            out.into()
        }
        Carriage::Deflated if text.len() >= DEFLATE_SIZE_MIN => deflated(kind, text, WINDOW_BITS_MAX),
        Carriage::WebSocket | Carriage::Deflated => framed(opcode(kind), text, false),
    }
}

/// What stands in a batch for a message that some of its members do not get. Clients do not see a pong that they have not asked
/// for, and batches need no second kind of member.
fn nothing(carriage: Carriage) -> Bytes {
    match carriage {
        Carriage::Text | Carriage::Chunked => Bytes::new(),
        Carriage::WebSocket | Carriage::Deflated => framed(Opcode::Pong, b"", false),
    }
}

/// Lends the thread's compressor.
pub(crate) fn with_deflater<T>(f: impl FnOnce(&mut Deflater) -> T) -> T {
    DEFLATER.with_borrow_mut(f)
}

/// A compressed WebSocket frame for a client that asked for this window.
pub(crate) fn deflated(kind: Kind, payload: &[u8], window_bits: u8) -> Bytes {
    let mut deflated = Vec::with_capacity(payload.len() / 2);
    with_deflater(|deflater| deflater.compress_within(window_bits, payload, &mut deflated));
    framed(opcode(kind), &deflated, true)
}

fn opcode(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}

fn framed(opcode: Opcode, payload: &[u8], compressed: bool) -> Bytes {
    // Exactly that: `Bytes` would make a second piece of memory for what knows of more.
    let mut out = Vec::with_capacity(frame::size(payload.len()));
    frame::encode(opcode, payload, compressed, &mut out);
    Bytes::from(out)
}

/// Lends the thread's encoding buffer, empty.
pub(crate) fn with_buffer<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    /// A larger buffer is given back after use, so that one large message does not pin its memory.
    const KEPT_MAX: usize = 64 * 1024;
    thread_local!(static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    let mut buffer = BUFFER.take();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= KEPT_MAX {
        BUFFER.set(buffer);
    }
    result
}

thread_local!(static DEFLATER: RefCell<Deflater> = RefCell::new(Deflater::default()));
