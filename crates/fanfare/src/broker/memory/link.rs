//! What a node asks the broker in memory for.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::position::Position;
use parking_lot::Mutex;

use super::logs::Addition;
use super::{ANSWER_MAX_MS, Event, Inner, LINK, Node, Request, State, Waiting, Way};
use crate::broker::{
    ATTACHMENTS_MAX, Append, Appended, Attached, BrokerLink, COMMANDS_WAITING_BYTES_MAX, COMMANDS_WAITING_MAX, Cell,
    Done, Incarnation, LinkId, Log, Page, REGISTER_SIZE_MAX, Read, Registers, Swapped, Transport, Undone,
};

/// A node's link.
pub(super) struct Link {
    pub(super) broker: Arc<Inner>,
    pub(super) incarnation: Incarnation,
}

impl Link {
    /// Asks the server for something.
    fn call<T: Send + 'static>(
        &self,
        way: Way,
        size: usize,
        done: Done<T>,
        act: impl FnOnce(&mut State, Incarnation) -> Result<T, Undone> + Send + 'static,
    ) {
        let mut state = self.broker.state.lock();
        let delay_ms = state.delay_ms();
        let State { nodes, now_ms, next_serial, .. } = &mut *state;
        let Some(node) = nodes.get_mut(&self.incarnation).filter(|node| node.is_up && !node.is_gone) else {
            drop(state);
            return done(Err(Undone::refused("there is no link to the broker in memory: try again later")));
        };
        let (count, bytes) = (node.waiting.len(), node.waiting_bytes + size);
        if count >= COMMANDS_WAITING_MAX || (bytes > COMMANDS_WAITING_BYTES_MAX && count > 0) {
            drop(state);
            return done(Err(Undone::refused(format!(
                "{count} commands with {bytes} bytes wait, and {COMMANDS_WAITING_MAX} with {COMMANDS_WAITING_BYTES_MAX} may: \
                 try again later"
            ))));
        }
        *next_serial += 1;
        let (serial, who) = (*next_serial, self.incarnation);
        // Either the answer or the lack of one takes it.
        let done = Arc::new(Mutex::new(Some(done)));
        let theirs = done.clone();
        let fail = Box::new(move |why| {
            let done = theirs.lock().take();
            if let Some(done) = done {
                done(Err(why));
            }
        });
        node.waiting.insert(serial, Waiting { deadline_ms: *now_ms + ANSWER_MAX_MS, size, is_lost: false, fail });
        node.waiting_bytes += size;
        let run = Box::new(move |state: &mut State| {
            let result = act(state, who);
            Event::Answer(
                serial,
                Box::new(move || {
                    let done = done.lock().take();
                    if let Some(done) = done {
                        done(result);
                    }
                }),
            )
        });
        node.up[way as usize].put(*now_ms + delay_ms, Request { run });
        drop(state);
        self.broker.pump_if_free();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(mut node) = self.broker.state.lock().nodes.remove(&self.incarnation) else { return };
        for (_, waiting) in std::mem::take(&mut node.waiting) {
            (waiting.fail)(Undone::unknown("the node has ended"));
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.incarnation).finish()
    }
}

impl Transport for Link {
    fn attach(&self, topic: &Arc<str>, wants_head: bool, done: Done<Attached>) {
        let mut state = self.broker.state.lock();
        if let Some(node) = state.nodes.get_mut(&self.incarnation) {
            if node.wanted.len() >= ATTACHMENTS_MAX && !node.wanted.contains(topic) {
                drop(state);
                let why = format!("the node is attached to {ATTACHMENTS_MAX} topics, the most that it may be");
                return done(Err(Undone::refused(why)));
            }
            node.wanted.insert(topic.clone());
        }
        drop(state);
        let topic = topic.clone();
        self.call(Way::Ordered, topic.len(), done, move |state, who| {
            let server = state.server_of(who);
            let fresh = state.fresh(&topic, server);
            #[cfg(feature = "testing")]
            if let Some(attached) = state.attach_too_late(who, &topic, fresh) {
                return Ok(attached);
            }
            if let Some(node) = state.nodes.get_mut(&who) {
                node.attached.insert(topic.clone());
            }
            Ok(Attached { head: wants_head.then(|| state.servers[server].head(&topic, fresh)) })
        });
    }

    fn detach(&self, topic: &str, done: Done<()>) {
        if let Some(node) = self.broker.state.lock().nodes.get_mut(&self.incarnation) {
            node.wanted.remove(topic);
        }
        let topic: Arc<str> = topic.into();
        self.call(Way::Ordered, topic.len(), done, move |state, who| {
            if let Some(node) = state.nodes.get_mut(&who).filter(|node| !node.wanted.contains(&topic)) {
                node.attached.remove(&topic);
            }
            Ok(())
        });
    }

    fn publish(&self, topic: &Arc<str>, envelope: Bytes, done: Done<Option<u64>>) {
        let topic = topic.clone();
        self.call(Way::Ordered, envelope.len(), done, move |state, who| {
            let server = state.server_of(who);
            Ok(Some(state.fan_out(who, server, &topic, &envelope, None)))
        });
    }

    fn send(&self, to: Incarnation, envelope: Bytes, done: Done<()>) {
        self.call(Way::Ordered, envelope.len(), done, move |state, who| {
            let server = state.server_of(who);
            let is_there = |node: &Node| node.is_up && !node.is_gone && node.server == server;
            if !state.nodes.get(&to).is_some_and(is_there) {
                return Err(Undone::Gone);
            }
            state.send_down(to, Way::Ordered, Event::Inbox(envelope));
            Ok(())
        });
    }

    fn link_of(&self, _topic: &str) -> LinkId {
        LINK
    }

    fn stands(&self) -> Vec<(LinkId, BrokerLink)> {
        let is_up = self.broker.state.lock().nodes.get(&self.incarnation).is_some_and(|node| node.is_up);
        let down = (!is_up).then(|| "there is no link to the broker in memory".to_owned());
        vec![(LINK, BrokerLink { down, ..BrokerLink::new("memory") })]
    }

    fn carries(&self, _size: usize) -> Result<(), Undone> {
        Ok(())
    }
}

impl Log for Link {
    fn append(&self, append: Append) {
        let Append { topic, envelope, retention, key, expected, done } = append;
        self.call(Way::Ordered, envelope.len(), done, move |state, who| {
            let server = state.server_of(who);
            let (now_ms, fresh) = (state.now_ms, state.fresh(&topic, server));
            let addition =
                Addition { topic: &topic, envelope: envelope.clone(), retention, key, expected, now_ms, fresh };
            let appended = state.servers[server].append(addition);
            if let Appended::New(stamp) = appended {
                #[cfg(feature = "testing")]
                state.faults.note(&topic, stamp, &envelope);
                state.fan_out(who, server, &topic, &envelope, Some(stamp));
            }
            Ok(appended)
        });
    }

    fn read(&self, topic: &Arc<str>, read: Read, done: Done<Page>) {
        let topic = topic.clone();
        self.call(Way::Bulk, topic.len(), done, move |state, who| {
            let server = state.server_of(who);
            let (now_ms, fresh) = (state.now_ms, state.fresh(&topic, server));
            Ok(state.servers[server].read(&topic, read, now_ms, fresh))
        });
    }

    fn heads(&self, topics: Vec<Arc<str>>, done: Done<Vec<Position>>) {
        self.call(Way::Bulk, topics.len(), done, move |state, who| {
            let server = state.server_of(who);
            let head = |topic: &Arc<str>| {
                let fresh = state.fresh(topic, server);
                state.servers[server].head(topic, fresh).position
            };
            Ok(topics.iter().map(head).collect())
        });
    }
}

impl Registers for Link {
    fn get(&self, name: &str, done: Done<Option<Cell>>) {
        let name = name.to_owned();
        self.call(Way::Bulk, name.len(), done, move |state, who| Ok(state.servers[state.server_of(who)].get(&name)));
    }

    fn put_if(&self, name: &str, revision: Option<u64>, value: Bytes, done: Done<Swapped>) {
        if value.len() > REGISTER_SIZE_MAX {
            let size = value.len();
            return done(Err(Undone::refused(format!("a cell of {size} bytes: use {REGISTER_SIZE_MAX} at most"))));
        }
        let name = name.to_owned();
        self.call(Way::Bulk, value.len(), done, move |state, who| {
            let (server, now_us) = (state.server_of(who), state.now_ms * 1_000);
            let put = state.servers[server].put_if(&name, revision, value, now_us);
            put.ok_or_else(|| Undone::refused("the broker in memory has no room for another cell"))
        });
    }

    fn delete_if(&self, name: &str, revision: u64, done: Done<Swapped>) {
        let name = name.to_owned();
        self.call(Way::Bulk, name.len(), done, move |state, who| {
            let server = state.server_of(who);
            Ok(state.servers[server].delete_if(&name, revision))
        });
    }

    fn list(&self, prefix: &str, done: Done<Vec<(String, Cell)>>) {
        let prefix = prefix.to_owned();
        self.call(Way::Bulk, prefix.len(), done, move |state, who| {
            Ok(state.servers[state.server_of(who)].list(&prefix))
        });
    }
}
