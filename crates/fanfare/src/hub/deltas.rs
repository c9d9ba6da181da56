//! Topics whose members may ask for differences: what each message was before it, who has got that, and how a batch goes out.
//!
//! A topic's messages are numbered. A member has got all behind a number: what was published when it joined, or when it last
//! missed one, or could have. So it can take the difference to a message exactly if that has a larger number. A member that is
//! slow gets whole messages, any of which may give way, and counts from there.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use fanfare_proto::delta::{KEYS_MAX, Members, as_object, merge_patch};
use fanfare_proto::event::Reserved;
use fanfare_proto::payload::{JsonText, Payload};

use super::{Frames, Member, MemberId, Reach, add, hand_out, put_together};
use crate::figures::Flushed;
use crate::message::{Message, Variant};
use crate::policy::{DeltaKey, Slow};

/// How many bytes a topic keeps on a shard to tell differences to.
const BYTES_MAX: usize = 1_000_000;

/// A larger message is always told as a whole.
const SIZE_MAX: usize = 64_000;

/// A smaller one as well: little can be saved.
const SIZE_MIN: usize = 64;

/// A member that has not asked.
const NOT_ASKED: u64 = u64::MAX;

/// What a topic has for those that ask for differences.
#[derive(Debug)]
pub(super) struct Deltas {
    key: Arc<DeltaKey>,
    /// The number of the newest message.
    count: u64,
    /// For each member, by its position: it has got all messages behind this number.
    since: Vec<u64>,
    /// How many have asked.
    wanting: usize,
    /// The newest message of each event and key.
    bases: HashMap<(Arc<str>, String), Base>,
    bytes: usize,
}

#[derive(Debug)]
struct Base {
    /// `None`: nothing can be told as a difference to it. It has its place nevertheless, since clients keep it.
    text: Option<JsonText>,
    number: u64,
}

/// How the messages of a batch are told those who can take differences.
struct Plan {
    /// A message's key and its difference, where there is one.
    patches: Vec<Option<(String, String)>>,
    /// They are to messages with this number or a larger one.
    from: u64,
}

impl Deltas {
    pub(super) fn new(key: Arc<DeltaKey>) -> Self {
        Deltas { key, count: 0, since: Vec::new(), wanting: 0, bases: HashMap::new(), bytes: 0 }
    }

    pub(super) fn enter(&mut self) {
        self.since.push(NOT_ASKED);
    }

    pub(super) fn leave(&mut self, position: usize) {
        self.wanting -= usize::from(self.since.swap_remove(position) != NOT_ASKED);
    }

    /// A member asks for differences.
    pub(super) fn wanted_by(&mut self, position: usize) {
        self.wanting += usize::from(self.since[position] == NOT_ASKED);
        self.since[position] = self.count;
    }

    /// A message is about to be published. From it on a member gets all, like others.
    pub(super) fn follows(&mut self, position: usize) {
        self.forget(position, self.count);
    }

    /// It does not get that message.
    pub(super) fn misses(&mut self, position: usize) {
        self.forget(position, self.count + 1);
    }

    fn forget(&mut self, position: usize, number: u64) {
        if let Some(since) = self.since.get_mut(position).filter(|since| **since != NOT_ASKED) {
            *since = number;
        }
    }

    pub(super) fn published(&mut self) {
        self.count += 1;
    }

    /// Whether anybody has asked.
    pub(super) fn are_wanted(&mut self) -> bool {
        if self.wanting == 0 && self.bytes > 0 {
            (self.bases, self.bytes) = (HashMap::new(), 0);
        }
        self.wanting > 0
    }

    /// Hands out a batch, as [`Hub::flush`](super::Hub::flush) does for topics without differences.
    #[inline(never)]
    pub(super) fn flush(
        &mut self,
        members: &mut [Member],
        messages: &[Arc<Message>],
        slow: Option<&Arc<Slow>>,
        flushed: &mut Flushed,
        deliver: &mut impl FnMut(MemberId, Frames<'_>) -> bool,
    ) {
        let plan = self.plan(messages);
        let (mut whole, mut small) = (Shared::default(), Shared::default());
        for (member, since) in members.iter_mut().zip(&mut self.since) {
            let passed = std::mem::take(&mut member.passed) as usize;
            let (Reach::Shared(variant) | Reach::Intercepted(variant)) = member.reach else { continue };
            let has_asked = *since != NOT_ASKED;
            if passed == 0 && !variant.is_text() && has_asked && matches!(member.reach, Reach::Shared(_)) {
                let bytes = match &plan {
                    Some(plan) if *since < plan.from => small.of(variant, || plan.put_together(messages, variant)),
                    _ => whole.of(variant, || put_together(messages, variant)),
                };
                // Of messages that go at once none gives way.
                let frames = Frames { bytes, messages, variant, slow: None, at_once: slow.is_some() };
                if deliver(member.id, frames) {
                    add(flushed, 1, frames);
                    continue;
                }
            }
            // Any of what it gets now may come to give way.
            if has_asked && slow.is_some() {
                *since = self.count;
            }
            if passed == 0 && !variant.is_text() {
                let bytes = whole.of(variant, || put_together(messages, variant));
                let frames = Frames { bytes, messages, variant, slow, at_once: false };
                add(flushed, 1, frames);
                deliver(member.id, frames);
            } else if passed < messages.len() {
                hand_out(&messages[passed..], variant, slow, |frames| {
                    add(flushed, 1, frames);
                    deliver(member.id, frames);
                });
            }
        }
    }

    /// What can be told as a difference. The messages are the newest ones.
    fn plan(&mut self, messages: &[Arc<Message>]) -> Option<Plan> {
        let mut plan = Plan { patches: Vec::with_capacity(messages.len()), from: u64::MAX };
        let before = self.count - messages.len() as u64;
        for (message, number) in messages.iter().zip(before + 1..) {
            let told = self.told(message, number);
            plan.from = told.as_ref().map_or(plan.from, |(_, base)| plan.from.min(*base));
            plan.patches.push(told.map(|(patch, _)| patch));
        }
        (plan.from != u64::MAX).then_some(plan)
    }

    /// A message as a difference, with the number of the message that it is one to. From now on it is the newest of its key.
    fn told(&mut self, message: &Message, number: u64) -> Option<((String, String), u64)> {
        if Reserved::of(&message.event).is_some() {
            return None;
        }
        let (event, now) = (&message.event, seen(&message.payload));
        let members = now.as_ref().and_then(|now| Members::of(now.as_str()));
        let key = match (&self.key.0, &members) {
            (Some(member), Some(members)) => members.text(member)?,
            (Some(_), None) => return None,
            (None, _) => String::new(),
        };
        let name = (event.clone(), key);
        let before = self.drop_base(&name);
        let size = now.as_ref().map_or(0, |now| now.as_str().len());
        let found = before.zip(members).filter(|_| (SIZE_MIN..=SIZE_MAX).contains(&size)).and_then(|(before, now)| {
            let base = Members::of(before.text.as_ref()?.as_str())?;
            Some(((name.1.clone(), merge_patch(&base, &now, size / 2)?), before.number))
        });
        self.keep(name, Base { text: now.filter(|_| size <= SIZE_MAX), number });
        found
    }

    fn drop_base(&mut self, name: &(Arc<str>, String)) -> Option<Base> {
        let base = self.bases.remove(name)?;
        self.bytes -= base.size() + name.1.len();
        Some(base)
    }

    fn keep(&mut self, name: (Arc<str>, String), base: Base) {
        self.bytes += base.size() + name.1.len();
        self.bases.insert(name, base);
        while self.bytes > BYTES_MAX || self.bases.len() > KEYS_MAX {
            // Clients forget in the same order, and not before.
            let oldest = self.bases.iter().min_by_key(|(_, base)| base.number).map(|(name, _)| name.clone());
            let Some(oldest) = oldest else { break };
            self.drop_base(&oldest);
        }
    }
}

impl Base {
    fn size(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.as_str().len())
    }
}

impl Plan {
    fn put_together(&self, messages: &[Arc<Message>], variant: Variant) -> Bytes {
        let mut frames = messages.iter().zip(&self.patches).map(|(message, patch)| {
            let delta = patch.as_ref().and_then(|(key, patch)| {
                let key = Some(key.as_str()).filter(|key| !key.is_empty());
                message.encoded_delta(variant, key, patch)
            });
            delta.unwrap_or_else(|| message.encoded(variant).clone())
        });
        match messages {
            [_] => frames.next().unwrap_or_default(),
            _ => {
                let mut out = BytesMut::new();
                frames.for_each(|frame| out.extend_from_slice(&frame));
                out.freeze()
            }
        }
    }
}

/// A payload as clients have it; `None` if it comes as bytes.
fn seen(payload: &Payload) -> Option<JsonText> {
    match payload {
        Payload::Json(json) => Some(json.clone()),
        Payload::Text(_) => Some(as_object(payload)),
        Payload::Binary(_) => None,
    }
}

/// The bytes of a batch in each variant that was asked for: few.
#[derive(Default)]
struct Shared(Vec<(Variant, Bytes)>);

impl Shared {
    fn of(&mut self, variant: Variant, make: impl FnOnce() -> Bytes) -> &Bytes {
        let found = self.0.iter().position(|(other, _)| *other == variant);
        let index = found.unwrap_or_else(|| {
            self.0.push((variant, make()));
            self.0.len() - 1
        });
        &self.0[index].1
    }
}

#[cfg(test)]
mod tests;
