//! What is said on a socket, protocol by protocol: frames come in, lines and notes go out. No socket and no clock in here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanfare_proto::frame::put_on_one_line;
use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::client::{Protocol as Name, Sub};

mod phoenix;
mod raw;
mod rooms;
#[cfg(test)]
mod tests;

/// A frame to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Frame {
    Text(String),
    Ping,
}

/// What came of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// For the standard output.
    Line(String),
    /// For the standard error.
    Note(String),
    /// The subscription is over, and why.
    Fatal(String),
}

/// One way to subscribe.
pub(super) trait Protocol {
    /// What a client says first on a new socket.
    fn open(&mut self) -> Vec<Frame> {
        Vec::new()
    }

    /// A sign of life, which the server answers in some way.
    fn heartbeat(&mut self) -> Frame {
        Frame::Ping
    }

    /// A text frame.
    fn text(&mut self, text: &str) -> Vec<Said>;

    /// A binary frame.
    fn binary(&mut self, data: &[u8]) -> Vec<Said> {
        vec![Said::Line(line_of_binary(data))]
    }

    /// Whether the server still owes an answer to what was said first.
    fn is_joining(&self) -> bool {
        false
    }

    /// What to say in order to come back to topics that have failed, after a pause.
    fn rejoin(&mut self) -> Vec<Frame> {
        Vec::new()
    }

    /// Whether there are such topics.
    fn has_failed(&self) -> bool {
        false
    }

    /// What a close code means if it is the end rather than an accident: a good one or a bad one.
    fn end(&self, _code: u16) -> Option<Result<&'static str, &'static str>> {
        None
    }
}

/// The protocol that is asked for.
///
/// # Errors
/// An option that means nothing to it.
pub(super) fn of(asked: &Sub) -> Result<Box<dyn Protocol>, String> {
    if asked.protocol != Name::Phoenix {
        let has_payload = asked.join_payload != json!({});
        let mut given =
            [("--event", !asked.event.is_empty()), ("--join-payload", has_payload), ("--since", asked.since.is_some())];
        if let Some((flag, _)) = given.iter_mut().find(|(_, is_given)| *is_given) {
            return Err(format!("{flag} has no effect with this protocol; leave it out"));
        }
    }
    Ok(match asked.protocol {
        Name::Phoenix => {
            Box::new(phoenix::Phoenix::new(&asked.topics, &asked.join_payload, &asked.event, asked.since.as_deref()))
        }
        Name::Hub => Box::new(raw::Hub),
        Name::Rooms => Box::new(rooms::Rooms::new(&asked.topics)),
        Name::Bullet => Box::new(raw::Bullet),
    })
}

/// A text as an object on one line: itself if it is one, in `value` if it is other JSON, in `text` if it is none.
fn line_of_text(text: &str) -> String {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(json) if json.get().starts_with('{') => on_one_line(json.get()),
        Ok(json) => format!("{{\"value\":{}}}", on_one_line(json.get())),
        Err(_) => json!({ "text": text }).to_string(),
    }
}

fn line_of_binary(data: &[u8]) -> String {
    json!({ "binary": STANDARD.encode(data) }).to_string()
}

fn on_one_line(json: &str) -> String {
    let mut line = json.as_bytes().to_vec();
    put_on_one_line(&mut line);
    String::from_utf8(line).expect("a line break became a blank")
}
