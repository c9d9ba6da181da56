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
    skips: Vec<Skip>,
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
        match self.fits(body.len()).and_then(|()| self.route.apply(channel, body)) {
            Ok(Routed { messages, bad_recipients }) => {
                Taken { left: messages.into(), bad_recipients, ..Taken::default() }
            }
            Err(skip) => Taken { skips: vec![skip], ..Taken::default() },
        }
    }

    /// Whether a message that is one already is not too large.
    #[cfg(feature = "postgres")]
    pub(super) fn check(&self, message: Result<Message, Skip>) -> Result<Message, Skip> {
        message.and_then(|message| self.fits(message.payload.size()).map(|()| message))
    }

    fn fits(&self, size: usize) -> Result<(), Skip> {
        if size > self.message_size_max { Err(Skip::TooLarge) } else { Ok(()) }
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
            if self.contracts.check(&message.topic, &message.event, &message.payload).await.is_err() {
                taken.skips.push(Skip::Schema);
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
                    Some(skip) => taken.skips.push(skip),
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
        taken.skips.iter().for_each(|skip| self.standing.skip(*skip, 1));
        taken.skips.first().map_or(Ok(()), |skip| Err(Refusal::Never(*skip)))
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
    pub(super) fn of(message: Result<Message, Skip>) -> Self {
        match message {
            Ok(message) => Self { left: [message].into(), ..Self::default() },
            Err(skip) => Self { skips: vec![skip], ..Self::default() },
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
