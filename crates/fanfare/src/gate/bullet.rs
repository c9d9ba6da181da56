//! The poll sessions of bullet.js clients, which name a key and no session: told apart by what a request shows.

use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use parking_lot::Mutex;

use super::SessionHandle;

/// Of so many clients whose sessions have ended it is remembered that they had one. Beyond that the one that has been away for
/// longest is forgotten, and taken for a new one when it comes back.
const AWAY_MAX: usize = 16_384;

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

/// The sessions of an endpoint. A client's place goes with its session.
#[derive(Clone, Default)]
pub(crate) struct BulletSessions(Arc<Mutex<Sessions>>);

#[derive(Default)]
struct Sessions {
    places: HashMap<Client, Place, foldhash::fast::RandomState>,
    away: Away,
}

impl BulletSessions {
    /// A client's place, if it has one.
    pub(crate) fn find(&self, client: &Client) -> Option<Place> {
        self.0.lock().places.get(client).cloned()
    }

    /// A client's place, a new one if need be.
    pub(crate) fn enter(&self, client: &Client) -> Place {
        self.0.lock().places.entry(client.clone()).or_default().clone()
    }

    /// What must be kept with the session that is put at a client's place.
    pub(crate) fn list(&self, client: Client, place: Place) -> Listing {
        Listing { sessions: self.clone(), client, place, has_begun: false }
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
    has_begun: bool,
}

impl Listing {
    /// There is a session now. Whether the client had another one, which has ended: it does not know what was published
    /// meanwhile.
    pub(crate) fn begin(&mut self) -> bool {
        self.has_begun = true;
        self.sessions.0.lock().away.came_back(&self.client)
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock();
        if sessions.places.get(&self.client).is_some_and(|place| Arc::ptr_eq(place, &self.place)) {
            sessions.places.remove(&self.client);
        }
        if self.has_begun {
            sessions.away.went(&self.client);
        }
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listing")
    }
}

/// The clients whose sessions have ended. Only their hashes are kept: if two are the same, a client is told of a gap that it
/// need not have.
#[derive(Default)]
struct Away {
    hasher: foldhash::fast::RandomState,
    hashes: HashSet<u64, foldhash::fast::RandomState>,
    /// The same, the one that has been away for longest first.
    line: VecDeque<u64>,
}

impl Away {
    fn went(&mut self, client: &Client) {
        let hash = self.hasher.hash_one(client);
        if !self.hashes.insert(hash) {
            return;
        }
        self.line.push_back(hash);
        if self.line.len() > AWAY_MAX
            && let Some(oldest) = self.line.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }

    fn came_back(&mut self, client: &Client) -> bool {
        let hash = self.hasher.hash_one(client);
        let was_away = self.hashes.remove(&hash);
        if was_away {
            self.line.retain(|&other| other != hash);
        }
        was_away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridge_9_clients_without_a_session_are_remembered_up_to_a_bound() {
        let client = |n: usize| Client { mount: 0, key: n.to_string(), address: None, user_agent: None };
        let mut away = Away::default();
        for n in 0..AWAY_MAX + 2 {
            away.went(&client(n));
            away.went(&client(n));
        }
        assert_eq!((away.hashes.len(), away.line.len()), (AWAY_MAX, AWAY_MAX));
        for (n, was_away) in
            [(0, false), (1, false), (2, true), (2, false), (AWAY_MAX + 1, true), (AWAY_MAX + 2, false)]
        {
            assert_eq!(away.came_back(&client(n)), was_away, "{n}");
        }
        assert_eq!((away.hashes.len(), away.line.len()), (AWAY_MAX - 2, AWAY_MAX - 2));
    }
}
