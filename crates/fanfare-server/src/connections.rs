//! Who is connected: the sockets of this server by key, and who is told when the first of a key comes and the last goes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use fanfare::{Observer, SocketHandle, SocketInfo};

use crate::config::template::Template;
use crate::identity::Identity;

/// Is told of keys. Called with the table locked, so that what it is told is in order: it must not wait.
pub(crate) trait Audience: Send + Sync + fmt::Debug {
    /// The first socket of a key is there, with its topics joined.
    fn connected(&self, key: &Arc<str>);
    /// The last socket of a key is gone.
    fn disconnected(&self, key: &Arc<str>);
}

/// The table. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The key of a socket, from claims; its id without.
    key: Option<Template>,
    audience: Option<Box<dyn Audience>>,
    table: Mutex<Table>,
}

/// Bounded by the number of sockets.
#[derive(Debug, Default)]
struct Table {
    by_key: BTreeMap<Arc<str>, Vec<Entry>>,
    /// The key under which a socket stands: what is known of it may change while it is open.
    keys: HashMap<SocketHandle, Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    socket: SocketHandle,
    since: SystemTime,
}

/// One socket, as it is told.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) transport: &'static str,
    pub(crate) peer: Option<std::net::SocketAddr>,
    pub(crate) since: SystemTime,
}

impl Connections {
    pub(crate) fn new(key: Option<Template>, audience: Option<Box<dyn Audience>>) -> Self {
        Self(Arc::new(Shared { key, audience, table: Mutex::default() }))
    }

    /// The sockets of a key, the oldest first.
    pub(crate) fn lookup(&self, key: &str) -> Vec<Connection> {
        self.0.table().by_key.get(key).map(|entries| entries.iter().map(Entry::show).collect()).unwrap_or_default()
    }

    /// So many keys behind `after`, in order, each with its number of sockets; and how many keys there are.
    pub(crate) fn page(&self, after: Option<&str>, limit: usize) -> (Vec<(Arc<str>, usize)>, usize) {
        let table = self.0.table();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = table.by_key.range::<str, _>((from, Bound::Unbounded)).take(limit);
        (page.map(|(key, entries)| (key.clone(), entries.len())).collect(), table.by_key.len())
    }

    /// Closes the sockets of a key: how many there were. They leave the table as they end.
    pub(crate) fn close(&self, key: &str) -> usize {
        let sockets: Vec<_> =
            self.0.table().by_key.get(key).into_iter().flatten().map(|entry| entry.socket.clone()).collect();
        sockets.iter().for_each(SocketHandle::close);
        sockets.len()
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, info: &SocketInfo) -> Option<Arc<str>> {
        match &self.key {
            None => info.id().map(Into::into),
            Some(template) => {
                let identity = info.assigns::<Identity>();
                let filled = template.fill(|name| identity.and_then(|identity| identity.text(name)));
                filled.ok().map(Into::into)
            }
        }
    }
}

impl Observer for Connections {
    fn opened(&self, socket: &SocketHandle) {
        let Some(key) = self.0.key(socket.info()) else { return };
        let mut table = self.0.table();
        table.keys.insert(socket.clone(), key.clone());
        let entries = table.by_key.entry(key.clone()).or_default();
        entries.push(Entry { socket: socket.clone(), since: SystemTime::now() });
        if let (1, Some(audience)) = (entries.len(), &self.0.audience) {
            audience.connected(&key);
        }
    }

    fn renewed(&self, before: &SocketHandle, after: &SocketHandle) {
        if self.0.key(before.info()) != self.0.key(after.info()) {
            self.closed(before);
            self.opened(after);
        }
    }

    fn closed(&self, socket: &SocketHandle) {
        let mut table = self.0.table();
        let Some(key) = table.keys.remove(socket) else { return };
        let Some(entries) = table.by_key.get_mut(&key) else { return };
        entries.retain(|entry| entry.socket != *socket);
        if entries.is_empty() {
            table.by_key.remove(&key);
            if let Some(audience) = &self.0.audience {
                audience.disconnected(&key);
            }
        }
    }
}

impl Entry {
    fn show(&self) -> Connection {
        let info = self.socket.info();
        Connection { transport: info.transport().name(), peer: info.peer(), since: self.since }
    }
}
