//! The joins of one socket, and what each client message means for them.
//!
//! Pure bookkeeping: the session decides (`admit`), the engine acts. What the engine needs to remember about a join is
//! attached to its entry as `J`, which knows whether the join was answered. Sources: the Phoenix Channels protocol as recorded from Phoenix 1.8.

use std::sync::Arc;

use crate::message::Ref;

/// The topic of heartbeats. No channel can be joined on it.
pub const PHOENIX_TOPIC: &str = "phoenix";

/// What a client message means, given the joins that the socket has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A heartbeat: answer `ok` with a null join_ref.
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
    /// The ref of a join without a join_ref: such a join's own pushes carry it. Boxed because it is rare.
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

    /// The join_ref of replies, `phx_close` and `phx_error`.
    pub fn join_ref(&self) -> &Ref {
        &self.join_ref
    }

    /// The join_ref of the channel's own pushes.
    pub fn push_ref(&self) -> &Ref {
        self.stand_in.as_deref().unwrap_or(&self.join_ref)
    }

    /// Unique among all joins that the socket ever had.
    pub fn serial(&self) -> u32 {
        self.serial
    }
}

/// The joins of one socket, ordered by topic.
#[derive(Debug)]
pub struct Session<J> {
    /// Sorted by topic: found by binary search, and one join costs one small allocation.
    entries: Vec<Entry<J>>,
    joins_max: usize,
    next_serial: u32,
}

impl<J: Answered> Session<J> {
    /// A session without joins that admits at most `joins_max` of them at a time.
    pub fn new(joins_max: usize) -> Self {
        Session { entries: Vec::new(), joins_max, next_serial: 0 }
    }

    /// Decides what a message means. Changes nothing.
    pub fn admit(&self, join_ref: &Ref, topic: &str, event: &str) -> Verdict {
        if topic == PHOENIX_TOPIC {
            return if event == "heartbeat" { Verdict::Heartbeat } else { Verdict::Unmatched };
        }
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
        self.entries.len() >= self.joins_max
    }

    /// The most joins that the socket may have at a time.
    pub fn joins_max(&self) -> usize {
        self.joins_max
    }

    /// Records a join, and returns its index.
    ///
    /// # Panics
    /// When the topic has an entry already: end that one first.
    pub fn begin(&mut self, topic: Arc<str>, join_ref: Ref, msg_ref: &Ref, data: J) -> usize {
        let index = self.search(&topic).expect_err("a topic has at most one join");
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let stand_in = (join_ref.is_null() && !msg_ref.is_null()).then(|| Box::new(msg_ref.clone()));
        if self.entries.capacity() == 0 {
            // Most sockets have one join; the default growth would reserve four.
            self.entries.reserve_exact(1);
        }
        self.entries.insert(index, Entry { topic, join_ref, stand_in, serial, data });
        index
    }

    /// Removes a join and hands it over.
    pub fn end(&mut self, index: usize) -> Entry<J> {
        self.entries.remove(index)
    }

    /// Removes all joins and hands them over.
    pub fn end_all(&mut self) -> Vec<Entry<J>> {
        std::mem::take(&mut self.entries)
    }

    /// The index of the join with this serial.
    pub fn position(&self, serial: u32) -> Option<usize> {
        self.entries.iter().position(|entry| entry.serial == serial)
    }

    /// The index of a topic's join.
    pub fn find(&self, topic: &str) -> Option<usize> {
        self.search(topic).ok()
    }

    /// The join at an index that this session gave.
    pub fn entry(&self, index: usize) -> &Entry<J> {
        &self.entries[index]
    }

    /// The join at an index that this session gave, to be changed.
    pub fn entry_mut(&mut self, index: usize) -> &mut Entry<J> {
        &mut self.entries[index]
    }

    /// All joins, ordered by topic.
    pub fn entries(&self) -> &[Entry<J>] {
        &self.entries
    }

    fn search(&self, topic: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| (*entry.topic).cmp(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Answered for bool {
        fn is_answered(&self) -> bool {
            *self
        }
    }

    fn r(text: &str) -> Ref {
        if text == "null" { Ref::NULL } else { Ref::string(text) }
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
        let (bare, live, wait) = (0, 1, 2);
        for (join_ref, topic, event, expected) in [
            ("null", "phoenix", "heartbeat", Verdict::Heartbeat),
            ("9", "phoenix", "heartbeat", Verdict::Heartbeat),
            ("1", "phoenix", "phx_join", Verdict::Unmatched),
            ("1", "phoenix", "phx_leave", Verdict::Unmatched),
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
            assert_eq!(session.admit(&r(join_ref), topic, event), expected, "{join_ref} {topic} {event}");
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
}
