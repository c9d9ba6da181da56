//! What is kept about clients at the door: mounts, and what counts, lets in or knows again those who come.
//!
//! How a request is judged by it is the service's.

mod accept_rate;
mod bodies;
mod bullet;
mod keyed;
mod penalties;
mod session;
mod token;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use fanfare_proto::rate::Rate;

use crate::address::{AddressCounts, AddressFrom, Proxies};
use crate::authority::TokenHash;
use crate::connect::{UserSlot, Users};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::mount::Mount;
use crate::path::MountPath;
use crate::tenant::{Quotas, Tenants};

use accept_rate::AcceptRate;
pub use bodies::{Bodies, BodyError, Collected};
pub(crate) use bullet::{BulletSessions, Client, Listing, Place};
use keyed::KeyedRates;
pub(crate) use penalties::Penalized;
use penalties::Penalties;
pub(crate) use session::SessionHandle;
pub(crate) use token::{SessionClaims, TokenKey};

/// What a [`Gate`] is made of.
pub(crate) struct Settings {
    pub(crate) mounts: Vec<(String, Mount)>,
    pub(crate) sessions_max: usize,
    pub(crate) sessions_per_address_max: usize,
    /// How many a second, and how many at once.
    pub(crate) accept_rate: Option<(u32, u32)>,
    pub(crate) accept_rate_per_address: Option<Rate>,
    pub(crate) keys_max: usize,
    pub(crate) bodies_bytes_max: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) proxies: Proxies,
    pub(crate) quotas: Quotas,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mounts: Vec::new(),
            sessions_max: 1_000_000,
            sessions_per_address_max: 10_000,
            accept_rate: None,
            accept_rate_per_address: None,
            keys_max: 100_000,
            bodies_bytes_max: 16_000_000,
            body_timeout: Duration::from_secs(10),
            proxies: Proxies::default(),
            quotas: Quotas::default(),
        }
    }
}

/// What is served where. Those with the longest paths first: a mount that serves all paths below it leaves those that others are
/// mounted at.
pub(crate) type Mounts = Vec<Placed>;

/// A mount and where it is served.
type Placed = (MountPath, Arc<Mount>);

/// How many topics a socket of this process may join.
const LOCAL_JOINS_MAX: usize = 100_000;

/// The door of an endpoint.
pub(crate) struct Gate {
    /// Looked at once for each request; exchanged as a whole.
    mounts: ArcSwap<Mounts>,
    /// Of sockets of this process.
    pub(crate) local_mount: Arc<Mount>,
    /// Long-poll sessions and streams of each client address.
    pub(crate) session_counts: Arc<AddressCounts>,
    pub(crate) accept_rate: Option<AcceptRate>,
    /// Of each client address.
    pub(crate) accept_rate_per_address: Option<(Rate, KeyedRates<IpAddr>)>,
    /// What users may send with all their sockets.
    pub(crate) user_rates: KeyedRates<Arc<str>>,
    /// What members of topics may send into them.
    pub(crate) topic_rates: KeyedRates<Arc<str>>,
    /// What is posted with a token from an address.
    pub(crate) post_rates: KeyedRates<(IpAddr, TokenHash)>,
    /// Who is not let in for a while.
    pub(crate) penalties: Penalties,
    /// How many sockets users have.
    pub(crate) users: Arc<Users>,
    /// Those who share the node, and what each has of it.
    pub(crate) tenants: Tenants,
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
    pub(crate) fn new(settings: Settings) -> Result<Self, Error> {
        if let Some((per_second @ 0, burst)) | Some((per_second, burst @ 0)) = settings.accept_rate {
            return Err(Error::invalid(format!(
                "an accept rate of {per_second} with a burst of {burst}: use 1 or more"
            )));
        }
        if settings.proxies.address_from == AddressFrom::ProxyProtocol {
            let text = "the PROXY protocol is read by the server, before there are requests: give it to `serve::Server::proxies`";
            return Err(Error::invalid(text));
        }
        let mounts = ArcSwap::from_pointee(sorted(settings.mounts)?);
        Ok(Gate {
            mounts,
            local_mount: Arc::new(Mount::new().joins_max(LOCAL_JOINS_MAX)),
            session_counts: AddressCounts::new(settings.sessions_max, settings.sessions_per_address_max),
            accept_rate: settings
                .accept_rate
                .map(|(per_second, burst)| AcceptRate::new(Rate::per_second(per_second).burst(burst))),
            accept_rate_per_address: settings
                .accept_rate_per_address
                .map(|rate| (rate, KeyedRates::new(settings.keys_max))),
            user_rates: KeyedRates::new(settings.keys_max),
            topic_rates: KeyedRates::new(settings.keys_max),
            post_rates: KeyedRates::new(settings.keys_max),
            penalties: Penalties::new(settings.keys_max),
            users: Arc::default(),
            tenants: Tenants::new(settings.quotas),
            bullet_sessions: BulletSessions::default(),
            token_key: TokenKey::generate()?,
            bodies: Bodies::new(settings.bodies_bytes_max, settings.body_timeout),
            proxies: settings.proxies,
        })
    }

    /// A place for one more socket of a user of a mount.
    ///
    /// # Errors
    /// The user has as many as it may have.
    pub(crate) fn place_of_user(&self, mount: &Mount, user: Option<&str>) -> Result<Option<Arc<UserSlot>>, usize> {
        let (Some((max, closes_oldest)), Some(user)) = (mount.sockets_per_user, user) else { return Ok(None) };
        let taken = self.users.take(user, max, closes_oldest);
        taken.map(|slot| Some(Arc::new(slot))).ok_or(max)
    }

    /// The number of a mount.
    pub(crate) fn number_of(&self, mount: &Arc<Mount>) -> Option<usize> {
        self.mounts().iter().position(|(_, served)| Arc::ptr_eq(served, mount))
    }

    /// What is served now.
    pub(crate) fn mounts(&self) -> Guard<Arc<Mounts>> {
        self.mounts.load()
    }

    /// Serves other mounts at the same paths.
    ///
    /// # Errors
    /// The paths are others, a mount speaks another protocol than the one at its path, or has a problem.
    pub(crate) fn replace(&self, mounts: Vec<(String, Mount)>) -> Result<(), Error> {
        let new = sorted(mounts)?;
        let old = self.mounts.load();
        // Sessions that are polled name their mount by its number.
        let is_same = |((a, old), (b, new)): (&Placed, &Placed)| a == b && old.dialect == new.dialect;
        if old.len() != new.len() || !old.iter().zip(&new).all(is_same) {
            let paths: Vec<_> = old.iter().map(|(path, _)| path.to_string()).collect();
            return Err(Error::invalid(format!(
                "mounts can be replaced by others at the same paths with the same protocols: {}",
                paths.join(", ")
            )));
        }
        self.mounts.store(Arc::new(new));
        Ok(())
    }
}

impl Endpoint {
    /// Serves other mounts at the same paths, all of them from one moment on: whoever connects from then on. Sockets that are open keep
    /// the mount by which they have connected, with its limits and channels, and polled sessions theirs. Channels that are to keep what
    /// they know are given as clones of what the old mounts have.
    ///
    /// # Errors
    /// The paths are others, a mount speaks another protocol than the one that is served at its path, or a mount has a problem. Nothing
    /// was changed then.
    pub fn replace_mounts(&self, mounts: impl IntoIterator<Item = (String, Mount)>) -> Result<(), Error> {
        self.gate().replace(mounts.into_iter().collect())
    }
}

/// The mounts in the order in which they are tried, each with its path.
fn sorted(declared: Vec<(String, Mount)>) -> Result<Mounts, Error> {
    let mut mounts: Mounts = Vec::new();
    let mut besides = Vec::new();
    let placed = |path: MountPath, mut mount: Mount| {
        mount.path = Some(path.clone());
        (path, Arc::new(mount))
    };
    for (path, mount) in declared {
        if let Some(problem) = mount.problem() {
            return Err(Error::invalid(format!("the mount at {path:?}: {problem}")));
        }
        let path = MountPath::parse(&path)?;
        if let Some((taken, _)) = mounts.iter().find(|(taken, _)| taken.is_same_as(&path)) {
            let text = format!("two mounts at {path}: give each a path of its own");
            let text = if *taken == path { text } else { format!("{text}; {taken} takes the same requests") };
            return Err(Error::invalid(text));
        }
        besides.extend(mount.beside(&path.to_string()));
        mounts.push(placed(path, mount));
    }
    for (path, mount) in besides {
        let path = MountPath::parse(&path)?;
        if !mounts.iter().any(|(taken, _)| taken.is_same_as(&path)) {
            mounts.push(placed(path, mount));
        }
    }
    mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    Ok(mounts)
}
