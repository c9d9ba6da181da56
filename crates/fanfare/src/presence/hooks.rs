//! What an application adds to a presence, and the workers that ask it.
//!
//! Each lock's topics have a worker of their own, so that a hook that waits delays few topics, and no more than one call for
//! each lock is under way.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use fanfare_proto::presence::{Extras, Presences, State};
use tokio::sync::oneshot;

use super::{Presence, send_diff};
use crate::endpoint::Endpoint;

/// What an application adds to a presence.
pub trait PresenceHooks: Send + Sync + 'static {
    /// Adds fields beside `metas` for these keys, in states and diffs alike. Called once per batch.
    fn fetch(&self, topic: &str, keys: Vec<String>) -> impl Future<Output = Extras> + Send {
        let _ = (topic, keys);
        async { Extras::new() }
    }

    /// Called after a diff was sent.
    fn handle_metas(&self, endpoint: &Endpoint, topic: &str, change: Change) -> impl Future<Output = ()> + Send {
        let _ = (endpoint, topic, change);
        async {}
    }
}

/// What a diff changed, and who is present after it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Change {
    /// The metas that joined.
    pub joins: Presences,
    /// The metas that left.
    pub leaves: Presences,
    /// All that are present now.
    pub present: Presences,
}

impl Presence {
    /// All who are present, with what hooks add. Who asks while they are being asked shares the next answer with all who do: a crowd that
    /// joins costs few calls, and few texts.
    pub(crate) async fn state_of_hooks(&self, endpoint: &Endpoint, topic: &Arc<str>) -> State {
        let Some(hooks) = &self.0.settings.hooks else { return State::default() };
        let answer = {
            let mut stripe = self.0.topics.of(topic);
            let Some(of_topic) = stripe.get_mut(topic) else { return State::default() };
            let (sender, answer) = oneshot::channel();
            of_topic.asking.push(sender);
            if !std::mem::replace(&mut of_topic.is_asked, true) {
                drop(endpoint.runtime().spawn(self.clone().answer(topic.clone(), hooks.clone())));
            }
            answer
        };
        // The topic is gone if nobody is present any more.
        answer.await.unwrap_or_default()
    }

    /// Answers those who ask for all of a topic, until nobody does.
    async fn answer(self, topic: Arc<str>, hooks: Arc<dyn AnyHooks>) {
        loop {
            let (asking, present) = {
                let mut stripe = self.0.topics.of(&topic);
                let Some(of_topic) = stripe.get_mut(&topic) else { return };
                if of_topic.asking.is_empty() {
                    of_topic.is_asked = false;
                    return;
                }
                (std::mem::take(&mut of_topic.asking), of_topic.present.list())
            };
            let keys: Vec<String> = present.iter().map(|(key, _)| key.to_owned()).collect();
            let extras = if keys.is_empty() { Extras::new() } else { hooks.fetch(&topic, keys).await };
            let state = State::from(&present.to_json(&extras));
            // Whoever asked may have gone.
            asking.into_iter().for_each(|waits| _ = waits.send(state.clone()));
        }
    }

    /// Tells of the topics of one lock until nothing is left: one worker at a time, so that diffs stay in order.
    pub(super) async fn work(self, endpoint: Endpoint, stripe: usize, hooks: Arc<dyn AnyHooks>) {
        loop {
            let next = self.0.topics.numbered(stripe).next_for_worker();
            let Some((topic, diff, present)) = next else { return };
            if diff.is_empty() {
                continue;
            }
            let keys: BTreeSet<String> =
                diff.joins.iter().chain(diff.leaves.iter()).map(|(key, _)| key.to_owned()).collect();
            let extras = hooks.fetch(&topic, keys.into_iter().collect()).await;
            send_diff(&endpoint, &topic, diff.clone(), &extras);
            let change = Change { joins: diff.joins, leaves: diff.leaves, present };
            hooks.handle_metas(&endpoint, &topic, change).await;
        }
    }
}

/// [`PresenceHooks`] behind a pointer. A hook that panics counts as one that adds nothing.
pub(super) trait AnyHooks: Send + Sync {
    fn fetch<'a>(&'a self, topic: &'a str, keys: Vec<String>) -> Pin<Box<dyn Future<Output = Extras> + Send + 'a>>;
    fn handle_metas<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        topic: &'a str,
        change: Change,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

impl<H: PresenceHooks> AnyHooks for H {
    fn fetch<'a>(&'a self, topic: &'a str, keys: Vec<String>) -> Pin<Box<dyn Future<Output = Extras> + Send + 'a>> {
        Box::pin(async move {
            crate::guard::guarded(pin!(PresenceHooks::fetch(self, topic, keys))).await.unwrap_or_else(|panic| {
                tracing::warn!(topic, panic, "the presence's fetch hook panicked");
                Extras::new()
            })
        })
    }

    fn handle_metas<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        topic: &'a str,
        change: Change,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let ran = crate::guard::guarded(pin!(PresenceHooks::handle_metas(self, endpoint, topic, change))).await;
            if let Err(panic) = ran {
                tracing::warn!(topic, panic, "the presence's handle_metas hook panicked");
            }
        })
    }
}
