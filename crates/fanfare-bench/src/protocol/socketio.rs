//! Socket.IO 5 on Engine.IO 4, WebSocket only. The application has two events: `join` with the room's name, after which it
//! emits `joined`, and `msg` with the room's name and the payload, which it emits to the room as `msg`.

use std::io::Write as _;

use super::{Meaning, Outgoing, Protocol, Role, path_or};
use crate::stamp::Stamp;
use crate::target::Target;

pub(super) struct SocketIo {
    path: String,
}

impl SocketIo {
    pub(super) fn new(target: &Target) -> Self {
        Self { path: path_or(target, "/socket.io/?EIO=4&transport=websocket") }
    }
}

impl Protocol for SocketIo {
    fn path(&self, _: Role, _: &str) -> String {
        self.path.clone()
    }

    fn enter(&self, _: Role, _: &str, _: u32, out: &mut Outgoing) -> bool {
        out.text(|message| message.extend_from_slice(b"40"));
        false
    }

    fn publish(&self, topic: &str, stamp: Stamp, size: usize, out: &mut Outgoing) {
        out.text(|message| {
            let _ = write!(message, "42[\"msg\",\"{topic}\",\"");
            stamp.write(size, message);
            message.extend_from_slice(b"\"]");
        });
    }

    fn receive(&self, topic: &str, message: &[u8], out: &mut Outgoing) -> Meaning {
        let text = String::from_utf8_lossy(message);
        if text == "2" {
            out.text(|message| message.push(b'3'));
        } else if text.starts_with("40") {
            out.text(|message| {
                let _ = write!(message, "42[\"join\",\"{topic}\"]");
            });
        } else if text.starts_with("42[\"joined\"") {
            return Meaning::Entered;
        } else if text.starts_with("44") {
            return Meaning::Refused(text.into_owned());
        }
        Meaning::Nothing
    }
}
