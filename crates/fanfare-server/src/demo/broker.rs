//! What the nodes of a demo have between them: a server that is started for them, or memory that they share.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
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
    Server { kind: &'static Kind, child: Child, address: SocketAddr, folder: PathBuf },
    Memory { broker: MemoryBroker, why: &'static str },
}

/// A server that a demo can start.
pub(super) struct Kind {
    program: &'static str,
    scheme: &'static str,
    /// What it is told beside its port; it keeps what it has to in the folder.
    args: fn(&mut Command, &Path),
}

static REDIS: Kind = Kind {
    program: "redis-server",
    scheme: "redis",
    args: |command, _| {
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    },
};

static NATS: Kind = Kind {
    program: "nats-server",
    scheme: "nats",
    args: |command, folder| {
        command.args(["--addr", "127.0.0.1", "--jetstream", "--store_dir"]).arg(folder);
    },
};

impl Broker {
    /// Starts the one that is wanted, or one that can be had.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub(super) fn start(wanted: Option<DemoBroker>) -> Result<Self, String> {
        let kinds = match wanted {
            Some(DemoBroker::Memory) => return Self::memory(""),
            Some(DemoBroker::Redis) => &[&REDIS][..],
            Some(DemoBroker::Nats) => &[&NATS],
            None => &[&REDIS, &NATS],
        };
        for kind in kinds {
            if let Some(server) = Self::server(kind)? {
                return Ok(server);
            }
        }
        match wanted {
            None => Self::memory(" (neither redis-server nor nats-server is installed)"),
            Some(_) => {
                let program = kinds[0].program;
                Err(format!("{program} is not installed; install it, or take --broker memory"))
            }
        }
    }

    fn memory(why: &'static str) -> Result<Self, String> {
        MemoryBroker::new().map(|broker| Broker::Memory { broker, why }).map_err(|error| error.to_string())
    }

    /// `None` if it is not installed.
    fn server(kind: &'static Kind) -> Result<Option<Self>, String> {
        let mut status = None;
        let program = kind.program;
        for _ in 0..TRIES {
            let address = super::node::free(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
            let folder = std::env::temp_dir().join(format!("fanfare-demo-{}-{}", std::process::id(), address.port()));
            let mut command = Command::new(program);
            (kind.args)(&mut command, &folder);
            command.args(["--port", &address.port().to_string()]).process_group(0);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let child = match child {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                child => child.map_err(|error| format!("cannot start {program}: {error}"))?,
            };
            let mut broker = Broker::Server { kind, child, address, folder };
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
        Err(status.unwrap_or_else(|| format!("{program} does not listen within {} s", STARTING_MAX.as_secs())))
    }

    /// Whether it is still there.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self {
            Broker::Server { kind, child, address, .. } => match child.try_wait() {
                Ok(Some(status)) => Err(format!("{} on {address} has ended: {status}", kind.program)),
                _ => Ok(()),
            },
            Broker::Memory { .. } => Ok(()),
        }
    }

    /// In the middle of a sentence.
    pub(super) fn describe(&self) -> String {
        match self {
            Broker::Server { kind, address, .. } => format!("a {} of their own ({address})", kind.program),
            Broker::Memory { why, .. } => format!("the memory of this process{why}"),
        }
    }

    /// The address for nodes that are processes of their own.
    pub(super) fn url(&self) -> Option<String> {
        match self {
            Broker::Server { kind, address, .. } => Some(format!("{}://{address}", kind.scheme)),
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
        if let Broker::Server { child, folder, .. } = self {
            let _ = child.kill();
            let _ = child.wait();
            // Not all servers have made it.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Whether something else listens there is seen when it is used.
pub(super) fn probe(address: SocketAddr) -> std::io::Result<SocketAddr> {
    TcpListener::bind(address)?.local_addr()
}
