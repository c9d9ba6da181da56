//! A roll: names that are with some nodes, of which one node tells when the first has it and when the last has lost it.
//!
//! The broker's registers have a cell for each name (`cell`): the nodes that have it, what was told last, and who is telling. A node changes
//! the cell when the name comes or goes there. Whoever makes what is so another thing than what was told says in the same change that it
//! is telling, tells it, and says that it has. So there is one who tells, one thing after the other, and what a lost node was telling is
//! in the cell for others to tell, again perhaps and by the same id.
//!
//! One command for a name is under way at a time, and a bounded number for a roll. What did not get through is tried again by the clock.

mod cell;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use self::cell::{Id, Standing, Wish};
use super::{Cluster, Map, refused};
use crate::broker::{Cell, Done, Incarnation, Registers, Swapped, Undone};
use crate::guard::caught;

/// What the names of cells begin with.
const PREFIX: &str = "roll/";

/// So many commands of a roll are under way at a time.
const UNDER_WAY_MAX: usize = 256;

/// Is told of names.
pub trait Herald: Send + Sync + 'static {
    /// A name has come to the first node, or gone from the last. For each name one thing is told at a time, and the next one after
    /// [`Roll::told`](crate::Roll::told). It must neither block nor wait, so let it hand over to a task.
    fn tell(&self, news: News);
}

/// What a [`Herald`] is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct News {
    /// What it is about.
    pub name: Arc<str>,
    /// It is there now, or it is not any more.
    pub is_here: bool,
    /// The same if it is told again, which happens when the node that was telling it has ended.
    pub id: String,
    /// When that has become so.
    pub at: SystemTime,
}

/// The names of one roll on this node.
pub(crate) struct Roll {
    me: Weak<Roll>,
    cluster: Weak<Cluster>,
    runtime: Handle,
    prefix: Box<str>,
    grace_ms: u64,
    herald: Arc<dyn Herald>,
    state: Mutex<State>,
}

struct State {
    /// Names that are here, or that this node has to do with. Bounded by what is here, and was here when the broker was there last.
    entries: Map<Arc<str>, Entry>,
    /// Those of which something is to be done, each once.
    open: VecDeque<Arc<str>>,
    /// The same once the clock says so: they did not get through.
    failed: Vec<Arc<str>>,
    under_way: usize,
    /// A thread does what is open, and sees what comes meanwhile.
    is_working: bool,
    /// What did not get through last was told in the log.
    is_failing: bool,
    /// Cells of lost nodes are to be looked for.
    wants_search: bool,
    search: Search,
}

/// For cells of lost nodes.
enum Search {
    Done,
    UnderWay,
    /// These are looked at when a grace is over.
    Found(Vec<Arc<str>>, u64),
}

struct Entry {
    is_here: bool,
    /// When that has become so, in milliseconds since 1970.
    at_ms: u64,
    known: Known,
    /// The cell has named this node when it was seen last.
    was_named: bool,
    /// What was handed to the herald last, and what of that it has told.
    handed: Option<Id>,
    told: Option<Id>,
    /// Nodes that are lost are to be taken out.
    buries: bool,
    is_busy: bool,
    is_open: bool,
}

/// What is known of a cell.
#[derive(Clone)]
enum Known {
    Nothing,
    Cell(u64, Standing),
    /// A later version, or other software, has written it.
    Foreign,
    /// This node has taken it away.
    Taken,
    /// It has to be looked at.
    Unknown,
}

enum Step {
    Settled,
    Get,
    Put(Option<u64>, Standing),
    Delete(u64),
    Tell(News),
}

impl Cluster {
    /// A roll of this name, if somebody keeps account over nodes.
    pub(crate) fn roll(
        &self,
        name: &str,
        grace: Duration,
        herald: Arc<dyn Herald>,
        runtime: &Handle,
    ) -> Option<Arc<Roll>> {
        self.registers()?;
        let hasher = foldhash::fast::FixedState::with_seed(self.incarnation.number());
        let state = State {
            entries: HashMap::with_hasher(hasher),
            open: VecDeque::new(),
            failed: Vec::new(),
            under_way: 0,
            is_working: false,
            is_failing: false,
            wants_search: false,
            search: Search::Done,
        };
        Some(Arc::new_cyclic(|me| Roll {
            me: me.clone(),
            cluster: self.me.clone(),
            runtime: runtime.clone(),
            // The name may have anything in it, and none begins with another.
            prefix: format!("{PREFIX}{}/{name}/", name.len()).into(),
            grace_ms: grace.as_millis() as u64,
            herald,
            state: Mutex::new(state),
        }))
    }
}

impl Roll {
    /// A name is here from now on, or is not any more.
    pub(crate) fn set(&self, name: &str, is_here: bool, at: SystemTime) {
        {
            let mut state = self.state.lock();
            if !is_here && !state.entries.contains_key(name) {
                return;
            }
            let entry = state.entry(name, Known::Nothing);
            (entry.is_here, entry.at_ms) = (is_here, milliseconds(at));
            state.open(name);
        }
        self.work();
    }

    /// The herald has told what it was told last of a name, or has given it up.
    pub(crate) fn told(&self, name: &str) {
        {
            let mut state = self.state.lock();
            let Some(entry) = state.entries.get_mut(name) else { return };
            entry.told = entry.handed;
            state.open(name);
        }
        self.work();
    }

    /// Whether nothing is here, and nothing of it is left to be done.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().entries.is_empty()
    }

    /// The broker may have forgotten anything.
    pub(crate) fn check(&self) {
        {
            let mut state = self.state.lock();
            let State { entries, open, .. } = &mut *state;
            for (name, entry) in entries.iter_mut().filter(|(_, entry)| !entry.is_busy) {
                entry.known = Known::Unknown;
                if !std::mem::replace(&mut entry.is_open, true) {
                    open.push_back(name.clone());
                }
            }
        }
        self.work();
    }

    /// To be called once a second. `searches`: nodes may have been lost, and it is this node that looks for what they had.
    pub(crate) fn look(&self, searches: bool, now_ms: u64) {
        let begins = {
            let mut state = self.state.lock();
            for name in std::mem::take(&mut state.failed) {
                state.open.push_back(name);
            }
            state.wants_search |= searches;
            if matches!(state.search, Search::Found(_, due_ms) if due_ms <= now_ms)
                && let Search::Found(names, _) = std::mem::replace(&mut state.search, Search::Done)
            {
                names.iter().for_each(|name| state.bury(name));
            }
            // What was found and is not due is found again.
            let begins = state.wants_search && !matches!(state.search, Search::UnderWay);
            if begins {
                (state.wants_search, state.search) = (false, Search::UnderWay);
            }
            begins
        };
        if begins {
            self.search(now_ms);
        }
        self.work();
    }

    fn search(&self, now_ms: u64) {
        let me = self.me.clone();
        let listed = move |cells: Result<Vec<(String, Cell)>, Undone>| {
            let Some(me) = me.upgrade() else { return };
            let of_the_lost = |(name, cell): (String, Cell)| {
                Standing::read(&cell.value).filter(|standing| standing.waits_for(|node| me.is_lost(node)))?;
                name.strip_prefix(&*me.prefix).map(Into::into)
            };
            let found = cells.map(|cells| cells.into_iter().filter_map(of_the_lost).collect());
            let mut state = me.state.lock();
            (state.wants_search, state.search) = match found {
                Ok(names) => (state.wants_search, Search::Found(names, now_ms + me.grace_ms)),
                Err(_) => (true, Search::Done),
            };
        };
        self.ask(Box::new(listed), |registers, listed| registers.list(&self.prefix, listed));
    }

    /// Does what is open, unless another thread does.
    fn work(&self) {
        if std::mem::replace(&mut self.state.lock().is_working, true) {
            return;
        }
        while let Some((name, step)) = self.next() {
            let cell = format!("{}{name}", self.prefix);
            match step {
                Step::Settled => {}
                Step::Tell(news) => {
                    // Whoever says that a name has come may hold a lock that the herald wants.
                    let herald = self.herald.clone();
                    drop(self.runtime.spawn(async move { caught("a herald", || herald.tell(news)) }));
                }
                Step::Get => {
                    let done = self.done(&name, Known::of);
                    self.ask(done, |registers, done| registers.get(&cell, done));
                }
                Step::Put(revision, standing) => {
                    let value = standing.to_bytes();
                    let done = self.done(&name, |swapped| match swapped {
                        Swapped::Done(revision) => Known::Cell(revision, standing),
                        Swapped::Not(cell) => Known::of(cell),
                    });
                    self.ask(done, |registers, done| registers.put_if(&cell, revision, value, done));
                }
                Step::Delete(revision) => {
                    let done = self.done(&name, |swapped| match swapped {
                        Swapped::Done(_) => Known::Taken,
                        Swapped::Not(cell) => Known::of(cell),
                    });
                    self.ask(done, |registers, done| registers.delete_if(&cell, revision, done));
                }
            }
        }
    }

    /// The next thing to do. Without one nobody works any more.
    fn next(&self) -> Option<(Arc<str>, Step)> {
        let cluster = self.cluster.upgrade();
        let mut state = self.state.lock();
        let state = &mut *state;
        while let Some(cluster) = cluster.as_ref().filter(|_| state.under_way < UNDER_WAY_MAX) {
            let Some(name) = state.open.pop_front() else { break };
            let Some(entry) = state.entries.get_mut(&name) else { continue };
            entry.is_open = false;
            if entry.is_busy {
                // It is open again when that has ended.
                continue;
            }
            let next = Id(cluster.incarnation, cluster.told.fetch_add(1, Ordering::Relaxed) + 1);
            let step = entry.step(&name, cluster.incarnation, next, |node| self.is_lost(node));
            match step {
                Step::Get | Step::Put(..) | Step::Delete(_) => {
                    entry.is_busy = true;
                    state.under_way += 1;
                }
                Step::Settled if !entry.is_here && entry.handed == entry.told => {
                    state.entries.remove(&name);
                }
                Step::Settled | Step::Tell(_) => {}
            }
            return Some((name, step));
        }
        state.is_working = false;
        None
    }

    /// What becomes of a command.
    fn done<T: 'static>(&self, name: &Arc<str>, known: impl FnOnce(T) -> Known + Send + 'static) -> Done<T> {
        let (me, name) = (self.me.clone(), name.clone());
        Box::new(move |outcome: Result<T, Undone>| {
            if let Some(me) = me.upgrade() {
                me.learn(&name, outcome.map(known));
                me.work();
            }
        })
    }

    fn learn(&self, name: &Arc<str>, known: Result<Known, Undone>) {
        let own = self.cluster.upgrade().map(|cluster| cluster.incarnation);
        let mut state = self.state.lock();
        state.under_way -= 1;
        let failed = known.as_ref().err().cloned();
        let Some(entry) = state.entries.get_mut(name) else { return };
        entry.is_busy = false;
        match known {
            Ok(Known::Cell(revision, standing)) => {
                entry.was_named = own.is_some_and(|own| standing.names(own));
                entry.known = Known::Cell(revision, standing);
            }
            Ok(Known::Taken) => (entry.was_named, entry.known) = (false, Known::Nothing),
            Ok(known) => entry.known = known,
            Err(Undone::Refused(_)) => {}
            Err(_) => entry.known = Known::Unknown,
        }
        let is_open = std::mem::replace(&mut entry.is_open, true);
        match &failed {
            None if !is_open => state.open.push_back(name.clone()),
            Some(_) if !is_open => state.failed.push(name.clone()),
            _ => {}
        }
        let was_failing = std::mem::replace(&mut state.is_failing, failed.is_some());
        drop(state);
        if let Some(undone) = failed.filter(|_| !was_failing) {
            let (roll, error) = (&self.prefix, refused(&undone));
            tracing::warn!(%roll, %error, "who comes and goes cannot be told now; it is tried again");
        }
    }

    fn ask<T>(&self, done: Done<T>, ask: impl FnOnce(&dyn Registers, Done<T>)) {
        match self.cluster.upgrade().as_ref().and_then(|cluster| cluster.registers()) {
            Some(registers) => ask(&**registers, done),
            None => done(Err(Undone::refused("the node has ended"))),
        }
    }

    fn is_lost(&self, node: Incarnation) -> bool {
        let Some(cluster) = self.cluster.upgrade().filter(|cluster| cluster.incarnation != node) else { return false };
        cluster.local.get().is_some_and(|local| local.is_lost(node))
    }
}

impl State {
    fn entry(&mut self, name: &str, known: Known) -> &mut Entry {
        self.entries.entry(name.into()).or_insert_with(|| Entry {
            is_here: false,
            at_ms: 0,
            known,
            was_named: false,
            handed: None,
            told: None,
            buries: false,
            is_busy: false,
            is_open: false,
        })
    }

    /// Something is to be done about a name.
    fn open(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name)
            && !std::mem::replace(&mut entry.is_open, true)
        {
            self.open.push_back(name.into());
        }
    }

    /// The cell of a name has lost nodes.
    fn bury(&mut self, name: &str) {
        let entry = self.entry(name, Known::Unknown);
        entry.buries = true;
        if !entry.is_busy {
            entry.known = Known::Unknown;
        }
        if !entry.is_here {
            entry.at_ms = milliseconds(SystemTime::now());
        }
        self.open(name);
    }
}

impl Entry {
    /// What is to be done next.
    fn step(&mut self, name: &Arc<str>, me: Incarnation, next: Id, is_lost: impl Fn(Incarnation) -> bool) -> Step {
        let (revision, standing) = match &self.known {
            Known::Unknown => return Step::Get,
            Known::Foreign => return Step::Settled,
            // Where the broker has forgotten it, or others believed this node lost, it is told again that it is here; and that it has
            // gone, which nobody else may have told.
            Known::Nothing | Known::Taken => (None, Standing::nothing(!self.is_here && self.was_named)),
            Known::Cell(revision, standing) => (Some(*revision), standing.clone()),
        };
        let wish = Wish { me, is_here: self.is_here, at_ms: self.at_ms, told: self.told, next };
        let mut wanted = standing.clone();
        if self.buries {
            wanted = wanted.without(is_lost, &wish);
        }
        let wanted = wanted.with(&wish);
        match revision {
            Some(revision) if wanted.is_over() => Step::Delete(revision),
            _ if wanted != standing => Step::Put(revision, wanted),
            _ => {
                self.buries = false;
                let telling = wanted.told_by(me).filter(|telling| self.handed != Some(telling.id));
                let Some(telling) = telling else { return Step::Settled };
                self.handed = Some(telling.id);
                let Id(first, number) = telling.id;
                let at = UNIX_EPOCH + Duration::from_millis(telling.at_ms);
                Step::Tell(News { name: name.clone(), is_here: telling.is_here, id: format!("{first}-{number}"), at })
            }
        }
    }
}

impl Known {
    fn of(cell: Option<Cell>) -> Self {
        match cell {
            None => Known::Nothing,
            Some(cell) => Standing::read(&cell.value).map_or(Known::Foreign, |read| Known::Cell(cell.revision, read)),
        }
    }
}

impl fmt::Debug for Roll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roll").field("names", &self.state.lock().entries.len()).finish_non_exhaustive()
    }
}

fn milliseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
