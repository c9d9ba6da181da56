//! What is kept about clients at the door: mounts, and what counts, lets in or knows again those who come.
//!
//! How a request is judged by it is the service's.

mod accept_rate;
mod bodies;
mod token;

use std::sync::Arc;
use std::time::Duration;

use crate::address::{AddressCounts, AddressFrom, Proxies};
use crate::error::Error;
use crate::mount::Mount;
use crate::path::MountPath;
use crate::transport::bullet::BulletSessions;

use accept_rate::AcceptRate;
pub use bodies::{Bodies, BodyError, Collected};
pub(crate) use token::{SessionClaims, TokenKey};

/// What a [`Gate`] is made of.
pub(crate) struct Settings {
    pub(crate) mounts: Vec<(String, Mount)>,
    pub(crate) sessions_per_address_max: usize,
    /// How many a second, and how many at once.
    pub(crate) accept_rate: Option<(u32, u32)>,
    pub(crate) bodies_bytes_max: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) proxies: Proxies,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mounts: Vec::new(),
            sessions_per_address_max: 10_000,
            accept_rate: None,
            bodies_bytes_max: 16_000_000,
            body_timeout: Duration::from_secs(10),
            proxies: Proxies::default(),
        }
    }
}

/// The door of an endpoint.
pub(crate) struct Gate {
    /// Those with the longest paths first: a mount that serves all paths below it leaves those that others are mounted at.
    pub(crate) mounts: Vec<(MountPath, Arc<Mount>)>,
    /// Long-poll sessions and streams of each client address.
    pub(crate) session_counts: Arc<AddressCounts>,
    pub(crate) accept_rate: Option<AcceptRate>,
    pub(crate) bullet_sessions: BulletSessions,
    pub(crate) token_key: TokenKey,
    pub(crate) bodies: Bodies,
    /// In front of servers other than ours.
    pub(crate) proxies: Proxies,
}

impl Gate {
    /// # Errors
    /// A mount's path is not a path or is taken, a mount has a problem, the PROXY protocol is asked of requests, the accept rate or its burst is 0, or the system gives no
    /// random bytes.
    pub(crate) fn new(settings: Settings, now_ms: u64) -> Result<Self, Error> {
        if let Some((per_second @ 0, burst)) | Some((per_second, burst @ 0)) = settings.accept_rate {
            return Err(Error::invalid(format!(
                "an accept rate of {per_second} with a burst of {burst}: use 1 or more"
            )));
        }
        if settings.proxies.address_from == AddressFrom::ProxyProtocol {
            let text = "the PROXY protocol is read by the server, before there are requests: give it to `serve::Server::proxies`";
            return Err(Error::invalid(text));
        }
        let mut mounts: Vec<(MountPath, Arc<Mount>)> = Vec::new();
        let mut besides = Vec::new();
        for (path, mount) in settings.mounts {
            if let Some(problem) = mount.problem() {
                return Err(Error::invalid(format!("the mount at {path:?}: {problem}")));
            }
            let path = MountPath::parse(&path)?;
            if mounts.iter().any(|(taken, _)| *taken == path) {
                return Err(Error::invalid(format!("two mounts at {path}: give each a path of its own")));
            }
            besides.extend(mount.beside(&path.to_string()));
            mounts.push((path, Arc::new(mount)));
        }
        for (path, mount) in besides {
            let path = MountPath::parse(&path)?;
            if !mounts.iter().any(|(taken, _)| *taken == path) {
                mounts.push((path, Arc::new(mount)));
            }
        }
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Ok(Gate {
            mounts,
            session_counts: AddressCounts::new(settings.sessions_per_address_max),
            accept_rate: settings.accept_rate.map(|(per_second, burst)| AcceptRate::new(per_second, burst, now_ms)),
            bullet_sessions: BulletSessions::default(),
            token_key: TokenKey::generate()?,
            bodies: Bodies::new(settings.bodies_bytes_max, settings.body_timeout),
            proxies: settings.proxies,
        })
    }

    /// The number of a mount.
    pub(crate) fn number_of(&self, mount: &Arc<Mount>) -> Option<usize> {
        self.mounts.iter().position(|(_, served)| Arc::ptr_eq(served, mount))
    }

    /// The path at which a mount is served.
    pub(crate) fn path_of(&self, mount: &Arc<Mount>) -> Option<&MountPath> {
        self.mounts.iter().find(|(_, served)| Arc::ptr_eq(served, mount)).map(|(path, _)| path)
    }
}
