//! An engine whose shards have no threads: the one who owns it runs them, turn by turn.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use http::Request;
use tokio::runtime::{self, Runtime};

use super::NotConnected;
use crate::Builder;
use crate::clock::Clock;
use crate::endpoint::Endpoint;
use crate::key::SocketKey;
use crate::shard::{Arrivals, Shard};
use crate::transport::memory::Pipe;
use crate::transport::stream::Stream;
use crate::transport::wire::Wire;
use crate::transport::{Carrier, Transport};

/// The real engine on the caller's thread: nothing happens but in a call, and the same calls do the same things.
///
/// Its shards take their turns one after the other, its clock stands still until it is moved, and its sockets are WebSockets
/// in memory: bytes in, bytes out, through the same decoder, session and outbox as those of a server, without a descriptor.
/// What clients send is handled at once; what the engine answers is written in the next [`turn`](Lockstep::turn).
///
/// Channels' code that has to wait goes on at the end of the turn in which it can, on the same thread. It has no timers or
/// sockets of tokio's, nor has [`Endpoint::drain`]. Not to be used inside of a tokio runtime: it brings its own.
///
/// ```
/// use fanfare::testing::{Lockstep, Pipe};
/// use fanfare::{Endpoint, Mount};
///
/// let mut lockstep = Lockstep::new(Endpoint::builder().mount("/socket", Mount::new()), 1);
/// let pipe = Pipe::keeping();
/// let request = http::Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
/// let peer = lockstep.connect(request, &pipe).unwrap();
/// // A ping, masked with zeros.
/// lockstep.send(peer, &[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']);
/// assert!(pipe.take().is_empty());
/// lockstep.turn();
/// assert_eq!(pipe.take(), b"\x8a\x02hi");
/// ```
pub struct Lockstep {
    endpoint: Endpoint,
    shards: Vec<(Shard, Arrivals)>,
    now_ms: Arc<AtomicU64>,
    /// What a client sends is unmasked here.
    buffer: Vec<u8>,
    /// The last to be dropped: what the others hold may run on it.
    runtime: Runtime,
}

/// A client of a [`Lockstep`], by which it is told which of them does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    shard: u32,
    key: SocketKey,
}

impl Lockstep {
    /// Builds the endpoint with so many shards.
    ///
    /// # Panics
    /// The endpoint cannot be built.
    pub fn new(builder: Builder, shards: usize) -> Self {
        // All that is ready runs in one go, whatever its number.
        let runtime = runtime::Builder::new_current_thread().event_interval(u32::MAX).build();
        let runtime = runtime.expect("a runtime without timers and sockets needs nothing of the system");
        let now_ms = Arc::new(AtomicU64::new(0));
        let builder = builder.shards(shards).clock(Clock::Virtual(now_ms.clone()));
        let (endpoint, shards) = builder
            .assemble(runtime.handle().clone())
            .unwrap_or_else(|error| panic!("the endpoint cannot be built: {error}"));
        let shards = shards.into_iter().map(|shard| (shard, Arrivals::default())).collect();
        Lockstep { endpoint, shards, now_ms, buffer: Vec::new(), runtime }
    }

    /// The endpoint: what it is asked goes to the shards, which do it in their next turn. See [`run`](Lockstep::run).
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Runs a future to its end, taking turns while it waits.
    ///
    /// # Panics
    /// It waits for something that nothing in here brings about.
    pub fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let mut was_idle = false;
        loop {
            let poll = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx)));
            if let Poll::Ready(value) = self.runtime.block_on(poll) {
                return value;
            }
            let is_idle = !self.has_work();
            assert!(!(was_idle && is_idle), "the future waits for something that nothing in the engine brings about");
            was_idle = is_idle;
            self.turn();
        }
    }

    /// Connects to a mount as the request asks, as a WebSocket upgrade would: a `vsn` in the query, headers, and perhaps a
    /// [`Connection`](crate::Connection) among the extensions. What the server writes goes into the pipe.
    ///
    /// # Errors
    /// The mount has refused; or there is none at the path.
    pub fn connect(&mut self, request: Request<()>, pipe: &Pipe) -> Result<Peer, NotConnected> {
        let endpoint = self.endpoint.clone();
        let stream = Stream::Memory(pipe.clone());
        let carrier = |window_bits| Carrier::Wire(Wire::new(stream, window_bits));
        let connected = self.run(endpoint.connect_local(request, Transport::WebSocket, carrier));
        let (shard, key) = connected.map_err(|response| NotConnected { response })?;
        Ok(Peer { shard: u32::from(shard.number()), key })
    }

    /// The client sends bytes: masked frames, cut anywhere. Those of a socket that the server has let go are lost.
    pub fn send(&mut self, peer: Peer, bytes: &[u8]) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.shard(peer).arrived(peer.key, &mut buffer);
        self.buffer = buffer;
    }

    /// The client ends its direction, or its connection is lost.
    pub fn hang_up(&mut self, peer: Peer) {
        self.shard(peer).hung_up(peer.key);
    }

    /// The client's pipe, which had taken all that it was [limited](Pipe::limit) to, takes so many bytes more.
    pub fn make_room(&mut self, peer: Peer, pipe: &Pipe, bytes: usize) {
        pipe.limit(bytes);
        self.shard(peer).drained(peer.key);
    }

    /// Lets every shard take one turn, in order, and then channels' code that waited and need not any more.
    pub fn turn(&mut self) {
        self.endpoint.tick();
        for (shard, arrivals) in &mut self.shards {
            shard.step(arrivals);
        }
        if self.runtime.metrics().num_alive_tasks() > 0 {
            self.runtime.block_on(tokio::task::yield_now());
        }
    }

    /// Takes turns until nothing is left to do, timers apart: one at least.
    pub fn settle(&mut self) {
        self.turn();
        while self.has_work() {
            self.turn();
        }
    }

    /// Moves the engine's clock, and lets all that is due by then happen, in order and each at its own time.
    pub fn advance(&mut self, by: Duration) {
        self.settle();
        let target_ms = Clock::Virtual(self.now_ms.clone()).after(by);
        while let Some(due_ms) = self.next_timer_ms().filter(|&due_ms| due_ms <= target_ms) {
            self.now_ms.fetch_max(due_ms, Ordering::AcqRel);
            self.settle();
        }
        self.now_ms.fetch_max(target_ms, Ordering::AcqRel);
        self.settle();
    }

    /// How many timers the shards have set.
    pub fn timers(&self) -> usize {
        self.shards.iter().map(|(shard, _)| shard.timers()).sum()
    }

    /// Gives the shards topics in which nobody is, for benchmarks of engines with many topics. **Nothing may be published
    /// there.**
    #[doc(hidden)]
    pub fn populate(&mut self, topics: impl Iterator<Item = String>) {
        let count = self.shards.len();
        topics.enumerate().for_each(|(number, topic)| self.shards[number % count].0.populate(&topic.into()));
    }

    fn has_work(&self) -> bool {
        self.shards.iter().any(|(shard, _)| shard.has_work())
    }

    fn next_timer_ms(&self) -> Option<u64> {
        let timers = self.shards.iter().filter_map(|(shard, _)| shard.next_timer_ms());
        timers.chain(self.endpoint.next_tick_ms()).min()
    }

    fn shard(&mut self, peer: Peer) -> &mut Shard {
        &mut self.shards[peer.shard as usize].0
    }
}

impl fmt::Debug for Lockstep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lockstep").field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}
