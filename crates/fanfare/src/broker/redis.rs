//! A Redis of version 7 or newer between nodes: live messages by sharded channels, logs in streams, registers in a hash.
//!
//! Two connections to each server, each with a thread: the *ordered* one carries appends, subscriptions and the heads that go with them, so that their
//! order relative to one another is the server's; the *bulk* one what may take long. `redis/` has the parts: `transport`, `log`,
//! `registers` (the three contracts), `link` (a connection), `request` (commands), `scripts` (and their text, in Lua), `names`, `ask` (a question to a server
//! that knows others), `sentinel` (where a master is), `router` (the masters of a Redis Cluster), `slots` (what they share), `moves` (what links tell of that),
//! `server` (what is known of one), `weight` (which of several has a topic), `url`.

mod ask;
mod link;
mod log;
mod moves;
mod names;
mod registers;
mod request;
mod router;
mod scripts;
mod sentinel;
mod server;
mod slots;
#[cfg(test)]
pub(super) mod tests;
mod transport;
mod url;
mod weight;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fanfare_proto::envelope::{Content, Envelope};
use rustls::ClientConfig;

use self::link::{Attached, Link, Role, Target};
use self::names::Names;
use self::request::Request;
use self::router::{Maker, Router};
use self::server::Server;
use self::slots::Slot;
use self::url::Servers;
use self::weight::Weight;
use super::queue::Command as _;
use super::wire::client_tls;
use super::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, LinkId, Parts, Undone, settings};
use crate::error::Error;

/// A Redis of version 7.0 or newer between nodes: those with the same address and namespace are one cluster.
///
/// ```no_run
/// use fanfare::{Broker, Endpoint, RedisBroker};
///
/// let redis = RedisBroker::new("redis://127.0.0.1:6379").namespace("chat");
/// let builder = Endpoint::builder().broker(Broker::redis(&redis));
/// # drop(builder);
/// ```
#[derive(Clone)]
pub struct RedisBroker {
    url: String,
    namespace: String,
    timeout: Duration,
    message_size_max: usize,
}

impl RedisBroker {
    /// The one at an address: `redis://user:password@host:6379`, or `rediss://` for TLS, which trusts the authorities that the system
    /// trusts. Several addresses with commas between are servers that know nothing of each other and share the topics: name the same
    /// ones on all nodes. `redis+sentinel://user:password@host:26379,host:26379/NAME` is the master that sentinels know by this name,
    /// wherever it is at the time; with `?sentinel=user:password` behind that where the sentinels want a password of their own, and
    /// `rediss+sentinel://` for TLS with all of them. `redis+cluster://user:password@host:6379,host:6379` names some servers of a Redis
    /// Cluster, which say where the others are; `rediss+cluster://` for TLS.
    pub fn new(url: &str) -> Self {
        RedisBroker {
            url: url.to_owned(),
            namespace: "ff".to_owned(),
            timeout: Duration::from_secs(2),
            message_size_max: 8_000_000,
        }
    }

    /// What all names in it begin with: 1 to 64 letters, digits, `-`, `_`, `.` or `:`. Applications that share a Redis need one
    /// each. Default `ff`.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// How long it may take to answer. After that it is unknown whether a message was published. Default 2 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The largest message, in bytes of event and payload; larger ones are refused. Default 8,000,000.
    pub fn message_size_max(mut self, bytes: usize) -> Self {
        self.message_size_max = bytes;
        self
    }

    /// Looks for what cannot be, as far as that shows without a connection. [`Builder::build`](crate::Builder::build) does the same.
    ///
    /// # Errors
    /// The address is not that of a Redis, the namespace has other characters or another length, or the timeout is zero. The text has
    /// no password.
    pub fn check(&self) -> Result<(), Error> {
        Servers::parse(&self.url).map_err(Error::invalid)?;
        settings::check(&self.namespace, self.timeout)
    }

    /// Begins to connect. Until the first [`LinkState::Up`](super::LinkState::Up) all commands are refused.
    ///
    /// # Errors
    /// As [`check`](Self::check), or the system has no threads or certificates.
    pub(crate) fn open(&self, node: Incarnation, deliver: Arc<dyn Deliver>) -> Result<Parts, Error> {
        self.check()?;
        let redis = self.start(node, deliver, client_tls)?;
        Ok(Parts { transport: redis.clone(), log: Some(redis.clone()), registers: Some(redis) })
    }

    fn start(
        &self,
        node: Incarnation,
        deliver: Arc<dyn Deliver>,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, Error>,
    ) -> Result<Arc<Redis>, Error> {
        let servers = Servers::parse(&self.url).map_err(Error::invalid)?;
        let tls = servers.urls().iter().any(|url| url.tls).then(tls).transpose()?;
        let envelope_size_max = self.message_size_max + ENVELOPE_OVERHEAD_MAX;
        let no_thread = |cause| Error::io("the broker's thread", cause);
        let canaries: Canaries = Box::new(|node| {
            Box::new(move |number| Envelope { origin: node, number, content: Content::Canary }.to_bytes())
        });
        let urls = match servers {
            Servers::Several(urls) => urls,
            Servers::Cluster(seeds) => {
                let (namespace, timeout) = (self.namespace.as_str().into(), self.timeout);
                let maker = Maker { namespace, node, deliver, canaries, seeds, tls, timeout, envelope_size_max };
                return Ok(Arc::new(Redis { places: Places::Cluster(Router::start(maker).map_err(no_thread)?) }));
            }
        };
        let count = urls.len();
        let mut places = Vec::with_capacity(count);
        for (number, url) in urls.into_iter().enumerate() {
            let names = Names::new(&self.namespace);
            let name =
                if count == 1 { format!("redis {url}") } else { format!("redis {} of {count} ({url})", number + 1) };
            let weight = Weight::of(&url.to_string());
            let server = Arc::new(Server::new(names, name.into(), self.timeout, envelope_size_max));
            let target = Target { tls: tls.clone().filter(|_| url.tls), url, moves: None };
            let id = LinkId(number as u32);
            let role = Role::Ordered { id, deliver: deliver.clone(), node, canary: canaries(node) };
            let link = |name, role, target| {
                Link::start(name, role, target, server.clone(), Attached::default()).map_err(no_thread)
            };
            let ordered = link("redis", role, target.clone())?;
            let bulk = link("redis-bulk", Role::Bulk, target)?;
            places.push(Arc::new(Place { id, weight, server, ordered, bulk }));
        }
        Ok(Arc::new(Redis { places: Places::Fixed(places.into()) }))
    }
}

impl fmt::Debug for RedisBroker {
    /// Without the address, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// What makes the bytes of a node's canaries.
type Canaries = Box<dyn Fn(Incarnation) -> Box<dyn Fn(u64) -> Bytes + Send> + Send + Sync>;

/// One server or several.
#[derive(Debug, Clone)]
struct Redis {
    places: Places,
}

#[derive(Debug, Clone)]
enum Places {
    /// Always the same ones; never none.
    Fixed(Arc<[Arc<Place>]>),
    /// The masters of a cluster.
    Cluster(Arc<Router>),
}

/// A server, with the two links to it.
#[derive(Debug)]
struct Place {
    id: LinkId,
    weight: Weight,
    server: Arc<Server>,
    ordered: Link,
    bulk: Link,
}

impl Redis {
    /// Where all of a topic is: the same on every node that has the same servers, in whichever order. With another server more or
    /// less only its share of the topics moves. In a cluster it is for the cluster to say.
    ///
    /// # Errors
    /// It has not said yet.
    fn place(&self, topic: &str) -> Result<Arc<Place>, Undone> {
        let places = match &self.places {
            Places::Fixed(places) => places,
            Places::Cluster(router) => return router.place(topic),
        };
        let mut best = &places[0];
        for place in &places[1..] {
            if place.weight.at(topic) > best.weight.at(topic) {
                best = place;
            }
        }
        Ok(best.clone())
    }

    /// What topics have to have in common so that one command may be about all of them, beside the server.
    fn slot(&self, topic: &str) -> Option<Slot> {
        match &self.places {
            Places::Fixed(_) => None,
            Places::Cluster(router) => Some(router.slot(topic)),
        }
    }

    /// Puts commands of a topic in line that have an order.
    fn put<const N: usize>(&self, topic: &str, requests: [Request; N]) {
        match (&self.places, self.place(topic)) {
            (Places::Cluster(router), _) => router.put(topic, requests),
            (Places::Fixed(_), Ok(place)) => place.ordered.put_all(requests),
            (Places::Fixed(_), Err(undone)) => {
                requests.into_iter().for_each(|request| request.undone(undone.clone()));
            }
        }
    }
}
