//! A thread of the generator: it waits for the kernel and works off what has happened, for all its connections alike.
//!
//! There is no task and no buffer for a connection: the thread reads into one buffer, walks the frames where they are, and
//! finds the stamp where the last one was.

mod broadcast;
mod failure;
mod lifecycle;
mod presence;
mod publish;
mod receive;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fanfare_proto::websocket::decoder::{Decoder, Role as Side, Scratch};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::plan::{Life, Plan, Traffic};
use crate::protocol::Outgoing;
use crate::shared::{Phase, Shared};
use crate::stream::Stream;
use crate::tally::{Receiver, Sums, Tally};

pub(crate) use broadcast::Finish;
use presence::Roll;
use publish::{Alarm, Pace, Publisher};

/// The token that wakes a worker up.
pub(crate) const WAKE: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);

const BUFFER_SIZE: usize = 128 * 1024;

/// The longest wait, so that whatever is forgotten to be announced is noticed.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not connected: not yet, or not again.
    Away,
    /// Waits for TCP.
    Connecting,
    /// Waits for the answer to the handshake.
    Upgrading,
    /// Waits to be let into the room.
    Entering,
    Live,
    /// Waits for the confirmation that it has left.
    Leaving,
    /// Has sent a close frame and waits for the end.
    Closing,
}

struct Connection {
    stream: Option<Stream>,
    decoder: Decoder,
    state: State,
    /// Attempts since it was last in its room.
    tries: u8,
    /// The beginning of an answer to the handshake.
    answer: Vec<u8>,
    /// What the kernel has not taken yet.
    unsent: Vec<u8>,
}

/// Idle connections are to be cheap: this, and what the kernel has.
const _: () = assert!(size_of::<Connection>() <= 96);

impl Connection {
    fn new() -> Self {
        Self {
            stream: None,
            decoder: Decoder::new(Side::Client),
            state: State::Away,
            tries: 0,
            answer: Vec::new(),
            unsent: Vec::new(),
        }
    }
}

pub(crate) struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    /// The number of its first seat.
    first: usize,
    poll: Poll,
    alarm: Alarm,
    connections: Vec<Connection>,
    tally: Tally,
    /// Numbered one after the other.
    publishers: Vec<Publisher>,
    next_stall_check: u64,
    /// Publishers whose messages have arrived; kept for its memory.
    ready_publishers: Vec<usize>,
    pace: Option<Pace>,
    phase: Phase,
    round: u64,
    buffer: Vec<u8>,
    scratch: Scratch,
    /// When the last bytes were read, so that not everything asks the clock.
    now: u64,
    outgoing: Outgoing,
    told: Vec<receive::Told>,
    /// When something is due for a connection: to be dialled if it is away, to be dropped if it is live.
    timers: BinaryHeap<Reverse<(u64, u32)>>,
    /// Seats that have been dialled for the first time.
    begun: usize,
    in_flight: usize,
    dialled: u64,
    next_dial: u64,
    /// 0 for a protocol without heartbeats.
    next_heartbeat: u64,
    heartbeat_at: usize,
    roll: Option<Roll>,
    random: u64,
    pub(crate) finishes: Vec<Finish>,
}

impl<'a> Worker<'a> {
    /// A worker for these seats.
    ///
    /// # Errors
    /// The kernel has no timer to give.
    pub(crate) fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        poll: Poll,
        seats: std::ops::Range<usize>,
    ) -> Result<Self, String> {
        let alarm = Alarm::new().map_err(|error| format!("cannot make a timer: {error}"))?;
        poll.registry()
            .register(&mut SourceFd(&alarm.descriptor()), ALARM, Interest::READABLE)
            .map_err(|error| format!("cannot wait for a timer: {error}"))?;
        let mut outgoing = Outgoing::new(0x9e37_79b9 ^ seats.start as u32);
        plan.protocol.heartbeat(&mut outgoing);
        let next_heartbeat = u64::from(!std::mem::take(&mut outgoing.bytes).is_empty());
        let publishers = seats.clone().filter(|seat| plan.seats[*seat].role.publishes());
        Ok(Self {
            plan,
            shared,
            first: seats.start,
            poll,
            alarm,
            tally: Tally::new(plan, seats.len()),
            publishers: publishers
                .map(|seat| Publisher::new((seat - seats.start) as u32, plan.seats[seat].publisher))
                .collect(),
            next_stall_check: 0,
            ready_publishers: Vec::new(),
            pace: None,
            phase: Phase::Connect,
            round: 0,
            buffer: vec![0; BUFFER_SIZE],
            scratch: Scratch::default(),
            now: 0,
            outgoing,
            told: Vec::new(),
            timers: BinaryHeap::new(),
            begun: 0,
            in_flight: 0,
            dialled: 0,
            next_dial: 0,
            next_heartbeat,
            heartbeat_at: 0,
            roll: matches!(plan.life, Life::Presence(_)).then(|| Roll::new(plan.seats.len(), seats.len())),
            random: 0x2545_f491_4f6c_dd1d ^ seats.start as u64,
            finishes: Vec::new(),
            connections: seats.map(|_| Connection::new()).collect(),
        })
    }

    /// Works until the run stops.
    ///
    /// # Errors
    /// The kernel does not let it wait.
    pub(crate) fn run(mut self) -> Result<(Sums, Vec<Finish>), String> {
        let mut events = Events::with_capacity(1024);
        let mut woken = false;
        loop {
            let phase = self.shared.phase();
            let now = self.shared.now();
            self.now = now;
            if phase != self.phase {
                self.begin_phase(phase, now);
            }
            if phase == Phase::Stop {
                break;
            }
            self.follow_round(now);
            self.dial_next(now);
            self.fire_timers(now);
            self.beat(now);
            self.publish_due(now);
            self.set_alarm();
            match self.poll.poll(&mut events, Some(self.patience())) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(format!("cannot wait for the kernel: {error}"));
                }
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKE => woken = true,
                    ALARM => {}
                    Token(index) => {
                        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                        self.ready(index, event.is_writable(), readable, event.is_read_closed());
                        // Messages are not to wait until all that has come in is read.
                        self.publish_due(self.now);
                    }
                }
            }
            self.hand_over_counts();
            self.refill_stalled(std::mem::take(&mut woken));
        }
        for connection in &mut self.connections {
            // Nothing is to be left behind in the kernel when the next run begins.
            connection.stream.take().into_iter().for_each(Stream::reset);
        }
        Ok((self.tally.sums, self.finishes))
    }

    fn begin_phase(&mut self, phase: Phase, now: u64) {
        // What was due before belongs to the phase that ends.
        self.publish_due(now);
        self.phase = phase;
        self.pace = None;
        if phase == Phase::Measure {
            self.tally.forget_warm_up();
        }
        if !matches!(phase, Phase::WarmUp | Phase::Measure) {
            return;
        }
        match (self.plan.traffic, self.plan.life) {
            (Traffic::Rate(rate), _) => self.pace = Pace::new(now, rate, self.publishers.len()),
            (Traffic::Window(_), _) => (0..self.publishers.len()).for_each(|publisher| self.refill(publisher, now)),
            (Traffic::None, Life::Presence(rate)) => {
                let share = self.connections.len() as f64 / self.plan.seats.len() as f64;
                self.pace = Pace::new(now, rate * share / self.connections.len() as f64, self.connections.len());
            }
            (Traffic::None, _) => {}
        }
    }

    /// Adds what has arrived to what all can see, and sends what that allows.
    fn hand_over_counts(&mut self) {
        let counts = &self.shared.counts;
        if self.tally.arrived > 0 {
            counts.arrived.fetch_add(std::mem::take(&mut self.tally.arrived), Ordering::Relaxed);
            self.refill_touched();
        }
        if self.tally.fresh > 0 {
            counts.delivered.fetch_add(std::mem::take(&mut self.tally.fresh), Ordering::Relaxed);
            self.shared.last_delivery.fetch_max(self.now, Ordering::Relaxed);
        }
    }

    fn receiver(&self, index: usize) -> Receiver {
        let seat = self.plan.seats[self.first + index];
        let unsteady = self.first + index < self.plan.unsteady() as usize;
        Receiver { index: index as u32, topic: seat.topic, role: seat.role, unsteady }
    }

    fn topic(&self, index: usize) -> &'a str {
        &self.plan.topics[self.plan.seats[self.first + index].topic as usize]
    }

    /// How long to wait for the kernel.
    fn patience(&self) -> Duration {
        let next = [
            self.timers.peek().map(|Reverse((at, _))| *at),
            (self.next_heartbeat > 0).then_some(self.next_heartbeat),
            (self.next_dial > 0 && self.may_dial()).then_some(self.next_dial),
        ];
        let now = self.shared.now();
        let next = next.into_iter().flatten().min().map(|at| Duration::from_nanos(at.saturating_sub(now)));
        next.map_or(PATIENCE, |wait| wait.min(PATIENCE))
    }

    /// A number below a limit, for what is not to happen everywhere at once.
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit.max(1)
    }
}
