//! What one node asks another, and the answer: for clients whose requests come to any node, while their session lives on one.
//!
//! A question goes to the other node's inbox, and so does its answer. Whoever does not wait any more takes the question back.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use fanfare_proto::envelope::{Content, Incarnation};
use fanfare_proto::parcel::{PARTS_MAX, Parcel, Part};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::{Endpoint, WeakEndpoint};
use crate::broker::Undone;
use crate::presence;

/// As many questions of other nodes are answered at a time; more are dropped, and the askers told by their clocks.
const ANSWERING_MAX: usize = 65_536;

/// A question of which not all parts came is dropped after this time.
const PARTS_MAX_MS: u64 = 30_000;

/// What has been asked, and is being answered.
#[derive(Default)]
pub(super) struct Elsewhere {
    asked: Mutex<Asked>,
    answering: Mutex<BTreeMap<(Incarnation, u64), Answering>>,
}

#[derive(Default)]
struct Asked {
    questions: BTreeMap<u64, Question>,
    last: u64,
}

struct Question {
    to: Incarnation,
    parcel: Parcel,
    answer: oneshot::Sender<Answered>,
}

enum Answering {
    /// Not all parts have come, since this time.
    Coming(Parcel, u64),
    Running(AbortHandle),
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    Answer(Bytes),
    /// There is no such node.
    Gone,
    /// The broker does not carry a question of more than so many bytes.
    TooLarge(usize),
    /// It could not be asked, or has not answered in time.
    Silent,
}

/// Takes the question back, unless it was answered.
struct Waiting<'a> {
    endpoint: &'a Endpoint,
    to: Incarnation,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let elsewhere = &self.endpoint.0.elsewhere;
        if elsewhere.asked.lock().questions.remove(&self.number).is_some() {
            self.endpoint.tell_one(self.to, Content::Request(Part::cancel(self.number).to_bytes()), |_| ());
        }
    }
}

impl Endpoint {
    /// Asks another node.
    pub(crate) async fn ask_node(&self, to: Incarnation, question: Bytes, patience: Duration) -> Answered {
        // Where this node has just started, the other may be there and not have been heard yet.
        if presence::is_lost(self, to) {
            return Answered::Gone;
        }
        let parts_size_max = self.part_size_max();
        if question.len() > parts_size_max * PARTS_MAX {
            return Answered::TooLarge(parts_size_max * PARTS_MAX);
        }
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut asked = self.0.elsewhere.asked.lock();
            asked.last += 1;
            let number = asked.last;
            asked.questions.insert(number, Question { to, parcel: Parcel::default(), answer });
            number
        };
        let waiting = Waiting { endpoint: self, to, number };
        for part in Part::of(number, question, parts_size_max) {
            let endpoint = self.downgrade();
            self.tell_one(to, Content::Request(part.to_bytes()), move |told| {
                if let (Err(undone), Some(endpoint)) = (told, endpoint.upgrade()) {
                    let answered = if undone == Undone::Gone { Answered::Gone } else { Answered::Silent };
                    endpoint.answered(number, |_| Some(answered));
                }
            });
        }
        let answered = tokio::time::timeout(patience, answered).await;
        drop(waiting);
        answered.ok().and_then(Result::ok).unwrap_or(Answered::Silent)
    }

    /// A question of another node, or a part of one.
    pub(super) fn is_asked(&self, origin: Incarnation, part: Part) {
        let id = (origin, part.number);
        let mut answering = self.0.elsewhere.answering.lock();
        if part.is_cancel() {
            if let Some(Answering::Running(task)) = answering.remove(&id) {
                task.abort();
            }
            return;
        }
        let (now_ms, is_full) = (self.clock().now_ms(), answering.len() >= ANSWERING_MAX);
        let question = match answering.get_mut(&id) {
            Some(Answering::Running(_)) => return,
            Some(Answering::Coming(parcel, _)) => parcel.put(part),
            None if is_full => return,
            None => {
                let mut parcel = Parcel::default();
                let whole = parcel.put(part);
                answering.insert(id, Answering::Coming(parcel, now_ms));
                whole
            }
        };
        if let Some(question) = question {
            let task = self.runtime().spawn(answer(self.downgrade(), id, question));
            answering.insert(id, Answering::Running(task.abort_handle()));
        }
    }

    /// An answer of another node, or a part of one.
    pub(super) fn is_answered(&self, origin: Incarnation, part: Part) {
        self.answered(part.number, |question| {
            if question.to == origin { question.parcel.put(part).map(Answered::Answer) } else { None }
        });
    }

    /// Forgets questions of which parts were lost.
    pub(super) fn forget_lost_questions(&self) {
        let now_ms = self.clock().now_ms();
        self.0.elsewhere.answering.lock().retain(|_, answering| match answering {
            Answering::Coming(_, since_ms) => now_ms - *since_ms < PARTS_MAX_MS,
            Answering::Running(_) => true,
        });
    }

    fn answered(&self, number: u64, answer: impl FnOnce(&mut Question) -> Option<Answered>) {
        let mut asked = self.0.elsewhere.asked.lock();
        let Some(answered) = asked.questions.get_mut(&number).and_then(answer) else { return };
        if let Some(question) = asked.questions.remove(&number) {
            // Nobody may wait for it any more.
            let _ = question.answer.send(answered);
        }
    }

    /// Whether an answer to another node can be carried.
    pub(crate) fn can_answer(&self, size: usize) -> bool {
        size <= self.part_size_max() * PARTS_MAX
    }

    fn part_size_max(&self) -> usize {
        self.0.cluster.as_ref().map_or(usize::MAX / PARTS_MAX, |cluster| cluster.part_size_max())
    }

    fn tell_one(&self, to: Incarnation, content: Content<'_>, done: impl FnOnce(Result<(), Undone>) + Send + 'static) {
        if let Some(cluster) = &self.0.cluster {
            cluster.tell_one(to, content, Box::new(done));
        }
    }
}

async fn answer(endpoint: WeakEndpoint, id: (Incarnation, u64), question: Bytes) {
    let Some(endpoint) = endpoint.upgrade() else { return };
    let answer = endpoint.answer_for_another_node(&question).await;
    endpoint.0.elsewhere.answering.lock().remove(&id);
    for part in Part::of(id.1, answer, endpoint.part_size_max()) {
        // Whoever asked has a clock.
        endpoint.tell_one(id.0, Content::Response(part.to_bytes()), |_| ());
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Elsewhere({} asked)", self.asked.lock().questions.len())
    }
}
