//! Topic → members, and the batches that fan out: one hub a shard.
//!
//! The hub knows members by number and frames as bytes, neither sockets nor channels. A publish costs the topic one push;
//! what is published until the shard flushes is put together once per variant and leaves in one write per member. A member
//! that needs something of its own in between (a reply, an exclusion) is *settled* first, so that its order holds.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fanfare_proto::position::Position;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use slab::Slab;

use crate::event::Cell;
use crate::figures::{Figures, Flushed, OfChannel};
use crate::interest::{Interest, Tick};
use crate::message::{Message, Variant};
use crate::policy::{Policies, Slow};

mod deltas;

use deltas::Deltas;

/// Where a member stands. Changes when another member leaves: [`Hub::leave`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic: u32,
    pub(crate) position: u32,
}

/// Who a member is, in the shard's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberId {
    /// The socket's index in the shard.
    pub(crate) socket: u32,
    /// The join's serial in the socket.
    pub(crate) serial: u32,
}

/// How messages reach a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As bytes of this variant that members share, in batches.
    Shared(Variant),
    /// As bytes, but its channel wants to see some events first.
    Intercepted(Variant),
    /// Each message by itself: a channel that subscribed, an in-process socket.
    Each,
    /// The same for a member that is still reading the topic's history, to become another kind when it has caught up.
    Held,
}

/// What a member does with a message that it was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    /// It gets it with the others.
    Batch,
    /// It gets it by itself.
    Alone,
    /// It does not get it.
    Skip,
    /// It is asked again, and from now on reached like this.
    Follow(Reach),
}

#[derive(Debug)]
struct Member {
    id: MemberId,
    reach: Reach,
    /// So many messages of the topic's batch are behind this member.
    passed: u32,
}

/// A flush walks over all members of a topic: four of them share a cache line.
const _: () = assert!(size_of::<Member>() == 16);

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    members: Vec<Member>,
    /// Messages from before have no reader here.
    since: Tick,
    /// Published and not yet flushed.
    batch: Vec<Arc<Message>>,
    /// How many members are not plain `Shared`.
    special: u32,
    /// Position and number of the newest message with both that was published here.
    last: Option<(Position, u64)>,
    /// What happens where a reader is slow, unless its socket is closed.
    slow: Option<Arc<Slow>>,
    /// What members have asked for that want differences, if the topic tells them.
    deltas: Option<Box<Deltas>>,
    /// Under which channel it is counted.
    label: u32,
    flow: Flow,
}

/// What has passed through a topic of a shard since it has members there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flow {
    pub(crate) published: u64,
    /// One for each member that a message was handed to in a batch.
    pub(crate) delivered: u64,
    pub(crate) bytes: u64,
}

/// Some messages for one member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frames<'a> {
    pub(crate) bytes: &'a Bytes,
    pub(crate) messages: &'a [Arc<Message>],
    pub(crate) variant: Variant,
    /// What happens to them where the member is slow, unless its socket is closed.
    pub(crate) slow: Option<&'a Arc<Slow>>,
    /// They are taken only if nothing of them can come to give way; whoever does not says so, and is offered others.
    pub(crate) at_once: bool,
}

/// The same, kept for later.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) member: MemberId,
    pub(crate) what: Due,
}

/// Frames that a member is to get.
#[derive(Debug)]
pub(crate) enum Due {
    /// So many, or its socket is closed.
    Whole(Bytes, usize),
    /// One that may give way.
    Yielding(Arc<Message>, Variant, Arc<Slow>),
}

impl Frames<'_> {
    /// Keeps them for later.
    pub(crate) fn keep_for(self, member: MemberId, kept: &mut Vec<Settled>) {
        match self.slow {
            None => kept.push(Settled { member, what: Due::Whole(self.bytes.clone(), self.messages.len()) }),
            Some(slow) => {
                kept.extend(self.messages.iter().map(|message| Settled {
                    member,
                    what: Due::Yielding(message.clone(), self.variant, slow.clone()),
                }))
            }
        }
    }
}

/// The topics of one shard. A topic exists while it has members.
#[derive(Debug)]
pub(crate) struct Hub {
    /// The shard's number, under which the topics that exist here are known to the others.
    shard: usize,
    interest: Arc<Interest>,
    policies: Arc<Policies>,
    figures: Arc<Figures>,
    by_name: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    topics: Slab<Topic>,
    /// The topics that have a batch.
    dirty: Vec<u32>,
    /// A batch as each variant has it, while it is handed out. Kept, since most topics have members of one variant only.
    whole: Box<[Whole; Variant::COUNT]>,
}

/// A batch in one variant.
#[derive(Debug, Default)]
struct Whole {
    bytes: Option<Bytes>,
    /// How many members have got it.
    shares: u64,
}

impl Hub {
    /// The hub of the shard with this number.
    pub(crate) fn new(shard: usize, interest: Arc<Interest>, policies: Arc<Policies>, figures: Arc<Figures>) -> Self {
        Hub {
            shard,
            interest,
            policies,
            figures,
            by_name: HashMap::default(),
            topics: Slab::new(),
            dirty: Vec::new(),
            whole: Box::default(),
        }
    }

    /// The shared name of a topic, if it has members here.
    pub(crate) fn interned(&self, topic: &str) -> Option<Arc<str>> {
        Some(self.topics[self.topic(topic)? as usize].name.clone())
    }

    /// Adds a member. What was published before does not reach it, unless that is due since an earlier time from which on
    /// this shard has been interested.
    pub(crate) fn join(&mut self, topic: &Arc<str>, id: MemberId, reach: Reach, since: Option<Tick>) -> Place {
        let index = match self.by_name.entry(topic.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                let since = since.unwrap_or_else(|| self.interest.enter(self.shard, topic));
                let empty = Topic {
                    name: topic.clone(),
                    members: Vec::new(),
                    since,
                    batch: Vec::new(),
                    special: 0,
                    last: None,
                    slow: self.policies.slow(topic).cloned(),
                    deltas: self.policies.delta(topic).map(|key| Box::new(Deltas::new(key.clone()))),
                    label: self.figures.labels.of(topic) as u32,
                    flow: Flow::default(),
                };
                self.figures.channels[empty.label as usize].topics.add(1);
                let index = self.topics.insert(empty) as u32;
                *unknown.insert(index)
            }
        };
        let entry = &mut self.topics[index as usize];
        entry.special += u32::from(!matches!(reach, Reach::Shared(_)));
        if entry.members.capacity() == 0 {
            // Many topics have one member; the default growth would reserve four.
            entry.members.reserve_exact(1);
        }
        self.figures.channels[entry.label as usize].members.add(1);
        entry.members.push(Member { id, reach, passed: entry.batch.len() as u32 });
        if let Some(deltas) = &mut entry.deltas {
            deltas.enter();
        }
        Place { topic: index, position: entry.members.len() as u32 - 1 }
    }

    /// Removes a member; settle it first if it shall have what was published. Returns the member that took its place,
    /// and the position from which it came.
    pub(crate) fn leave(&mut self, place: Place) -> Option<(MemberId, u32)> {
        let topic = &mut self.topics[place.topic as usize];
        let left = topic.members.swap_remove(place.position as usize);
        topic.special -= u32::from(!matches!(left.reach, Reach::Shared(_)));
        if let Some(deltas) = &mut topic.deltas {
            deltas.leave(place.position as usize);
        }
        let figures = &self.figures.channels[topic.label as usize];
        figures.members.subtract(1);
        if topic.members.is_empty() {
            figures.topics.subtract(1);
            let topic = self.topics.remove(place.topic as usize);
            self.by_name.remove(&*topic.name);
            self.interest.leave(self.shard, &topic.name);
            if !topic.batch.is_empty() {
                self.dirty.retain(|&dirty| dirty != place.topic);
            }
            return None;
        }
        if topic.members.len() * 4 < topic.members.capacity() {
            topic.members.shrink_to(topic.members.len() * 2);
        }
        let from = topic.members.len() as u32;
        topic.members.get(place.position as usize).map(|moved| (moved.id, from))
    }

    /// A member asks for differences, of a topic that tells them.
    pub(crate) fn wants_deltas(&mut self, place: Place) {
        if let Some(deltas) = &mut self.topics[place.topic as usize].deltas {
            deltas.wanted_by(place.position as usize);
        }
    }

    /// Whether a topic has members here.
    pub(crate) fn has_members(&self, topic: &str) -> bool {
        self.topic(topic).is_some()
    }

    /// What is counted for the channel of a place's topic.
    pub(crate) fn figures_of(&self, place: Place) -> &OfChannel {
        &self.figures.channels[self.topics[place.topic as usize].label as usize]
    }

    /// Whether nobody else is in a place's topic.
    pub(crate) fn is_alone(&self, place: Place) -> bool {
        self.topics[place.topic as usize].members.len() == 1
    }

    /// Whether a place is in this topic.
    pub(crate) fn is_at(&self, place: Place, topic: &str) -> bool {
        **self.name(place) == *topic
    }

    /// The topic that a place is in.
    pub(crate) fn name(&self, place: Place) -> &Arc<str> {
        &self.topics[place.topic as usize].name
    }

    /// What happens to messages in a place's topic where a reader is slow, unless its socket is closed.
    pub(crate) fn slow(&self, place: Place) -> Option<&Arc<Slow>> {
        self.topics[place.topic as usize].slow.as_ref()
    }

    /// Adds a message to its topic's batch, and asks `each` what members do with it that are not plain `Shared`.
    ///
    /// `except` and the members that do not take it with the others are passed over by the batch; what was published before
    /// is handed out for them through `settled`, so that it stays ahead. `at` is when it was published. Whether it has members here.
    pub(crate) fn publish(
        &mut self,
        message: &Arc<Message>,
        at: Tick,
        except: Option<Place>,
        mut settled: impl FnMut(MemberId, Frames<'_>),
        mut each: impl FnMut(MemberId, Reach) -> Take,
    ) -> bool {
        let Some(index) = self.topic(&message.topic) else { return false };
        let topic = &mut self.topics[index as usize];
        if at < topic.since {
            return false;
        }
        let except = except.filter(|place| place.topic == index).map(|place| place.position as usize);
        let behind = topic.batch.len() as u32 + 1;
        let slow = topic.slow.as_ref();
        let delivered = &self.figures.channels[topic.label as usize].delivered;
        let mut pass = |member: &mut Member, batch: &[Arc<Message>]| {
            settle(member, batch, slow, (delivered, &mut topic.flow), &mut settled);
            member.passed = behind;
        };
        if let Some(position) = except {
            pass(&mut topic.members[position], &topic.batch);
            if let Some(deltas) = &mut topic.deltas {
                deltas.misses(position);
            }
        }
        if topic.special > 0 {
            for (position, member) in topic.members.iter_mut().enumerate() {
                if Some(position) == except || matches!(member.reach, Reach::Shared(_)) {
                    continue;
                }
                let mut take = each(member.id, member.reach);
                if let Take::Follow(reach) = take {
                    topic.special -= u32::from(matches!(reach, Reach::Shared(_)));
                    member.reach = reach;
                    if let Some(deltas) = &mut topic.deltas {
                        deltas.follows(position);
                    }
                    take = if matches!(reach, Reach::Shared(_)) { Take::Batch } else { each(member.id, reach) };
                }
                if take != Take::Batch {
                    pass(member, &topic.batch);
                }
            }
        }
        if topic.batch.is_empty() {
            self.dirty.push(index);
        }
        topic.batch.push(message.clone());
        if let Some(deltas) = &mut topic.deltas {
            deltas.published();
        }
        if let Some(stamp) = message.stamp {
            topic.last = Some((stamp.position, message.number));
        }
        true
    }

    /// Messages of a topic's history up to a position are not published here.
    pub(crate) fn skip_to(&mut self, topic: &str, to: Option<Position>) {
        if let Some(index) = self.topic(topic)
            && let Some((last, _)) = &mut self.topics[index as usize].last
            && let Some(to) = to
        {
            *last = to;
        }
    }

    /// Where the newest message of a place's topic stands that was published here, and its number.
    pub(crate) fn last_kept(&self, place: Place) -> Option<(Position, u64)> {
        self.topics[place.topic as usize].last
    }

    /// Hands out what was published and has not reached this member yet.
    pub(crate) fn settle(&mut self, place: Place, mut settled: impl FnMut(MemberId, Frames<'_>)) {
        let topic = &mut self.topics[place.topic as usize];
        if !topic.batch.is_empty() {
            let member = &mut topic.members[place.position as usize];
            let delivered = &self.figures.channels[topic.label as usize].delivered;
            settle(member, &topic.batch, topic.slow.as_ref(), (delivered, &mut topic.flow), &mut settled);
        }
    }

    /// Whether something was published that has not been flushed.
    pub(crate) fn has_batches(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether more than one topic has a batch: then a socket may be served by several of them.
    pub(crate) fn has_many_batches(&self) -> bool {
        self.dirty.len() > 1
    }

    /// Hands out every batch: for each member, in the order in which they joined, its frames. Says how much that was. `deliver`
    /// says whether they were taken, which only those that are offered `at_once` are not.
    pub(crate) fn flush(&mut self, mut deliver: impl FnMut(MemberId, Frames<'_>) -> bool) -> Flushed {
        let mut flushed = Flushed::default();
        for index in self.dirty.drain(..) {
            let topic = &mut self.topics[index as usize];
            let (messages, slow) = (&topic.batch[..], topic.slow.as_ref());
            let (mut variants, before, bytes_before) = (0_u32, flushed.messages, flushed.bytes());
            let own_way = topic.deltas.as_deref_mut().and_then(|deltas| deltas.are_wanted().then_some(deltas));
            let members = match own_way {
                None => &mut topic.members[..],
                Some(deltas) => {
                    deltas.flush(&mut topic.members, messages, slow, &mut flushed, &mut deliver);
                    &mut []
                }
            };
            for member in members {
                let passed = std::mem::take(&mut member.passed) as usize;
                let (Reach::Shared(variant) | Reach::Intercepted(variant)) = member.reach else { continue };
                if passed == 0 && !variant.is_text() {
                    let whole = &mut self.whole[variant.index()];
                    let bytes = whole.bytes.get_or_insert_with(|| {
                        variants |= 1 << variant.index();
                        put_together(messages, variant)
                    });
                    whole.shares += 1;
                    deliver(member.id, Frames { bytes, messages, variant, slow, at_once: false });
                } else if passed < messages.len() {
                    hand_out(&messages[passed..], variant, slow, |frames| {
                        add(&mut flushed, 1, frames);
                        deliver(member.id, frames);
                    });
                }
            }
            while variants != 0 {
                let index = variants.trailing_zeros() as usize;
                let Whole { bytes, shares } = std::mem::take(&mut self.whole[index]);
                if let Some(bytes) = &bytes {
                    let variant = Variant::numbered(index);
                    add(&mut flushed, shares, Frames { bytes, messages, variant, slow, at_once: false });
                }
                variants &= variants - 1;
            }
            let delivered = flushed.messages - before;
            self.figures.channels[topic.label as usize].delivered.add(delivered);
            topic.flow.published += topic.batch.len() as u64;
            topic.flow.delivered += delivered;
            topic.flow.bytes += flushed.bytes() - bytes_before;
            topic.batch.clear();
            if topic.batch.capacity() > 64 {
                topic.batch = Vec::new();
            }
        }
        flushed
    }

    /// The topics in some of the hub's places with the number of their members and what has passed through them, and where the next places begin. A topic stays
    /// where it is.
    pub(crate) fn topics(
        &self,
        from: usize,
        places: usize,
    ) -> (impl Iterator<Item = (&Arc<str>, usize, Flow)>, Option<usize>) {
        let to = from.saturating_add(places);
        let topics = (from..to.min(self.topics.capacity())).filter_map(|index| self.topics.get(index));
        (
            topics.map(|topic| (&topic.name, topic.members.len(), topic.flow)),
            (to < self.topics.capacity()).then_some(to),
        )
    }

    /// What has passed through a topic.
    pub(crate) fn flow(&self, topic: &str) -> Flow {
        self.topic(topic).map_or(Flow::default(), |index| self.topics[index as usize].flow)
    }

    /// The members of a topic, in the order of their positions.
    pub(crate) fn members(&self, topic: &str) -> impl ExactSizeIterator<Item = MemberId> {
        let members = self.topic(topic).map_or(&[][..], |index| &self.topics[index as usize].members);
        members.iter().map(|member| member.id)
    }

    fn topic(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }
}

fn settle(
    member: &mut Member,
    batch: &[Arc<Message>],
    slow: Option<&Arc<Slow>>,
    (delivered, flow): (&Cell, &mut Flow),
    settled: &mut impl FnMut(MemberId, Frames<'_>),
) {
    let rest = &batch[(member.passed as usize).min(batch.len())..];
    member.passed = member.passed.max(batch.len() as u32);
    match member.reach {
        Reach::Shared(variant) | Reach::Intercepted(variant) if !rest.is_empty() => {
            delivered.add(rest.len() as u64);
            flow.delivered += rest.len() as u64;
            hand_out(rest, variant, slow, |frames| {
                flow.bytes += frames.bytes.len() as u64;
                settled(member.id, frames);
            });
        }
        _ => {}
    }
}

/// So many members have got the same.
#[inline]
fn add(flushed: &mut Flushed, shares: u64, frames: Frames<'_>) {
    flushed.shares += shares;
    flushed.messages += shares * frames.messages.len() as u64;
    let bytes = if frames.variant.is_stream() { &mut flushed.bytes_stream } else { &mut flushed.bytes_websocket };
    *bytes += shares * frames.bytes.len() as u64;
}

/// WebSocket frames and chunks leave together, texts one by one: nothing in a text says where it ends.
fn hand_out(batch: &[Arc<Message>], variant: Variant, slow: Option<&Arc<Slow>>, mut deliver: impl FnMut(Frames<'_>)) {
    let at_once = if variant.is_text() { 1 } else { batch.len() };
    for messages in batch.chunks(at_once) {
        deliver(Frames { bytes: &put_together(messages, variant), messages, variant, slow, at_once: false });
    }
}

/// One message is shared as it is; several become one piece of memory, so that one plain `send` carries them.
fn put_together(batch: &[Arc<Message>], variant: Variant) -> Bytes {
    match batch {
        [one] => one.encoded(variant).clone(),
        many => {
            let mut out = BytesMut::with_capacity(many.iter().map(|message| message.encoded(variant).len()).sum());
            many.iter().for_each(|message| out.extend_from_slice(message.encoded(variant)));
            out.freeze()
        }
    }
}

#[cfg(test)]
mod tests;
