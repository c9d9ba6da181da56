//! What a server sends: answers, confirmations, and messages.

use bytes::Bytes;
use fanfare_proto::resp::{Items, Value};

use super::super::super::moves::Lane;
use super::super::super::names::{Channel, Kind, Names, inbox_topic};
use super::super::super::request::{Redirected, Request, Subscribed};
use super::super::super::scripts::Live;
use super::super::super::slots::Redirection;
use super::super::standing::{self, Question};
use super::super::{LinkState, Role};
use super::{Confirmation, Connected, Stage, Waiting, What};
use crate::broker::Undone;

impl Connected<'_> {
    /// Reads once and handles it: whether there may be more.
    pub(super) fn read(&mut self) -> Result<bool, String> {
        if !self.buffered.read()? {
            return Ok(false);
        }
        let mut incoming = self.buffered.handle();
        let outcome = loop {
            match self.scanner.frame(incoming.rest()) {
                Ok(None) => break Ok(true),
                Ok(Some(size)) => {
                    let handled = self.handle(Value::read(&incoming.rest()[..size]));
                    incoming.pass(size);
                    if let Err(why) = handled {
                        break Err(why);
                    }
                }
                Err(fault) => break Err(fault.to_string()),
            }
        };
        self.buffered.handled(incoming);
        outcome
    }

    fn handle(&mut self, value: Value<'_>) -> Result<(), String> {
        match value {
            Value::Push(items) => self.pushed(items),
            value => self.answered(value),
        }
    }

    fn pushed(&mut self, mut items: Items<'_>) -> Result<(), String> {
        let mut text = || items.next().and_then(Value::text).unwrap_or_default();
        match (text(), text(), text()) {
            (b"smessage", channel, content) => {
                self.message(channel, content);
                Ok(())
            }
            (b"ssubscribe", ..) => self.confirmed(Confirmation::Subscribed),
            (b"sunsubscribe", channel, _) => {
                let asked = self.waiting.front().is_some_and(|waiting| waiting.ends(&self.server.names, channel));
                if asked { self.confirmed(Confirmation::Unsubscribed) } else { self.has_ended(channel) }
            }
            _ => Ok(()),
        }
    }

    /// The server has ended a subscription by itself: in a cluster, since its slot has gone.
    fn has_ended(&mut self, channel: &[u8]) -> Result<(), String> {
        match (self.server.names.channel(channel), self.moves) {
            (Some(Channel::Live(topic)), Some(moves)) => {
                if let Some((topic, _)) = self.attached.remove_entry(&*topic) {
                    moves.lost(&topic);
                }
                Ok(())
            }
            (Some(Channel::Inbox), Some(moves)) if channel != self.inbox => {
                let Role::Ordered { node, .. } = self.role else { return Ok(()) };
                if let Some((topic, _)) = self.attached.remove_entry(&*inbox_topic(*node)) {
                    moves.lost(&topic);
                }
                Ok(())
            }
            _ => {
                let channel = String::from_utf8_lossy(channel);
                Err(format!("it has ended the subscription to {channel:?}, which nobody asked for"))
            }
        }
    }

    fn message(&mut self, channel: &[u8], content: &[u8]) {
        let Role::Ordered { deliver, .. } = self.role else { return };
        match self.server.names.channel(channel) {
            Some(Channel::Live(topic)) => {
                for (envelope, stamp) in Live::read(content).into_iter().flatten() {
                    deliver.live(&topic, Bytes::copy_from_slice(envelope), stamp);
                }
            }
            Some(Channel::Inbox) => match self.canary.is_back(content) {
                Some(sent) => self.server.pulse.heard(sent),
                None => deliver.inbox(Bytes::copy_from_slice(content)),
            },
            None => {}
        }
    }

    fn confirmed(&mut self, confirmation: Confirmation) -> Result<(), String> {
        match self.waiting.front() {
            Some(waiting) if waiting.confirmation() == confirmation => self.answered(Value::Null),
            _ => Err("it has confirmed a subscription that nobody asked for".to_owned()),
        }
    }

    /// An answer to the oldest command that has none.
    fn answered(&mut self, value: Value<'_>) -> Result<(), String> {
        let waiting = self.waiting.pop_front().ok_or("it has answered what nobody asked")?;
        self.expired = self.expired.saturating_sub(1);
        let error = if let Value::Error(error) = value { Some(error) } else { None };
        if waiting.confirmation() != Confirmation::Answer && error.is_none() && value != Value::Null {
            return Err("it has answered a subscription like any command".to_owned());
        }
        let broken = match error {
            Some(error) if standing::is_of_the_server(error) => Err(standing::in_words(error)),
            _ => Ok(()),
        };
        match (waiting.what, error) {
            (What::Theirs { request, size, hops, .. }, error) => self.settle((request, hops), size, value, error),
            (What::Attach(confirmation, Some(topic)), Some(error)) if self.is_elsewhere(error) => {
                if confirmation == Confirmation::Subscribed
                    && self.attached.remove(&topic).is_some()
                    && let Some(moves) = self.moves
                {
                    moves.lost(&topic);
                }
            }
            // The command behind it says what is wrong.
            (What::Asking, _) => {}
            (What::Question(Question::PartMax), Some(_)) => {}
            (What::Question(question), None) => self.told(question, value)?,
            (What::AllAttached, None) => self.is_up(),
            (What::Attach(..) | What::Canary, None) => {}
            (_, Some(error)) => return Err(standing::in_words(error)),
        }
        broken
    }

    /// Whether an error says that the slot is, or will soon be, at another server of the cluster.
    fn is_elsewhere(&self, error: &[u8]) -> bool {
        self.moves.is_some() && (Redirection::read(error).is_some() || standing::code(error) == b"TRYAGAIN")
    }

    /// Hands a command on that another server has, if the error says so; otherwise it is given back.
    fn hand_on(&mut self, request: Request, hops: u8, size: usize, error: &[u8]) -> Option<Request> {
        let (Some(moves), Some(to)) = (self.moves, Redirection::read(error)) else { return Some(request) };
        self.queue.settled(size);
        match &request {
            // What has gone is not attached any more.
            Request::Unsubscribe { .. } => {
                request.answer(Ok(Value::Null));
                return None;
            }
            Request::Subscribe { topic, .. } => drop(self.attached.remove(topic)),
            _ => {}
        }
        let lane = if let Role::Ordered { .. } = self.role { Lane::Ordered } else { Lane::Bulk };
        moves.redirected(lane, Redirected { request, hops: hops + 1, asks: to.is_ask }, to);
        None
    }

    fn settle(&mut self, (request, hops): (Option<Request>, u8), size: usize, value: Value<'_>, error: Option<&[u8]>) {
        let Some(request) = request else { return self.queue.settled(size) };
        let request = match error {
            Some(error) => match self.hand_on(request, hops, size, error) {
                Some(request) => request,
                None => return,
            },
            None => request,
        };
        match error {
            Some(error) if standing::code(error) == b"NOSCRIPT" => {
                if self.unloaded.is_empty() {
                    tracing::info!(server = &*self.server.name, "the broker has lost the scripts");
                }
                self.unloaded.push(request);
            }
            Some(error) => {
                if let Request::Subscribe { topic, .. } = &request {
                    // Nothing is to be made again.
                    self.attached.remove(topic);
                }
                self.queue.settled(size);
                request.answer(Err(standing::undone(&self.server.name, error)));
            }
            None => {
                // A later message was added, so that earlier ones cannot be any more.
                if let Some(topic) = request.appends_to().filter(|_| !self.unloaded.is_empty()) {
                    let late = self.unloaded.extract_if(.., |earlier| earlier.appends_to() == Some(topic));
                    let why = "its script was lost, and a later message of the topic was kept first; publish it again";
                    late.for_each(|request| self.queue.undone(request, Undone::refused(why)));
                }
                self.queue.settled(size);
                if let (Request::Subscribe { topic, told: Subscribed::Moved, .. }, Role::Ordered { deliver, .. }) =
                    (&request, self.role)
                {
                    deliver.doubtful(topic);
                }
                request.answer(Ok(value));
            }
        }
    }

    /// Sends again what the server had no script for, once all that was sent before is answered.
    pub(super) fn reload(&mut self) {
        if self.unloaded.is_empty() || !self.waiting.iter().all(|waiting| waiting.is_over()) {
            return;
        }
        self.load_scripts();
        for request in std::mem::take(&mut self.unloaded) {
            self.send(request);
        }
    }

    /// How the server stands.
    fn told(&mut self, question: Question, answer: Value<'_>) -> Result<(), String> {
        let server = self.server;
        let is_first = matches!(self.stage, Stage::Asking { .. });
        match question {
            Question::Hello => standing::hello(answer)?,
            Question::Role => standing::role(answer)?,
            Question::PartMax => server.set_part_max(standing::part_max(answer).unwrap_or(usize::MAX)),
            Question::Session => {
                let session = standing::session(answer)?;
                if !is_first && session != server.session() {
                    return Err("it has been promoted or has begun again: its session is another one".to_owned());
                }
                server.set_session(session);
            }
            Question::Life(offered) => {
                let life = answer.text().map_or_else(|| offered.to_string().into_bytes(), <[u8]>::to_vec);
                if self.life.as_ref().is_some_and(|before| *before != life) {
                    return Err("it was flushed: what topics kept is gone".to_owned());
                }
                self.life = Some(life);
            }
            Question::Time(asked) => server.set_time(standing::time(answer)?, asked, std::time::Instant::now()),
            Question::Load(script) => {
                self.shas.set(script, answer.text().unwrap_or_default());
                let is_last = !self.waiting.iter().any(|waiting| matches!(waiting.what, What::Question(_)));
                if let (Stage::Asking { since }, true) = (&self.stage, is_last) {
                    self.begin_to_attach(*since);
                }
            }
        }
        Ok(())
    }

    fn is_up(&mut self) {
        self.stage = Stage::Up;
        self.queue.refuse(None);
        let server = self.server;
        if let Role::Ordered { id, deliver, .. } = self.role {
            self.canary.begin();
            server.pulse.is_up();
            deliver.link(*id, LinkState::Up { server: server.name.clone() });
        }
    }
}

impl Waiting {
    pub(super) fn confirmation(&self) -> Confirmation {
        match self.what {
            What::Theirs { confirmation, .. } | What::Attach(confirmation, _) => confirmation,
            What::AllAttached | What::Question(_) | What::Canary | What::Asking => Confirmation::Answer,
        }
    }

    /// Whether it asks for the end of the subscription to this channel.
    fn ends(&self, names: &Names, channel: &[u8]) -> bool {
        match &self.what {
            What::Theirs { request: Some(Request::Unsubscribe { topic, .. }), .. } => {
                names.of(Kind::Live, topic) == channel
            }
            _ => self.confirmation() == Confirmation::Unsubscribed,
        }
    }

    /// Whether nobody's command waits here.
    fn is_over(&self) -> bool {
        matches!(self.what, What::Asking | What::Canary | What::Question(_) | What::Theirs { request: None, .. })
    }
}
