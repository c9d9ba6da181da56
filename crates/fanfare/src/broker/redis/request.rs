//! Commands on their way: how each is written, and who is told of its answer.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fanfare_proto::history::Retention;
use fanfare_proto::position::{Epoch, Position, Since};
use fanfare_proto::resp::{Value, write_command, write_command_head, write_part};

use super::names::Kind;
use super::scripts::{Script, Shas};
use super::server::Server;
use crate::broker::queue::Command;
use crate::broker::{Append, Appended, Attached, Done, Incarnation, Stamp, Undone};

/// What it takes to keep a command, beside its contents.
pub(super) const REQUEST_SIZE: usize = 128;

/// The messages of one call of the script have at most so many bytes together, beyond the first.
const BATCH_SIZE_MAX: usize = 256 * 1024;

/// How many messages one call of the script takes.
const BATCH_MAX: usize = 64;

/// Told of an answer.
pub(super) type Answered = Box<dyn for<'a> FnOnce(Result<Value<'a>, Undone>) + Send>;

/// A command with an answer.
pub(super) enum Request {
    /// Subscribe to a topic.
    Subscribe { topic: Arc<str>, with_head: bool, told: Subscribed },
    /// Unsubscribe.
    Unsubscribe { topic: Arc<str>, done: Done<()> },
    /// Publish: to how many.
    Publish { to: To, envelope: Bytes, done: Done<u64> },
    /// Add to a log.
    Append(Appends),
    /// Anything else.
    Call { script: Option<Script>, parts: Vec<Bytes>, answered: Answered },
    /// What another server of a cluster does not have.
    Redirected(Box<Redirected>),
}

/// A command that another server of a cluster does not have.
pub(super) struct Redirected {
    pub(super) request: Request,
    /// So many servers have sent it away.
    pub(super) hops: u8,
    /// Its slot is on its way to this server, which is to carry it out all the same.
    pub(super) asks: bool,
}

/// Where something is published.
pub(super) enum To {
    Topic(Arc<str>),
    Node(Incarnation),
}

/// Who is told of a subscription.
pub(super) enum Subscribed {
    /// This one.
    Done(Done<Attached>),
    /// Whoever is told of the next command, and finds here why not.
    Shared(Arc<OnceLock<Undone>>),
    /// The node, that something may have been lost: the topic was attached elsewhere.
    Moved,
}

/// Messages for one log that go in one call.
pub(super) struct Appends {
    pub(super) topic: Arc<str>,
    retention: Retention,
    key: Option<Box<str>>,
    expected: Option<Since>,
    messages: Vec<(Bytes, Done<Appended>)>,
    size: usize,
}

impl Request {
    /// Takes the next command into this one, where both can go in one call.
    pub(super) fn merge(&mut self, next: Request) -> Result<(), Request> {
        match (self, next) {
            (Request::Append(one), Request::Append(other)) if one.takes(&other) => {
                one.size += other.size;
                one.messages.extend(other.messages);
                Ok(())
            }
            (_, next) => Err(next),
        }
    }

    /// Appends the command's bytes.
    pub(super) fn write(&self, server: &Server, shas: &Shas, out: &mut Vec<u8>) {
        match self {
            Request::Subscribe { topic, .. } => {
                write_command(&[b"SSUBSCRIBE", &server.names.of(Kind::Live, topic)], out);
            }
            Request::Unsubscribe { topic, .. } => {
                write_command(&[b"SUNSUBSCRIBE", &server.names.of(Kind::Live, topic)], out);
            }
            Request::Publish { to, envelope, .. } => {
                let channel = match to {
                    To::Topic(topic) => server.names.of(Kind::Live, topic),
                    To::Node(node) => server.names.inbox(*node),
                };
                write_command(&[b"SPUBLISH", &channel, envelope], out);
            }
            Request::Append(appends) => appends.write(server, shas, out),
            Request::Call { script, parts, .. } => {
                write_command_head(parts.len() + 2 * usize::from(script.is_some()), out);
                if let Some(script) = script {
                    write_part(b"EVALSHA", out);
                    write_part(shas.of(*script), out);
                }
                parts.iter().for_each(|part| write_part(part, out));
            }
            Request::Redirected(redirected) => redirected.request.write(server, shas, out),
        }
    }

    /// Hands the answer over.
    pub(super) fn answer(self, answer: Result<Value<'_>, Undone>) {
        match self {
            Request::Subscribe { told, .. } => match (told, answer) {
                (Subscribed::Done(done), Ok(_)) => done(Ok(Attached { head: None })),
                (Subscribed::Done(done), Err(undone)) => done(Err(undone)),
                (Subscribed::Shared(why), Err(undone)) => {
                    let _ = why.set(undone);
                }
                (Subscribed::Shared(_), Ok(_)) | (Subscribed::Moved, _) => {}
            },
            Request::Unsubscribe { done, .. } => done(answer.map(drop)),
            Request::Publish { done, .. } => {
                done(answer.and_then(|value| {
                    let receivers = value.number().and_then(|number| number.try_into().ok());
                    receivers.ok_or_else(|| unexpected("SPUBLISH"))
                }));
            }
            Request::Append(appends) => appends.answer(answer),
            Request::Call { answered, .. } => answered(answer),
            Request::Redirected(redirected) => redirected.request.answer(answer),
        }
    }

    /// The topic whose order it is part of.
    pub(super) fn appends_to(&self) -> Option<&Arc<str>> {
        if let Request::Append(appends) = self { Some(&appends.topic) } else { None }
    }
}

impl Command for Request {
    fn size(&self) -> usize {
        REQUEST_SIZE
            + match self {
                Request::Subscribe { .. } | Request::Unsubscribe { .. } => 0,
                Request::Publish { envelope, to: To::Topic(topic), .. } => envelope.len() + topic.len(),
                Request::Publish { envelope, to: To::Node(_), .. } => envelope.len(),
                Request::Append(appends) => appends.size,
                Request::Call { parts, .. } => parts.iter().map(Bytes::len).sum(),
                Request::Redirected(redirected) => redirected.request.size(),
            }
    }

    fn is_always_taken(&self) -> bool {
        // Also without a connection there is something that is not to be made again, or is to be made by the next one.
        matches!(self, Request::Unsubscribe { .. } | Request::Subscribe { told: Subscribed::Moved, .. })
    }

    fn undone(self, why: Undone) {
        self.answer(Err(why));
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// An answer that makes no sense: the command was carried out, or something else was.
pub(super) fn unexpected(command: &str) -> Undone {
    Undone::unknown(format!("the answer to {command} makes no sense; is this a Redis of version 7 or newer?"))
}

impl Appends {
    pub(super) fn new(append: Append) -> Self {
        let Append { topic, envelope, retention, key, expected, done } = append;
        let size = topic.len() + envelope.len() + key.as_ref().map_or(0, |key| key.len());
        Appends { topic, retention, key, expected, messages: vec![(envelope, done)], size }
    }

    /// Whether the other's messages are to be added by the same call.
    fn takes(&self, other: &Appends) -> bool {
        let is_plain = |appends: &Appends| appends.key.is_none() && appends.expected.is_none();
        self.topic == other.topic
            && self.retention == other.retention
            && is_plain(self)
            && is_plain(other)
            && self.messages.len() + other.messages.len() <= BATCH_MAX
            && self.size + other.size <= BATCH_SIZE_MAX
    }

    fn write(&self, server: &Server, shas: &Shas, out: &mut Vec<u8>) {
        const PLAIN: [Kind; 2] = [Kind::Stream, Kind::Meta];
        const KEYED: [Kind; 4] = [Kind::Stream, Kind::Meta, Kind::Keys, Kind::OldKeys];
        let kinds = if self.key.is_some() { &KEYED[..] } else { &PLAIN[..] };
        write_command_head(5 + kinds.len() + usize::from(self.key.is_some()) + self.messages.len(), out);
        write_part(b"EVALSHA", out);
        write_part(shas.of(Script::Append), out);
        write_part(if self.key.is_some() { b"4" } else { b"2" }, out);
        kinds.iter().for_each(|kind| write_part(&server.names.of(*kind, &self.topic), out));
        write_part(&self.head(server), out);
        // No key: while a slot moves, a cluster wants all keys of a script to be on one server.
        write_part(&server.names.of(Kind::Live, &self.topic), out);
        if let Some(key) = &self.key {
            write_part(key.as_bytes(), out);
        }
        self.messages.iter().for_each(|(envelope, _)| write_part(envelope, out));
    }

    /// What holds for all messages, as the script unpacks it.
    fn head(&self, server: &Server) -> Vec<u8> {
        let (expects, position) = match self.expected {
            None | Some(Since::Now) => (0, None),
            Some(Since::Start) => (1, None),
            Some(Since::Position(position)) => (2, Some(position)),
        };
        let mut head = Vec::with_capacity(65);
        head.extend_from_slice(&server.session().to_le_bytes());
        head.extend_from_slice(&server.draw().to_le_bytes());
        head.extend_from_slice(&server.now_ms().to_le_bytes());
        bounds(&self.retention, &mut head);
        head.push(expects);
        head.extend_from_slice(&position.map_or(0, |position| position.epoch.number()).to_le_bytes());
        head.extend_from_slice(&position.map_or(0, |position| position.offset).to_le_bytes());
        head
    }

    fn answer(self, answer: Result<Value<'_>, Undone>) {
        let text = answer.and_then(|value| value.text().ok_or_else(|| unexpected("the append")));
        let fields = text.as_ref().ok().and_then(|text| {
            let (kind, rest) = text.split_first()?;
            Some((*kind, position(rest)?, &rest[16..]))
        });
        match fields {
            Some((b'N', last, before)) => {
                let epoch = before.try_into().ok().map(u64::from_le_bytes).and_then(Epoch::new);
                let before = last.offset.checked_sub(self.messages.len() as u64);
                let (Some(epoch), Some(offset)) = (epoch, before) else {
                    return self.undone(&unexpected("the append"));
                };
                let mut prev = Position { epoch, offset };
                for (offset, (_, done)) in (offset + 1..).zip(self.messages) {
                    let position = Position { offset, ..last };
                    done(Ok(Appended::New(Stamp { position, prev })));
                    prev = position;
                }
            }
            // Whatever has a key or expects something is alone.
            Some((kind, position, _)) => {
                let appended = if kind == b'R' { Appended::Repeated(position) } else { Appended::Conflict(position) };
                self.messages.into_iter().for_each(|(_, done)| done(Ok(appended)));
            }
            None => self.undone(&text.err().unwrap_or_else(|| unexpected("the append"))),
        }
    }

    fn undone(self, undone: &Undone) {
        self.messages.into_iter().for_each(|(_, done)| done(Err(undone.clone())));
    }
}

/// Appends the bounds of what is kept, as the scripts unpack them.
pub(super) fn bounds(retention: &Retention, out: &mut Vec<u8>) {
    /// Lua counts exactly up to here, and nobody means more.
    const MOST: u64 = 1 << 48;
    let Retention { messages_max, bytes_max, age_max_ms } = *retention;
    for bound in [messages_max as u64, bytes_max as u64, age_max_ms] {
        out.extend_from_slice(&bound.clamp(1, MOST).to_le_bytes());
    }
}

/// An epoch and an offset, as the scripts pack them.
pub(super) fn position(bytes: &[u8]) -> Option<Position> {
    let (epoch, rest) = bytes.split_first_chunk()?;
    let (offset, _) = rest.split_first_chunk()?;
    Some(Position { epoch: Epoch::new(u64::from_le_bytes(*epoch))?, offset: u64::from_le_bytes(*offset) })
}
