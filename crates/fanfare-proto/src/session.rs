//! The joins of one socket, and what each client message means for them.
//!
//! Pure bookkeeping: the session decides (`admit`), the engine acts. What the engine needs to remember about a join is
//! attached to its entry as `J`, which knows whether the join was answered. Sources: the Phoenix Channels protocol as
//! recorded from Phoenix 1.8.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::{Incoming, Ref};

/// So many joins are looked through; for more there is an index. Few sockets have as many.
const UNINDEXED_MAX: usize = 16;

/// What a client message means, given the joins that the socket has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A heartbeat of Phoenix's: answer `ok` with a null join_ref.
    Heartbeat,
    /// `phx_join` on a topic that is not joined.
    Join,
    /// `phx_join` on the topic of the live join at this index: that one ends, a new one begins.
    Rejoin(usize),
    /// The join at this index has not been answered yet: the message waits for it.
    Wait(usize),
    /// A message for the live join at this index.
    Dispatch(usize),
    /// `phx_leave` of the live join at this index.
    Leave(usize),
    /// `phx_leave` of a topic that is not joined: answer `ok` with the join_ref of the message.
    NotJoined,
    /// Any other message on a topic that is not joined: answer "unmatched topic" with a null join_ref.
    Unmatched,
    /// The join_ref is that of an earlier join: drop the message in silence.
    Stale,
}

/// What the engine attaches to a join.
pub trait Answered {
    /// Whether the join has been answered with `ok`: messages are dispatched to it from then on.
    fn is_answered(&self) -> bool;
}

/// One join of the socket.
#[derive(Debug)]
pub struct Entry<J> {
    topic: Arc<str>,
    /// As the client sent it; compared with the join_ref of later messages, and carried by `phx_close` and `phx_error`.
    join_ref: Ref,
    /// The ref of a join without a join_ref: the pushes and replies of such a join carry it. Boxed because it is rare.
    stand_in: Option<Box<Ref>>,
    serial: u32,
    /// What the engine attached.
    pub data: J,
}

impl<J> Entry<J> {
    /// The topic, shared with the engine.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// As the client sent it: the join_ref of the reply to the join, and of `phx_close` and `phx_error`.
    pub fn join_ref(&self) -> &Ref {
        &self.join_ref
    }

    /// The join_ref of what the channel says: pushes, and replies to messages. A join without one goes by its ref.
    pub fn push_ref(&self) -> &Ref {
        self.stand_in.as_deref().unwrap_or(&self.join_ref)
    }

    /// Unique among all joins that the socket ever had.
    pub fn serial(&self) -> u32 {
        self.serial
    }
}

/// The joins of one socket, in no order. Finding, adding and ending one take the same time however many there are.
#[derive(Debug)]
pub struct Session<J> {
    entries: Vec<Entry<J>>,
    /// Where in `entries` a join is, while there are more than can be looked through.
    index: Option<Box<Index>>,
    joins_max: u32,
    next_serial: u32,
}

/// The places of joins.
#[derive(Debug, Default)]
struct Index {
    by_topic: HashMap<Arc<str>, usize>,
    by_serial: HashMap<u32, usize>,
}

impl Index {
    fn insert<J>(&mut self, entry: &Entry<J>, index: usize) {
        self.by_topic.insert(entry.topic.clone(), index);
        self.by_serial.insert(entry.serial, index);
    }
}

impl<J: Answered> Session<J> {
    /// A session without joins that admits at most `joins_max` of them at a time.
    pub fn new(joins_max: usize) -> Self {
        let joins_max = u32::try_from(joins_max).unwrap_or(u32::MAX);
        Session { entries: Vec::new(), index: None, joins_max, next_serial: 0 }
    }

    /// Decides what a message means. Changes nothing.
    pub fn admit(&self, message: &Incoming<'_>) -> Verdict {
        let Incoming { join_ref, topic, event, .. } = message;
        let event = &**event;
        let Some(index) = self.find(topic) else {
            return match event {
                "phx_join" => Verdict::Join,
                "phx_leave" => Verdict::NotJoined,
                _ => Verdict::Unmatched,
            };
        };
        let entry = &self.entries[index];
        if !entry.data.is_answered() {
            return Verdict::Wait(index);
        }
        match event {
            "phx_join" => Verdict::Rejoin(index),
            _ if !join_ref.is_null() && *join_ref != entry.join_ref => Verdict::Stale,
            "phx_leave" => Verdict::Leave(index),
            _ => Verdict::Dispatch(index),
        }
    }

    /// Whether the socket has as many joins as it may have.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.joins_max()
    }

    /// The most joins that the socket may have at a time.
    pub fn joins_max(&self) -> usize {
        self.joins_max as usize
    }

    /// Records a join, and returns its index. A topic has at most one: end that one first.
    pub fn begin(&mut self, topic: Arc<str>, join_ref: Ref, msg_ref: &Ref, data: J) -> usize {
        debug_assert!(self.find(&topic).is_none(), "a topic has at most one join");
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let stand_in = (join_ref.is_null() && !msg_ref.is_null()).then(|| Box::new(msg_ref.clone()));
        if self.entries.capacity() == 0 {
            // Most sockets have one join; the default growth would reserve four.
            self.entries.reserve_exact(1);
        }
        let index = self.entries.len();
        self.entries.push(Entry { topic, join_ref, stand_in, serial, data });
        if let Some(places) = &mut self.index {
            places.insert(&self.entries[index], index);
        } else if index >= UNINDEXED_MAX {
            let mut places = Box::<Index>::default();
            self.entries.iter().enumerate().for_each(|(index, entry)| places.insert(entry, index));
            self.index = Some(places);
        }
        index
    }

    /// Removes a join and hands it over. Another may have this index from now on.
    pub fn end(&mut self, index: usize) -> Entry<J> {
        let ended = self.entries.swap_remove(index);
        if let Some(places) = &mut self.index {
            places.by_topic.remove(&ended.topic);
            places.by_serial.remove(&ended.serial);
            if let Some(moved) = self.entries.get(index) {
                places.insert(moved, index);
            }
        }
        // Half of what an index is made at, so that one join more and one less by turns do not cost one each.
        if self.index.is_some() && self.entries.len() <= UNINDEXED_MAX / 2 {
            self.index = None;
            self.entries.shrink_to_fit();
        }
        ended
    }

    /// The index of the join with this serial.
    pub fn position(&self, serial: u32) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|entry| entry.serial == serial),
            Some(index) => index.by_serial.get(&serial).copied(),
        }
    }

    /// The index of a topic's join.
    pub fn find(&self, topic: &str) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|entry| *entry.topic == *topic),
            Some(index) => index.by_topic.get(topic).copied(),
        }
    }

    /// The join at an index that this session gave.
    pub fn entry(&self, index: usize) -> &Entry<J> {
        &self.entries[index]
    }

    /// The join at an index that this session gave, to be changed.
    pub fn entry_mut(&mut self, index: usize) -> &mut Entry<J> {
        &mut self.entries[index]
    }

    /// All joins, in no order.
    pub fn entries(&self) -> &[Entry<J>] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::payload::Payload;

    fn r(text: &str) -> Ref {
        if text == "null" { Ref::NULL } else { Ref::string(text) }
    }

    impl Answered for bool {
        fn is_answered(&self) -> bool {
            *self
        }
    }

    /// A session with `live` joined under "1", `wait` joining under "2", `bare` live with no join_ref but the ref "7".
    fn session() -> Session<bool> {
        let mut session = Session::new(3);
        session.begin("live".into(), r("1"), &r("1"), true);
        session.begin("wait".into(), r("2"), &r("2"), false);
        session.begin("bare".into(), r("null"), &r("7"), true);
        session
    }

    #[test]
    fn verdicts() {
        let session = session();
        let (live, wait, bare) = (0, 1, 2);
        for (join_ref, topic, event, expected) in [
            ("1", "phoenix", "phx_join", Verdict::Join),
            ("1", "other", "phx_join", Verdict::Join),
            ("1", "other", "phx_leave", Verdict::NotJoined),
            ("1", "other", "phx_close", Verdict::Unmatched),
            ("1", "other", "heartbeat", Verdict::Unmatched),
            ("1", "live", "msg", Verdict::Dispatch(live)),
            ("null", "live", "msg", Verdict::Dispatch(live)),
            ("0", "live", "msg", Verdict::Stale),
            ("0", "live", "phx_leave", Verdict::Stale),
            ("1", "live", "phx_leave", Verdict::Leave(live)),
            ("1", "live", "phx_close", Verdict::Dispatch(live)),
            ("5", "live", "phx_join", Verdict::Rejoin(live)),
            ("1", "live", "phx_join", Verdict::Rejoin(live)),
            ("2", "wait", "msg", Verdict::Wait(wait)),
            ("3", "wait", "phx_join", Verdict::Wait(wait)),
            ("2", "wait", "phx_leave", Verdict::Wait(wait)),
            ("null", "bare", "msg", Verdict::Dispatch(bare)),
            ("7", "bare", "msg", Verdict::Stale),
        ] {
            let (join_ref, msg_ref, payload) = (r(join_ref), Ref::NULL, Payload::default());
            let message = Incoming { join_ref, msg_ref, topic: topic.into(), event: event.into(), payload };
            assert_eq!(session.admit(&message), expected, "{message:?}");
        }
    }

    #[test]
    fn refs_of_own_frames() {
        let session = session();
        let refs = |topic: &str| {
            let entry = session.entry(session.find(topic).unwrap());
            (entry.join_ref().clone(), entry.push_ref().clone())
        };
        assert_eq!(refs("live"), (r("1"), r("1")));
        assert_eq!(refs("bare"), (Ref::NULL, r("7")));
    }

    #[test]
    fn is_bounded_and_serials_are_unique() {
        let mut session = session();
        assert!(session.is_full());
        let index = session.find("live").unwrap();
        let ended = session.end(index);
        assert!(!session.is_full());
        let index = session.begin("live".into(), r("4"), &r("4"), true);
        let serial = session.entry(index).serial();
        assert_ne!(serial, ended.serial());
        assert_eq!(session.position(ended.serial()), None);
        assert_eq!(session.position(serial), session.find("live"));
    }
    proptest! {
        /// Joins begin and end in any order, few and many: each is found by its topic and its serial, and nothing else is.
        #[test]
        fn every_join_is_found_and_no_other(steps in prop::collection::vec((any::<bool>(), 0..60_u32), 1..300)) {
            let mut session = Session::new(usize::MAX);
            let mut expected = BTreeMap::new();
            for (begins, number) in steps {
                let topic = format!("room:{number}");
                match (begins, session.find(&topic)) {
                    (true, None) => {
                        let index = session.begin(topic.clone().into(), Ref::NULL, &Ref::NULL, true);
                        expected.insert(topic, session.entry(index).serial());
                    }
                    (true, Some(_)) => {}
                    (false, found) => {
                        let ended = found.map(|index| session.end(index).serial());
                        prop_assert_eq!(ended, expected.remove(&topic));
                    }
                }
                prop_assert_eq!(session.entries().len(), expected.len());
                for number in 0..60 {
                    let topic = format!("room:{number}");
                    let found = session.find(&topic).map(|index| session.entry(index));
                    prop_assert_eq!(found.map(Entry::serial), expected.get(&topic).copied());
                    prop_assert!(found.is_none_or(|entry| **entry.topic() == *topic));
                }
                for (topic, serial) in &expected {
                    prop_assert_eq!(session.position(*serial), session.find(topic));
                }
            }
        }
    }

    #[test]
    fn a_session_is_small() {
        assert_eq!(size_of::<Session<bool>>(), 40);
    }
}
