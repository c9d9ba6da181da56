//! How a message gets from whoever publishes it to the shards: room is taken for it, it is kept where it is to be kept, and
//! each shard that has members of its topic gets it.
//!
//! Room is taken before anything else happens, so that nothing has to be taken back. **A publisher waits for the room of one
//! shard without holding that of another**: a shard that is full holds up those who publish to it and nobody else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fanfare_proto::event::{DISCONNECT, Reserved};
use fanfare_proto::history::Retention;
use fanfare_proto::payload::{IntoPayload, Payload};
use fanfare_proto::position::Since;
use fanfare_proto::topic::check_topic;
use tokio::sync::oneshot;

use super::Endpoint;
use super::traced::has_come_to;
use crate::broker::Undone;
use crate::cluster::refused;
use crate::error::Error;
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::figures::Appends;
use crate::history::{Accepted, Append, Replay, Settle, Store, Wanted};
use crate::interest::{ShardSet, Tick};
use crate::key::JoinId;
use crate::mailbox::{self, Command};
use crate::message::{Draft, Message};
use crate::policy::Policy;
use crate::publish::{Publish, Published, Publisher};
use crate::room::{Share, Waiting};
use crate::trace::OpenSpan;

/// What makes a message safe to publish again, and who publishes it.
#[derive(Debug)]
pub(crate) struct Once {
    pub(crate) key: Option<Box<str>>,
    pub(crate) expected: Option<Since>,
    /// Under whom it is counted.
    pub(crate) publisher: Publisher,
}

/// A message on its way.
pub(crate) enum Publishing {
    /// It has been handed out.
    Done,
    /// It is being kept, and will be handed out then.
    IsKept(oneshot::Receiver<Result<Published, Error>>),
    /// It waits for room.
    Waits(Pin<Box<dyn Future<Output = Result<Published, Error>> + Send>>),
}

impl Publishing {
    /// Waits until it has been handed out.
    pub(crate) async fn end(self) -> Result<Published, Error> {
        match self {
            Publishing::Done => Ok(Published { position: None, is_repeated: false }),
            Publishing::IsKept(published) => published
                .await
                .unwrap_or_else(|_| Err(Error::unavailable("the engine ended before the message was kept"))),
            Publishing::Waits(published) => published.await,
        }
    }
}

/// Room that a message has taken, given back where it does not come to be handed out.
struct Taken {
    endpoint: Endpoint,
    share: Share,
    shards: ShardSet,
    units: u32,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.endpoint.give_back(self.share, self.shards, self.units);
    }
}

impl Taken {
    /// It goes with the message from now on.
    fn into_parts(mut self) -> (ShardSet, u32) {
        (std::mem::replace(&mut self.shards, ShardSet::NONE), self.units)
    }
}

impl Endpoint {
    /// Sends an event to every join of a topic, with anything that serializes to a JSON object, or binary. Any event name passes, reserved ones included; `disconnect` is the command
    /// [`disconnect`](Endpoint::disconnect) for the sockets whose id the topic is. Where the topic keeps a history, this ends
    /// once the message is kept.
    ///
    /// # Errors
    /// The topic is empty, over 255 bytes or has control characters, the payload is neither an object nor binary, a binary
    /// payload's event is over 255 bytes, the message cannot be kept, or too much
    /// [waits](crate::Builder::publishing_waiting_max) to be published: nothing was sent.
    pub async fn broadcast(&self, topic: &str, event: &str, payload: impl IntoPayload) -> Result<(), Error> {
        self.publish(Publish::new(topic, event, payload)).await.map(drop)
    }

    /// Sends an event to every join of a topic but one, see [`Context::id`](crate::Context::id).
    ///
    /// # Errors
    /// As [`broadcast`](Endpoint::broadcast).
    pub async fn broadcast_from(
        &self,
        from: &JoinId,
        topic: &str,
        event: &str,
        payload: impl IntoPayload,
    ) -> Result<(), Error> {
        self.publish(Publish::new(topic, event, payload).except(from)).await.map(drop)
    }

    /// Publishes a message, and says where it stands in its topic's history.
    ///
    /// # Errors
    /// As [`broadcast`](Endpoint::broadcast); a message with a key or an expectation whose topic keeps no history; and a
    /// [conflict](Error::is_conflict) where the topic is not at the expected position.
    pub async fn publish(&self, publish: Publish) -> Result<Published, Error> {
        let Publish { topic, event, payload, except, key, expected, publisher } = publish;
        check_topic(&topic).map_err(|error| Error::invalid(error.to_string()))?;
        if &*event == DISCONNECT {
            self.disconnect(&topic).await;
            return Ok(Published { position: None, is_repeated: false });
        }
        if let Some(key) = key.as_ref().filter(|key| key.is_empty() || key.len() > Publish::KEY_SIZE_MAX) {
            let (size, max) = (key.len(), Publish::KEY_SIZE_MAX);
            return Err(Error::invalid(format!("the idempotency key has {size} bytes: use 1 to {max}")));
        }
        let payload = payload.map_err(Error::invalid)?;
        let draft = Draft::new(topic, event, payload)?;
        self.publish_draft(draft, except.as_ref(), Once { key, expected, publisher })?.end().await
    }

    /// Publishes a message, and ends once it is kept where it is to be kept.
    ///
    /// Nearly always nothing has to be waited for. What then has to be kept is in a box, so that the futures of channels' code,
    /// of which this is a part, stay small.
    pub(super) fn publish_as_it_is(
        &self,
        mut draft: Draft,
        except: Option<&JoinId>,
        Once { key, expected, publisher }: Once,
    ) -> Result<Publishing, Error> {
        self.is_born(&mut draft);
        let Some((store, retention)) = self.history_of(&draft) else {
            if key.is_some() || expected.is_some() {
                return Err(Error::invalid(format!(
                    "{:?} on {:?} is kept in no history, which a key and an expected position need: give the topic a policy \
                     with a history, or publish without them",
                    draft.event, draft.topic
                )));
            }
            if publisher == Publisher::Source && self.is_cut_off(&draft.topic) {
                // It tries again until all have it: those on this node are not to get it each time.
                return Err(Error::unavailable(
                    "the broker is away: the message waits until other nodes can get it as well",
                ));
            }
            self.can_go_abroad(&draft).map_err(|undone| refused(&undone))?;
            let abroad = self.is_among_others().then(|| draft.clone());
            return Ok(match self.try_hand_out(draft, except, publisher) {
                Ok(()) => abroad.map_or(Publishing::Done, |draft| Publishing::IsKept(self.send_abroad(&draft))),
                Err((full, draft)) => {
                    let (endpoint, except) = (self.clone(), except.copied());
                    Publishing::Waits(Box::pin(async move {
                        let taken = endpoint.wait_for_room(Share::Live, &draft, full).await?;
                        endpoint.hand_out(&draft.into_message(), except.as_ref(), Some(taken), publisher);
                        match abroad {
                            Some(draft) => Publishing::IsKept(endpoint.send_abroad(&draft)).end().await,
                            None => Ok(Published { position: None, is_repeated: false }),
                        }
                    }))
                }
            });
        };
        let except = except.copied();
        let keep = move |endpoint: &Endpoint, store: &Arc<dyn Store>, message: Draft, taken| {
            let append = endpoint.begin_append(&message);
            let (settle, published) = endpoint.settle(except, taken, publisher, append);
            store.append(Append { message, retention, key, expected, settle });
            Publishing::IsKept(published)
        };
        Ok(match self.try_take_room(Share::Kept, &draft) {
            Ok(taken) => keep(self, store, draft, taken),
            Err(full) => {
                let (endpoint, store) = (self.clone(), store.clone());
                Publishing::Waits(Box::pin(async move {
                    let taken = endpoint.wait_for_room(Share::Kept, &draft, full).await?;
                    keep(&endpoint, &store, draft, taken).end().await
                }))
            }
        })
    }

    /// Publishes a message of a client that is not answered, unless there is no room for it now. One that cannot be kept is
    /// counted.
    ///
    /// # Errors
    /// The message back. It can be [published as soon as there is room](Endpoint::publish_in_time).
    pub(crate) fn try_publish_unanswered(&self, mut draft: Draft) -> Result<(), Draft> {
        self.is_born(&mut draft);
        let Some((store, retention)) = self.history_of(&draft) else {
            if self.can_go_abroad(&draft).is_err() {
                return Ok(());
            }
            let abroad = self.is_among_others().then(|| draft.clone());
            self.try_hand_out(draft, None, Publisher::Hub).map_err(|(_, draft)| draft)?;
            if let Some(draft) = abroad {
                self.send_abroad_unanswered(&draft);
            }
            return Ok(());
        };
        match self.try_take_room(Share::Kept, &draft) {
            Ok(taken) => {
                self.keep_unanswered(store, retention, draft, taken);
                Ok(())
            }
            Err(_) => Err(draft),
        }
    }

    /// The same, as soon as there is room.
    pub(crate) async fn publish_in_time(self, draft: Draft) {
        let history = self.history_of(&draft);
        let share = if history.is_some() { Share::Kept } else { Share::Live };
        let taken = match self.try_take_room(share, &draft) {
            Ok(taken) => taken,
            Err(full) => self.take_room_in_line(share, &draft, full).await,
        };
        match history {
            None => {
                let abroad = self.is_among_others().then(|| draft.clone());
                self.hand_out(&draft.into_message(), None, Some(taken), Publisher::Hub);
                if let Some(draft) = abroad {
                    self.send_abroad_unanswered(&draft);
                }
            }
            Some((store, retention)) => self.keep_unanswered(store, retention, draft, taken),
        }
    }

    fn keep_unanswered(&self, store: &Arc<dyn Store>, retention: Retention, draft: Draft, taken: Taken) {
        let (endpoint, topic, began_us) = (self.clone(), draft.topic.clone(), self.clock().now_us());
        let settle: Settle = Box::new(move |accepted| {
            endpoint.is_settled(&accepted, began_us);
            match accepted {
                Ok(Accepted::New(message)) => endpoint.hand_out(&message, None, Some(taken), Publisher::Hub),
                Ok(Accepted::Repeated(_) | Accepted::Kept(_)) => {}
                Err(error) => {
                    let (kind, event, topic) = (Kind::Dropped, Event::NotKept, Some(&*topic));
                    let detail = format_args!(
                        "a message could not be kept in its topic's history and was not published: {error}"
                    );
                    let fact = Fact { kind, event, who: Who::default(), topic, code: None, detail };
                    fact.tell(endpoint.own_counters());
                }
            }
        });
        store.append(Append { message: draft, retention, key: None, expected: None, settle });
    }

    /// A message is published. What a client has sent is so from the moment on at which its shard began to read: that is nearer to
    /// the client, and costs no look at the clock.
    #[inline]
    fn is_born(&self, draft: &mut Draft) {
        let born_us = mailbox::turn_began_us(self.shards());
        draft.born_us = born_us.unwrap_or_else(|| self.clock().now_us().max(1));
    }

    /// Hands a message on whether there is room for it or not: one of the engine's own, of which there are few.
    pub(crate) fn dispatch(&self, message: &Arc<Message>, except: Option<&JoinId>) {
        self.hand_out(message, except, None, Publisher::Engine);
    }

    /// What a topic's history has for a reader who comes from somewhere, at most `limit` messages at a time: those that follow, or, where
    /// some of them are gone, the newest. With [`Since::Now`] it is the newest as well.
    ///
    /// # Errors
    /// The topic keeps no history, or it cannot be read now.
    pub async fn history(&self, topic: &str, since: Since, limit: usize) -> Result<Replay, Error> {
        check_topic(topic).map_err(|error| Error::invalid(error.to_string()))?;
        match (&self.0.history, self.policies().retention(topic)) {
            (Some(store), Some(_)) => {
                store.read(topic, Wanted { since, limit, bytes_max: usize::MAX, newest: limit }).await
            }
            _ => Err(Error::invalid(format!("the topic {topic:?} keeps no history: give it a policy with one"))),
        }
    }

    /// Lets topics keep as much as other policies for the same patterns say, from their next message on. What else is in these policies changes
    /// nothing, nor does a history where there was none. With a NATS between nodes, where a topic's log belongs to a stream by how much it
    /// keeps, all nodes have to be started with the new policies instead.
    pub fn replace_retentions(&self, policies: &[(String, Policy)]) {
        self.policies().keep(policies);
    }

    /// The store that keeps a message, and how much of its topic.
    fn history_of(&self, draft: &Draft) -> Option<(&Arc<dyn Store>, Retention)> {
        let store = self.0.history.as_ref()?;
        let retention = self.policies().retention(&draft.topic)?;
        // What is reserved means nothing later.
        Reserved::of(&draft.event).is_none().then_some((store, retention))
    }

    /// What hands a message on once it is kept, and then says where.
    fn settle(
        &self,
        except: Option<JoinId>,
        taken: Taken,
        publisher: Publisher,
        mut append: Option<OpenSpan>,
    ) -> (Settle, oneshot::Receiver<Result<Published, Error>>) {
        let (endpoint, began_us) = (self.clone(), self.clock().now_us());
        let (done, published) = oneshot::channel();
        let settle: Settle = Box::new(move |accepted| {
            endpoint.is_settled(&accepted, began_us);
            let published = accepted.map(|accepted| match accepted {
                Accepted::New(message) => {
                    endpoint.hand_out(&message, except.as_ref(), Some(taken), publisher);
                    Published { position: message.position(), is_repeated: false }
                }
                Accepted::Repeated(position) => Published { position: Some(position), is_repeated: true },
                Accepted::Kept(position) => Published { position: Some(position), is_repeated: false },
            });
            if let Some(mut append) = append.take() {
                has_come_to(&mut append, &published);
            }
            // Whoever published may not wait for the answer.
            let _ = done.send(published);
        });
        (settle, published)
    }

    /// Whether the broker can carry a message to other nodes: if not, the members here are not to have it either, and it is counted.
    fn can_go_abroad(&self, draft: &Draft) -> Result<(), Undone> {
        let Some(cluster) = &self.0.cluster else { return Ok(()) };
        cluster.carries(draft).inspect_err(|undone| undone.note(&draft.topic, self.own_counters()))
    }

    /// Counts what has become of a message that was to be kept.
    fn is_settled(&self, accepted: &Result<Accepted, Error>, began_us: u64) {
        let Appends { repeated, failed, took } = &self.figures().appends;
        match accepted {
            Ok(Accepted::New(_) | Accepted::Kept(_)) => {}
            Ok(Accepted::Repeated(_)) => drop(repeated.fetch_add(1, Ordering::Relaxed)),
            Err(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
        }
        took.observe(self.clock().now_us().saturating_sub(began_us));
    }

    /// Gives a message that its members here have to the other nodes. Ends when the broker has it.
    fn send_abroad(&self, draft: &Draft) -> oneshot::Receiver<Result<Published, Error>> {
        let (done, published) = oneshot::channel();
        self.send_abroad_then(draft, move |sent| {
            let result = sent.map(|()| Published { position: None, is_repeated: false });
            // Whoever published may not wait for the answer.
            let _ = done.send(result.map_err(|undone| only_here(&undone)));
        });
        published
    }

    /// The same for a message whose publisher is not answered.
    fn send_abroad_unanswered(&self, draft: &Draft) {
        self.send_abroad_then(draft, |_| {});
    }

    /// Counts what the broker has not taken, and tells what became of the message.
    fn send_abroad_then(&self, draft: &Draft, tell: impl FnOnce(Result<(), Undone>) + Send + 'static) {
        let Some(cluster) = &self.0.cluster else { return };
        let (counters, topic) = (self.clone(), draft.topic.clone());
        let done = move |sent: Result<(), Undone>| {
            if let Err(undone) = &sent {
                undone.note(&topic, counters.own_counters());
            }
            tell(sent);
        };
        cluster.publish(draft, Box::new(done));
    }

    /// Hands on what another node has published. Nobody waits for room: where there is none, it takes none.
    pub(super) fn hand_out_from_afar(&self, message: &Arc<Message>) {
        let (interested, at) = self.interest().shards_of(&message.topic);
        let units = self.units(&message.event, &message.payload);
        let share = if message.stamp.is_some() { Share::Kept } else { Share::Live };
        let has_room = if self.try_take(share, interested, units).is_ok() { interested } else { ShardSet::NONE };
        self.count_published(&message.topic, Publisher::Node);
        self.hand_to(interested, at, message, None, (has_room, units));
    }

    /// Hands a message to the shards that have members of its topic, if all of them have room.
    ///
    /// # Errors
    /// The first that has none, and the message back.
    fn try_hand_out(&self, draft: Draft, except: Option<&JoinId>, publisher: Publisher) -> Result<(), (usize, Draft)> {
        let (interested, at) = self.interest().shards_of(&draft.topic);
        let units = self.units(&draft.event, &draft.payload);
        match self.try_take(Share::Live, interested, units) {
            Ok(()) => {
                self.count_published(&draft.topic, publisher);
                self.hand_to(interested, at, &draft.into_message(), except, (interested, units));
                Ok(())
            }
            Err(full) => Err((full, draft)),
        }
    }

    /// The same with room that was taken for it. Shards that have got members of its topic since get it without, and those that
    /// have none any more get their room back.
    fn hand_out(&self, message: &Arc<Message>, except: Option<&JoinId>, taken: Option<Taken>, publisher: Publisher) {
        let (interested, at) = self.interest().shards_of(&message.topic);
        let (has_room, units) = taken.map_or((ShardSet::NONE, 0), Taken::into_parts);
        let share = if message.stamp.is_some() { Share::Kept } else { Share::Live };
        self.give_back(share, has_room.without(interested), units);
        self.count_published(&message.topic, publisher);
        self.hand_to(interested, at, message, except, (has_room, units));
    }

    #[inline]
    fn count_published(&self, topic: &str, publisher: Publisher) {
        self.0.published[self.labels().of(topic)][publisher as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many messages have been published to topics of a channel.
    #[cfg(feature = "metrics")]
    pub(super) fn published(&self, channel: usize, publisher: Publisher) -> u64 {
        self.0.published[channel][publisher as usize].load(Ordering::Relaxed)
    }

    /// `except` is the join that does not get it.
    #[inline]
    fn hand_to(
        &self,
        interested: ShardSet,
        at: Tick,
        message: &Arc<Message>,
        except: Option<&JoinId>,
        (has_room, units): (ShardSet, u32),
    ) {
        if self.0.surroundings.taps.is_any() {
            self.0.surroundings.taps.published(message);
        }
        for (number, shard) in self.shards().iter().enumerate().filter(|&(number, _)| interested.contains(number)) {
            let except = except.filter(|id| usize::from(id.shard) == number).map(|id| id.join);
            let units = if has_room.contains(number) { units } else { 0 };
            shard.send_in(Command::Publish { message: message.clone(), at, except }, units);
        }
    }

    fn units(&self, event: &str, payload: &Payload) -> u32 {
        self.0.surroundings.waiting.units(event.len() + payload.size())
    }

    /// Takes room on all of these shards.
    ///
    /// # Errors
    /// The first that has none: nothing is taken.
    #[inline]
    fn try_take(&self, share: Share, shards: ShardSet, units: u32) -> Result<(), usize> {
        for (number, shard) in self.shards().iter().enumerate().filter(|&(number, _)| shards.contains(number)) {
            if !shard.room(share).try_take(units) {
                self.give_back(share, shards.below(number), units);
                return Err(number);
            }
        }
        Ok(())
    }

    fn give_back(&self, share: Share, shards: ShardSet, units: u32) {
        if shards != ShardSet::NONE {
            let shards = self.shards().iter().enumerate().filter(|&(number, _)| shards.contains(number));
            shards.for_each(|(_, shard)| shard.room(share).give_back(units as usize));
        }
    }

    fn try_take_room(&self, share: Share, draft: &Draft) -> Result<Taken, usize> {
        let (shards, _) = self.interest().shards_of(&draft.topic);
        let units = self.units(&draft.event, &draft.payload);
        self.try_take(share, shards, units).map(|()| Taken { endpoint: self.clone(), share, shards, units })
    }

    /// Room for a message, in the line of a shard that had none, and for no longer than publishers wait.
    async fn wait_for_room(&self, share: Share, draft: &Draft, full: usize) -> Result<Taken, Error> {
        tokio::select! {
            biased;
            taken = self.take_room_in_line(share, draft, full) => Ok(taken),
            () = self.clock().sleep(self.0.publishing_timeout) => {
                let Waiting { messages_max, bytes_max } = self.0.surroundings.waiting;
                let told = format!(
                    "{messages_max} messages or {bytes_max} bytes wait to be published (publishing_waiting_max, \
                     publishing_waiting_bytes_max): publish again later"
                );
                let (kind, event, topic) = (Kind::Dropped, Event::PublishingFull, Some(&*draft.topic));
                let detail = format_args!("{told}");
                Fact { kind, event, who: Who::default(), topic, code: None, detail }.note(self.own_counters(), 1);
                Err(Error::unavailable(told))
            }
        }
    }

    async fn take_room_in_line(&self, share: Share, draft: &Draft, mut full: usize) -> Taken {
        let units = self.units(&draft.event, &draft.payload);
        loop {
            self.shards()[full].room(share).take(units).await;
            let got = ShardSet::of(full);
            let (shards, _) = self.interest().shards_of(&draft.topic);
            match self.try_take(share, shards.without(got), units) {
                Ok(()) => return Taken { endpoint: self.clone(), share, shards: shards.with(got), units },
                Err(other) => {
                    self.give_back(share, got, units);
                    full = other;
                }
            }
        }
    }
}

/// The error of a message that its members on this node have, and perhaps no others.
fn only_here(undone: &Undone) -> Error {
    match undone {
        Undone::Refused(_) | Undone::Impossible(_) | Undone::Denied(_) | Undone::Gone => Error::only_here(format!(
            "the message has reached the members on this node only: {undone}; what is published again reaches these twice"
        )),
        Undone::Unknown(_) => Error::unknown(format!(
            "the message has reached the members on this node, and was {undone}; what is published again may come twice"
        )),
    }
}
