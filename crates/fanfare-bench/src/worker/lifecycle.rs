//! The life of a connection: dial, upgrade, enter, leave, close, and come back if the scenario wants it.

use std::cmp::Reverse;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use fanfare_proto::websocket::decoder::{Decoder, Role as Side};
use fanfare_proto::websocket::frame::Opcode;
use mio::{Interest, Token};

use super::failure::{Failure, Kind};
use super::{State, Worker};
use crate::args::Backoff;
use crate::handshake;
use crate::plan::Life;
use crate::shared::Phase;
use crate::stream::Stream;

/// Connections that may be on their way in at a time, over all threads. More would overflow the queue of a listener.
const IN_FLIGHT_MAX: usize = 256;

/// Attempts before a connection that is to stay is given up.
const TRIES_MAX: u8 = 5;

const MILLISECOND: u64 = 1_000_000;

/// Each connection says that it is alive once in this time, as phoenix.js does; the ticks spread them.
const HEARTBEAT: u64 = 30_000 * MILLISECOND;
const HEARTBEAT_TICK: u64 = 100 * MILLISECOND;

/// When phoenix.js tries again, in milliseconds, and then every five seconds.
const PHOENIX_BACKOFF: [u64; 9] = [10, 50, 100, 150, 200, 250, 500, 1_000, 2_000];

impl Worker<'_> {
    pub(super) fn may_dial(&self) -> bool {
        let wanted = self.shared.wanted.load(Ordering::Relaxed).saturating_sub(self.first);
        let in_flight_max = (IN_FLIGHT_MAX / self.plan.threads).max(1);
        self.begun < wanted.min(self.connections.len()) && self.in_flight < in_flight_max
    }

    /// Dials those that are wanted and have not been dialled yet.
    pub(super) fn dial_next(&mut self, now: u64) {
        while self.may_dial() && self.next_dial <= now {
            let index = self.begun;
            self.begun += 1;
            if let Some(rate) = self.plan.connect_rate {
                self.next_dial = self.next_dial.max(now) + (1e9 * self.plan.threads as f64 / rate) as u64;
            }
            self.dial(index);
        }
    }

    fn dial(&mut self, index: usize) {
        self.dialled += 1;
        let sources = &self.plan.sources;
        let source = sources.get(self.dialled as usize % sources.len().max(1));
        let source = source.map(|address| SocketAddr::new(*address, 0));
        let dialled = self.plan.dialer.dial(self.first + index, source).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(stream.tcp(), Token(index), interest)?;
            Ok(stream)
        });
        self.in_flight += 1;
        let connection = &mut self.connections[index];
        connection.decoder = Decoder::new(Side::Client);
        connection.state = State::Connecting;
        match dialled {
            Ok(stream) => connection.stream = Some(stream),
            Err(error) => self.ended(index, Failure::of(&error)),
        }
    }

    /// TCP is ready, or has failed.
    pub(super) fn connected(&mut self, index: usize) {
        let Some(stream) = &mut self.connections[index].stream else { return };
        let tcp = stream.tcp();
        match tcp.take_error().and_then(|error| error.map_or(Ok(()), Err)).and_then(|()| tcp.peer_addr()) {
            Err(error) if error.kind() == ErrorKind::NotConnected => return,
            Err(error) => return self.ended(index, Failure::of(&error)),
            Ok(_) => {}
        }
        let role = self.plan.seats[self.first + index].role;
        let path = self.plan.protocol.path(role, self.topic(index));
        handshake::request(&path, &self.plan.authority, &mut self.outgoing.bytes);
        self.connections[index].state = State::Upgrading;
        self.send(index);
    }

    /// The WebSocket is open.
    pub(super) fn enter(&mut self, index: usize) {
        let seat = self.plan.seats[self.first + index];
        let client = (self.first + index) as u32;
        self.shared.restart.opened(self.now);
        self.connections[index].state = State::Entering;
        self.tally.forget(index);
        self.forget_presence(index);
        let is_in = self.plan.protocol.enter(seat.role, self.topic(index), client, &mut self.outgoing);
        self.send(index);
        if is_in && self.connections[index].state == State::Entering {
            self.live(index);
        }
    }

    pub(super) fn live(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.state = State::Live;
        connection.tries = 0;
        self.in_flight -= 1;
        self.shared.live.fetch_add(1, Ordering::Relaxed);
        let now = self.shared.now();
        self.shared.last_entered.fetch_max(now, Ordering::Relaxed);
        self.shared.restart.entered(now);
        self.shared.counts.entered.fetch_add(1, Ordering::Relaxed);
        match self.plan.life {
            Life::Churn => self.leave_if_live(index),
            Life::Jitter { up, .. } if self.receiver(index).unsteady => self.drop_later(index, up),
            _ => {}
        }
    }

    /// Leaves the room, to close or to enter again when that is confirmed.
    pub(super) fn leave_if_live(&mut self, index: usize) {
        if self.connections[index].state != State::Live {
            return;
        }
        self.not_live(index, State::Leaving);
        match self.plan.protocol.leave(self.topic(index), &mut self.outgoing) {
            true => self.send(index),
            false => self.left(index),
        }
    }

    pub(super) fn left(&mut self, index: usize) {
        if let Life::Presence(_) = self.plan.life {
            self.shared.counts.left.fetch_add(1, Ordering::Relaxed);
            self.in_flight += 1;
            return self.enter(index);
        }
        self.connections[index].state = State::Closing;
        self.outgoing.frame(Opcode::Close, |message| message.extend_from_slice(&1000_u16.to_be_bytes()));
        self.send(index);
    }

    fn not_live(&mut self, index: usize, state: State) {
        self.connections[index].state = state;
        self.shared.live.fetch_sub(1, Ordering::Relaxed);
    }

    fn drop_later(&mut self, index: usize, up: u64) {
        let at = self.shared.now() + up / 2 + self.below(up);
        self.timers.push(Reverse((at, index as u32)));
    }

    /// Dials or drops those whose time has come.
    pub(super) fn fire_timers(&mut self, now: u64) {
        while let Some(Reverse((at, index))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let index = index as usize;
            match (self.connections[index].state, self.plan.life) {
                (State::Away, _) => self.dial(index),
                (State::Live, Life::Jitter { up, .. }) if self.phase < Phase::WarmUp => self.drop_later(index, up),
                (State::Live, Life::Jitter { down, .. }) if self.phase < Phase::Drain => self.cut(index, now + down),
                _ => {}
            }
        }
    }

    /// Breaks a connection off, to dial again then.
    fn cut(&mut self, index: usize, again: u64) {
        self.not_live(index, State::Away);
        self.shared.counts.left.fetch_add(1, Ordering::Relaxed);
        self.hang_up(index);
        self.timers.push(Reverse((again, index as u32)));
    }

    /// Cuts all, at a command.
    pub(super) fn cut_all(&mut self, now: u64) {
        for index in 0..self.connections.len() {
            if self.connections[index].state == State::Live {
                self.cut(index, now + self.delay(1));
            }
        }
    }

    fn hang_up(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.answer = Vec::new();
        connection.unsent = Vec::new();
        connection.stream.take().into_iter().for_each(Stream::reset);
    }

    /// A connection is over.
    pub(super) fn ended(&mut self, index: usize, failure: Failure) {
        let state = self.connections[index].state;
        self.hang_up(index);
        match state {
            State::Away => {}
            State::Closing => {
                self.connections[index].state = State::Away;
                self.shared.counts.left.fetch_add(1, Ordering::Relaxed);
                self.dial(index);
            }
            State::Live | State::Leaving => {
                if state == State::Live {
                    self.not_live(index, State::Away);
                }
                self.connections[index].state = State::Away;
                let is_restart = failure.kind == Kind::Restart;
                if self.plan.life == Life::Restart {
                    self.shared.restart.connection_ended(self.shared.now(), is_restart);
                }
                if self.plan.life != Life::Restart || !is_restart {
                    self.shared.problem(failure.text);
                }
                if self.plan.life != Life::Stay {
                    self.try_again(index);
                }
            }
            State::Connecting | State::Upgrading | State::Entering => {
                self.connections[index].state = State::Away;
                self.in_flight -= 1;
                self.attempt_failed(index, failure);
            }
        }
    }

    fn attempt_failed(&mut self, index: usize, failure: Failure) {
        // What a server that is overrun answers is part of these scenarios, once anybody has been in.
        let expected = self.plan.life != Life::Stay && self.shared.counts.entered.load(Ordering::Relaxed) > 0;
        let gives_up = self.connections[index].tries >= TRIES_MAX;
        if !expected && (failure.kind == Kind::Fatal || gives_up) {
            self.shared.fatal(format!(
                "cannot connect to {}: {}",
                self.plan.dialer.address(self.first + index),
                failure.text
            ));
        } else {
            self.shared.counts.retries.fetch_add(1, Ordering::Relaxed);
            self.shared.restart.attempt_failed(failure.kind == Kind::Busy);
            self.try_again(index);
        }
    }

    fn try_again(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        connection.tries = connection.tries.saturating_add(1);
        let at = self.shared.now() + self.delay(self.connections[index].tries);
        self.timers.push(Reverse((at, index as u32)));
    }

    /// How long to wait before this attempt, in nanoseconds.
    fn delay(&self, tries: u8) -> u64 {
        match self.plan.life {
            Life::Storm(Backoff::Phoenix) | Life::Restart => {
                let tries = usize::from(tries).saturating_sub(1);
                PHOENIX_BACKOFF.get(tries).unwrap_or(&5_000) * MILLISECOND
            }
            // A failure comes back at once as well, and must not keep the thread from everything else.
            Life::Storm(Backoff::None) => u64::from(tries.saturating_sub(1)) * MILLISECOND,
            _ => u64::from(tries) * 100 * MILLISECOND,
        }
    }

    /// Sends heartbeats: to some connections at each tick, so that all have had theirs in time.
    pub(super) fn beat(&mut self, now: u64) {
        if self.next_heartbeat == 0 || self.next_heartbeat > now {
            return;
        }
        self.next_heartbeat = now + HEARTBEAT_TICK;
        let all = self.connections.len();
        for _ in 0..all.div_ceil((HEARTBEAT / HEARTBEAT_TICK) as usize) {
            let index = self.heartbeat_at % all;
            self.heartbeat_at += 1;
            if self.connections[index].state == State::Live {
                self.plan.protocol.heartbeat(&mut self.outgoing);
                self.send(index);
            }
        }
    }

    /// Sends what has been written, and keeps what the kernel does not take.
    pub(super) fn send(&mut self, index: usize) {
        let bytes = &mut self.outgoing.bytes;
        if bytes.is_empty() {
            return;
        }
        let connection = &mut self.connections[index];
        if !connection.unsent.is_empty() {
            connection.unsent.extend_from_slice(bytes);
        } else if let Some(stream) = &mut connection.stream {
            // An error shows again when the connection is read, which is where it is dealt with.
            let written = stream.write(bytes).unwrap_or(bytes.len());
            if written < bytes.len() {
                connection.unsent = bytes[written..].to_vec();
            }
        }
        bytes.clear();
    }

    /// Sends what the kernel did not take before.
    pub(super) fn flush(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let Some(stream) = &mut connection.stream else { return };
        // As in `send`.
        let _ = stream.flush();
        if connection.unsent.is_empty() {
            return;
        }
        let written = stream.write(&connection.unsent).unwrap_or(connection.unsent.len());
        connection.unsent.drain(..written);
        if connection.unsent.is_empty() {
            connection.unsent = Vec::new();
        }
    }
}
