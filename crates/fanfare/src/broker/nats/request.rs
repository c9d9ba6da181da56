//! Commands on their way: how each is written, and who is told of its end.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::nats::{Message, write_line, write_message};
use fanfare_proto::position::Position;

use super::server::Server;
use crate::broker::queue::Command;
use crate::broker::{Done, Stamp, Undone};

/// What it takes to keep a command, beside its contents.
const REQUEST_SIZE: usize = 128;

/// Told of each answer until it says that this was the last one, or once why there is none.
pub(super) type Answered = Box<dyn FnMut(Result<&Message<'_>, Undone>) -> bool + Send>;

/// A command.
pub(super) enum Request {
    /// Subscribe to a topic.
    Subscribe { topic: Arc<str>, done: Done<()> },
    /// Unsubscribe.
    Unsubscribe { topic: Arc<str>, done: Done<()> },
    /// Publish: done once the server has taken it.
    Publish { subject: Box<str>, payload: Bytes, done: Done<()> },
    /// The same, and it is known if nobody is there.
    Send { subject: Box<str>, payload: Bytes, done: Done<()> },
    /// Something with answers of its own, which have this number.
    Ask { number: u64, subject: Box<str>, headers: Headers, payload: Bytes, answered: Answered },
    /// Add to a log.
    Append(Append),
}

/// What stands before a payload.
pub(super) type Headers = Vec<(&'static str, String)>;

/// A message for a log.
pub(super) struct Append {
    pub(super) topic: Arc<str>,
    pub(super) subject: Box<str>,
    pub(super) headers: Headers,
    pub(super) payload: Bytes,
    pub(super) done: Done<Outcome>,
}

/// What became of a message for a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    New(Stamp),
    Repeated(Position),
    /// The subject's last message is not the one that was expected.
    WrongLast,
}

impl Request {
    /// Appends the command's bytes. The number is that of the subscription, or of the answer on the link with this letter.
    pub(super) fn write(&self, server: &Server, link: char, number: u64, out: &mut Vec<u8>) {
        let reply = || server.subjects.answer(link, number);
        match self {
            Request::Subscribe { topic, .. } => {
                write_line(&["SUB", &server.subjects.live(topic), &number.to_string()], out);
            }
            Request::Unsubscribe { .. } => write_line(&["UNSUB", &number.to_string()], out),
            Request::Publish { subject, payload, .. } => write_message(subject, None, &[], payload, out),
            Request::Send { subject, payload, .. } => write_message(subject, Some(&reply()), &[], payload, out),
            Request::Ask { subject, headers, payload, .. }
            | Request::Append(Append { subject, headers, payload, .. }) => {
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
                write_message(subject, Some(&reply()), &headers, payload, out);
            }
        }
    }

    /// Tells whoever waits. What has answers of its own is not done by being taken.
    pub(super) fn end(self, outcome: Result<(), Undone>) {
        match (self, outcome) {
            (
                Request::Subscribe { done, .. }
                | Request::Unsubscribe { done, .. }
                | Request::Publish { done, .. }
                | Request::Send { done, .. },
                outcome,
            ) => done(outcome),
            (Request::Ask { mut answered, .. }, Err(undone)) => {
                answered(Err(undone));
            }
            (Request::Append(append), Err(undone)) => (append.done)(Err(undone)),
            (Request::Ask { .. } | Request::Append(_), Ok(())) => {}
        }
    }

    /// Whether it concerns this subject, of which the server says that it is not allowed.
    pub(super) fn is_of(&self, server: &Server, subject: &str) -> bool {
        match self {
            Request::Subscribe { topic, .. } => server.subjects.live(topic) == subject,
            Request::Unsubscribe { .. } => false,
            Request::Publish { subject: own, .. }
            | Request::Send { subject: own, .. }
            | Request::Ask { subject: own, .. }
            | Request::Append(Append { subject: own, .. }) => **own == *subject,
        }
    }
}

impl Command for Request {
    fn size(&self) -> usize {
        REQUEST_SIZE
            + match self {
                Request::Subscribe { .. } | Request::Unsubscribe { .. } => 0,
                Request::Publish { subject, payload, .. }
                | Request::Send { subject, payload, .. }
                | Request::Ask { subject, payload, .. }
                | Request::Append(Append { subject, payload, .. }) => subject.len() + payload.len(),
            }
    }

    fn is_always_taken(&self) -> bool {
        // Also without a connection there is something that is not to be made again.
        matches!(self, Request::Unsubscribe { .. })
    }

    fn undone(self, why: Undone) {
        self.end(Err(why));
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("size", &self.size()).finish_non_exhaustive()
    }
}
