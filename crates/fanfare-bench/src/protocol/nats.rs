//! NATS over WebSocket: lines of its text protocol in binary messages. The topic is the subject.

use std::io::Write as _;

use super::{Meaning, Outgoing, Protocol, Role, path_or, payload_size};
use crate::stamp::Stamp;
use crate::target::Target;

pub(super) struct Nats {
    path: String,
}

impl Nats {
    pub(super) fn new(target: &Target) -> Self {
        Self { path: path_or(target, "/") }
    }
}

impl Protocol for Nats {
    fn path(&self, _: Role, _: &str) -> String {
        self.path.clone()
    }

    fn enter(&self, role: Role, topic: &str, _: u32, out: &mut Outgoing) -> bool {
        out.binary(|message| {
            message.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true}\r\n");
            if role.subscribes() {
                let _ = write!(message, "SUB {topic} 1\r\n");
            }
            // The answer comes when the server has taken all that is before it.
            message.extend_from_slice(b"PING\r\n");
        });
        false
    }

    fn publish(&self, topic: &str, stamp: Stamp, size: usize, out: &mut Outgoing) {
        out.binary(|message| {
            let _ = write!(message, "PUB {topic} {}\r\n", payload_size(size));
            stamp.write(size, message);
            message.extend_from_slice(b"\r\n");
        });
    }

    fn receive(&self, _: &str, message: &[u8], out: &mut Outgoing) -> Meaning {
        let mut meaning = Meaning::Nothing;
        for line in message.split(|byte| *byte == b'\n') {
            match line.trim_ascii_end() {
                b"PONG" => meaning = Meaning::Entered,
                b"PING" => out.binary(|message| message.extend_from_slice(b"PONG\r\n")),
                line if line.starts_with(b"-ERR") => {
                    return Meaning::Refused(String::from_utf8_lossy(line).into_owned());
                }
                _ => {}
            }
        }
        meaning
    }

    fn packs(&self) -> bool {
        true
    }
}
