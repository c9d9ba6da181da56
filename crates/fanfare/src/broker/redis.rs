//! A Redis of version 7 or newer between nodes: live messages by sharded channels, logs in streams, registers in a hash.
//!
//! Two connections to each server, each with a thread: the *ordered* one carries appends, subscriptions and the heads that go with them, so that their
//! order relative to one another is the server's; the *bulk* one what may take long. `redis/` has the parts: `transport`, `log`,
//! `registers` (the three contracts), `link` (a connection), `request` (commands), `scripts` (and their text, in Lua), `names`, `sentinel` (where a master is),
//! `server` (what is known of it), `pulse` (how its link stands), `weight` (which of several has a topic), `url`.

mod link;
mod log;
mod names;
mod registers;
mod request;
mod scripts;
mod sentinel;
mod server;
#[cfg(test)]
pub(super) mod tests;
mod transport;
mod url;
mod weight;

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use fanfare_proto::envelope::{Content, Envelope};
use rustls::ClientConfig;

use self::link::{Link, Role, Target};
use self::names::Names;
use self::server::Server;
use self::url::Url;
use self::weight::Weight;
use super::wire::client_tls;
use super::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, LinkId, Parts, settings};
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
    /// wherever it is at the time.
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
        Url::parse_all(&self.url).map_err(Error::invalid)?;
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
        let urls = Url::parse_all(&self.url).map_err(Error::invalid)?;
        let tls = urls.iter().any(|url| url.tls).then(tls).transpose()?;
        let envelope_size_max = self.message_size_max + ENVELOPE_OVERHEAD_MAX;
        let count = urls.len();
        let mut places = Vec::with_capacity(count);
        for (number, url) in urls.into_iter().enumerate() {
            let names = Names::new(&self.namespace);
            let inbox = names.inbox(node).into();
            let name =
                if count == 1 { format!("redis {url}") } else { format!("redis {} of {count} ({url})", number + 1) };
            let weight = Weight::of(&url.to_string());
            let server = Arc::new(Server::new(names, name.into(), self.timeout, envelope_size_max));
            let target = Target { tls: tls.clone().filter(|_| url.tls), url };
            let id = LinkId(number as u32);
            let canary = Box::new(move |number| Envelope { origin: node, number, content: Content::Canary }.to_bytes());
            let role = Role::Ordered { id, deliver: deliver.clone(), inbox, canary };
            let link = |link: io::Result<Link>| link.map_err(|cause| Error::io("the broker's thread", cause));
            let ordered = link(Link::start("redis", role, target.clone(), server.clone()))?;
            let bulk = link(Link::start("redis-bulk", Role::Bulk, target, server.clone()))?;
            places.push(Place { id, weight, server, ordered, bulk });
        }
        Ok(Arc::new(Redis { places: places.into() }))
    }
}

impl fmt::Debug for RedisBroker {
    /// Without the address, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// One server or several.
#[derive(Debug, Clone)]
struct Redis {
    /// Never none.
    places: Arc<[Place]>,
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
    /// less only its share of the topics moves.
    fn place(&self, topic: &str) -> &Place {
        let mut best = &self.places[0];
        for place in &self.places[1..] {
            if place.weight.at(topic) > best.weight.at(topic) {
                best = place;
            }
        }
        best
    }
}
