//! What the nodes of a demo have between them: a server that is started for them, or memory that they share.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanfare::MemoryBroker;

use crate::cli::DemoBroker;

/// How long a server may take to listen.
const STARTING_MAX: Duration = Duration::from_secs(10);

/// Another process may take the port in the moment between.
const TRIES: usize = 3;

/// A broker. A server of its own is killed when it is dropped: it keeps nothing.
pub(super) enum Broker {
    Server { name: &'static str, child: Child, address: SocketAddr },
    Memory { broker: MemoryBroker, why: &'static str },
}

impl Broker {
    /// Starts the one that is wanted, or one that can be had.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub(super) fn start(wanted: Option<DemoBroker>) -> Result<Self, String> {
        match wanted {
            Some(DemoBroker::Memory) => Self::memory(""),
            Some(DemoBroker::Redis) => Self::redis()?
                .ok_or_else(|| "redis-server is not installed; install it, or take --broker memory".to_owned()),
            None => match Self::redis()? {
                Some(redis) => Ok(redis),
                None => Self::memory(" (redis-server is not installed)"),
            },
        }
    }

    fn memory(why: &'static str) -> Result<Self, String> {
        MemoryBroker::new().map(|broker| Broker::Memory { broker, why }).map_err(|error| error.to_string())
    }

    /// `None` if it is not installed.
    fn redis() -> Result<Option<Self>, String> {
        let mut status = None;
        for _ in 0..TRIES {
            let address = super::node::free(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
            command.arg(address.port().to_string()).process_group(0);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let child = match child {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                child => child.map_err(|error| format!("cannot start redis-server: {error}"))?,
            };
            let mut broker = Broker::Server { name: "redis-server", child, address };
            let deadline = Instant::now() + STARTING_MAX;
            while Instant::now() < deadline {
                if let Err(error) = broker.check() {
                    status = Some(error);
                    break;
                }
                if TcpStream::connect(address).is_ok() {
                    return Ok(Some(broker));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Err(status.unwrap_or_else(|| format!("redis-server does not listen within {} s", STARTING_MAX.as_secs())))
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self {
            Broker::Server { name, child, address } => match child.try_wait() {
                Ok(Some(status)) => Err(format!("{name} on {address} has ended: {status}")),
                _ => Ok(()),
            },
            Broker::Memory { .. } => Ok(()),
        }
    }

    /// In the middle of a sentence.
    pub(super) fn describe(&self) -> String {
        match self {
            Broker::Server { name, address, .. } => format!("a {name} of their own ({address})"),
            Broker::Memory { why, .. } => format!("the memory of this process{why}"),
        }
    }

    /// The address for nodes that are processes of their own.
    pub(super) fn url(&self) -> Option<String> {
        match self {
            Broker::Server { address, .. } => Some(format!("redis://{address}")),
            Broker::Memory { .. } => None,
        }
    }

    /// What nodes in this process share.
    pub(super) fn shared(&self) -> Option<fanfare::Broker> {
        match self {
            Broker::Server { .. } => None,
            Broker::Memory { broker, .. } => Some(fanfare::Broker::memory(broker)),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Broker::Server { child, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether something else listens there is seen when it is used.
pub(super) fn probe(address: SocketAddr) -> std::io::Result<SocketAddr> {
    TcpListener::bind(address)?.local_addr()
}
