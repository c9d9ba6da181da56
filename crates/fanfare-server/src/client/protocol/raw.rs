//! Protocols whose frames are the messages: hub and bullet.

use super::{Frame, Protocol, Said, line_of_text};

/// A subscriber of a hub's topic.
pub(super) struct Hub;

impl Protocol for Hub {
    fn text(&mut self, text: &str) -> Vec<Said> {
        vec![Said::Line(line_of_text(text))]
    }

    fn end(&self, code: u16) -> Option<Result<&'static str, &'static str>> {
        (code == 1000).then_some(Ok("the topic has ended: its publisher is gone"))
    }
}

/// A client of bullet.js's server.
pub(super) struct Bullet;

impl Protocol for Bullet {
    fn heartbeat(&mut self) -> Frame {
        Frame::Text("ping".into())
    }

    fn text(&mut self, text: &str) -> Vec<Said> {
        match text {
            "heartbeat message" => Vec::new(),
            text => vec![Said::Line(line_of_text(text))],
        }
    }
}
