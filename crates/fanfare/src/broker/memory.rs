//! A broker within the process, for any number of nodes: for tests of what nodes do with each other, and for trying a cluster
//! out where no broker is installed.
//!
//! Each node has one link. What it asks goes up, and answers and messages come down, each in its order; reads and cells have lanes of
//! their own, as the large answers of a real broker do. Usually everything is carried out at once, by whichever thread asks first: the
//! others leave theirs in the queue, so that nothing is told out of order and no lock is held while a node is told.
//!
//! A test may take over: then nothing moves but in [`step`](MemoryBroker::step), and `faults` says what goes wrong. `link` is
//! what a node asks, `logs` what a server keeps.

#[cfg(feature = "testing")]
mod faults;
mod link;
mod logs;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::position::Epoch;
use parking_lot::Mutex;

#[cfg(feature = "testing")]
pub use faults::Misbehaviour;
use link::Link;
use logs::Server;

use super::{Deliver, Incarnation, LinkId, LinkState, Parts, Stamp, Undone};
use crate::clock::Clock;
use crate::error::Error;

/// The only link of a node.
const LINK: LinkId = LinkId(0);

/// An answer is waited for so long.
const ANSWER_MAX_MS: u64 = 2_000;

/// A broker in memory. Cheap to clone; nodes that share one are one cluster.
#[derive(Clone)]
pub struct MemoryBroker(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    clock: Clock,
    /// Nothing moves by itself.
    is_stepped: bool,
}

struct State {
    /// More than one while each takes itself for the only one.
    servers: Vec<Server>,
    nodes: BTreeMap<Incarnation, Node>,
    dice: Dice,
    now_ms: u64,
    next_serial: u64,
    /// A thread tells nodes, and will tell them all that comes meanwhile.
    is_pumping: bool,
    #[cfg(feature = "testing")]
    faults: faults::Faults,
}

/// A node as the broker sees it.
struct Node {
    deliver: Arc<dyn Deliver>,
    /// The server that it talks to.
    server: usize,
    is_up: bool,
    /// Ended or killed: nothing is told it any more.
    is_gone: bool,
    wanted: BTreeSet<Arc<str>>,
    /// In force at the server.
    attached: BTreeSet<Arc<str>>,
    up: [Queue<Request>; 2],
    down: [Queue<Event>; 2],
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    #[cfg(feature = "testing")]
    trouble: faults::Trouble,
}

/// What is on its way in one direction, by the time when it arrives.
struct Queue<T>(VecDeque<(u64, T)>);

/// Requests and answers of one lane keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ordered,
    Bulk,
}

struct Request {
    run: Box<dyn FnOnce(&mut State) -> Event + Send>,
}

enum Event {
    Answer(u64, Box<dyn FnOnce() + Send>),
    Live { topic: Arc<str>, envelope: Bytes, stamp: Option<Stamp>, by: Incarnation },
    Inbox(Bytes),
    Link(LinkState),
}

/// A command without an answer.
struct Waiting {
    deadline_ms: u64,
    size: usize,
    /// It was sent by a link that has broken, and that is about to be told.
    is_lost: bool,
    fail: Box<dyn FnOnce(Undone) + Send>,
}

/// A generator that a seed makes repeatable.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn epoch(&mut self) -> Epoch {
        loop {
            if let Some(epoch) = Epoch::new(self.next()) {
                return epoch;
            }
        }
    }

    #[cfg(feature = "testing")]
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

impl MemoryBroker {
    /// A broker that has nothing yet.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Self, Error> {
        let seed =
            getrandom::u64().map_err(|error| Error::failed(format!("the system gives no random bytes: {error}")))?;
        Ok(MemoryBroker::with(seed, Clock::Real(std::time::Instant::now()), false))
    }

    fn with(seed: u64, clock: Clock, is_stepped: bool) -> Self {
        let mut dice = Dice(seed);
        let state = State {
            servers: vec![Server::new(dice.next())],
            nodes: BTreeMap::new(),
            dice,
            now_ms: 0,
            next_serial: 0,
            is_pumping: false,
            #[cfg(feature = "testing")]
            faults: faults::Faults::default(),
        };
        MemoryBroker(Arc::new(Inner { state: Mutex::new(state), clock, is_stepped }))
    }

    /// Connects a node.
    pub(crate) fn open(&self, incarnation: Incarnation, deliver: Arc<dyn Deliver>) -> Parts {
        let mut node = Node {
            deliver,
            server: 0,
            is_up: true,
            is_gone: false,
            wanted: BTreeSet::new(),
            attached: BTreeSet::new(),
            up: [Queue::default(), Queue::default()],
            down: [Queue::default(), Queue::default()],
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            #[cfg(feature = "testing")]
            trouble: faults::Trouble::default(),
        };
        node.down[Way::Ordered as usize].put(0, Event::Link(LinkState::Up { server: "memory".into() }));
        self.0.state.lock().nodes.insert(incarnation, node);
        self.0.pump_if_free();
        let link = Arc::new(Link { broker: self.0.clone(), incarnation });
        Parts { transport: link.clone(), log: Some(link.clone()), registers: Some(link) }
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("nodes", &self.0.state.lock().nodes.len()).finish_non_exhaustive()
    }
}

impl Inner {
    fn pump_if_free(&self) {
        if !self.is_stepped {
            self.pump();
        }
    }

    /// Carries out and tells all that is due, unless another thread does.
    fn pump(&self) {
        let mut state = self.state.lock();
        if state.is_pumping {
            return;
        }
        state.is_pumping = true;
        if !self.is_stepped {
            state.now_ms = self.clock.now_ms();
        }
        while let Some((deliver, event)) = state.next_event() {
            drop(state);
            tell(&*deliver, event);
            state = self.state.lock();
        }
        state.is_pumping = false;
    }
}

/// A deadline that has passed is told as well.
fn tell(deliver: &dyn Deliver, event: Event) {
    match event {
        Event::Answer(_, answer) => answer(),
        Event::Live { topic, envelope, stamp, .. } => deliver.live(&topic, envelope, stamp),
        Event::Inbox(envelope) => deliver.inbox(envelope),
        Event::Link(state) => deliver.link(LINK, state),
    }
}

impl State {
    /// What is to be told next, once all requests that came before it are carried out.
    fn next_event(&mut self) -> Option<(Arc<dyn Deliver>, Event)> {
        loop {
            let now_ms = self.now_ms;
            let asks = self.nodes.iter().filter_map(|(who, node)| Some((node.next_request_ms()?, *who)));
            let asks = asks.min().filter(|(due_ms, _)| *due_ms <= now_ms);
            let told = self.nodes.iter().filter_map(|(who, node)| Some((node.next_event_ms()?, *who)));
            let told = told.min().filter(|(due_ms, _)| *due_ms <= now_ms);
            let late = self.nodes.iter().find_map(|(who, node)| Some((*who, node.overdue(now_ms)?)));
            match (asks, told, late) {
                (Some((asked_ms, who)), told, _) if told.is_none_or(|(told_ms, _)| asked_ms <= told_ms) => {
                    self.carry_out(who);
                }
                (_, Some((_, who)), _) => {
                    let node = self.nodes.get_mut(&who)?;
                    let event = node.take_event();
                    if let Some(Event::Answer(serial, _)) = &event
                        && node.end_waiting(*serial).is_none()
                    {
                        // It has been told that there was none.
                        continue;
                    }
                    let deliver = node.deliver.clone();
                    if let Some(event) = event {
                        #[cfg(feature = "testing")]
                        let event = self.misbehaving(who, event);
                        return Some((deliver, event));
                    }
                }
                (_, None, Some((who, serial))) => {
                    let node = self.nodes.get_mut(&who)?;
                    let Some(waiting) = node.end_waiting(serial) else { continue };
                    let why = Undone::unknown("the broker in memory did not answer within 2 s");
                    return Some((node.deliver.clone(), Event::Answer(serial, Box::new(|| (waiting.fail)(why)))));
                }
                (..) => return None,
            }
        }
    }

    fn carry_out(&mut self, who: Incarnation) {
        let Some((request, way)) = self.nodes.get_mut(&who).and_then(Node::take_request) else { return };
        let answer = (request.run)(self);
        self.send_down(who, way, answer);
    }

    /// Something for a node.
    fn send_down(&mut self, to: Incarnation, way: Way, event: Event) {
        let delay_ms = self.delay_ms();
        #[cfg(feature = "testing")]
        if self.is_lost(&event) {
            return;
        }
        let now_ms = self.now_ms;
        if let Some(node) = self.nodes.get_mut(&to).filter(|node| !node.is_gone) {
            node.down[way as usize].put(now_ms + delay_ms, event);
            #[cfg(feature = "testing")]
            if self.faults.is_reordered(&mut self.dice) {
                node.down[way as usize].swap_last();
            }
        }
    }

    /// Gives an envelope to all nodes that are attached to a topic at one server.
    fn fan_out(
        &mut self,
        by: Incarnation,
        server: usize,
        topic: &Arc<str>,
        envelope: &Bytes,
        stamp: Option<Stamp>,
    ) -> u64 {
        let reached = self.nodes.iter().filter(|(_, node)| node.server == server && node.attached.contains(topic));
        let reached: Vec<Incarnation> = reached.map(|(who, _)| *who).collect();
        for who in &reached {
            let event = Event::Live { topic: topic.clone(), envelope: envelope.clone(), stamp, by };
            self.send_down(*who, Way::Ordered, event);
        }
        reached.len() as u64
    }

    fn delay_ms(&mut self) -> u64 {
        #[cfg(feature = "testing")]
        return self.faults.delay_ms(&mut self.dice);
        #[cfg(not(feature = "testing"))]
        0
    }

    /// The epoch of a life or session that begins now.
    fn fresh(&mut self, _topic: &str, _server: usize) -> Epoch {
        #[cfg(feature = "testing")]
        if let Some(epoch) = self.misbehaving_epoch(_topic, _server) {
            return epoch;
        }
        self.dice.epoch()
    }

    /// The server of a node.
    fn server_of(&self, who: Incarnation) -> usize {
        self.nodes.get(&who).map_or(0, |node| node.server)
    }
}

impl Node {
    fn next_request_ms(&self) -> Option<u64> {
        let is_open = self.is_up && !self.is_gone;
        #[cfg(feature = "testing")]
        let is_open = is_open && !self.trouble.is_cut_up;
        self.up.iter().filter_map(Queue::next_ms).min().filter(|_| is_open)
    }

    fn next_event_ms(&self) -> Option<u64> {
        let is_open = !self.is_gone;
        #[cfg(feature = "testing")]
        let is_open = is_open && !self.trouble.is_cut_down && !self.trouble.is_stalled;
        self.down.iter().filter_map(Queue::next_ms).min().filter(|_| is_open)
    }

    fn take_request(&mut self) -> Option<(Request, Way)> {
        let way = Way::earlier(&self.up);
        self.up[way as usize].0.pop_front().map(|(_, request)| (request, way))
    }

    fn take_event(&mut self) -> Option<Event> {
        let way = Way::earlier(&self.down);
        self.down[way as usize].0.pop_front().map(|(_, event)| event)
    }

    fn overdue(&self, now_ms: u64) -> Option<u64> {
        #[cfg(feature = "testing")]
        if self.trouble.is_stalled {
            return None;
        }
        let mut waiting = self.waiting.iter().filter(|_| !self.is_gone);
        waiting.find(|(_, waiting)| waiting.deadline_ms <= now_ms).map(|(serial, _)| *serial)
    }

    fn end_waiting(&mut self, serial: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&serial)?;
        self.waiting_bytes -= waiting.size;
        Some(waiting)
    }
}

impl Way {
    fn earlier<T>(queues: &[Queue<T>; 2]) -> Way {
        match (queues[0].next_ms(), queues[1].next_ms()) {
            (Some(ordered_ms), Some(bulk_ms)) if bulk_ms < ordered_ms => Way::Bulk,
            (None, _) => Way::Bulk,
            _ => Way::Ordered,
        }
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue(VecDeque::new())
    }
}

impl<T> Queue<T> {
    fn next_ms(&self) -> Option<u64> {
        self.0.front().map(|(due_ms, _)| *due_ms)
    }

    fn put(&mut self, due_ms: u64, item: T) {
        let last_ms = self.0.back().map_or(0, |(due_ms, _)| *due_ms);
        self.0.push_back((due_ms.max(last_ms), item));
    }
}

impl State {
    /// A node's link breaks, and comes back at once unless something keeps it from that.
    #[cfg(feature = "testing")]
    fn lose_link(&mut self, who: Incarnation, why: &str) {
        let Some(node) = self.nodes.get_mut(&who).filter(|node| node.is_up && !node.is_gone) else { return };
        node.is_up = false;
        node.attached.clear();
        let now_ms = self.now_ms;
        for queue in &mut node.up {
            queue.0.clear();
        }
        // What it is told of an earlier loss it is still told.
        let is_of_loss = |event: &Event, waiting: &BTreeMap<u64, Waiting>| match event {
            Event::Answer(serial, _) => waiting.get(serial).is_some_and(|waiting| waiting.is_lost),
            Event::Link(LinkState::Down { .. }) => true,
            _ => false,
        };
        for queue in &mut node.down {
            queue.0.retain(|(_, event)| is_of_loss(event, &node.waiting));
        }
        let (lost, waiting) = std::mem::take(&mut node.waiting).into_iter().partition(|(_, waiting)| waiting.is_lost);
        node.waiting = lost;
        let waiting: BTreeMap<u64, Waiting> = waiting;
        node.waiting_bytes = 0;
        let unknown = Undone::unknown(format!("the link to the broker in memory broke before it answered: {why}"));
        let down = &mut node.down[Way::Ordered as usize];
        for (serial, waiting) in waiting {
            let (unknown, fail) = (unknown.clone(), waiting.fail);
            // Told whatever is known of it by then.
            let nothing = Waiting { deadline_ms: u64::MAX, size: 0, is_lost: true, fail: Box::new(|_| ()) };
            node.waiting.insert(serial, nothing);
            down.put(now_ms, Event::Answer(serial, Box::new(move || fail(unknown))));
        }
        down.put(now_ms, Event::Link(LinkState::Down { why: why.into() }));
        #[cfg(feature = "testing")]
        if node.trouble.is_kept_down {
            return;
        }
        self.bring_back(who);
    }

    fn bring_back(&mut self, who: Incarnation) {
        let delay_ms = self.delay_ms();
        let now_ms = self.now_ms;
        if let Some(node) = self.nodes.get_mut(&who).filter(|node| !node.is_up && !node.is_gone) {
            node.is_up = true;
            node.attached = node.wanted.clone();
            let up = Event::Link(LinkState::Up { server: "memory".into() });
            node.down[Way::Ordered as usize].put(now_ms + delay_ms, up);
        }
    }
}
