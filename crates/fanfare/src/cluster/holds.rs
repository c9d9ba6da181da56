//! Topics with one publisher: on which node that is, for all nodes. The broker's registers have a cell for each.
//!
//! **The first node that writes a topic's cell holds the topic.** One that gives it up says so in the cell, which another node may
//! then take over, and takes the cell away when the topic has ended. What the cell says of a node that is lost does not count. One
//! command for a topic is under way at a time, what is wanted next waits, and what did not get through is tried again by the clock.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::envelope::Incarnation;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Cluster, Map};
use crate::broker::{Cell, Registers, Swapped, Undone};

/// What the names of cells begin with.
const PREFIX: &str = "hub/";

/// A longer name of a publisher is no name: it takes no other's place.
const NAME_SIZE_MAX: usize = 3 * 1024;

/// Why a topic is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotHeld {
    /// By another node.
    Taken,
    /// Nobody knows now.
    Unavailable,
}

/// The node that holds a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) node: Incarnation,
    /// Its publisher has gone, and another may come.
    pub(crate) is_waiting: bool,
}

/// What a cell says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    node: Incarnation,
    /// Given up: it waits for another publisher.
    is_free: bool,
    grace_ms: u64,
    /// Gives way to another of this name, unless it is empty.
    name: Box<str>,
}

/// What this node has to do with a topic.
#[derive(Debug)]
struct Hold {
    wanted: Wanted,
    grace_ms: u64,
    name: Box<str>,
    /// What it has written last, with its revision, if that is known.
    written: Option<(u64, bool)>,
    was_held: bool,
    /// It has ended, and the broker cannot be told.
    is_ended_here: bool,
    /// It was another node's, whose publisher has the name of this one's.
    is_replacing: bool,
    is_busy: bool,
    /// Whoever claims it.
    waiting: Option<oneshot::Sender<Result<(), NotHeld>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Held,
    Free,
    Gone,
}

enum Step {
    Nothing,
    Get,
    Put(Option<u64>, bool),
    Delete(u64),
}

/// What has become of a topic, for the members of this node or for other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldOver {
    /// It has ended, for all nodes.
    Ended,
    /// It has ended here; others will be told once the broker is there.
    EndedHere,
    /// Another node holds it.
    Lost,
    /// It holds the topic now, and another node has a publisher that is to give way.
    TakenOver,
}

/// The topics that this node holds.
#[derive(Debug)]
pub(super) struct Holds(Mutex<Map<Arc<str>, Hold>>);

impl Holds {
    pub(super) fn new(hasher: foldhash::fast::FixedState) -> Self {
        Holds(Mutex::new(HashMap::with_hasher(hasher)))
    }
}

impl Cluster {
    /// Claims a topic for a publisher of this node. `None`: nobody keeps account over nodes.
    pub(crate) fn hold(
        &self,
        topic: &Arc<str>,
        name: Option<&str>,
        grace_ms: u64,
    ) -> Option<oneshot::Receiver<Result<(), NotHeld>>> {
        self.registers()?;
        let (told, answer) = oneshot::channel();
        let name = name.filter(|name| name.len() <= NAME_SIZE_MAX).unwrap_or_default();
        let new = || Hold {
            wanted: Wanted::Held,
            grace_ms,
            name: name.into(),
            written: None,
            was_held: false,
            is_ended_here: false,
            is_replacing: false,
            is_busy: false,
            waiting: None,
        };
        {
            let mut holds = self.holds.0.lock();
            let hold = holds.entry(topic.clone()).or_insert_with(new);
            (hold.wanted, hold.name, hold.grace_ms, hold.waiting) = (Wanted::Held, name.into(), grace_ms, Some(told));
        }
        self.settle_hold(topic);
        Some(answer)
    }

    /// Whether somebody keeps account over nodes.
    pub(crate) fn keeps_holds(&self) -> bool {
        self.registers().is_some()
    }

    /// Its publisher has gone; another may take it over, here or elsewhere.
    pub(crate) fn free_hold(&self, topic: &Arc<str>) {
        self.want(topic, Wanted::Free);
    }

    /// It has ended, unless another node has taken it over.
    pub(crate) fn end_hold(&self, topic: &Arc<str>) {
        self.want(topic, Wanted::Gone);
    }

    /// Tries again what did not get through.
    pub(crate) fn retry_holds(&self) {
        let open = |(topic, hold): (&Arc<str>, &mut Hold)| hold.is_open().then(|| topic.clone());
        let open: Vec<Arc<str>> = self.holds.0.lock().iter_mut().filter_map(open).collect();
        open.iter().for_each(|topic| self.settle_hold(topic));
    }

    /// Looks whether the broker still has what was written: it may have lost it.
    pub(crate) fn check_holds(&self) {
        self.holds.0.lock().values_mut().filter(|hold| !hold.is_busy).for_each(|hold| hold.written = None);
        self.retry_holds();
    }

    /// The same for one topic, which another node says that it has taken over.
    pub(crate) fn check_hold(&self, topic: &Arc<str>) {
        if let Some(hold) = self.holds.0.lock().get_mut(topic).filter(|hold| !hold.is_busy) {
            hold.written = None;
        }
        self.settle_hold(topic);
    }

    /// Whether a topic has a publisher on any node, or waits for one.
    pub(crate) async fn is_held(&self, topic: &str) -> Result<bool, NotHeld> {
        let Some(cell) = self.ask_for_cell(topic) else { return Ok(false) };
        match cell.await {
            Ok(Ok(cell)) => Ok(cell.is_some_and(|cell| !self.is_of_a_lost_node(&cell))),
            Ok(Err(_)) | Err(_) => Err(NotHeld::Unavailable),
        }
    }

    /// Which nodes have the publishers of topics, as far as the broker says: `None` for those that nobody holds.
    pub(crate) async fn holders(&self, topics: &[&str]) -> Vec<Option<Holder>> {
        // All are asked for before the first answer is waited for.
        let cells: Vec<_> = topics.iter().map(|topic| self.ask_for_cell(topic)).collect();
        let mut holders = Vec::with_capacity(cells.len());
        for cell in cells {
            let cell = match cell {
                Some(cell) => cell.await.ok().and_then(Result::ok).flatten(),
                None => None,
            };
            let owner = cell.filter(|cell| !self.is_of_a_lost_node(cell)).and_then(|cell| Owner::read(&cell.value));
            holders.push(owner.map(|owner| Holder { node: owner.node, is_waiting: owner.is_free }));
        }
        holders
    }

    fn ask_for_cell(&self, topic: &str) -> Option<oneshot::Receiver<Result<Option<Cell>, Undone>>> {
        let (told, cell) = oneshot::channel();
        let done = Box::new(move |got| {
            // Nobody may wait for it any more.
            let _ = told.send(got);
        });
        self.registers()?.get(&cell_of(topic), done);
        Some(cell)
    }

    /// Tells which topics are held by nodes that are lost: the topic, the revision of its cell, and the grace.
    pub(crate) fn lost_holds(&self, tell: impl FnOnce(Vec<(Arc<str>, u64, u64)>) + Send + 'static) {
        let (Some(registers), me) = (self.registers(), self.me.clone()) else { return };
        let listed = move |cells: Result<Vec<(String, Cell)>, Undone>| {
            let Some(me) = me.upgrade() else { return };
            let lost = |(name, cell): (String, Cell)| {
                let owner = Owner::read(&cell.value).filter(|_| me.is_of_a_lost_node(&cell))?;
                Some((name.strip_prefix(PREFIX)?.into(), cell.revision, owner.grace_ms))
            };
            tell(cells.unwrap_or_default().into_iter().filter_map(lost).collect());
        };
        registers.list(PREFIX, Box::new(listed));
    }

    /// Ends a topic of a lost node, unless its cell has changed.
    pub(crate) fn bury_hold(&self, topic: Arc<str>, revision: u64) {
        let (Some(registers), me) = (self.registers(), self.me.clone()) else { return };
        let name = cell_of(&topic);
        let done = move |deleted: Result<Swapped, Undone>| {
            if let (Ok(Swapped::Done(_)), Some(me)) = (deleted, me.upgrade()) {
                me.tell_hold_over(&topic, HoldOver::Ended);
            }
        };
        registers.delete_if(&name, revision, Box::new(done));
    }

    pub(super) fn registers(&self) -> Option<&Arc<dyn Registers>> {
        self.parts.get()?.registers.as_ref()
    }

    fn is_of_a_lost_node(&self, cell: &Cell) -> bool {
        let owner = Owner::read(&cell.value).filter(|owner| owner.node != self.incarnation);
        owner.is_some_and(|owner| self.local.get().is_some_and(|local| local.is_lost(owner.node)))
    }

    fn tell_hold_over(&self, topic: &Arc<str>, over: HoldOver) {
        if let Some(local) = self.local.get() {
            local.hold_is_over(topic, over);
        }
    }

    fn want(&self, topic: &Arc<str>, wanted: Wanted) {
        if let Some(hold) = self.holds.0.lock().get_mut(topic) {
            hold.wanted = wanted;
        }
        self.settle_hold(topic);
    }

    /// Does what is to be done next, unless something is under way.
    fn settle_hold(&self, topic: &Arc<str>) {
        let next = self.holds.0.lock().get_mut(topic).filter(|hold| !hold.is_busy).map(Hold::next);
        self.step(topic, next.unwrap_or(Step::Nothing));
    }

    fn step(&self, topic: &Arc<str>, step: Step) {
        let Some(registers) = self.registers() else { return };
        let (me, topic, name) = (self.me.clone(), topic.clone(), cell_of(topic));
        match step {
            Step::Nothing => {}
            Step::Get => {
                let done = move |got| match (got, me.upgrade()) {
                    (Ok(cell), Some(me)) => me.hold_is(&topic, cell),
                    (Err(undone), Some(me)) => me.hold_undone(&topic, &undone),
                    (_, None) => {}
                };
                registers.get(&name, Box::new(done));
            }
            Step::Put(revision, is_free) => {
                let Some(value) = self.hold_value(&topic, is_free) else { return };
                let done = move |put| match (put, me.upgrade()) {
                    (Ok(Swapped::Done(revision)), Some(me)) => me.hold_written(&topic, revision, is_free),
                    (Ok(Swapped::Not(cell)), Some(me)) => me.hold_is(&topic, cell),
                    (Err(undone), Some(me)) => me.hold_undone(&topic, &undone),
                    (_, None) => {}
                };
                registers.put_if(&name, revision, value, Box::new(done));
            }
            Step::Delete(revision) => {
                let done = move |deleted| match (deleted, me.upgrade()) {
                    (Ok(Swapped::Done(_)), Some(me)) => me.hold_is(&topic, None),
                    (Ok(Swapped::Not(cell)), Some(me)) => me.hold_is(&topic, cell),
                    (Err(undone), Some(me)) => me.hold_undone(&topic, &undone),
                    (_, None) => {}
                };
                registers.delete_if(&name, revision, Box::new(done));
            }
        }
    }

    fn hold_value(&self, topic: &str, is_free: bool) -> Option<Bytes> {
        let holds = self.holds.0.lock();
        let Hold { grace_ms, name, .. } = holds.get(topic)?;
        Some(Owner { node: self.incarnation, is_free, grace_ms: *grace_ms, name: name.clone() }.to_bytes())
    }

    fn hold_written(&self, topic: &Arc<str>, revision: u64, is_free: bool) {
        let mut is_replacing = false;
        if let Some(hold) = self.holds.0.lock().get_mut(topic) {
            (hold.written, hold.was_held, hold.is_busy) = (Some((revision, is_free)), true, false);
            is_replacing = std::mem::take(&mut hold.is_replacing);
        }
        if is_replacing {
            self.tell_hold_over(topic, HoldOver::TakenOver);
        }
        self.settle_hold(topic);
    }

    /// The cell is this.
    fn hold_is(&self, topic: &Arc<str>, cell: Option<Cell>) {
        let is_lost = cell.as_ref().is_some_and(|cell| self.is_of_a_lost_node(cell));
        let owner = cell.as_ref().map(|cell| (cell.revision, Owner::read(&cell.value)));
        let mut holds = self.holds.0.lock();
        let Some(hold) = holds.get_mut(topic) else { return };
        (hold.written, hold.is_busy) = (None, false);
        // Only a new publisher takes another's place.
        let takes_place = |owner: &Owner| hold.waiting.is_some() && !owner.name.is_empty() && owner.name == hold.name;
        let over = match (hold.wanted, owner) {
            (_, Some((revision, Some(owner)))) if owner.node == self.incarnation => {
                (hold.written, hold.was_held) = (Some((revision, owner.is_free)), true);
                let step = hold.next();
                drop(holds);
                return self.step(topic, step);
            }
            (Wanted::Held, None) => Err(None),
            (Wanted::Held, Some((revision, Some(owner)))) if owner.is_free || is_lost || takes_place(&owner) => {
                hold.is_replacing = !owner.is_free && !is_lost;
                Err(Some(revision))
            }
            (Wanted::Held, Some(_)) => Ok(Some(HoldOver::Lost)),
            (Wanted::Free | Wanted::Gone, None) => Ok(hold.was_held.then_some(HoldOver::Ended)),
            (Wanted::Free | Wanted::Gone, Some(_)) => Ok(None),
        };
        match over {
            Err(revision) => {
                hold.is_busy = true;
                drop(holds);
                self.step(topic, Step::Put(revision, false));
            }
            Ok(over) => {
                let waiting = holds.remove(topic).and_then(|hold| hold.waiting);
                drop(holds);
                match (waiting, over) {
                    (Some(waiting), _) => drop(waiting.send(Err(NotHeld::Taken))),
                    (None, Some(over)) => self.tell_hold_over(topic, over),
                    (None, None) => {}
                }
            }
        }
    }

    /// It did not get through, or nobody knows whether it did.
    fn hold_undone(&self, topic: &Arc<str>, undone: &Undone) {
        let mut holds = self.holds.0.lock();
        let Some(hold) = holds.get_mut(topic) else { return };
        hold.is_busy = false;
        if !matches!(undone, Undone::Refused(_)) {
            hold.written = None;
        }
        if let Some(waiting) = hold.waiting.take() {
            hold.wanted = Wanted::Gone;
            // Nobody may wait for it any more.
            let _ = waiting.send(Err(NotHeld::Unavailable));
        }
        let is_over = hold.wanted == Wanted::Gone && hold.was_held && !hold.is_ended_here;
        hold.is_ended_here |= is_over;
        drop(holds);
        if is_over {
            self.tell_hold_over(topic, HoldOver::EndedHere);
        }
    }
}

impl Hold {
    /// Whether something is to be done that is not under way.
    fn is_open(&self) -> bool {
        let is_settled = match (self.wanted, self.written) {
            (Wanted::Held, Some((_, is_free))) => !is_free,
            (Wanted::Free, Some((_, is_free))) => is_free,
            _ => false,
        };
        !self.is_busy && !is_settled
    }

    fn next(&mut self) -> Step {
        let step = match (self.wanted, self.written) {
            (_, None) => Step::Get,
            (Wanted::Held, Some((revision, true))) => Step::Put(Some(revision), false),
            (Wanted::Free, Some((revision, false))) => Step::Put(Some(revision), true),
            (Wanted::Gone, Some((revision, _))) => Step::Delete(revision),
            (Wanted::Held, Some((_, false))) => {
                if let Some(waiting) = self.waiting.take() {
                    // It may have given up meanwhile, and then gives up the topic as well.
                    let _ = waiting.send(Ok(()));
                }
                Step::Nothing
            }
            (Wanted::Free, Some((_, true))) => Step::Nothing,
        };
        self.is_busy = !matches!(step, Step::Nothing);
        step
    }
}

impl Owner {
    fn to_bytes(&self) -> Bytes {
        let mut bytes = vec![u8::from(self.is_free)];
        bytes.extend_from_slice(&self.node.number().to_le_bytes());
        bytes.extend_from_slice(&self.grace_ms.to_le_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        bytes.into()
    }

    /// `None` if a later version, or other software, has written it.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[is_free @ 0..=1], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (node, rest) = rest.split_first_chunk::<8>()?;
        let (grace_ms, name) = rest.split_first_chunk::<8>()?;
        Some(Owner {
            node: Incarnation::new(u64::from_le_bytes(*node))?,
            is_free: is_free == 1,
            grace_ms: u64::from_le_bytes(*grace_ms),
            name: std::str::from_utf8(name).ok()?.into(),
        })
    }
}

fn cell_of(topic: &str) -> String {
    format!("{PREFIX}{topic}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cell_says_is_read_back_and_anything_else_is_nobodys() {
        for (is_free, name) in [(false, ""), (true, "ada")] {
            let node = Incarnation::new(7).unwrap();
            let owner = Owner { node, is_free, grace_ms: 10_000, name: name.into() };
            assert_eq!(Owner::read(&owner.to_bytes()), Some(owner));
        }
        for other in [&b""[..], b"\0short", &[2; 17], &[0; 17], b"\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff"] {
            assert_eq!(Owner::read(other), None, "{other:?}");
        }
    }
}
