//! What a server says: messages, confirmations, and errors.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::nats::{Message, Said};

use super::super::super::api;
use super::super::greeting::{self, Info};
use super::super::{LinkId, LinkState, Role};
use super::{ANSWERS, Connection, HEADERS_MAX, INBOX, Ping, Stage, Subscription, What};
use crate::broker::{Stamp, Undone};

/// The status of an answer that says that nobody is there.
pub(super) const NOBODY: u16 = 503;

/// The next step where the first words of a server are not those of a NATS.
const NO_NATS: &str = "; is it a NATS? Correct the host and port in the broker's address";

impl Connection<'_> {
    /// Reads once and handles it: whether there may be more.
    pub(super) fn read(&mut self) -> Result<bool, String> {
        if !self.buffered.read()? {
            return Ok(false);
        }
        let size_max = self.server.envelope_size_max + HEADERS_MAX;
        let mut incoming = self.buffered.handle();
        let outcome = loop {
            match Said::read(incoming.rest(), size_max) {
                Ok(None) => break Ok(true),
                Ok(Some((said, size))) => {
                    let handled = self.hear(said);
                    incoming.pass(size);
                    if let Err(why) = handled {
                        break Err(why);
                    }
                }
                Err(fault) if self.info.is_none() => break Err(format!("{fault}{NO_NATS}")),
                Err(fault) => break Err(fault.to_string()),
            }
        };
        self.buffered.handled(incoming);
        outcome
    }

    fn hear(&mut self, said: Said<'_>) -> Result<(), String> {
        match (said, &self.info) {
            (Said::Info(json), None) => self.greet(Info::read(json)?),
            (Said::Error(error), None) => Err(format!("it says {error:?}{NO_NATS}")),
            (_, None) => Err(format!("not NATS: it does not say who it is{NO_NATS}")),
            (Said::Info(json), Some(_)) => self.hear_news(Info::read(json)?),
            (Said::Message(message), _) => self.message(&message),
            (Said::Ping, _) => {
                self.buffered.out.extend_from_slice(b"PONG\r\n");
                Ok(())
            }
            (Said::Pong, _) => self.confirmed(),
            (Said::Error(error), Some(info)) => match greeting::forbidden(error) {
                Some(subject) => {
                    let why = format!("{}: {}", self.server.name, info.in_words(error, self.target.key.as_ref()));
                    self.forbid(subject, why)
                }
                None => Err(info.in_words(error, self.target.key.as_ref())),
            },
            (Said::Ok, _) => Ok(()),
        }
    }

    /// A server says something of itself again.
    fn hear_news(&mut self, info: Info) -> Result<(), String> {
        if let Some(bytes) = info.payload_max {
            self.server.set_payload_max(bytes);
        }
        // Where there is no other one, it is used for as long as it is there.
        if info.ends && self.target.urls.len() > 1 {
            return Err("it is about to end, and there are others".to_owned());
        }
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) -> Result<(), String> {
        match message.subscription {
            ANSWERS => return self.answered(message),
            INBOX => match self.canary.is_back(message.payload) {
                Some(sent) => self.server.pulse.heard(sent),
                None => {
                    if let Role::Live { deliver, .. } = self.role {
                        deliver.inbox(Bytes::copy_from_slice(message.payload));
                    }
                }
            },
            number => self.live(number, message),
        }
        Ok(())
    }

    /// A message on a topic's subject.
    fn live(&mut self, number: u64, message: &Message<'_>) {
        let Role::Live { deliver, .. } = self.role else { return };
        // What comes behind the end of a subscription was on its way.
        let Some(Subscription { topic, is_wanted, .. }) = self.topics.get(&number) else { return };
        let payload = || Bytes::copy_from_slice(message.payload);
        let Some((stream, sequence, before)) = api::place(message.headers) else {
            if *is_wanted {
                deliver.live(topic, payload(), None);
            }
            return;
        };
        let Some((stream, known)) = self.server.stream_named(stream) else {
            // It has been made again meanwhile, which shows in what is asked for now.
            if *is_wanted {
                deliver.doubtful(topic);
            }
            return;
        };
        stream.saw(sequence);
        // A topic's beginning has no content.
        if message.payload.is_empty() {
            return;
        }
        let stamp = Stamp { position: known.at(sequence), prev: known.at(before) };
        if *is_wanted {
            deliver.live(topic, payload(), Some(stamp));
        }
        let own = message.headers.get(api::OF).and_then(|mark| self.server.subjects.own(mark));
        if let Some(number) = own {
            self.copied(number, stamp);
        }
    }

    pub(super) fn nobody_is_there(&mut self, number: u64) {
        let is_it = |what: &What| matches!(what, What::Theirs { number: own, request: Some(super::Request::Send { .. }), .. } if *own == number);
        let waiting = self.waiting.iter_mut().map(|waiting| &mut waiting.what).find(|what| is_it(what));
        if let Some(What::Theirs { request, .. }) = waiting
            && let Some(request) = request.take()
        {
            request.end(Err(Undone::Gone));
        }
    }

    /// All that was written before a `PING` was handled.
    fn confirmed(&mut self) -> Result<(), String> {
        loop {
            let waiting = self.waiting.pop_front().ok_or("not NATS: it has answered what nobody asked")?;
            self.expired = self.expired.saturating_sub(1);
            match waiting.what {
                What::Ping(ping) => {
                    self.ponged(ping);
                    return Ok(());
                }
                What::Attach(_) => {}
                What::Theirs { request, number, size } => {
                    self.queue.settled(size);
                    if let Some(super::Request::Unsubscribe { .. }) = &request {
                        self.topics.remove(&number);
                    }
                    if let Some(request) = request {
                        request.end(Ok(()));
                    }
                }
            }
        }
    }

    fn ponged(&mut self, ping: Ping) {
        match (ping, &self.stage) {
            (Ping::Greeted, _) => self.begin_to_prepare(),
            (Ping::Attached, Stage::Attaching { topics: None, .. }) => self.is_up(),
            (Ping::Attached | Ping::Taken, _) => {}
        }
    }

    fn is_up(&mut self) {
        self.stage = Stage::Up;
        self.queue.refuse(None);
        if let Role::Live { deliver, .. } = self.role {
            self.canary.begin();
            self.server.pulse.is_up();
            deliver.link(LinkId(0), LinkState::Up { server: Arc::from(format!("nats {}", self.url)) });
        }
    }

    /// Something of this subject is not allowed.
    fn forbid(&mut self, subject: &str, why: String) -> Result<(), String> {
        if self.forbid_asked(subject, &why) {
            return Ok(());
        }
        let server = self.server;
        let is_it = |what: &What| match what {
            What::Theirs { request, .. } => request.as_ref().is_some_and(|request| request.is_of(server, subject)),
            What::Attach(topic) => server.subjects.live(topic) == subject,
            What::Ping(_) => false,
        };
        match self.waiting.iter_mut().map(|waiting| &mut waiting.what).find(|what| is_it(what)) {
            Some(What::Theirs { request, .. }) => {
                let Some(request) = request.take() else { return Ok(()) };
                if let super::Request::Subscribe { topic, .. } = &request {
                    // Nothing is to be made again.
                    self.attached.remove(topic);
                }
                request.end(Err(Undone::denied(why)));
                Ok(())
            }
            Some(What::Attach(topic)) => {
                self.attached.remove(&*topic);
                Ok(())
            }
            // The inbox and the answers, without which nothing works.
            _ => Err(why),
        }
    }
}
