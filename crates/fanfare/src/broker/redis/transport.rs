//! Live messages: sharded channels of the ordered link.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fanfare_proto::resp::Value;

use super::Redis;
use super::names::Kind;
use super::request::{Answered, Request, Subscribed, unexpected};
use super::scripts::{self, Script};
use crate::broker::{Attached, Done, Incarnation, LinkId, Transport, Undone};

impl Transport for Redis {
    fn attach(&self, topic: &Arc<str>, wants_head: bool, done: Done<Attached>) {
        let topic = topic.clone();
        if !wants_head {
            return self.ordered.put(Request::Subscribe { topic, with_head: false, told: Subscribed::Done(done) });
        }
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
        let heads = self.heads_of(std::slice::from_ref(&topic), Box::new(answered));
        let subscribe = Request::Subscribe { topic, with_head: true, told: Subscribed::Shared(refusal) };
        self.ordered.put_all([subscribe, heads]);
    }

    fn detach(&self, topic: &str, done: Done<()>) {
        self.ordered.put(Request::Unsubscribe { topic: topic.into(), done });
    }

    fn publish(&self, topic: &Arc<str>, envelope: Bytes, done: Done<Option<u64>>) {
        let channel = self.server.names.of(Kind::Live, topic);
        self.publish_to(channel, envelope, Box::new(move |answer| done(answer.map(Some))));
    }

    fn send(&self, to: Incarnation, envelope: Bytes, done: Done<()>) {
        let told = move |answer: Result<u64, Undone>| {
            done(answer.and_then(|receivers| if receivers == 0 { Err(Undone::Gone) } else { Ok(()) }));
        };
        self.publish_to(self.server.names.inbox(to), envelope, Box::new(told));
    }

    fn link_of(&self, _topic: &str) -> LinkId {
        LinkId(0)
    }

    fn links(&self) -> Vec<LinkId> {
        vec![LinkId(0)]
    }

    fn renew(&self, _link: LinkId) {
        self.ordered.renew();
    }
}

impl Redis {
    fn publish_to(&self, channel: Vec<u8>, envelope: Bytes, done: Done<u64>) {
        match self.too_large(&envelope) {
            Some(undone) => done(Err(undone)),
            None => self.ordered.put(Request::Publish { channel: channel.into(), envelope, done }),
        }
    }

    /// Why an envelope cannot be carried, if it cannot.
    pub(super) fn too_large(&self, envelope: &Bytes) -> Option<Undone> {
        let (size, most) = (envelope.len(), self.server.envelope_size_max);
        (size > most).then(|| {
            Undone::refused(format!(
                "the message takes {size} bytes on its way, more than {most}; raise message_size_max"
            ))
        })
    }

    /// The command that tells where the logs of some topics are; those that the server does not know begin.
    pub(super) fn heads_of(&self, topics: &[Arc<str>], answered: Answered) -> Request {
        let mut parts = Vec::with_capacity(2 + 2 * topics.len());
        parts.push(topics.len().to_string().into());
        parts.extend(topics.iter().map(|topic| Bytes::from(self.server.names.of(Kind::Meta, topic))));
        parts.push(Bytes::copy_from_slice(&self.server.session().to_le_bytes()));
        parts.extend(topics.iter().map(|_| Bytes::copy_from_slice(&self.server.draw().to_le_bytes())));
        Request::Call { script: Some(Script::Heads), parts, answered }
    }
}
