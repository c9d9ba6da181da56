//! How often a client may do what it does: whether a message, a join, a ping or a mistake is within its rate, and what happens if it
//! is not.

use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::rate::{Bucket, Rate};
use serde_json::json;

use super::{Reading, Socket, Turn};
use crate::channel::Status;
use crate::close_reason::CloseReason;
use crate::event::{Action, Limit};
use crate::fact::{Fact, Kind};
use crate::mount::OverRate;

/// A client is not made to wait for less than timers can tell; what it has sent too much is owed all the same.
const PAUSE_MIN_NS: u64 = 10_000_000;

/// What is left of the rates of a socket.
#[derive(Debug, Default)]
pub(crate) struct Buckets {
    // Nearly every socket needs these two.
    joins: Bucket,
    pings: Bucket,
    /// Made when one of them is needed first.
    others: Option<Box<Others>>,
}

#[derive(Debug, Default)]
struct Others {
    messages: Bucket,
    bytes: Bucket,
    errors: Bucket,
}

/// The rate that a message is beyond.
#[derive(Clone, Copy)]
struct Beyond {
    limit: Limit,
    rate: Rate,
    wait_ns: u64,
}

impl Socket {
    /// Whether a message of so many bytes may be handled now.
    ///
    /// # Errors
    /// It is not to be handled: after how many milliseconds another one may be.
    #[inline]
    pub(crate) fn weigh(&mut self, turn: &mut Turn, bytes: usize) -> Result<(), u64> {
        if !self.info.mount.rates.are_of_messages {
            return Ok(());
        }
        self.weigh_with_rates(turn, bytes)
    }

    /// The same of a message that is answered if it may not be handled. What joins, leaves and heartbeats are limited by is another matter.
    pub(super) fn may_say(&mut self, turn: &mut Turn, message: &Incoming<'_>) -> bool {
        let Incoming { join_ref, msg_ref, topic, event, payload } = message;
        if matches!(&**event, "phx_join" | "phx_leave") || self.dialect.is_heartbeat(message) {
            return true;
        }
        let Err(retry_after_ms) = self.weigh(turn, payload.size()) else { return true };
        if self.is_open() {
            let reason = json!({ "reason": "rate limited", "retry_after_ms": retry_after_ms });
            self.answer(turn, join_ref, msg_ref, topic, Status::Error, reason.into());
        }
        false
    }

    fn weigh_with_rates(&mut self, turn: &mut Turn, bytes: usize) -> Result<(), u64> {
        let now_ns = now_ns(turn);
        let rates = self.info.mount.rates;
        let over = rates.over.unwrap_or(self.dialect.over_rate());
        let paces = over == OverRate::Pace;
        let buckets = self.buckets.others.get_or_insert_default();
        let mut weighed = [
            (Limit::Messages, rates.messages, &mut buckets.messages, 1),
            (Limit::Bytes, rates.bytes, &mut buckets.bytes, bytes as u64),
        ];
        let mut longest: Option<Beyond> = None;
        for (limit, rate, bucket, cost) in &mut weighed {
            let Some(rate) = *rate else { continue };
            // Whoever is paced has sent it already, and waits behind it.
            let wait_ns = match paces {
                true => {
                    bucket.charge(rate, now_ns, *cost);
                    bucket.wait(rate, now_ns, 0)
                }
                false => bucket.wait(rate, now_ns, *cost),
            };
            if wait_ns > longest.map_or(0, |longest| longest.wait_ns) {
                longest = Some(Beyond { limit: *limit, rate, wait_ns });
            }
        }
        let Some(beyond) = longest else {
            for (_, rate, bucket, cost) in weighed.into_iter().filter(|_| !paces) {
                rate.into_iter().for_each(|rate| bucket.charge(rate, now_ns, cost));
            }
            return Ok(());
        };
        match over {
            OverRate::Pace => {
                self.pause(turn, beyond);
                Ok(())
            }
            OverRate::Refuse => {
                self.tell_limited(turn, beyond, Action::Refused, None);
                Err(in_ms(beyond.wait_ns))
            }
            OverRate::Close => {
                turn.count(beyond.limit.event(Action::Closed));
                self.close_later(turn, CloseReason::OverRate(beyond.limit, beyond.rate));
                Err(in_ms(beyond.wait_ns))
            }
        }
    }

    /// Nothing more is read of the client until it may send again.
    fn pause(&mut self, turn: &mut Turn, beyond: Beyond) {
        if beyond.wait_ns >= PAUSE_MIN_NS && self.reading == Reading::Goes {
            self.reading = Reading::Paced { until_ms: turn.now_ms.saturating_add(in_ms(beyond.wait_ns)) };
            self.tell_limited(turn, beyond, Action::Paced, None);
            self.watch(turn);
        }
    }

    /// Whether a client may join a topic now. If not it is told.
    pub(super) fn may_join(&mut self, turn: &mut Turn, join_ref: &Ref, msg_ref: &Ref, topic: &str) -> bool {
        let Some(rate) = self.info.mount.rates.joins else { return true };
        let Err(wait_ns) = self.buckets.joins.take(rate, now_ns(turn), 1) else { return true };
        self.tell_limited(turn, Beyond { limit: Limit::Joins, rate, wait_ns }, Action::Refused, Some(topic));
        turn.figures().count_join(topic, Limit::Joins.event(Action::Refused));
        let reason = self.dialect.too_many_joins();
        let reason = json!({ "reason": reason, "retry_after_ms": in_ms(wait_ns) });
        self.answer(turn, join_ref, msg_ref, topic, Status::Error, reason.into());
        self.erred(turn);
        false
    }

    /// Whether a sign of life is to be answered. Whoever sends too many is closed.
    pub(super) fn may_ping(&mut self, turn: &mut Turn) -> bool {
        let Some(rate) = self.info.mount.rates.pings else { return true };
        let is_within = self.buckets.pings.take(rate, now_ns(turn), 1).is_ok();
        if !is_within {
            self.close_for(turn, Limit::Pings, rate);
        }
        is_within
    }

    /// The client has sent what cannot be, or is refused. Whoever does so too often is closed.
    pub(crate) fn erred(&mut self, turn: &mut Turn) {
        let Some(rate) = self.info.mount.rates.errors else { return };
        let buckets = self.buckets.others.get_or_insert_default();
        if buckets.errors.take(rate, now_ns(turn), 1).is_err() {
            self.close_for(turn, Limit::Errors, rate);
        }
    }

    fn close_for(&self, turn: &mut Turn, limit: Limit, rate: Rate) {
        turn.count(limit.event(Action::Closed));
        self.close_later(turn, CloseReason::OverRate(limit, rate));
    }

    fn tell_limited(&self, turn: &Turn, beyond: Beyond, action: Action, topic: Option<&str>) {
        let Beyond { limit, rate, wait_ns } = beyond;
        let (name, unit) = (limit.name(), limit.unit());
        let detail = format_args!(
            "more {unit} than {name} allows, which is {} a second and {} at once: the next in {} ms",
            rate.each_second(),
            rate.at_once(),
            in_ms(wait_ns)
        );
        let (event, who) = (limit.event(action), self.info.who());
        let fact = Fact { kind: Kind::Limited, event, who, topic, code: None, detail };
        match action {
            // It is how such a client lives, and nothing is lost.
            Action::Paced => fact.note(turn.counters(), 1),
            Action::Refused | Action::Closed => fact.tell(turn.counters()),
        }
    }
}

fn now_ns(turn: &Turn) -> u64 {
    turn.surroundings.clock.now_us().saturating_mul(1_000)
}

fn in_ms(wait_ns: u64) -> u64 {
    wait_ns.div_ceil(1_000_000)
}
