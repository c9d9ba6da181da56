//! Sockets whose key is revoked are closed: the keys in use are checked together, again and again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use fanfare::{Observer, SocketHandle};

use super::lookup::Lookup;
use crate::identity::Identity;

/// How often the keys in use are checked. With the query itself it stays below the 5 s that a revocation may take.
const INTERVAL: Duration = Duration::from_secs(2);

/// The sockets that came with keys of one store.
#[derive(Debug, Clone)]
pub(crate) struct Watch(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    lookup: Arc<Lookup>,
    /// By the handle of the key's record.
    sockets: Mutex<HashMap<Arc<str>, HashSet<SocketHandle>>>,
}

impl Watch {
    /// Begins to check.
    pub(crate) fn start(lookup: Arc<Lookup>) -> Self {
        let watched = Arc::new(Watched { lookup, sockets: Mutex::default() });
        tokio::spawn(check(Arc::downgrade(&watched)));
        Watch(watched)
    }

    fn handle_of(&self, socket: &SocketHandle) -> Option<Arc<str>> {
        let key = socket.info().assigns::<Identity>()?.api_key()?;
        (key.store == *self.0.lookup.store_name()).then(|| key.handle.clone())
    }
}

impl Watched {
    fn sockets(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, HashSet<SocketHandle>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check(&self) {
        let mut handles: Vec<String> = self.sockets().keys().map(|handle| handle.to_string()).collect();
        handles.extend(self.lookup.remembered());
        handles.sort_unstable();
        handles.dedup();
        // Without any this only finds out how the store stands, for the health report.
        // A store that cannot be asked revokes nothing.
        let Ok(active) = self.lookup.active(&handles).await else { return };
        let active: HashSet<String> = active.into_iter().collect();
        for handle in handles.iter().filter(|handle| !active.contains(*handle)) {
            self.lookup.forget(handle);
            let sockets = if self.lookup.settings().revoke_closes { self.sockets().remove(&**handle) } else { None };
            let Some(sockets) = sockets else { continue };
            tracing::info!(sockets = sockets.len(), "an API key was revoked: its sockets are closed");
            sockets.iter().for_each(SocketHandle::close);
        }
    }
}

async fn check(watched: Weak<Watched>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(watched) = watched.upgrade() else { return };
        watched.check().await;
    }
}

impl Observer for Watch {
    fn opened(&self, socket: &SocketHandle) {
        if let Some(handle) = self.handle_of(socket) {
            self.0.sockets().entry(handle).or_default().insert(socket.clone());
        }
    }

    fn closed(&self, socket: &SocketHandle) {
        let Some(handle) = self.handle_of(socket) else { return };
        let mut sockets = self.0.sockets();
        if let Some(open) = sockets.get_mut(&handle) {
            open.remove(socket);
            if open.is_empty() {
                sockets.remove(&handle);
            }
        }
    }
}
