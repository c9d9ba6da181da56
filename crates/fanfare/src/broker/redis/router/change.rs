//! A new map is put into force: links to new masters, topics whose slot has another owner, and the order of what is on its way.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::resp::Value;

use super::super::link::Attached;
use super::super::request::Request;
use super::super::slots::{Address, Map, SLOTS, Slot};
use super::super::{LinkId, Place};
use super::{Router, State, adopt};
use crate::broker::Undone;
use crate::broker::queue::Command as _;

/// A topic that another link is to attach.
struct Adopted {
    topic: Arc<str>,
    with_head: bool,
    /// Which had it, if that is still a master's.
    before: Option<Arc<Place>>,
    now: Arc<Place>,
}

/// What a new map asks for.
struct Change {
    adopted: Vec<Adopted>,
    /// Slots that move from a master that is still one.
    fences: Vec<(Arc<Place>, Vec<Slot>)>,
    /// Masters that are none any more.
    gone: Vec<(Address, Arc<Place>)>,
}

impl Router {
    /// Whether a map would change something.
    pub(super) fn is_news(&self, map: &Map) -> bool {
        self.state.lock().map != *map || !self.homeless.lock().is_empty()
    }

    /// Puts a map into force.
    ///
    /// # Errors
    /// The system gives no threads for links.
    pub(super) fn change(&self, map: Map) -> io::Result<()> {
        let made = self.make_missing(&map)?;
        let Change { adopted, fences, gone } = self.put_into_force(map, made);
        for Adopted { topic, with_head, before, now } in adopted {
            if let Some(before) = before {
                before.ordered.put(Request::Unsubscribe { topic: topic.clone(), done: Box::new(|_| ()) });
            }
            now.ordered.put(adopt(topic, with_head));
        }
        for (place, slots) in fences {
            let me = self.me.clone();
            let answered = Box::new(move |_: Result<Value<'_>, Undone>| {
                if let Some(me) = me.upgrade() {
                    me.release(&slots);
                }
            });
            let parts = vec![Bytes::from_static(b"PING")];
            place.ordered.put(Request::Call { script: None, parts, answered });
        }
        // Their links end without a lock.
        drop(gone);
        Ok(())
    }

    /// Links to masters that there were none to, with the topics that they have.
    fn make_missing(&self, map: &Map) -> io::Result<Vec<(Address, Arc<Place>)>> {
        let mut made = Vec::new();
        for address in map.masters() {
            if self.state.lock().at(&address).is_some() {
                continue;
            }
            let slots = map.slots(&address);
            let is_its = |topic: &str| {
                let slot = self.names.slot(topic);
                slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
            };
            let its = |(topic, with_head): (&Arc<str>, &bool)| is_its(topic).then(|| (topic.clone(), *with_head));
            let attached: Attached = self.wanted.lock().iter().filter_map(its).collect();
            made.push((address.clone(), self.make(&address, attached)?));
        }
        Ok(made)
    }

    fn put_into_force(&self, map: Map, made: Vec<(Address, Arc<Place>)>) -> Change {
        let new: Vec<LinkId> = made.iter().map(|(_, place)| place.id).collect();
        let wanted = self.wanted.lock();
        let mut homeless = std::mem::take(&mut *self.homeless.lock());
        let mut state = self.state.lock();
        let masters = map.masters();
        let (before, mut known) = (std::mem::take(&mut state.owners), std::mem::take(&mut state.places));
        let old: Vec<Arc<Place>> = known.iter().map(|(_, place)| place.clone()).collect();
        known.extend(made);
        let (places, gone): (Vec<_>, Vec<_>) = known.into_iter().partition(|(address, _)| masters.contains(address));
        let mut owners = vec![0; SLOTS];
        for range in &map.0 {
            let owner = places.iter().position(|(address, _)| *address == range.master).unwrap_or_default();
            owners[usize::from(range.first)..=usize::from(range.last)].fill(owner as u16);
        }
        let mut moved: BTreeMap<Slot, Option<Arc<Place>>> = BTreeMap::new();
        let mut fences: Vec<(Arc<Place>, Vec<Slot>)> = Vec::new();
        for slot in (0..SLOTS).filter(|_| !before.is_empty()) {
            let was = old.get(usize::from(before[slot])).cloned();
            let Some(was) = was.filter(|was| was.id != places[usize::from(owners[slot])].1.id) else { continue };
            let is_master = places.iter().any(|(_, place)| place.id == was.id);
            moved.insert(slot as Slot, is_master.then(|| was.clone()));
            if is_master && !state.moving.contains_key(&(slot as Slot)) {
                state.moving.insert(slot as Slot, Vec::new());
                match fences.iter_mut().find(|(place, _)| place.id == was.id) {
                    Some((_, slots)) => slots.push(slot as Slot),
                    None => fences.push((was, vec![slot as Slot])),
                }
            }
        }
        let mut adopted = Vec::new();
        for (topic, with_head) in wanted.iter() {
            let slot = self.names.slot(topic);
            let now = &places[usize::from(owners[usize::from(slot)])].1;
            let was = moved.get(&slot);
            // A new link has them from its beginning.
            if (was.is_some() || homeless.remove(topic)) && !new.contains(&now.id) {
                let (before, now) = (was.cloned().flatten(), now.clone());
                adopted.push(Adopted { topic: topic.clone(), with_head: *with_head, before, now });
            }
        }
        *state = State { map, places, owners, moving: std::mem::take(&mut state.moving) };
        Change { adopted, fences, gone }
    }

    /// All that went to the old owners of slots before is answered: what was held goes to the new ones.
    fn release(&self, slots: &[Slot]) {
        for slot in slots {
            loop {
                let (held, place) = {
                    let mut state = self.state.lock();
                    let place = state.owner(*slot).cloned();
                    match state.moving.get_mut(slot) {
                        Some(held) if !held.is_empty() => (std::mem::take(held), place),
                        _ => {
                            state.moving.remove(slot);
                            break;
                        }
                    }
                };
                for request in held {
                    match &place {
                        Some(place) => place.ordered.put(request),
                        None => request.undone(Undone::refused("the cluster has no masters: try again later")),
                    }
                }
            }
        }
    }
}
