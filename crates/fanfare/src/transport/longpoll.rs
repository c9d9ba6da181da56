//! A long-poll session in its shard: the frames that wait for the client, and the polls that wait for frames.
//!
//! An answer can get lost on a connection that nobody knows to be dead, and the protocol has no acknowledgement. But its
//! clients take their token out of each answer; so each answer brings another one, which says how many messages the client has
//! with it. Who polls with it has the answer; who polls with the one before it has not, and is given it again.
//!
//! Whether a client does so shows when it first polls with another token than its first. Up to then, and for clients that keep
//! one token, an answer is forgotten once it is given: it might otherwise come twice.

use std::collections::VecDeque;
use std::fmt;
use std::vec;

use fanfare_proto::message::Incoming;
use tokio::sync::oneshot;

use crate::address::AddressSlot;
use crate::outbox::{First, Outbox, Outboxes, Share};

/// A long-poll answer: the messages, or why there are none.
#[derive(Debug)]
pub(crate) enum Polled {
    /// At least one message, how many the client has with these, and what they hold.
    Messages(Vec<bytes::Bytes>, u64, Share),
    /// The window ended, the session was closed while waiting, or a drain began.
    Nothing,
    /// The client has not got everything since its last poll.
    Lost(Lost),
    /// There is no such session.
    Gone,
}

/// Why a client that polls has not got everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// So many messages at least, as more came between two polls than can wait.
    Overflow(u64),
    /// Messages gave way by the policy of their topic.
    ByPolicy,
    /// It has not polled for so long that nothing was kept for it any more.
    WhileAway,
}

/// More polls than this at a time: the oldest is answered at once.
const POLLS_MAX: usize = 4;

#[derive(Debug)]
pub(crate) struct PollSession {
    /// Part of the session's token: nobody who cannot name it is answered.
    secret: u128,
    /// What was given in the last answer, while that may have to be given again, and then what waits.
    outbox: Outbox,
    /// How many messages of it were given.
    given: usize,
    /// How many messages came before these.
    position: u64,
    /// Whether the client's last token has said how many messages it has.
    acknowledges: bool,
    polls: Vec<Waiting>,
    /// What the client has posted and is not handled yet: for each request its messages, and who is told that they are.
    posts: VecDeque<(vec::IntoIter<Incoming<'static>>, oneshot::Sender<bool>)>,
    last_poll_ended_ms: u64,
    /// Of clients that take one message in an answer. Those that cannot be told apart share a session, and each of their
    /// polls that wait gets the message.
    one_by_one: Option<OneByOne>,
    /// What such a client has lost ahead of what waits, and is to be told of.
    lost: Option<Lost>,
    /// Counts against its address while it lives.
    _slot: Option<AddressSlot>,
}

/// A client that takes one message in an answer.
#[derive(Debug)]
pub(crate) struct OneByOne {
    /// It had a session that has ended: it does not know what was published meanwhile.
    pub(crate) was_away: bool,
    /// What goes with its session: its place among those that are known.
    pub(crate) _place: Box<dyn fmt::Debug + Send>,
}

#[derive(Debug)]
struct Waiting {
    /// When its window ends.
    until_ms: u64,
    answer: oneshot::Sender<Polled>,
}

impl PollSession {
    pub(crate) fn new(secret: u128, now_ms: u64, slot: Option<AddressSlot>, one_by_one: Option<OneByOne>) -> Self {
        let was_away = one_by_one.as_ref().is_some_and(|client| client.was_away);
        PollSession {
            secret,
            outbox: Outbox::default(),
            given: 0,
            position: 0,
            acknowledges: false,
            polls: Vec::new(),
            posts: VecDeque::new(),
            last_poll_ended_ms: now_ms,
            one_by_one,
            lost: was_away.then_some(Lost::WhileAway),
            _slot: slot,
        }
    }

    /// Compares in constant time.
    pub(crate) fn admits(&self, secret: u128) -> bool {
        let difference = self.secret ^ secret;
        std::hint::black_box(difference) == 0
    }

    /// What waits for a poll, beside what may have to be given again.
    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Whether what waits has to wait for the client to ask.
    pub(crate) fn is_held_up(&self) -> bool {
        self.polls.is_empty() || self.given > 0
    }

    /// Takes the messages of a request.
    pub(crate) fn post(&mut self, messages: Vec<Incoming<'static>>, answer: oneshot::Sender<bool>) {
        self.posts.push_back((messages.into_iter(), answer));
    }

    /// The next of them to be handled. Requests all of whose messages were are answered.
    pub(crate) fn next_posted(&mut self) -> Option<Incoming<'static>> {
        while let Some((messages, _)) = self.posts.front_mut() {
            if let Some(message) = messages.next() {
                return Some(message);
            }
            if let Some((_, answer)) = self.posts.pop_front() {
                // The one who asked may have gone.
                let _ = answer.send(true);
            }
        }
        self.posts = VecDeque::new();
        None
    }

    /// The bytes and messages that the client may not have.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.outbox.waiting()
    }

    /// Adds a poll of a client that has so many messages: it is answered by the end of its window.
    pub(crate) fn wait(&mut self, answer: oneshot::Sender<Polled>, position: Option<u64>, window_ms: u64, now_ms: u64) {
        if let Some(position) = position {
            self.acknowledge(position);
        }
        if self.polls.len() >= POLLS_MAX {
            let oldest = self.polls.remove(0);
            let _ = oldest.answer.send(Polled::Nothing);
        }
        self.polls.push(Waiting { until_ms: now_ms.saturating_add(window_ms), answer });
    }

    /// Forgets what the client has. What it has not is given again.
    fn acknowledge(&mut self, position: u64) {
        let has = position.checked_sub(self.position).filter(|&has| has <= self.given as u64);
        // An older token than one of before says nothing: it is kept for all polls. So does the first one of a session.
        self.acknowledges = has.is_some() && position > 0;
        let has = has.map_or(self.given, |has| has as usize);
        self.outbox.release(has);
        self.position += has as u64;
        self.given = 0;
    }

    /// Whether a poll and something for it are there.
    pub(crate) fn can_answer(&self) -> bool {
        !self.is_held_up() && (self.lost.is_some() || self.outbox.waiting().1 > 0)
    }

    /// Gives all messages to the newest poll that is still there. An older one runs to the end of its window: if it were
    /// answered, two pollers would chase each other. What comes behind an answer waits until a poll tells whether that has
    /// arrived.
    pub(crate) fn answer_waiting(&mut self, now_ms: u64, outboxes: &Outboxes) {
        if self.one_by_one.is_some() {
            return self.answer_each_with_one(now_ms, outboxes);
        }
        while self.given == 0 && !self.polls.is_empty() {
            let messages = self.outbox.messages();
            let given = messages.len();
            if given == 0 {
                return;
            }
            // The client may have gone in the meantime: then nothing is lost.
            let Some(newest) = self.polls.pop() else { return };
            let share = outboxes.answer(messages.iter().map(bytes::Bytes::len).sum());
            if newest.answer.send(Polled::Messages(messages, self.position + given as u64, share)).is_err() {
                continue;
            }
            self.last_poll_ended_ms = now_ms;
            if self.acknowledges {
                self.outbox.hold();
                self.given = given;
            } else {
                self.outbox.clear();
                self.position += given as u64;
            }
        }
    }

    fn answer_each_with_one(&mut self, now_ms: u64, outboxes: &Outboxes) {
        while !self.polls.is_empty() {
            let first = match self.lost {
                Some(lost) => Err(lost),
                None => match self.outbox.first() {
                    Some(First::Message(message)) => Ok(message),
                    Some(First::Gap) => Err(Lost::ByPolicy),
                    None => return,
                },
            };
            let answer = || match &first {
                Ok(message) => Polled::Messages(vec![message.clone()], 0, outboxes.answer(message.len())),
                Err(lost) => Polled::Lost(*lost),
            };
            let answers = self.polls.drain(..).map(|poll| poll.answer.send(answer()));
            let answered = answers.filter(Result::is_ok).count();
            // Those whose client has gone have taken nothing.
            if answered > 0 {
                self.last_poll_ended_ms = now_ms;
                if self.lost.take().is_none() {
                    self.outbox.pop();
                }
            }
        }
    }

    /// Gives up what waits for a client that can be told of it by its next poll, and so many messages in all: whether this is
    /// one.
    pub(crate) fn lose(&mut self, messages: usize) -> bool {
        let can_be_told = self.one_by_one.is_some();
        if can_be_told {
            self.outbox.clear();
            let before = if let Some(Lost::Overflow(before)) = self.lost { before } else { 0 };
            self.lost = Some(Lost::Overflow(before + messages as u64));
        }
        can_be_told
    }

    /// When the next window ends.
    pub(crate) fn window_ends_ms(&self) -> Option<u64> {
        self.polls.iter().map(|poll| poll.until_ms).min()
    }

    /// Answers the polls whose windows have ended.
    pub(crate) fn end_windows(&mut self, now_ms: u64) {
        for poll in self.polls.extract_if(.., |poll| poll.until_ms <= now_ms) {
            let _ = poll.answer.send(Polled::Nothing);
            self.last_poll_ended_ms = now_ms;
        }
    }

    /// When the session was last polled: now, while a poll waits whose client is there.
    pub(crate) fn last_polled_ms(&self, now_ms: u64) -> u64 {
        if self.polls.iter().any(|poll| !poll.answer.is_closed()) { now_ms } else { self.last_poll_ended_ms }
    }

    /// Gives up what waits.
    pub(crate) fn cut(&mut self) {
        self.outbox.clear();
    }

    /// Answers every poll.
    pub(crate) fn close(&mut self, now_ms: u64, outboxes: &Outboxes) {
        self.answer_waiting(now_ms, outboxes);
        for poll in self.polls.drain(..) {
            let _ = poll.answer.send(Polled::Nothing);
        }
    }
}
