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
mod tests;
mod transport;
mod url;

use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::envelope::{Content, Envelope};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use self::link::{Link, Role, Target};
use self::names::Names;
use self::server::Server;
use self::url::Url;
use super::{Deliver, ENVELOPE_OVERHEAD_MAX, Incarnation, Parts};
use crate::error::Error;

/// The longest namespace, in bytes. It is a part of every name.
const NAMESPACE_SIZE_MAX: usize = 64;

/// Where a Redis is and how it is used.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) url: String,
    /// What all names in it begin with.
    pub(crate) namespace: String,
    /// How long an answer may take.
    pub(crate) timeout: Duration,
    /// The largest message.
    pub(crate) message_size_max: usize,
}

/// A Redis.
#[derive(Debug, Clone)]
struct Redis {
    server: Arc<Server>,
    ordered: Arc<Link>,
    bulk: Arc<Link>,
}

/// Begins to connect. Until the first [`LinkState::Up`](super::LinkState::Up) all commands are refused.
///
/// # Errors
/// The address or the namespace cannot be used, or the system has no threads or certificates.
pub(crate) fn connect(settings: &Settings, node: Incarnation, deliver: Arc<dyn Deliver>) -> Result<Parts, Error> {
    settings.check()?;
    let redis = start(settings, node, deliver, client_tls)?;
    Ok(Parts { transport: redis.clone(), log: Some(redis.clone()), registers: Some(redis) })
}

fn start(
    settings: &Settings,
    node: Incarnation,
    deliver: Arc<dyn Deliver>,
    tls: impl FnOnce() -> Result<Arc<ClientConfig>, Error>,
) -> Result<Arc<Redis>, Error> {
    let url = Url::parse(&settings.url).map_err(|why| Error::invalid(format!("broker.url: {why}")))?;
    let names = Names::new(&settings.namespace);
    let inbox = names.inbox(node).into();
    let address = url.to_string().into();
    let envelope_size_max = settings.message_size_max + ENVELOPE_OVERHEAD_MAX;
    let server = Arc::new(Server::new(names, address, settings.timeout, envelope_size_max));
    let tls = url.tls.then(tls).transpose()?;
    let target = Target { url, tls };
    let canary = Box::new(move |number| Envelope { origin: node, number, content: Content::Canary }.to_bytes());
    let ordered = Link::start("redis", Role::Ordered { deliver, inbox, canary }, target.clone(), server.clone());
    let bulk = Link::start("redis-bulk", Role::Bulk, target, server.clone());
    let link =
        |link: std::io::Result<Link>| link.map(Arc::new).map_err(|cause| Error::io("the broker's thread", cause));
    Ok(Arc::new(Redis { server, ordered: link(ordered)?, bulk: link(bulk)? }))
}

impl Settings {
    /// Looks for what cannot be, as far as that shows without a connection.
    ///
    /// # Errors
    /// The setting, its value and the next step.
    pub(crate) fn check(&self) -> Result<(), Error> {
        Url::parse(&self.url).map_err(|why| Error::invalid(format!("broker.url: {why}")))?;
        let namespace = &self.namespace;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if !(1..=NAMESPACE_SIZE_MAX).contains(&namespace.len()) || !namespace.bytes().all(is_name) {
            return Err(Error::invalid(format!(
                "broker.namespace: {namespace:?} is not 1 to {NAMESPACE_SIZE_MAX} letters, digits, \"-\", \"_\", \".\" or \":\""
            )));
        }
        if self.timeout.is_zero() {
            return Err(Error::invalid(
                "broker.timeout: 0 gives the broker no time to answer; 2 seconds is the default",
            ));
        }
        Ok(())
    }
}

/// TLS that trusts what the system trusts.
fn client_tls() -> Result<Arc<ClientConfig>, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(Error::invalid(format!(
            "broker.url: no certificate authorities to trust{why}; install them, or name a file by SSL_CERT_FILE"
        )));
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().map_err(|error| Error::invalid(format!("TLS: {error}")))?;
    Ok(Arc::new(tls.with_root_certificates(roots).with_no_client_auth()))
}
