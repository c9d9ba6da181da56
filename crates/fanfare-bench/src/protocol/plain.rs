//! No protocol at all: what a client of `/{room}` sends goes to everybody in that room, itself included.

use super::{Meaning, Outgoing, Protocol, Role, in_room, path_or};
use crate::stamp::Stamp;
use crate::target::Target;

pub(super) struct Plain {
    path: String,
}

impl Plain {
    pub(super) fn new(target: &Target) -> Self {
        Self { path: path_or(target, "/{room}") }
    }
}

impl Protocol for Plain {
    fn path(&self, _: Role, topic: &str) -> String {
        in_room(&self.path, topic)
    }

    fn enter(&self, _: Role, _: &str, _: u32, _: &mut Outgoing) -> bool {
        true
    }

    fn publish(&self, _: &str, stamp: Stamp, size: usize, out: &mut Outgoing) {
        out.text(|message| stamp.write(size, message));
    }

    fn receive(&self, _: &str, _: &[u8], _: &mut Outgoing) -> Meaning {
        Meaning::Nothing
    }
}
