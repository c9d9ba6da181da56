//! The poll sessions of bullet.js clients, which name a key and no session: told apart by what a request shows.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::longpoll::SessionHandle;

/// Who polls. Two tabs of one browser look the same, and share a session.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) mount: u16,
    pub(crate) key: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) user_agent: Option<Vec<u8>>,
}

/// A client's session; `None` while there is none. Locked while one is made, so that two polls make one.
pub(crate) type Place = Arc<tokio::sync::Mutex<Option<SessionHandle>>>;

/// The sessions of an endpoint. A client is forgotten with its session.
#[derive(Clone, Default)]
pub(crate) struct BulletSessions(Arc<Mutex<HashMap<Client, Place, foldhash::fast::RandomState>>>);

impl BulletSessions {
    /// A client's place, if it has one.
    pub(crate) fn find(&self, client: &Client) -> Option<Place> {
        self.0.lock().get(client).cloned()
    }

    /// A client's place, a new one if need be.
    pub(crate) fn enter(&self, client: &Client) -> Place {
        self.0.lock().entry(client.clone()).or_default().clone()
    }

    /// What must be kept with the session that is put at a client's place.
    pub(crate) fn list(&self, client: Client, place: Place) -> Listing {
        Listing { sessions: self.clone(), client, place }
    }
}

impl fmt::Debug for BulletSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are secrets.
        f.write_str("BulletSessions")
    }
}

/// Takes the client's place away when it is dropped, unless that is another by then.
pub(crate) struct Listing {
    sessions: BulletSessions,
    client: Client,
    place: Place,
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock();
        if sessions.get(&self.client).is_some_and(|place| Arc::ptr_eq(place, &self.place)) {
            sessions.remove(&self.client);
        }
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listing")
    }
}
