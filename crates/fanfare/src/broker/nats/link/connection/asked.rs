//! What has been asked on a connection and is answered by messages: questions of whoever reads, and messages for logs.
//!
//! A message for a log is answered twice: by the server, that it is kept or why not, and by its copy, which all nodes get and which alone
//! says what is before it. So the topic is subscribed to meanwhile.

use std::sync::Arc;
use std::time::Instant;

use fanfare_proto::nats::{Message, write_line, write_message};

use super::super::super::api;
use super::super::super::request::{Append, Outcome, Request};
use super::super::super::subjects;
use super::streams::Question;
use super::{Connection, Subscription};
use crate::broker::{Stamp, Undone};

/// Of so many topics it is remembered that they have begun.
const BEGUN_MAX: usize = 65_536;

/// Something that was asked.
pub(super) enum Asked {
    /// By whoever reads.
    Theirs { request: Request, size: usize },
    /// A message for a log, while its topic has this subscription.
    Append { append: Append, size: usize, subscription: u64, is_kept: bool },
    /// By the connection itself.
    Own(Question),
}

impl Connection<'_> {
    /// Writes a question.
    pub(super) fn ask(&mut self, number: u64, request: Request, size: usize) {
        request.write(self.server, self.letter(), number, &mut self.buffered.out);
        // What it carries has gone.
        self.remember(number, Asked::Theirs { request, size });
    }

    /// Writes a message for a log.
    pub(super) fn append(&mut self, append: Append, size: usize) {
        let number = self.server.number();
        let topic = append.topic.clone();
        let subscription = self.subscription_for(&topic);
        if !self.begun.contains(&topic) {
            if self.begun.len() >= BEGUN_MAX {
                self.begun.clear();
            }
            self.begun.insert(topic);
            // It is kept only where the topic has nothing; nobody waits for the answer.
            write_message(&append.subject, None, &[(api::EXPECTED, "0")], b"", &mut self.buffered.out);
        }
        let mut request = Request::Append(append);
        if let Request::Append(append) = &mut request {
            append.headers.push((api::OF, self.server.subjects.mark(number)));
        }
        request.write(self.server, self.letter(), number, &mut self.buffered.out);
        if let Request::Append(append) = request {
            self.remember(number, Asked::Append { append, size, subscription, is_kept: false });
        }
    }

    pub(super) fn remember(&mut self, number: u64, asked: Asked) {
        self.asked.insert(number, asked);
        self.deadlines.push_back((Instant::now() + self.server.timeout, number));
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, message: &Message<'_>) -> Result<(), String> {
        let number = match message.reply.and_then(api::brought) {
            Some(brought) => subjects::number_of_reader(brought.reader),
            None => subjects::number_of(message.subject),
        };
        let Some(number) = number else { return Ok(()) };
        match self.asked.get_mut(&number) {
            Some(Asked::Theirs { request: Request::Ask { answered, .. }, size }) => {
                if answered(Ok(message)) {
                    self.queue.settled(*size);
                    self.asked.remove(&number);
                }
                Ok(())
            }
            Some(Asked::Append { .. }) => self.append_answered(number, message),
            Some(Asked::Own(_)) => match self.asked.remove(&number) {
                Some(Asked::Own(question)) => self.told(question, message),
                _ => Ok(()),
            },
            Some(Asked::Theirs { .. }) | None => {
                if message.headers.status() == Some(super::incoming::NOBODY) {
                    self.nobody_is_there(number);
                }
                Ok(())
            }
        }
    }

    fn append_answered(&mut self, number: u64, message: &Message<'_>) -> Result<(), String> {
        let outcome = match api::answer(message) {
            Err(refusal) if refusal.is_wrong_last() => Ok(Outcome::WrongLast),
            Err(refusal) => Err(refusal),
            Ok(answer) => {
                let kept = api::kept(&answer).and_then(|kept| Some((self.server.stream_named(&kept.stream)?, kept)));
                let Some(((stream, known), kept)) = kept else {
                    self.end_append(number, Err(Undone::unknown("it was kept in a stream that is none of ours")));
                    return Err("a topic is kept by another stream than before".to_owned());
                };
                stream.saw(kept.sequence);
                if !kept.is_double {
                    // Its copy says what is before it.
                    if let Some(Asked::Append { is_kept, .. }) = self.asked.get_mut(&number) {
                        *is_kept = true;
                    }
                    return Ok(());
                }
                Ok(Outcome::Repeated(known.at(kept.sequence)))
            }
        };
        match outcome {
            Ok(outcome) => self.end_append(number, Ok(outcome)),
            Err(refusal) => {
                self.end_append(number, Err(refusal.undone(&self.server.name)));
                if refusal.code == u64::from(super::incoming::NOBODY) {
                    return Err("the stream of a topic is gone".to_owned());
                }
            }
        }
        Ok(())
    }

    /// The copy of an own message has come.
    pub(super) fn copied(&mut self, number: u64, stamp: Stamp) {
        if let Some(Asked::Append { .. }) = self.asked.get(&number) {
            self.end_append(number, Ok(Outcome::New(stamp)));
        }
    }

    fn end_append(&mut self, number: u64, outcome: Result<Outcome, Undone>) {
        let Some(Asked::Append { append, size, subscription, .. }) = self.asked.remove(&number) else { return };
        self.queue.settled(size);
        self.let_go(subscription);
        (append.done)(outcome);
    }

    /// Tells those whose answers have not come in time.
    pub(super) fn expire_asked(&mut self, now: Instant) -> Result<(), String> {
        while let Some((_, number)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            let why = || {
                let server = self.server;
                Undone::unknown(format!("{} has not answered within {:?}", server.name, server.timeout))
            };
            match self.asked.get(&number) {
                Some(Asked::Append { is_kept, .. }) => {
                    let undone = match is_kept {
                        true => Undone::unknown("it was kept, and has not come back"),
                        false => why(),
                    };
                    self.end_append(number, Err(undone));
                }
                Some(Asked::Theirs { .. }) => {
                    let why = why();
                    if let Some(Asked::Theirs { request, size }) = self.asked.remove(&number) {
                        self.queue.settled(size);
                        request.end(Err(why));
                    }
                }
                Some(Asked::Own(_)) => return Err("its JetStream has not answered in time".to_owned()),
                None => {}
            }
        }
        Ok(())
    }

    /// Tells all that there will be no answers.
    pub(super) fn give_up_asked(&mut self, why: &Arc<str>) {
        for (_, asked) in std::mem::take(&mut self.asked) {
            match asked {
                Asked::Theirs { request, size } => {
                    self.queue.settled(size);
                    request.end(Err(Undone::Unknown(why.clone())));
                }
                Asked::Append { append, size, .. } => {
                    self.queue.settled(size);
                    (append.done)(Err(Undone::Unknown(why.clone())));
                }
                Asked::Own(_) => {}
            }
        }
    }

    /// Refuses what has asked something of a subject that is not allowed: whether there was something.
    pub(super) fn forbid_asked(&mut self, subject: &str, why: &str) -> bool {
        let found = self.asked.iter().find(|(_, asked)| match asked {
            Asked::Theirs { request, .. } => request.is_of(self.server, subject),
            Asked::Append { append, .. } => *append.subject == *subject,
            Asked::Own(_) => false,
        });
        let Some(number) = found.map(|(number, _)| *number) else { return false };
        match self.asked.remove(&number) {
            Some(Asked::Theirs { request, size }) => {
                self.queue.settled(size);
                request.end(Err(Undone::denied(why)));
            }
            Some(Asked::Append { append, size, subscription, .. }) => {
                self.queue.settled(size);
                self.let_go(subscription);
                (append.done)(Err(Undone::denied(why)));
            }
            Some(Asked::Own(_)) | None => {}
        }
        true
    }

    /// The subscription of a topic that something is appended to.
    fn subscription_for(&mut self, topic: &Arc<str>) -> u64 {
        let known = self.attached.get(topic).or_else(|| self.appending.get(topic)).copied();
        if let Some(number) = known
            && let Some(subscription) = self.topics.get_mut(&number)
        {
            subscription.appends += 1;
            return number;
        }
        self.numbered += 1;
        let number = self.numbered;
        self.appending.insert(topic.clone(), number);
        self.topics.insert(number, Subscription { topic: topic.clone(), is_wanted: false, appends: 1 });
        write_line(&["SUB", &self.server.subjects.live(topic), &number.to_string()], &mut self.buffered.out);
        number
    }

    /// One message less is appended to the topic of a subscription.
    fn let_go(&mut self, number: u64) {
        let Some(subscription) = self.topics.get_mut(&number) else { return };
        subscription.appends -= 1;
        if subscription.appends > 0 || subscription.is_wanted {
            return;
        }
        if let Some(subscription) = self.topics.remove(&number)
            && self.appending.get(&subscription.topic) == Some(&number)
        {
            self.appending.remove(&subscription.topic);
            write_line(&["UNSUB", &number.to_string()], &mut self.buffered.out);
        }
    }
}
