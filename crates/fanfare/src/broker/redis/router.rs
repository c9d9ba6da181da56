//! A Redis Cluster: which master has which slot, links to all of them, and what becomes of topics whose slot moves.
//!
//! The map of slots is asked for at the start, twice a second while a master is away, every 30 seconds otherwise, and whenever a server says that it does not have a slot.
//! **Commands of a topic keep their order over a move.** What the old owner refuses is handed to the new one by the link of the old one, in
//! its order; when the map says that the slot has moved, a fence goes to the old owner, and what is put in meanwhile is held until the fence
//! has come back. `router/` has the parts: `change` (a new map is put into force), `watch` (the thread that asks for it).

mod change;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::{fmt, io};

use parking_lot::Mutex;

use self::watch::Watch;
use super::link::{Attached, Link, Role, Target};
use super::moves::{Lane, Moves};
use super::names::{Names, inbox_topic};
use super::request::{Redirected, Request, Subscribed};
use super::server::Server;
use super::slots::{Address, Map, Redirection, SLOTS, Slot};
use super::url::Url;
use super::{Canaries, Place, weight::Weight};
use crate::broker::pulse::Pulse;
use crate::broker::queue::Command as _;
use crate::broker::{BrokerLink, COMMANDS_WAITING_MAX, Deliver, Incarnation, LinkId, Undone};

/// A command is handed on at most this often: servers that send it in circles do not agree yet.
const HOPS_MAX: u8 = 5;

/// What places are made of.
pub(super) struct Maker {
    pub(super) namespace: Box<str>,
    pub(super) node: Incarnation,
    pub(super) deliver: Arc<dyn Deliver>,
    pub(super) canaries: Canaries,
    /// Where servers were named, and how to connect to all of them.
    pub(super) seeds: Vec<Url>,
    pub(super) tls: Option<Arc<rustls::ClientConfig>>,
    pub(super) timeout: std::time::Duration,
    pub(super) envelope_size_max: usize,
}

/// The masters of a cluster.
pub(super) struct Router {
    me: Weak<Router>,
    names: Names,
    maker: Maker,
    state: Mutex<State>,
    /// Topics that are to be attached wherever they are, and whether their heads are wanted.
    wanted: Mutex<Attached>,
    /// Those that were attached and are not any more.
    homeless: Mutex<BTreeSet<Arc<str>>>,
    /// How it stands while there is no map.
    pulse: Pulse,
    ids: AtomicU32,
    nudge: SyncSender<()>,
}

struct State {
    map: Map,
    /// Those that the map names.
    places: Vec<(Address, Arc<Place>)>,
    /// For each slot, which of them has it; nothing before the first map.
    owners: Vec<u16>,
    /// Slots that are moving, with what is put in meanwhile.
    moving: BTreeMap<Slot, Vec<Request>>,
}

impl State {
    fn owner(&self, slot: Slot) -> Option<&Arc<Place>> {
        let owner = self.owners.get(usize::from(slot))?;
        self.places.get(usize::from(*owner)).map(|(_, place)| place)
    }

    fn at(&self, address: &Address) -> Option<&Arc<Place>> {
        self.places.iter().find(|(at, _)| at == address).map(|(_, place)| place)
    }
}

impl Router {
    /// Begins to look for the masters.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(super) fn start(maker: Maker) -> io::Result<Arc<Self>> {
        let (nudge, nudges) = sync_channel(1);
        let inbox = inbox_topic(maker.node).into();
        let router = Arc::new_cyclic(|me: &Weak<Router>| Router {
            me: me.clone(),
            names: Names::new(&maker.namespace),
            maker,
            state: Mutex::new(State {
                map: Map(Vec::new()),
                places: Vec::new(),
                owners: Vec::new(),
                moving: BTreeMap::new(),
            }),
            wanted: Mutex::new([(inbox, false)].into_iter().collect()),
            homeless: Mutex::default(),
            pulse: Pulse::new(),
            ids: AtomicU32::new(0),
            nudge,
        });
        Watch::start(Arc::downgrade(&router), nudges)?;
        Ok(router)
    }

    /// The master that has a topic.
    ///
    /// # Errors
    /// There is no map yet.
    pub(super) fn place(&self, topic: &str) -> Result<Arc<Place>, Undone> {
        let place = self.state.lock().owner(self.names.slot(topic)).cloned();
        place.ok_or_else(|| Undone::Refused(self.pulse.down().unwrap_or_else(|| "it has no masters".into())))
    }

    pub(super) fn slot(&self, topic: &str) -> Slot {
        self.names.slot(topic)
    }

    /// All masters.
    pub(super) fn places(&self) -> Vec<Arc<Place>> {
        self.state.lock().places.iter().map(|(_, place)| place.clone()).collect()
    }

    /// How the links stand; before there are any, the search for them.
    pub(super) fn stands(&self) -> Vec<(LinkId, BrokerLink)> {
        let places = self.places();
        if places.is_empty() {
            return vec![(LinkId(u32::MAX), self.pulse.stands(&self.name()))];
        }
        places.iter().map(|place| (place.id, place.server.pulse.stands(&place.server.name))).collect()
    }

    /// Puts commands of a topic in line that have an order.
    pub(super) fn put<const N: usize>(&self, topic: &str, requests: [Request; N]) {
        let slot = self.names.slot(topic);
        let place = {
            let mut state = self.state.lock();
            match state.moving.get_mut(&slot) {
                Some(held) if held.len() < COMMANDS_WAITING_MAX => return held.extend(requests),
                Some(_) => None,
                None => state.owner(slot).cloned(),
            }
        };
        match place {
            Some(place) => place.ordered.put_all(requests),
            None => {
                let why = self.pulse.down().unwrap_or_else(|| "too much waits for a slot that is moving".into());
                requests.into_iter().for_each(|request| request.undone(Undone::Refused(why.clone())));
            }
        }
    }

    /// A topic is to be attached, wherever it goes.
    pub(super) fn want(&self, topic: &Arc<str>, with_head: bool) {
        *self.wanted.lock().entry(topic.clone()).or_default() |= with_head;
    }

    pub(super) fn unwant(&self, topic: &str) {
        self.wanted.lock().remove(topic);
        self.homeless.lock().remove(topic);
    }

    /// Has the map asked for.
    fn look(&self) {
        // One that is under way is enough.
        let _ = self.nudge.try_send(());
    }

    fn name(&self) -> String {
        let seeds: Vec<_> = self.maker.seeds.iter().map(Url::to_string).collect();
        format!("redis cluster {}", seeds.join(", "))
    }

    /// Connects to a master, with these topics.
    fn make(&self, address: &Address, attached: Attached) -> io::Result<Arc<Place>> {
        let Maker { namespace, node, deliver, canaries, seeds, tls, timeout, envelope_size_max } = &self.maker;
        let (host, port) = address.clone();
        let url = Url { host, port, sentinels: None, ..seeds[0].clone() };
        let name = format!("redis cluster {url}");
        let server = Arc::new(Server::new(Names::new(namespace), name.into(), *timeout, *envelope_size_max));
        let id = LinkId(self.ids.fetch_add(1, Ordering::Relaxed));
        let target = |lane| Target {
            url: url.clone(),
            tls: tls.clone(),
            moves: Some(Arc::new(Hook { router: self.me.clone(), address: address.clone(), lane })),
        };
        let role = Role::Ordered { id, deliver: deliver.clone(), node: *node, canary: canaries(*node) };
        let ordered = Link::start("redis", role, target(Lane::Ordered), server.clone(), attached)?;
        let bulk = Link::start("redis-bulk", Role::Bulk, target(Lane::Bulk), server.clone(), Attached::default())?;
        Ok(Arc::new(Place { id, weight: Weight::of(&url.to_string()), server, ordered, bulk }))
    }

    /// Hands a command on to where it belongs.
    fn redirect(&self, lane: Lane, redirected: Redirected, to: &Address) {
        let Redirected { request, hops, .. } = &redirected;
        let is_over = match request {
            Request::Subscribe { topic, .. } => !self.wanted.lock().contains_key(topic),
            _ => false,
        };
        if is_over {
            let why = Undone::refused("the topic was detached meanwhile");
            return redirected.request.undone(why);
        }
        let place = self.state.lock().at(to).cloned();
        match place {
            Some(place) if *hops <= HOPS_MAX => {
                let link = if lane == Lane::Ordered { &place.ordered } else { &place.bulk };
                link.put(Request::Redirected(Box::new(redirected)));
            }
            _ => {
                if let Request::Subscribe { topic, .. } = request {
                    self.homeless.lock().insert(topic.clone());
                }
                let (host, port) = to;
                let why =
                    format!("its slot has moved to {host}:{port}, which this node does not know yet: try again later");
                redirected.request.undone(Undone::refused(why));
            }
        }
    }
}

/// What the links of a master tell.
struct Hook {
    router: Weak<Router>,
    address: Address,
    lane: Lane,
}

impl Moves for Hook {
    fn slots(&self) -> Vec<(Slot, Slot)> {
        let slots = self.router.upgrade().map(|router| router.state.lock().map.slots(&self.address));
        slots.filter(|slots| !slots.is_empty()).unwrap_or_else(|| vec![(0, SLOTS as Slot - 1)])
    }

    fn redirected(&self, lane: Lane, redirected: Redirected, to: Redirection) {
        let Some(router) = self.router.upgrade() else {
            return redirected.request.undone(Undone::refused("the engine has ended"));
        };
        let Redirection { is_ask, to: (host, port) } = to;
        if !is_ask {
            router.look();
        }
        let host = if host.is_empty() { self.address.0.clone() } else { host };
        router.redirect(lane, redirected, &(host, port));
    }

    fn lost(&self, topic: &Arc<str>) {
        let Some(router) = self.router.upgrade() else { return };
        if router.wanted.lock().contains_key(topic) {
            router.homeless.lock().insert(topic.clone());
        }
        router.look();
    }

    fn look(&self) {
        if let (Some(router), Lane::Ordered) = (self.router.upgrade(), self.lane) {
            router.look();
        }
    }
}

/// A topic that is attached somewhere else from now on.
fn adopt(topic: Arc<str>, with_head: bool) -> Request {
    Request::Subscribe { topic, with_head, told: Subscribed::Moved }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("name", &self.name()).finish_non_exhaustive()
    }
}
