//! Live messages: sharded channels of the ordered link.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fanfare_proto::resp::Value;

use super::names::{Kind, inbox_topic};
use super::request::{Answered, Request, Subscribed, To, unexpected};
use super::scripts::{self, Script};
use super::{Place, Places, Redis};
use crate::broker::{Attached, BrokerLink, Done, Incarnation, LinkId, Transport, Undone};

impl Transport for Redis {
    fn attach(&self, topic: &Arc<str>, wants_head: bool, done: Done<Attached>) {
        if let Places::Cluster(router) = &self.places {
            router.want(topic, wants_head);
        }
        if !wants_head {
            let told = Subscribed::Done(done);
            return self.put(topic, [Request::Subscribe { topic: topic.clone(), with_head: false, told }]);
        }
        let place = match self.place(topic) {
            Ok(place) => place,
            Err(undone) => return done(Err(undone)),
        };
        // Both in one write, so that what is missing after the one is in the answer to the other.
        let refusal = Arc::new(OnceLock::new());
        let refused = refusal.clone();
        let answered = move |answer: Result<Value<'_>, Undone>| {
            let head = answer.and_then(|value| {
                let meta = value.items().and_then(|mut items| items.next()).and_then(Value::text);
                meta.and_then(scripts::head).ok_or_else(|| unexpected("the attachment"))
            });
            done(match refused.get() {
                Some(undone) => Err(Undone::clone(undone)),
                None => head.map(|head| Attached { head: Some(head) }),
            });
        };
        let heads = place.heads_of([&**topic], Box::new(answered));
        let subscribe = Request::Subscribe { topic: topic.clone(), with_head: true, told: Subscribed::Shared(refusal) };
        self.put(topic, [subscribe, heads]);
    }

    fn detach(&self, topic: &str, done: Done<()>) {
        if let Places::Cluster(router) = &self.places {
            router.unwant(topic);
        }
        self.put(topic, [Request::Unsubscribe { topic: topic.into(), done }]);
    }

    fn publish(&self, topic: &Arc<str>, envelope: Bytes, done: Done<Option<u64>>) {
        let done: Done<u64> = Box::new(move |answer| done(answer.map(Some)));
        match self.carries(envelope.len()) {
            Err(undone) => done(Err(undone)),
            Ok(()) => self.put(topic, [Request::Publish { to: To::Topic(topic.clone()), envelope, done }]),
        }
    }

    fn send(&self, to: Incarnation, envelope: Bytes, done: Done<()>) {
        let told = move |answer: Result<u64, Undone>| {
            done(answer.and_then(|receivers| if receivers == 0 { Err(Undone::Gone) } else { Ok(()) }));
        };
        if let Err(undone) = self.carries(envelope.len()) {
            return told(Err(undone));
        }
        match &self.places {
            Places::Fixed(places) => {
                // A node has an inbox at every server.
                let place = places.iter().find(|place| place.server.pulse.is_beating()).unwrap_or(&places[0]);
                place.ordered.put(Request::Publish { to: To::Node(to), envelope, done: Box::new(told) });
            }
            Places::Cluster(router) => {
                let inbox = inbox_topic(to);
                let to = To::Topic(inbox.as_str().into());
                router.put(&inbox, [Request::Publish { to, envelope, done: Box::new(told) }]);
            }
        }
    }

    fn carries(&self, size: usize) -> Result<(), Undone> {
        match &self.places {
            Places::Fixed(places) => places.iter().try_for_each(|place| place.server.carries(size)),
            Places::Cluster(router) => router.places().iter().try_for_each(|place| place.server.carries(size)),
        }
    }

    fn link_of(&self, topic: &str) -> LinkId {
        self.place(topic).map_or(LinkId(u32::MAX), |place| place.id)
    }

    fn stands(&self) -> Vec<(LinkId, BrokerLink)> {
        let stands = |place: &Arc<Place>| (place.id, place.server.pulse.stands(&place.server.name));
        match &self.places {
            Places::Fixed(places) => places.iter().map(stands).collect(),
            Places::Cluster(router) => router.stands(),
        }
    }
}

impl Place {
    /// The command that tells where the logs of some topics are; those that the server does not know begin.
    pub(super) fn heads_of<'a>(
        &self,
        topics: impl IntoIterator<Item = &'a str, IntoIter: ExactSizeIterator + Clone>,
        answered: Answered,
    ) -> Request {
        let topics = topics.into_iter();
        let mut parts = Vec::with_capacity(2 + 2 * topics.len());
        parts.push(topics.len().to_string().into());
        parts.extend(topics.clone().map(|topic| Bytes::from(self.server.names.of(Kind::Meta, topic))));
        parts.push(Bytes::copy_from_slice(&self.server.session().to_le_bytes()));
        parts.extend(topics.map(|_| Bytes::copy_from_slice(&self.server.draw().to_le_bytes())));
        Request::Call { script: Some(Script::Heads), parts, answered }
    }
}
