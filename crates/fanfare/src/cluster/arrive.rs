//! What the broker delivers, on its way to the members of this node.

use std::sync::Arc;

use fanfare_proto::envelope::{Content, Envelope, Message as Carried};
use fanfare_proto::payload::Payload;
use fanfare_proto::position::Stamp;

use super::chain::{Next, Taken};
use super::repair::HOLE_MS;
use super::timers::Timer;
use super::{Cluster, Topics};
use crate::broker::{Head, Incarnation};
use crate::event::Event;
use crate::history::{Accepted, Stored};
use crate::message::Draft;

/// Of so many nodes it is known what they have published last to a topic without a log.
const ORIGINS_MAX: usize = 64;

/// A message that was delivered.
#[derive(Debug, Clone)]
pub(super) struct Arrived {
    pub(super) origin: Incarnation,
    pub(super) number: u64,
    /// None where this node cannot read it: the chain goes on all the same.
    content: Option<(Arc<str>, Payload)>,
}

impl Arrived {
    /// An own message.
    pub(super) fn own(origin: Incarnation, number: u64, draft: &Draft) -> Self {
        Arrived { origin, number, content: Some((draft.event.clone(), draft.payload.clone())) }
    }

    /// One message of a log, as it travels.
    pub(super) fn read(envelope: &bytes::Bytes) -> Option<Self> {
        let Envelope { origin, number, content } = Envelope::read(envelope).ok()?;
        let Content::Message(Carried { event, payload, .. }) = content else { return None };
        Some(Arrived { origin, number, content: Some((event.into(), payload)) })
    }

    /// One that this node cannot read.
    pub(super) fn unread(origin: Incarnation) -> Self {
        Arrived { origin, number: 0, content: None }
    }

    pub(super) fn into_stored(self, stamp: Stamp) -> Option<Stored> {
        self.content.map(|(event, payload)| Stored { stamp, event, payload, age_ms: 0 })
    }

    fn size(&self) -> usize {
        self.content.as_ref().map_or(0, |(event, payload)| event.len() + payload.size())
    }
}

impl Cluster {
    /// An envelope on a topic's channel.
    pub(super) fn live(&self, topic: &str, envelope: &bytes::Bytes, stamp: Option<Stamp>) {
        if let Some(stamp) = stamp {
            let arrived = Arrived::read(envelope).unwrap_or_else(|| {
                self.counters.count(Event::BrokerUnread);
                Arrived::unread(self.incarnation)
            });
            return self.with(topic, |topics| {
                let Some(known) = topics.by_name.get_mut(topic) else { return };
                let name = known.name.clone();
                match known.chain {
                    Some(_) => self.take(topics, &name, stamp, arrived),
                    None => known.is_early(stamp, arrived),
                }
            });
        }
        let Ok(envelope) = Envelope::read(envelope) else { return self.counters.count(Event::BrokerUnread) };
        let origin = envelope.origin;
        match envelope.content {
            // It had it at once.
            Content::Message(_) | Content::Messages(_) if origin == self.incarnation => {}
            Content::Message(message) => self.unlogged(topic, origin, message),
            Content::Messages(messages) => {
                messages.into_iter().for_each(|message| self.unlogged(topic, origin, message));
            }
            _ => {
                if let Some(local) = self.local.get() {
                    local.heard(Some(topic), &envelope);
                }
            }
        }
    }

    /// A message of another node that stands in no log.
    fn unlogged(&self, topic: &str, origin: Incarnation, message: Carried<'_>) {
        let Carried { event, payload, series } = message;
        self.with(topic, |topics| {
            let Some(local) = self.local.get() else { return };
            let Some(known) = topics.by_name.get_mut(topic) else { return };
            let lost = series.map_or(0, |series| count_lost(&mut known.series, origin, series.get()));
            if lost > 0 {
                self.note_lost(topic, Event::BrokerLost, lost, format_args!("messages of another node have not come"));
                local.has_lost(&known.name, None, None);
            }
            if local.is_full(topic, event.len() + payload.size()) {
                let detail = format_args!("there was no room for a message of another node: it waits behind others");
                self.note_lost(topic, Event::BrokerLost, 1, detail);
                return local.has_lost(&known.name, None, None);
            }
            match Draft::new(known.name.clone(), event, payload) {
                Ok(draft) => local.hand_out(&draft.into_message()),
                Err(_) => self.counters.count(Event::BrokerUnread),
            }
        });
    }

    /// The chain of a log begins.
    pub(super) fn begin_chain(&self, topics: &mut Topics, topic: &Arc<str>, head: Head, now_ms: u64) {
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        match &mut known.chain {
            None => known.chain = Some(super::chain::Chain::new(head)),
            // The link was down meanwhile: what the members had is compared with the log.
            Some(_) => return self.start_repair(topics, topic),
        }
        topics.schedule_check(topic, now_ms);
    }

    /// A message of a log, from the broker or by its answer.
    pub(super) fn take(&self, topics: &mut Topics, topic: &Arc<str>, stamp: Stamp, arrived: Arrived) {
        let Some(local) = self.local.get() else { return };
        let Some(known) = topics.by_name.get_mut(topic) else { return };
        let Some(chain) = &mut known.chain else { return };
        let own = (arrived.origin == self.incarnation).then_some(arrived.number);
        let size = arrived.size();
        if own.is_none() && local.is_full(topic, size) {
            // The log keeps it until there is room.
            self.count(topic, Event::BrokerHole);
            return topics.look_again(topic, self.now_ms() + HOLE_MS);
        }
        let mut next = Vec::new();
        let taken = chain.take(stamp, arrived, size, &mut next);
        let (is_full, has_passed) = (chain.is_full(), chain.has(stamp.position));
        match taken {
            Taken::Next => self.hand_on(topics, topic, next),
            Taken::Double => match own {
                Some(number) => topics.settle_dropped([(stamp, number)], |_| has_passed),
                None => self.count_double(topic),
            },
            Taken::Held if is_full => self.start_repair(topics, topic),
            Taken::Held => {
                self.count(topic, Event::BrokerHole);
                topics.timers.set(self.now_ms() + HOLE_MS, Timer::Hole, topic);
            }
        }
    }

    /// Hands messages on, in the order of the chain.
    pub(super) fn hand_on(&self, topics: &mut Topics, topic: &Arc<str>, next: Vec<Next<Arrived>>) {
        let Some(local) = self.local.get() else { return };
        let retention = topics.by_name.get(topic).and_then(|known| known.retention).unwrap_or_default();
        let now_ms = self.now_ms();
        for Next { stamp, number, message: arrived } in next {
            let pending = match arrived.origin == self.incarnation {
                true => topics.pending.remove(&arrived.number),
                false => None,
            };
            if let Some(stored) = arrived.clone().into_stored(stamp) {
                topics.windows.add(topic, stored, &retention, now_ms);
            }
            match (pending, arrived.content) {
                (Some(pending), _) => (pending.settle)(Ok(Accepted::New(pending.draft.into_kept(stamp, number)))),
                (None, Some((event, payload))) => match Draft::new(topic.clone(), event, payload) {
                    Ok(draft) => local.hand_out(&draft.into_kept(stamp, number)),
                    Err(_) => self.counters.count(Event::BrokerUnread),
                },
                (None, None) => {}
            }
        }
        self.serve_parked(topics, topic, now_ms);
    }
}

/// How many messages of another node are missing before this one.
fn count_lost(series: &mut Vec<(Incarnation, u64)>, origin: Incarnation, number: u64) -> u64 {
    let known = series.iter_mut().find(|(known, _)| *known == origin);
    let Some((_, last)) = known else {
        if series.len() == ORIGINS_MAX {
            series.remove(0);
        }
        series.push((origin, number));
        return 0;
    };
    let lost = if number == 1 { 0 } else { number.saturating_sub(*last + 1) };
    *last = number;
    lost
}
