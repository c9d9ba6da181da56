//! From a source to the engine: in order, counted, and whatever is wrong with a message stays with that message.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare::Endpoint;

use super::Standing;
use super::route::{Route, Routed, Skip};
use crate::config::source::Source as Settings;
use crate::message::Message;

/// Hands the messages of one source to the engine.
pub(super) struct Publish {
    pub(super) standing: Arc<Standing>,
    endpoint: Endpoint,
    route: Route,
    message_size_max: usize,
    /// Where the last message went, if it was one topic.
    last_topic: Option<String>,
}

impl Publish {
    pub(super) fn new(endpoint: Endpoint, standing: Arc<Standing>, settings: &Settings) -> Self {
        let message_size_max = settings.message_size_max.0 as usize;
        Self { standing, endpoint, route: Route::new(settings), message_size_max, last_topic: None }
    }

    /// Takes a message from a channel.
    ///
    /// # Errors
    /// Nothing of it could be published, which has been counted.
    pub(super) async fn take(&mut self, channel: &str, body: &[u8]) -> Result<(), Skip> {
        self.standing.received.fetch_add(1, Ordering::Relaxed);
        let routed = self.fits(body.len()).and_then(|()| self.route.apply(channel, body));
        self.hand_over(routed).await
    }

    /// Takes one that is a message already, or why it is none; what is not to be published is counted.
    ///
    /// # Errors
    /// Why it is not.
    #[cfg(feature = "postgres")]
    pub(super) fn check(&mut self, message: Result<Message, Skip>) -> Result<Message, Skip> {
        self.standing.received.fetch_add(1, Ordering::Relaxed);
        let message = message.and_then(|message| self.fits(message.payload.size()).map(|()| message));
        message.inspect_err(|skip| self.standing.skip(*skip, 1))
    }

    /// Publishes what was checked.
    #[cfg(feature = "postgres")]
    pub(super) async fn take_checked(&mut self, message: Message) {
        // What is refused all the same has been counted, and there is nobody to tell.
        let _ = self.hand_over(Ok(Routed { messages: vec![message], bad_recipients: 0 })).await;
    }

    fn fits(&self, size: usize) -> Result<(), Skip> {
        if size > self.message_size_max { Err(Skip::TooLarge) } else { Ok(()) }
    }

    async fn hand_over(&mut self, routed: Result<Routed, Skip>) -> Result<(), Skip> {
        let published = match routed {
            Ok(routed) => {
                if routed.bad_recipients > 0 {
                    self.standing.skip(Skip::BadTopic, routed.bad_recipients);
                }
                self.publish(routed.messages).await
            }
            Err(skip) => Err(skip),
        };
        published.inspect_err(|skip| self.standing.skip(*skip, 1))
    }

    /// Publishes the messages that one became. A client that is in two topics gets what came first before what came
    /// second: within a topic that is so anyhow, across topics it takes a fence.
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), Skip> {
        let only = match &messages[..] {
            [] => return Ok(()),
            [only] => Some(&only.topic),
            _ => None,
        };
        if only.is_none() || only != self.last_topic.as_ref() {
            self.endpoint.fence();
            self.last_topic = only.cloned();
        }
        for message in messages {
            // What can be wrong with a message was checked; this is the engine's last word.
            message.publish(&self.endpoint).await.map_err(|_| Skip::Malformed)?;
            self.standing.published.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
