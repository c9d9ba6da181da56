//! What the thread of a link does whatever the server speaks: it connects, works in turns, and waits before it tries again.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;

use super::queue::{Command, Queue, Taken};
use super::wire::Wire;

/// Whoever puts commands in wakes the thread by this.
pub(super) const WAKER: Token = Token(0);
const SOCKET: Token = Token(1);

/// The first wait before the next try to connect, which doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long the beginning of a connection may take, until all topics are attached.
pub(super) const BEGINNING_MAX: Duration = Duration::from_secs(60);

/// So many topics are on their way to be attached at most.
pub(super) const ATTACHING_MAX: usize = 10_000;

/// How a connection ended.
pub(super) enum End {
    /// It broke, or is of no use.
    Broken(String),
    /// The link is not needed any more.
    Stopped,
}

/// Connects to the first address of a host that takes it; with a configuration for TLS it speaks that from the beginning.
///
/// # Errors
/// Why there is no connection, in words.
pub(super) fn connect(
    poll: &Poll,
    (host, port): (&str, u16),
    timeout: Duration,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Wire, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| format!("its name: {error}"))?;
    let mut last = "its name has no addresses".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(tcp) => {
                let wire = Wire::new(tcp, tls.map(|tls| (tls.clone(), host)));
                let mut wire = wire.map_err(|error| error.to_string())?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                let registered = poll.registry().register(wire.source(), SOCKET, interest);
                registered.map_err(|error| error.to_string())?;
                return Ok(wire);
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Works until the connection ends. A turn says for how long nothing else is to be done, and nothing when the link is to stop.
pub(super) fn drive(poll: &mut Poll, mut turn: impl FnMut() -> Result<Option<Duration>, String>) -> End {
    let mut events = Events::with_capacity(16);
    loop {
        match turn() {
            Ok(Some(timeout)) => {
                if let Err(error) = poll.poll(&mut events, Some(timeout))
                    && error.kind() != io::ErrorKind::Interrupted
                {
                    return End::Broken(error.to_string());
                }
            }
            Ok(None) => return End::Stopped,
            Err(why) => return End::Broken(why),
        }
    }
}

/// How long to wait after so many failures one after the other. Up to a half less than it could be, so that nodes do not come all at
/// once: `random` says how much.
pub(super) fn backoff(failures: u32, random: u64) -> Duration {
    let longest = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    longest - longest.mul_f64((random % 1_000) as f64 / 2_000.0)
}

/// Waits before the next try; whether to stop. What is put in meanwhile is refused.
pub(super) fn wait<C: Command>(
    poll: &mut Poll,
    queue: &Queue<C>,
    time: Duration,
    mut refuse: impl FnMut(Vec<C>),
) -> bool {
    let until = Instant::now() + time;
    let mut events = Events::with_capacity(4);
    loop {
        let Taken { commands, stop } = queue.take(true);
        refuse(commands);
        let left = until.saturating_duration_since(Instant::now());
        if stop || left.is_zero() {
            return stop;
        }
        let _ = poll.poll(&mut events, Some(left));
    }
}
