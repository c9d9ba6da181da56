//! Rows 3 and 4: readers that have stopped reading, among many that have not.
//!
//! A stalled reader is one whose buffers are full, in both kernels and not before. So each gets more than they hold, on
//! a topic of its own; from there on what the others get piles up in its outbox.

mod latency;
mod throughput;

use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Setting;
use crate::client::{Client, Dial, Received};
use crate::figure::median;
use crate::others::{is_quiet, undisturbed};
use crate::server::Server;

pub(super) use latency::check as one;
pub(super) use throughput::check as ten;

/// What fills the buffers.
const FILL: &str = "fill";
const FILL_SIZE: usize = 60_000;

/// What a stalled reader's kernel takes, in bytes: little, so that its own memory is not the measure.
const RECEIVE_BUFFER: usize = 4096;

/// What the others do before it counts, in seconds.
const WARMUP: f64 = 0.5;

/// What was measured without stalled readers and with them, one after the other.
struct Pair<T> {
    control: T,
    test: T,
    /// What other programs kept busy meanwhile, in cores.
    others: f64,
}

struct Pairs<T>(Vec<Pair<T>>);

impl<T> Pair<T> {
    /// Neither is always the first.
    fn in_turn(
        number: usize,
        control: impl FnOnce() -> Result<T, String>,
        test: impl FnOnce() -> Result<T, String>,
    ) -> Result<(T, T), String> {
        if number.is_multiple_of(2) {
            let control = control()?;
            return Ok((control, test()?));
        }
        let test = test()?;
        Ok((control()?, test))
    }
}

impl<T> Pairs<T> {
    /// Takes so many by their numbers. In full size, one beside busy other programs is taken again, twice at most.
    fn take(
        setting: &Setting,
        count: usize,
        mut pair: impl FnMut(usize) -> Result<Pair<T>, String>,
    ) -> Result<Self, String> {
        let mut quiet = |number| undisturbed(setting.size(1, 3), || pair(number), |pair| pair.others);
        (0..count).map(&mut quiet).collect::<Result<_, _>>().map(Self)
    }

    /// A figure with stalled readers in terms of the one without: the middle one of all pairs.
    fn ratio(&self, figure: impl Fn(&T) -> f64) -> f64 {
        median(self.0.iter().map(|pair| figure(&pair.test) / figure(&pair.control)).collect())
    }

    /// A figure without stalled readers.
    fn control(&self, figure: impl Fn(&T) -> f64) -> f64 {
        median(self.0.iter().map(|pair| figure(&pair.control)).collect())
    }

    /// How many there are, of what, and how many of them mean less.
    fn size(&self, of: &str) -> String {
        let busy = self.0.iter().filter(|pair| !is_quiet(pair.others)).count();
        format!("{} pairs of {of}, {busy} of them beside busy other programs", self.0.len())
    }
}

/// A client of the scoreboard's that is in these topics.
fn guest(server: &Server, topics: &[&str]) -> Result<Client, String> {
    let dial = Dial { receive_buffer: Some(RECEIVE_BUFFER), abrupt: true, ..Dial::default() };
    let joined = Client::phoenix(server.address, dial).and_then(|mut client| {
        topics.iter().try_for_each(|topic| client.join(topic))?;
        Ok(client)
    });
    joined.map_err(|e| format!("cannot join {topics:?}: {e}"))
}

/// Publishes more than the server's kernel holds for one connection, and less than its outbox may.
fn fill(server: &Server) -> Result<(), String> {
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap_or_default();
    let kernel = limits.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(4 << 20);
    for _ in 0..kernel / FILL_SIZE + 5 {
        server.publish(FILL, FILL_SIZE)?;
    }
    Ok(())
}

/// A guest that reads on in a thread of its own until it is dropped.
struct Reader {
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Waits for the first message: then the crowd of the load generator is there, ten thousand perhaps.
    fn after_first(mut client: Client) -> Result<Self, String> {
        let patience = client.stream().set_read_timeout(Some(Duration::from_secs(60)));
        patience.and_then(|()| client.receive()).map_err(|e| format!("no message has come to the crowd: {e}"))?;
        let stream = client.stream().try_clone().map_err(|e| format!("cannot share a connection: {e}"))?;
        let thread = thread::spawn(move || while !matches!(client.receive(), Ok(Received::End) | Err(_)) {});
        Ok(Self { stream, thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
