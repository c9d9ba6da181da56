//! Commands on their way: how each is written, and who is told of its end.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::nats::{write_line, write_message};

use super::server::Server;
use crate::broker::queue::Command;
use crate::broker::{Done, Undone};

/// What it takes to keep a command, beside its contents.
const REQUEST_SIZE: usize = 128;

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
}

impl Request {
    /// Appends the command's bytes. The number is that of the subscription, or of the answer.
    pub(super) fn write(&self, server: &Server, number: u64, out: &mut Vec<u8>) {
        match self {
            Request::Subscribe { topic, .. } => {
                write_line(&["SUB", &server.subjects.live(topic), &number.to_string()], out);
            }
            Request::Unsubscribe { .. } => write_line(&["UNSUB", &number.to_string()], out),
            Request::Publish { subject, payload, .. } => write_message(subject, None, &[], payload, out),
            Request::Send { subject, payload, .. } => {
                write_message(subject, Some(&server.subjects.answer(number)), &[], payload, out);
            }
        }
    }

    /// Tells whoever waits.
    pub(super) fn end(self, outcome: Result<(), Undone>) {
        match self {
            Request::Subscribe { done, .. }
            | Request::Unsubscribe { done, .. }
            | Request::Publish { done, .. }
            | Request::Send { done, .. } => done(outcome),
        }
    }

    /// Whether it concerns this subject, of which the server says that it is not allowed.
    pub(super) fn is_of(&self, server: &Server, subject: &str) -> bool {
        match self {
            Request::Subscribe { topic, .. } => server.subjects.live(topic) == subject,
            Request::Unsubscribe { .. } => false,
            Request::Publish { subject: own, .. } | Request::Send { subject: own, .. } => **own == *subject,
        }
    }
}

impl Command for Request {
    fn size(&self) -> usize {
        REQUEST_SIZE
            + match self {
                Request::Subscribe { .. } | Request::Unsubscribe { .. } => 0,
                Request::Publish { subject, payload, .. } | Request::Send { subject, payload, .. } => {
                    subject.len() + payload.len()
                }
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
