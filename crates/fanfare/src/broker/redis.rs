//! A Redis of version 7 or newer between nodes: live messages by sharded channels, logs in streams, registers in a hash.
//!
//! Two connections, each with a thread: the *ordered* one carries appends, subscriptions and the heads that go with them, so that their
//! order relative to one another is the server's; the *bulk* one what may take long. `redis/` has the parts: `transport`, `log`,
//! `registers` (the three contracts), `link` (a connection), `request` (commands), `scripts` (and their text, in Lua), `names`,
//! `server` (what is known of it), `url`.

mod link;
mod log;
mod names;
mod registers;
mod request;
mod scripts;
mod server;
#[cfg(test)]
pub(super) mod tests;
mod transport;
mod url;

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use fanfare_proto::envelope::{Content, Envelope};
use rustls::ClientConfig;

use self::link::{Link, Role, Target};
use self::names::Names;
use self::server::Server;
use self::url::Url;
use super::wire::client_tls;
use super::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, Parts, settings};
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
    /// trusts.
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
        Url::parse(&self.url).map_err(Error::invalid)?;
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
        let url = Url::parse(&self.url).map_err(Error::invalid)?;
        let names = Names::new(&self.namespace);
        let inbox = names.inbox(node).into();
        let address = url.to_string().into();
        let envelope_size_max = self.message_size_max + ENVELOPE_OVERHEAD_MAX;
        let server = Arc::new(Server::new(names, address, self.timeout, envelope_size_max));
        let tls = url.tls.then(tls).transpose()?;
        let target = Target { url, tls };
        let canary = Box::new(move |number| Envelope { origin: node, number, content: Content::Canary }.to_bytes());
        let ordered = Link::start("redis", Role::Ordered { deliver, inbox, canary }, target.clone(), server.clone());
        let bulk = Link::start("redis-bulk", Role::Bulk, target, server.clone());
        let link = |link: io::Result<Link>| link.map(Arc::new).map_err(|cause| Error::io("the broker's thread", cause));
        Ok(Arc::new(Redis { server, ordered: link(ordered)?, bulk: link(bulk)? }))
    }
}

impl fmt::Debug for RedisBroker {
    /// Without the address, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBroker").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A Redis.
#[derive(Debug, Clone)]
struct Redis {
    server: Arc<Server>,
    ordered: Arc<Link>,
    bulk: Arc<Link>,
}
