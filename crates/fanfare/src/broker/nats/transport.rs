//! Live messages: subjects of the link.

use std::sync::Arc;

use bytes::Bytes;

use super::Nats;
use super::log::Last;
use super::request::Request;
use crate::broker::{Attached, BrokerLink, Done, Incarnation, LinkId, Transport, Undone};

impl Transport for Nats {
    fn attach(&self, topic: &Arc<str>, wants_head: bool, done: Done<Attached>) {
        let (nats, name) = (self.clone(), topic.clone());
        // The head is asked for once the subscription is in force, of the server that keeps the log.
        let subscribed = move |subscribed: Result<(), Undone>| match subscribed {
            Err(undone) => done(Err(undone)),
            Ok(()) if !wants_head => done(Ok(Attached { head: None })),
            Ok(()) => {
                let found = move |last: Result<Last, _>| done(last.map(|last| Attached { head: Some(last.head()) }));
                nats.last(&nats.live, &name, Box::new(found));
            }
        };
        self.live.put(Request::Subscribe { topic: topic.clone(), done: Box::new(subscribed) });
    }

    fn detach(&self, topic: &str, done: Done<()>) {
        self.live.put(Request::Unsubscribe { topic: topic.into(), done });
    }

    fn publish(&self, topic: &Arc<str>, envelope: Bytes, done: Done<Option<u64>>) {
        // Nobody counts who gets it.
        let done: Done<()> = Box::new(move |taken| done(taken.map(|()| None)));
        match self.server.carries(envelope.len(), 0) {
            Err(undone) => done(Err(undone)),
            Ok(()) => {
                let subject = self.server.subjects.live(topic).into();
                self.live.put(Request::Publish { subject, payload: envelope, done });
            }
        }
    }

    fn send(&self, to: Incarnation, envelope: Bytes, done: Done<()>) {
        match self.server.carries(envelope.len(), 0) {
            Err(undone) => done(Err(undone)),
            Ok(()) => {
                let subject = self.server.subjects.inbox(to).into();
                self.live.put(Request::Send { subject, payload: envelope, done });
            }
        }
    }

    fn carries(&self, size: usize) -> Result<(), Undone> {
        self.server.carries(size, 0)
    }

    fn link_of(&self, _topic: &str) -> LinkId {
        LinkId(0)
    }

    fn stands(&self) -> Vec<(LinkId, BrokerLink)> {
        vec![(LinkId(0), self.server.pulse.stands(&self.server.name))]
    }
}
