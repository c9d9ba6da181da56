//! nchan: subscribers and publishers connect to different places, and send or get bare messages there.

use super::{Meaning, Outgoing, Protocol, Role, in_room, path_or};
use crate::stamp::Stamp;
use crate::target::Target;

pub(super) struct Nchan {
    subscribe: String,
    publish: String,
}

impl Nchan {
    pub(super) fn new(target: &Target) -> Result<Self, String> {
        let subscribe = path_or(target, "/sub/{room}");
        if !subscribe.contains("/sub/") {
            return Err(format!(
                "the path {subscribe} has no /sub/ in it; with --protocol nchan it is where subscribers connect, such as \
                 ws://127.0.0.1:8080/sub/{{room}}, and publishers connect to the same with /pub/"
            ));
        }
        let publish = subscribe.replacen("/sub/", "/pub/", 1);
        Ok(Self { subscribe, publish })
    }
}

impl Protocol for Nchan {
    fn path(&self, role: Role, topic: &str) -> String {
        in_room(if role.subscribes() { &self.subscribe } else { &self.publish }, topic)
    }

    fn enter(&self, _: Role, _: &str, _: u32, _: &mut Outgoing) -> bool {
        true
    }

    fn publish(&self, _: &str, stamp: Stamp, size: usize, out: &mut Outgoing) {
        out.text(|message| stamp.write(size, message));
    }

    fn receive(&self, _: &str, _: &[u8], _: &mut Outgoing) -> Meaning {
        // Publishers are told how many subscribers there are.
        Meaning::Nothing
    }

    fn publishers_apart(&self) -> bool {
        true
    }
}
