//! How many sockets each user has, on all mounts.

use std::sync::{Arc, OnceLock, Weak};

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::SocketInfo;
use crate::close_reason::CloseReason;
use crate::key::SocketKey;
use crate::mailbox::Command;

/// The sockets of users by the ids that connect gave them, oldest first. A user without any is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Users(Mutex<Sockets>);

#[derive(Debug, Default)]
struct Sockets {
    by_user: HashMap<Arc<str>, Vec<Arc<Place>>, foldhash::fast::RandomState>,
}

/// Where a socket of a user lives, once it does.
#[derive(Debug, Default)]
struct Place(OnceLock<(Weak<SocketInfo>, SocketKey)>);

/// One of the sockets that a user may have; given back when dropped.
#[derive(Debug)]
pub(crate) struct UserSlot {
    users: Arc<Users>,
    user: Arc<str>,
    place: Arc<Place>,
}

impl Users {
    /// A place for one more socket of a user, unless there are as many as there may be. With `closes_oldest` the oldest makes room.
    pub(crate) fn take(self: &Arc<Self>, user: &str, max: usize, closes_oldest: bool) -> Option<UserSlot> {
        let user: Arc<str> = user.into();
        let mut sockets = self.0.lock();
        let places = sockets.by_user.entry(user.clone()).or_default();
        if places.len() >= max {
            // One that is about to live somewhere cannot be closed yet.
            let oldest = places.iter().position(|place| place.0.get().is_some()).filter(|_| closes_oldest)?;
            places.remove(oldest).close();
        }
        let place = Arc::<Place>::default();
        places.push(place.clone());
        Some(UserSlot { users: self.clone(), user, place })
    }
}

impl Place {
    fn close(&self) {
        let Some((info, key)) = self.0.get() else { return };
        if let Some(info) = info.upgrade() {
            info.shard.send(Command::Close { socket: *key, reason: CloseReason::Displaced });
        }
    }
}

impl UserSlot {
    /// The socket is in its shard.
    pub(crate) fn lives_at(&self, info: &Arc<SocketInfo>, key: SocketKey) {
        // It does so once.
        let _ = self.place.0.set((Arc::downgrade(info), key));
    }
}

impl Drop for UserSlot {
    fn drop(&mut self) {
        let mut sockets = self.users.0.lock();
        if let Some(places) = sockets.by_user.get_mut(&self.user) {
            places.retain(|place| !Arc::ptr_eq(place, &self.place));
            if places.is_empty() {
                sockets.by_user.remove(&self.user);
            }
        }
    }
}
