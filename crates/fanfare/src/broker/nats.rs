//! A NATS between nodes: live messages by subjects, logs in streams of its JetStream.
//!
//! Two connections, each with a thread. NATS keeps the order of each connection, and its answer to a `PING` says that all before it was
//! handled, which is how a node knows that it is subscribed, and that what it has published was taken. The *live* one carries messages and
//! what goes with them, the *bulk* one what may take long. `nats/` has the parts: `transport`, `log`, `registers` (the contracts), `link` (a connection),
//! `request` (commands), `stream` (what keeps logs), `api` (what JetStream is asked), `subjects` (names), `server` (what is known of it),
//! `url`, `key` (who a node is, as it signs), `ask` (what a server says to who checks a configuration).

mod api;
mod ask;
mod key;
mod link;
mod log;
mod registers;
mod request;
mod server;
mod stream;
mod subjects;
#[cfg(test)]
pub(super) mod tests;
mod transport;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::envelope::{Content, Envelope};

pub use self::ask::{NatsJetStream, NatsServer};
use self::key::Key;
use self::link::{Link, Role, Target, Trust};
use self::server::Server;
use self::subjects::Subjects;
use self::url::{Login, Url};
use super::wire::client_tls;
use super::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, Log, Logs, Parts, Registers, settings};
use crate::error::Error;

/// A NATS of version 2.9 or newer between nodes: those with the same cluster of servers and namespace are one cluster.
///
/// Where topics have a history it needs JetStream, which `nats-server -js` has.
///
/// ```no_run
/// use fanfare::{Broker, Endpoint, NatsBroker};
///
/// let nats = NatsBroker::new("nats://127.0.0.1:4222").namespace("chat");
/// let builder = Endpoint::builder().broker(Broker::nats(&nats));
/// # drop(builder);
/// ```
#[derive(Clone)]
pub struct NatsBroker {
    url: String,
    namespace: String,
    timeout: Duration,
    message_size_max: usize,
    credentials: Option<String>,
}

impl NatsBroker {
    /// The one at an address: `nats://user:password@host:4222`, or `nats://token@host`; `tls://` insists on TLS, which trusts the
    /// authorities that the system trusts. Several servers of one NATS cluster are separated by commas.
    pub fn new(url: &str) -> Self {
        NatsBroker {
            url: url.to_owned(),
            namespace: "ff".to_owned(),
            timeout: Duration::from_secs(2),
            message_size_max: 8_000_000,
            credentials: None,
        }
    }

    /// What all subjects begin with: 1 to 64 letters, digits, `-`, `_`, `.` or `:`. Applications that share a NATS need one each.
    /// Default `ff`.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// How long it may take to answer. After that it is unknown whether a message was published. Default 2 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The largest message, in bytes of event and payload; larger ones are refused, and so are those that the server's `max_payload` does
    /// not allow. Default 8,000,000.
    pub fn message_size_max(mut self, bytes: usize) -> Self {
        self.message_size_max = bytes;
        self
    }

    /// What a node proves who it is by where the servers check NKeys or JWTs: the content of a `.creds` file, or the seed of a user's key,
    /// which begins with `SU`. The address has no user then.
    pub fn credentials(mut self, content: &str) -> Self {
        self.credentials = Some(content.to_owned());
        self
    }

    /// Looks for what cannot be, as far as that shows without a connection. [`Builder::build`](crate::Builder::build) does the same.
    ///
    /// # Errors
    /// The address is not that of a NATS, the namespace has other characters or another length, the timeout is zero, or the credentials are
    /// none. The text has no password.
    pub fn check(&self) -> Result<(), Error> {
        self.read().map(drop)
    }

    /// The servers, and the key.
    fn read(&self) -> Result<(Vec<Url>, Option<Key>), Error> {
        let urls = Url::parse_all(&self.url).map_err(Error::invalid)?;
        settings::check(&self.namespace, self.timeout)?;
        let key = self.credentials.as_deref().map(Key::read).transpose();
        let key = key.map_err(|why| Error::invalid(format!("the credentials: {why}")))?;
        if key.is_some() && urls.iter().any(|url| url.login != Login::Nobody) {
            return Err(Error::invalid(
                "the address has a user or a token, and there are credentials: give one of them",
            ));
        }
        Ok((urls, key))
    }

    /// Begins to connect. Until the first [`LinkState::Up`](super::LinkState::Up) all commands are refused.
    ///
    /// # Errors
    /// As [`check`](Self::check), or the system has no threads or certificates.
    pub(crate) fn open(&self, node: Incarnation, deliver: Arc<dyn Deliver>, logs: Logs) -> Result<Parts, Error> {
        self.start(node, deliver, logs, Arc::new(client_tls))
    }

    fn start(&self, node: Incarnation, deliver: Arc<dyn Deliver>, logs: Logs, trust: Trust) -> Result<Parts, Error> {
        let (urls, key) = self.read()?;
        if urls.iter().any(|url| url.tls) {
            // What is wrong with it is better said now.
            trust()?;
        }
        let addresses: Vec<_> = urls.iter().map(Url::to_string).collect();
        let server = Arc::new(Server::new(
            Subjects::new(&self.namespace, node),
            format!("nats {}", addresses.join(", ")).into(),
            self.timeout,
            self.message_size_max + ENVELOPE_OVERHEAD_MAX,
            logs,
        ));
        let canary = Box::new(move |number| Envelope { origin: node, number, content: Content::Canary }.to_bytes());
        let target = Target { urls, trust, key };
        let keeps = !server.streams.is_empty();
        let link = |name, role| {
            let link = Link::start(name, role, target.clone(), server.clone()).map(Arc::new);
            link.map_err(|cause| Error::io("the broker's thread", cause))
        };
        let live = link("nats", Role::Live { deliver, canary })?;
        // Without logs nothing takes long.
        let bulk = if keeps { link("nats-bulk", Role::Bulk)? } else { live.clone() };
        let nats = Arc::new(Nats { server: server.clone(), live, bulk });
        let log = keeps.then(|| nats.clone() as Arc<dyn Log>);
        let registers = keeps.then(|| nats.clone() as Arc<dyn Registers>);
        Ok(Parts { transport: nats, log, registers })
    }
}

impl fmt::Debug for NatsBroker {
    /// Without the address, which may have a password, and without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsBroker").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// A NATS.
#[derive(Debug, Clone)]
struct Nats {
    server: Arc<Server>,
    live: Arc<Link>,
    bulk: Arc<Link>,
}
