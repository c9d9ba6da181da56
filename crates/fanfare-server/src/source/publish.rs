//! From a source to the engine: in order, and counted. What is wrong with a message stays with that message; where the
//! engine takes nothing for now, the message and those that follow it wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare::{Endpoint, Error, Publisher};

use super::route::{Route, Routed, Skip};
use super::{Backoff, Standing, Stop, stopped};
use crate::config::source::Source as Settings;
use crate::contract::Contracts;
use crate::message::Message;

/// Hands the messages of one source to the engine.
pub(super) struct Publish {
    pub(super) standing: Arc<Standing>,
    endpoint: Endpoint,
    contracts: Contracts,
    route: Route,
    message_size_max: usize,
    /// Where the last message went, if it was one topic.
    last_topic: Option<String>,
    /// Grows while the engine takes nothing.
    backoff: Backoff,
}

/// A message that came, and what of it is still to be published.
#[derive(Debug, Default)]
pub(super) struct Taken {
    left: VecDeque<Message>,
    bad_recipients: u64,
    /// What is wrong with it, or with parts of it.
    flaws: Vec<Flaw>,
}

/// Why a message, or a part of it, can never be published.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) skip: Skip,
    topic: Option<String>,
    /// The value and what is allowed, for whoever asks why; never what was in the message.
    detail: Option<String>,
}

impl From<Skip> for Flaw {
    fn from(skip: Skip) -> Self {
        Self { skip, topic: None, detail: None }
    }
}

/// Why a message was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It never can be, or a part of it: this was counted, and the next one's turn has come.
    Never(Skip),
    /// The engine takes nothing now. The same message is to be tried again, before any other.
    NotNow,
}

impl Publish {
    pub(super) fn new(endpoint: Endpoint, contracts: Contracts, standing: Arc<Standing>, settings: &Settings) -> Self {
        let message_size_max = settings.message_size_max.0 as usize;
        let (route, backoff) = (Route::new(settings), Backoff::default());
        Self { standing, endpoint, contracts, route, message_size_max, last_topic: None, backoff }
    }

    /// What a message from a channel becomes.
    pub(super) fn take(&self, channel: &str, body: &[u8]) -> Taken {
        let routed = self.fits(body.len()).and_then(|()| Ok(self.route.apply(channel, body)?));
        match routed {
            Ok(Routed { messages, bad_recipients }) => {
                Taken { left: messages.into(), bad_recipients, ..Taken::default() }
            }
            Err(flaw) => Taken { flaws: vec![flaw], ..Taken::default() },
        }
    }

    /// Whether a message that is one already is not too large.
    #[cfg(feature = "postgres")]
    pub(super) fn check(&self, message: Result<Message, Skip>) -> Result<Message, Flaw> {
        let message = message?;
        match self.fits(message.payload.size()) {
            Ok(()) => Ok(message),
            Err(flaw) => Err(Flaw { topic: Some(message.topic), ..flaw }),
        }
    }

    fn fits(&self, size: usize) -> Result<(), Flaw> {
        let max = self.message_size_max;
        let detail = || format!("it has {size} bytes, more than message_size_max of the source, which is {max}");
        if size > max { Err(Flaw { detail: Some(detail()), ..Skip::TooLarge.into() }) } else { Ok(()) }
    }

    /// Counts what can never be published, and keeps it for whoever asks why.
    fn skip(&self, flaw: &Flaw) {
        let Flaw { skip, topic, detail } = flaw;
        self.standing.skip(*skip, 1);
        let detail = detail.as_deref().unwrap_or(skip.about());
        let text =
            format!("a message of the source {:?} was skipped ({}): {detail}", self.standing.name, skip.reason());
        self.endpoint.source_skipped(topic.as_deref(), &text);
    }

    /// Publishes what is left of a message. A client that is in two topics gets what came first before what came second:
    /// within a topic that is so anyhow, across topics it takes a fence.
    ///
    /// # Errors
    /// It, or a part of it, was not published.
    pub(super) async fn publish(&mut self, taken: &mut Taken) -> Result<(), Refusal> {
        if let Some(first) = taken.left.front() {
            let only = (taken.left.len() == 1).then_some(&first.topic);
            if only.is_none() || only != self.last_topic.as_ref() {
                self.endpoint.fence();
                self.last_topic = only.cloned();
            }
        }
        while let Some(message) = taken.left.front() {
            if let Err(misfit) = self.contracts.check(&message.topic, &message.event, &message.payload).await {
                let (topic, detail) = (Some(message.topic.clone()), Some(misfit.text()));
                taken.flaws.push(Flaw { skip: Skip::Schema, topic, detail });
                taken.left.pop_front();
                continue;
            }
            match message.publish(&self.endpoint, Publisher::Source).await {
                Ok(_) => {
                    self.standing.published.fetch_add(1, Ordering::Relaxed);
                    self.standing.goes_on();
                    self.backoff = Backoff::default();
                }
                Err(error) => match lasting(&error) {
                    Some(skip) => {
                        let (topic, detail) = (Some(message.topic.clone()), Some(error.to_string()));
                        taken.flaws.push(Flaw { skip, topic, detail });
                    }
                    None => {
                        self.standing.waits(&error);
                        return Err(Refusal::NotNow);
                    }
                },
            }
            taken.left.pop_front();
        }
        self.standing.received.fetch_add(1, Ordering::Relaxed);
        if taken.bad_recipients > 0 {
            self.standing.skip(Skip::BadTopic, taken.bad_recipients);
        }
        taken.flaws.iter().for_each(|flaw| self.skip(flaw));
        taken.flaws.first().map_or(Ok(()), |flaw| Err(Refusal::Never(flaw.skip)))
    }

    /// Publishes a message as soon as the engine takes it. What is wrong with it has been counted, and there is nobody to
    /// tell. `false`: the server stops, and something of it is left.
    pub(super) async fn publish_in_time(&mut self, mut taken: Taken, stop: &mut Stop) -> bool {
        while self.publish(&mut taken).await == Err(Refusal::NotNow) {
            if *stop.borrow() {
                return false;
            }
            self.pause(stop).await;
        }
        true
    }

    /// Waits before the next attempt, longer each time, but not when the server stops.
    pub(super) async fn pause(&mut self, stop: &mut Stop) {
        tokio::select! {
            () = tokio::time::sleep(self.backoff.next()) => {}
            () = stopped(stop) => {}
        }
    }
}

impl Taken {
    /// One that is a message already, or why it is none.
    #[cfg(feature = "postgres")]
    pub(super) fn of(message: Result<Message, Flaw>) -> Self {
        match message {
            Ok(message) => Self { left: [message].into(), ..Self::default() },
            Err(flaw) => Self { flaws: vec![flaw], ..Self::default() },
        }
    }
}

/// Why a message cannot be published now or later; `None` where it may be later. What nobody has foreseen counts as the
/// latter: a source that waits is seen, and a message that was left out is gone.
fn lasting(error: &Error) -> Option<Skip> {
    match () {
        () if error.is_conflict() => Some(Skip::Conflict),
        () if error.is_invalid() => Some(Skip::Malformed),
        () => None,
    }
}
