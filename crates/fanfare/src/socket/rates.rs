//! How often a client may do what it does: whether a message, a join, a ping or a mistake is within its rate, and what happens if it
//! is not.

use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::rate::{Bucket, Rate};
use serde_json::json;

use super::tenant::OVER_QUOTA;
use super::{Reading, Socket, Turn};
use crate::channel::Status;
use crate::close_reason::CloseReason;
use crate::event::{Action, Event, Limit};
use crate::fact::{Fact, Kind};
use crate::gate::Penalized;
use crate::mount::OverRate;
use crate::tenant::{Asset, Weight};
use crate::transport::Carrier;

/// A client is not made to wait for less than timers can tell; what it has sent too much is owed all the same.
const PAUSE_MIN_MS: u64 = 10;

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

/// A message that is not to be handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMuch {
    /// For its sender.
    reason: &'static str,
    /// When another one may be.
    retry_after_ms: u64,
}

/// The rate that a message is beyond.
#[derive(Clone, Copy)]
struct Beyond {
    limit: Limit,
    rate: Rate,
    wait_ns: u64,
}

impl Socket {
    /// Whether messages of its client are counted at all.
    #[inline]
    pub(super) fn weighs_messages(&self) -> bool {
        self.info.mount.rates.are_of_messages || self.info.tenant.is_some()
    }

    /// Whether a message of so many bytes may be handled now, which is published or not.
    ///
    /// # Errors
    /// It is not to be handled.
    #[inline]
    pub(crate) fn weigh(&mut self, turn: &mut Turn, bytes: usize, is_published: bool) -> Result<(), TooMuch> {
        if !self.weighs_messages() {
            return Ok(());
        }
        self.weigh_in_all(turn, bytes, is_published, false)
    }

    /// The same of a message that is answered if it may not be handled. What joins, leaves and heartbeats are limited by is another matter.
    pub(super) fn may_say(&mut self, turn: &mut Turn, message: &Incoming<'_>) -> bool {
        let Incoming { join_ref, msg_ref, topic, event, payload } = message;
        if matches!(&**event, "phx_join" | "phx_leave") || self.dialect.is_heartbeat(message) {
            return true;
        }
        let is_published = self.session.find(topic).is_some();
        let weighed = match self.dialect.is_said_once(event) {
            true => self.weigh_in_all(turn, payload.size(), is_published, true),
            false => self.weigh(turn, payload.size(), is_published).and_then(|()| self.weigh_for_topic(turn, topic)),
        };
        let Err(TooMuch { reason, retry_after_ms }) = weighed else { return true };
        if self.is_open() {
            let reason = json!({ "reason": reason, "retry_after_ms": retry_after_ms });
            self.answer(turn, join_ref, msg_ref, topic, Status::Error, reason.into());
        }
        false
    }

    /// Whether the members of a topic may send one more message into it.
    fn weigh_for_topic(&mut self, turn: &mut Turn, topic: &str) -> Result<(), TooMuch> {
        let info = self.info.clone();
        let Some(slot) = self.session.find(topic).filter(|_| info.mount.rates.are_of_topics) else { return Ok(()) };
        let entry = self.session.entry(slot);
        let Some(rate) = info.mount.routes.get(entry.data.route as usize).and_then(|route| route.rate) else {
            return Ok(());
        };
        let now_ns = now_ns(turn);
        let taken = info.endpoint.gate().topic_rates.with(entry.topic(), now_ns, |bucket| bucket.take(rate, now_ns, 1));
        match taken {
            Some(Ok(())) => Ok(()),
            Some(Err(wait_ns)) => {
                self.tell_limited(turn, Beyond { limit: Limit::OfTopic, rate, wait_ns }, Action::Refused, Some(topic));
                Err(TooMuch { reason: "rate limited", retry_after_ms: in_ms(wait_ns) })
            }
            None => {
                turn.count(Event::KeysMaxPassed);
                Ok(())
            }
        }
    }

    /// By the rates of its socket and user, and by the quota of its tenant. A message that is said once is handled, and those behind it wait
    /// where they would be refused.
    fn weigh_in_all(
        &mut self,
        turn: &mut Turn,
        bytes: usize,
        is_published: bool,
        is_said_once: bool,
    ) -> Result<(), TooMuch> {
        let weighed = self.weigh_with_rates(turn, bytes, is_said_once);
        weighed.map_err(|wait_ns| TooMuch { reason: "rate limited", retry_after_ms: in_ms(wait_ns) })?;
        self.weigh_for_tenant(turn, is_published, is_said_once)
    }

    /// Whether its tenant's clients may send one more message.
    fn weigh_for_tenant(&mut self, turn: &mut Turn, is_published: bool, is_said_once: bool) -> Result<(), TooMuch> {
        let Some(slot) = &self.info.tenant else { return Ok(()) };
        let over = self.over_rate(is_said_once);
        let weight = Weight { is_published, is_paced: over == OverRate::Pace };
        let Err(beyond) = slot.weigh(weight, now_ns(turn)) else { return Ok(()) };
        let wait_ms = beyond.retry_after().map_or(0, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let (refused, paced, closed) = match beyond.asset() {
            Asset::Bytes => (Event::TenantBytesRefused, None, Event::TenantBytesClosed),
            Asset::Publishes => {
                (Event::TenantPublishesRefused, Some(Event::TenantPublishesPaced), Event::TenantPublishesClosed)
            }
            _ => (Event::TenantMessagesRefused, Some(Event::TenantMessagesPaced), Event::TenantMessagesClosed),
        };
        match (over, paced) {
            (OverRate::Pace, Some(event)) => {
                if self.pause(turn, wait_ms) {
                    let (kind, who, detail) = (Kind::Limited, self.info.who(), format_args!("{beyond}"));
                    Fact { kind, event, who, topic: None, code: None, detail }.note(turn.counters(), 1);
                }
                return Ok(());
            }
            (over, _) if over == OverRate::Refuse || (is_said_once && over == OverRate::Pace) => {
                self.info.tell(turn.counters(), (Kind::Limited, refused), None, format_args!("{beyond}"));
            }
            // Nobody can wait unread until the next day begins.
            _ => {
                turn.count(closed);
                self.close_later(turn, CloseReason::OverQuota(beyond.to_string()));
            }
        }
        Err(TooMuch { reason: OVER_QUOTA, retry_after_ms: wait_ms })
    }

    /// What happens to messages beyond a rate.
    fn over_rate(&self, is_said_once: bool) -> OverRate {
        match (self.info.mount.rates.over.unwrap_or(self.dialect.over_rate()), &self.carrier) {
            // There is no connection to leave unread: what is posted would pile up here.
            (OverRate::Pace, Carrier::Poll(_)) => OverRate::Refuse,
            (OverRate::Refuse, _) if is_said_once => OverRate::Pace,
            (over, _) => over,
        }
    }

    /// # Errors
    /// After how many nanoseconds another message may be handled.
    fn weigh_with_rates(&mut self, turn: &mut Turn, bytes: usize, is_said_once: bool) -> Result<(), u64> {
        let now_ns = now_ns(turn);
        let rates = self.info.mount.rates;
        let over = self.over_rate(is_said_once);
        let paces = over == OverRate::Pace;
        // What follows a message that was not refused must not be refused in its place.
        let owed = |bucket: &Bucket, rate: Rate| match bucket.wait(rate, now_ns, 0) {
            0 => 0,
            _ => bucket.wait(rate, now_ns, u64::from(is_said_once)),
        };
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
                    owed(bucket, rate)
                }
                false => bucket.wait(rate, now_ns, *cost),
            };
            if wait_ns > longest.map_or(0, |longest| longest.wait_ns) {
                longest = Some(Beyond { limit: *limit, rate, wait_ns });
            }
        }
        // A message that its socket may not send takes nothing from its user.
        if let (Some(rate), Some(user)) = (rates.of_user, &self.info.id)
            && (paces || longest.is_none())
        {
            let wait_ns = self.info.endpoint.gate().user_rates.with(user, now_ns, |bucket| match paces {
                true => {
                    bucket.charge(rate, now_ns, 1);
                    owed(bucket, rate)
                }
                false => bucket.take(rate, now_ns, 1).err().unwrap_or(0),
            });
            if wait_ns.is_none() {
                turn.count(Event::KeysMaxPassed);
            }
            if let Some(wait_ns) = wait_ns.filter(|&wait_ns| wait_ns > longest.map_or(0, |longest| longest.wait_ns)) {
                longest = Some(Beyond { limit: Limit::OfUser, rate, wait_ns });
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
                if self.pause(turn, in_ms(beyond.wait_ns)) {
                    self.tell_limited(turn, beyond, Action::Paced, None);
                }
                Ok(())
            }
            OverRate::Refuse => {
                self.tell_limited(turn, beyond, Action::Refused, None);
                Err(beyond.wait_ns)
            }
            OverRate::Close => {
                turn.count(beyond.limit.event(Action::Closed));
                self.close_later(turn, CloseReason::OverRate(beyond.limit, beyond.rate));
                Err(beyond.wait_ns)
            }
        }
    }

    /// Nothing more is read of the client until it may send again, if that is worth it.
    fn pause(&mut self, turn: &mut Turn, wait_ms: u64) -> bool {
        let is_paused = wait_ms >= PAUSE_MIN_MS && self.reading == Reading::Goes;
        if is_paused {
            self.reading = Reading::Paced { until_ms: turn.now_ms.saturating_add(wait_ms) };
            self.watch(turn);
        }
        is_paused
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

    /// The client is not let in again for a while: stock clients come back at once.
    pub(super) fn penalize(&self, turn: &Turn) {
        let penalty = self.info.mount.rates.penalty;
        let client = Penalized::of(self.info.peer.map(|peer| peer.ip()), self.info.id.as_ref());
        if let Some(client) = client.filter(|_| !penalty.is_zero())
            && !self.info.endpoint.gate().penalties.impose(&client, penalty, now_ns(turn))
        {
            turn.count(Event::KeysMaxPassed);
        }
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
