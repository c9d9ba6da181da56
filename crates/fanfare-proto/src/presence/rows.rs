//! What a node has of the others in one topic, and what they are told of this one.
//!
//! Each node that somebody tracks something on has a *row*: a version, and who is in it. Only that node changes it, so that versions are
//! totally ordered, merging is "the higher version wins", and nobody has to remember who is gone. A row travels in three ways:
//!
//! - **Deltas** say how it has changed since a version, at most one in [`DELTA_INTERVAL_MS`]. They count for those that have
//!   that version, and tell all others that they miss something: those ask for the row.
//! - **Answers** have all of it. Who becomes interested in a topic asks everybody; what is not answered by then is asked for again.
//! - **Digests** say what it should be, a few seconds after its last change and every five minutes, and heal what was lost.
//!
//! What is received is merged into a [`TopicPresence`], and comes back as the [`Diff`] that clients are to be told. What is to be sent is taken
//! by [`Rows::take_tells`]. Time is an argument; call [`Rows::act`] at [`Rows::due_ms`], and after changes.

mod own;
mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::own::Own;
use self::row::Row;
use super::{Answer, Ask, Body, Change, Diff, Digest, TopicPresence};
use crate::envelope::Incarnation;

/// A node writes no more than one delta of a topic in this time.
const DELTA_INTERVAL_MS: u64 = 50;

/// The same where only numbers are told.
const COUNT_INTERVAL_MS: u64 = 1_000;

/// How long after its last change a row's digest is told.
const DIGEST_AFTER_MS: u64 = 5_000;

/// And then again and again, this and up to half as much apart.
const DIGEST_EVERY_MS: u64 = 240_000;

/// Somebody of whom nothing was heard for this long is asked: more than two digests would have to be lost.
const UNHEARD_MS: u64 = 800_000;

/// How long the version of a row in which nobody is is remembered, so that what was on its way does not bring them back.
const EMPTY_KEPT_MS: u64 = 60_000;

/// A question is repeated after this time, and then after twice as much, up to [`ASK_AGAIN_DOUBLED_MAX`] times.
const ASK_AGAIN_MS: u64 = 500;
const ASK_AGAIN_DOUBLED_MAX: u32 = 6;

/// How long answers to a question for all rows are waited for: in any case, and where it is not known how many are to come, after the last one.
const ANSWERS_MS: u64 = 250;
const SILENCE_MS: u64 = 50;

/// An answer or a delta has about this many bytes at most; what is more comes in parts. What is said of one tracking comes on top, so that
/// a broker that carries 64 KiB carries all of them.
const PART_SIZE_MAX: usize = 32 * 1024;

/// A question says of as many rows what is known of them.
const KNOWN_MAX: usize = 1_024;

/// This node: who it is, and what it counts.
#[derive(Debug)]
pub struct Node {
    incarnation: Incarnation,
    numbers: AtomicU64,
}

impl Node {
    /// A node that has counted nothing.
    pub fn new(incarnation: Incarnation) -> Self {
        Node { incarnation, numbers: AtomicU64::new(0) }
    }

    /// Who it is.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// A question to another node for the digests of all topics, to be sent without a topic.
    pub fn ask_for_digests(&self) -> Body {
        Body::Ask(Ask { number: self.next(), known: Vec::new() })
    }

    /// What a node says of a topic of which it has nothing.
    pub fn nothing(&self, question: &Ask) -> Body {
        let row = Change::Members { joined: Vec::new(), left: Vec::new() };
        Body::Answer(Answer { number: question.number, version: self.last(), part: 0, parts: 1, row })
    }

    /// The next version of some row, or number of a question.
    fn next(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn last(&self) -> u64 {
        self.numbers.load(Ordering::Relaxed)
    }
}

/// Something to be sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Tell {
    /// To all that are interested in the topic.
    Everyone(Body),
    /// To one node.
    One(Incarnation, Body),
}

/// The rows of one topic.
pub struct Rows {
    node: Arc<Node>,
    counts_only: bool,
    rows: BTreeMap<Incarnation, Row>,
    own: Own,
    asked: Option<Asked>,
    /// Answers to questions with lower numbers were for another life of this.
    since: u64,
    tells: Vec<Tell>,
}

/// A question to everybody.
#[derive(Debug)]
struct Asked {
    number: u64,
    asked_ms: u64,
    expected: Expected,
    answered: BTreeSet<Incarnation>,
    answered_ms: u64,
    /// Nothing more is waited for.
    is_over: bool,
}

/// How many answers come, the node's own included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The broker has not said yet.
    Unknown,
    /// It does not know.
    Any,
    Number(u64),
}

impl Rows {
    /// Of others nothing is known yet. With `counts_only` rows are numbers.
    pub fn new(node: Arc<Node>, counts_only: bool) -> Self {
        let since = node.next();
        Rows { node, counts_only, rows: BTreeMap::new(), own: Own::default(), asked: None, since, tells: Vec::new() }
    }

    /// This node's own trackings have changed. Not needed where only their number is told.
    pub fn changed(&mut self, diff: &Diff) {
        if !self.counts_only {
            self.own.changed(diff);
        }
    }

    /// Asks everybody for their rows; whoever waits for them looks at [`is_complete`](Self::is_complete). Returns the question's number.
    pub fn ask(&mut self, now_ms: u64) -> u64 {
        let number = self.node.next();
        let known = self.rows.iter().filter(|(_, row)| row.version() > 0).take(KNOWN_MAX);
        let known = known.map(|(node, row)| (*node, row.version())).collect();
        self.asked = Some(Asked {
            number,
            asked_ms: now_ms,
            expected: Expected::Unknown,
            answered: BTreeSet::new(),
            answered_ms: now_ms,
            is_over: false,
        });
        self.tells.push(Tell::Everyone(Body::Ask(Ask { number, known })));
        number
    }

    /// Whether it has ever asked.
    pub fn has_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// The broker has given a question to as many nodes, if it knows.
    pub fn receivers(&mut self, number: u64, nodes: Option<u64>) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.number == number) {
            asked.expected = nodes.map_or(Expected::Any, Expected::Number);
        }
    }

    /// A question did not reach the broker, so that no answer comes.
    pub fn not_asked(&mut self, number: u64) {
        if let Some(asked) = self.asked.as_mut().filter(|asked| asked.number == number) {
            asked.is_over = true;
        }
    }

    /// Whether all have answered of whom that can be expected.
    pub fn is_complete(&self, now_ms: u64) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.is_over || now_ms >= asked.due_ms() || asked.has_all())
    }

    /// Something has come of a node. `is_alive` says whether its members are to be shown.
    pub fn take<Id: Copy + Ord>(
        &mut self,
        present: &mut TopicPresence<Id>,
        origin: Incarnation,
        body: Body,
        is_alive: bool,
        now_ms: u64,
    ) -> Diff {
        if origin == self.node.incarnation {
            if let (Body::Ask(ask), Some(asked)) = (&body, &mut self.asked)
                && ask.number == asked.number
            {
                asked.answered.insert(origin);
            }
            return Diff::default();
        }
        if let Body::Ask(ask) = body {
            self.answer(present, origin, &ask, now_ms);
            return Diff::default();
        }
        let answers = body.answers();
        if answers.is_some_and(|number| number < self.since) {
            return Diff::default();
        }
        let row = self.rows.entry(origin).or_default();
        row.heard(now_ms);
        let mut diff = Diff::default();
        let is_current = match body {
            Body::Delta(delta) => row.take_delta(delta, present, &mut diff),
            Body::Answer(answer) => row.take_answer(answer, present, &mut diff),
            Body::Digest(digest) => row.take_digest(digest, self.counts_only),
            Body::Ask(_) => false,
        };
        if is_current && is_alive {
            row.show(present, &mut diff);
        }
        if let Some(asked) = self.asked.as_mut().filter(|asked| answers == Some(asked.number) && row.is_whole()) {
            asked.answered.insert(origin);
            asked.answered_ms = now_ms;
        }
        self.ask_again(origin, now_ms);
        diff
    }

    /// A node's members are shown no more, until something is heard of it that confirms them.
    pub fn hide<Id: Copy + Ord>(&mut self, present: &mut TopicPresence<Id>, node: Incarnation) -> Diff {
        let mut diff = Diff::default();
        if let Some(row) = self.rows.get_mut(&node) {
            row.hide(present, &mut diff);
        }
        diff
    }

    /// Nothing of a node is kept.
    pub fn drop_row<Id: Copy + Ord>(&mut self, present: &mut TopicPresence<Id>, node: Incarnation) -> Diff {
        let diff = self.hide(present, node);
        self.rows.remove(&node);
        diff
    }

    /// Others want to know which row they should have.
    pub fn tell_digest(&mut self, now_ms: u64) {
        self.own.tell_digest(now_ms);
    }

    /// Does what is due.
    pub fn act<Id: Copy + Ord>(&mut self, present: &TopicPresence<Id>, now_ms: u64) {
        if self.own.is_due(present, self.counts_only, now_ms) {
            self.tell_own(present, now_ms);
        }
        if let Some((version, hash)) = self.own.digest(present, self.counts_only, now_ms) {
            self.tells.push(Tell::Everyone(Body::Digest(Digest { number: 0, version, hash })));
        }
        if let Some(asked) = &mut self.asked
            && !asked.is_over
            && (now_ms >= asked.due_ms() || asked.has_all())
        {
            asked.is_over = true;
            // Who has not answered may be there no more, or the answer was lost.
            for (node, row) in &mut self.rows {
                row.doubt_unless(asked.answered.contains(node) || row.heard_since(asked.asked_ms));
            }
        }
        self.rows.retain(|_, row| !row.is_over(now_ms));
        let rows: Vec<Incarnation> = self.rows.keys().copied().collect();
        for node in rows {
            self.ask_again(node, now_ms);
        }
    }

    /// When [`act`](Self::act) has something to do.
    pub fn due_ms<Id: Copy + Ord>(&self, present: &TopicPresence<Id>) -> Option<u64> {
        let own = self.own.due_ms(present, self.counts_only);
        let asked = self.asked.as_ref().filter(|asked| !asked.is_over).map(Asked::due_ms);
        self.rows.values().map(Row::due_ms).chain(own).chain(asked).min()
    }

    /// What is to be sent, in order.
    pub fn take_tells(&mut self) -> Vec<Tell> {
        std::mem::take(&mut self.tells)
    }

    /// The version that this node has of another's row; 0 if it has none.
    pub fn version_of(&self, node: Incarnation) -> u64 {
        self.rows.get(&node).map_or(0, Row::version)
    }

    /// The nodes of which something is known, hidden ones included.
    pub fn nodes(&self) -> impl Iterator<Item = Incarnation> {
        self.rows.keys().copied()
    }

    fn tell_own<Id: Copy + Ord>(&mut self, present: &TopicPresence<Id>, now_ms: u64) {
        let deltas = self.own.tell(present, self.counts_only, || self.node.next(), now_ms);
        self.tells.extend(deltas.into_iter().map(|delta| Tell::Everyone(Body::Delta(delta))));
    }

    /// What has not been told is told first, so that the next delta goes on from the answer.
    fn answer<Id: Copy + Ord>(&mut self, present: &TopicPresence<Id>, to: Incarnation, ask: &Ask, now_ms: u64) {
        self.tell_own(present, now_ms);
        let known = ask.known.iter().find(|(node, _)| *node == self.node.incarnation).map(|(_, version)| *version);
        let answers = self.own.answers(present, self.counts_only, ask.number, known, self.node.last());
        self.tells.extend(answers.into_iter().map(|answer| Tell::One(to, answer)));
    }

    fn ask_again(&mut self, node: Incarnation, now_ms: u64) {
        if let Some(row) = self.rows.get_mut(&node)
            && row.asks(now_ms)
        {
            let ask = Ask { number: self.node.next(), known: vec![(node, row.version())] };
            self.tells.push(Tell::One(node, Body::Ask(ask)));
        }
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rows({} others)", self.rows.len())
    }
}

impl Asked {
    fn has_all(&self) -> bool {
        matches!(self.expected, Expected::Number(nodes) if self.answered.len() as u64 >= nodes)
    }

    /// When no more answers are waited for.
    fn due_ms(&self) -> u64 {
        let in_any_case = self.asked_ms + ANSWERS_MS;
        if self.expected == Expected::Any { in_any_case.min(self.answered_ms + SILENCE_MS) } else { in_any_case }
    }
}

impl Body {
    /// The number of the question that it answers.
    fn answers(&self) -> Option<u64> {
        match self {
            Body::Answer(answer) => Some(answer.number),
            Body::Digest(digest) => Some(digest.number).filter(|number| *number > 0),
            Body::Delta(_) | Body::Ask(_) => None,
        }
    }
}

/// A number for who is in a row, whatever their order: FNV-1a of each, added up.
fn hash<'a>(trackings: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    let of_one = |(key, phx_ref): (&str, &str)| {
        let bytes = key.bytes().chain([0xff]).chain(phx_ref.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    trackings.map(of_one).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests;
