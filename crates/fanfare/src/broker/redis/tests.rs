//! The broker over a real Redis, started for each test. What every broker promises is tried by `broker/suite`; here is what only Redis
//! has: `appends` and `reads` (what the scripts keep and throw away), `breaks` (connections that break, servers
//! that stop, forget or refuse), `failover`, `clusters` (slots that move, masters that die), `cost`.

mod appends;
mod breaks;
mod clusters;
mod cost;
mod failover;
mod reads;
#[path = "../../../../fanfare-server/tests/server/services/redis_server.rs"]
mod redis_server;
pub(in crate::broker) mod subject;

use std::ops::Deref;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use fanfare_proto::history::Retention;
use rustls::ClientConfig;

use super::{Redis, RedisBroker};
use crate::broker::suite::process::{self, Service};
use crate::broker::suite::{self, PATIENCE, Told, answer, contents, envelope, eventually, topic};
use crate::broker::{Append, Appended, Log, Parts, Read, Transport, Undone};
use crate::error::Error;

/// A node, with what only Redis has.
struct Node {
    redis: Arc<Redis>,
    node: suite::Node,
}

impl Deref for Node {
    type Target = suite::Node;

    fn deref(&self) -> &suite::Node {
        &self.node
    }
}

impl Node {
    /// Connects, and waits until it is.
    fn up(service: &Service) -> Node {
        let node = Node::with(&broker(service));
        assert_eq!(node.next(), Told::Up);
        node.warm_up();
        node
    }

    fn with(broker: &RedisBroker) -> Node {
        Node::with_tls(broker, super::client_tls)
    }

    fn with_tls(broker: &RedisBroker, tls: impl FnOnce() -> Result<Arc<ClientConfig>, Error>) -> Node {
        let mut started = None;
        let node = suite::Node::with(|incarnation, deliver| {
            let redis = broker.start(incarnation, deliver, tls).unwrap();
            started = Some(redis.clone());
            Parts { transport: redis.clone(), log: Some(redis.clone()), registers: Some(redis) }
        });
        Node { redis: started.unwrap(), node }
    }
}

/// Who servers are that speak TLS, and a client that trusts them.
struct Trust {
    certificate: String,
    key: String,
    tls: Arc<ClientConfig>,
}

impl Trust {
    /// In a server that is reached by this name or address.
    fn new(host: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().unwrap();
        let tls = Arc::new(tls.with_root_certificates(roots).with_no_client_auth());
        Trust { certificate: made.cert.pem(), key: made.signing_key.serialize_pem(), tls }
    }

    fn identity(&self) -> redis_server::Identity<'_> {
        redis_server::Identity { certificate: &self.certificate, key: &self.key }
    }

    fn node(&self, url: &str) -> Node {
        Node::with_tls(&at_url(url), || Ok(self.tls.clone()))
    }
}

/// Why commands are refused, once they are for a reason that has this in it.
fn refused_since(node: &Node, part: &str) {
    let mut last = String::new();
    let deadline = Instant::now() + PATIENCE;
    while !last.contains(part) {
        assert!(Instant::now() < deadline, "{last}");
        match node.append("room", "m") {
            Err(Undone::Refused(why)) => last = why.to_string(),
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The largest message of the nodes here.
const MESSAGE_SIZE_MAX: usize = 1024 * 1024;

fn broker(service: &Service) -> RedisBroker {
    at_url(&format!("redis://127.0.0.1:{}", service.port))
}

fn at_url(url: &str) -> RedisBroker {
    RedisBroker::new(url).message_size_max(MESSAGE_SIZE_MAX)
}
