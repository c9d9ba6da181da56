//! What a server holds while it has no client, and whether that grows with the clients it has had.

use std::thread;
use std::time::Duration;

use crate::Setting;
use crate::client::{Client, Dial};
use crate::figure::{Figure, mebibytes, percent};
use crate::server::{PATIENCE, Server};

/// Of a connection that is gone a timer stays until then, of some twenty bytes: with the default, a minute, memory would come to
/// rest a minute later.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the server's allocator give back at once what is free. It keeps some for later otherwise, a mebibyte or two now and then, and
/// a leak of that size could not be told from it.
const GIVE_BACK: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "0");

/// How often all is done at most while memory grows.
const ROUNDS_MAX: u64 = 3;

/// How often and how long to look at a server at rest.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(100);

/// A server whose memory comes to rest soon.
pub(super) fn impatient_server(setting: &Setting) -> Result<Server, String> {
    Server::start_with(&setting.fanfare, &format!("{}s", IDLE_TIMEOUT.as_secs()), &[GIVE_BACK])
}

/// Does `many` of something in steps, with rests between, and says what the server has to show for it. `go` is told how much is to
/// be done in all up to the next rest.
///
/// Memory is compared from the first half of the rests to the second, as the least of each. Where it has grown, as many follow: a leak
/// goes on, and what has only filled up, or was kept by the allocator, does not.
pub(super) fn endure(
    setting: &Setting,
    server: &mut Server,
    many: u64,
    go: impl Fn(&Server, u64) -> Result<(), String>,
) -> Result<Vec<Figure>, String> {
    let steps = setting.size(4, 10);
    // Two rests of each half are not many against what the allocator keeps.
    let drift_max = setting.size(0.15, 0.02);
    let base = server.descriptors();
    let (mut first, mut drift) = (0, f64::INFINITY);
    for round in 0..ROUNDS_MAX {
        let mut memory = Vec::new();
        for step in 1..=steps {
            let up_to = many * round + many * step / steps;
            go(server, up_to)?;
            let resident = rest(server, base)?;
            eprintln!("  {up_to}: {}", mebibytes(resident));
            memory.push(resident);
        }
        let (earlier, later) = memory.split_at(memory.len() / 2);
        let least = |memory: &[u64]| memory.iter().copied().min().unwrap_or(0);
        first = least(earlier);
        drift = least(later) as f64 / first as f64 - 1.0;
        if drift <= drift_max {
            break;
        }
    }
    server.check_alive()?;
    Ok(vec![
        Figure::exactly("panics", server.panics(), 0),
        Figure::at_most(&format!("memory of {} drifted by", mebibytes(first)), drift, drift_max, percent),
        Figure::exactly("descriptors above base", server.descriptors().saturating_sub(base), 0),
    ])
}

/// Lets the server come to rest and gives its memory, the least of several looks. A client comes and goes before each: it shows that the
/// server still serves, and gives the allocator an occasion.
fn rest(server: &Server, descriptors: u64) -> Result<u64, String> {
    thread::sleep(IDLE_TIMEOUT);
    let mut memory = u64::MAX;
    for _ in 0..LOOKS {
        let served = Client::phoenix(server.address, Dial::default()).and_then(|mut client| client.join("room:rest"));
        served.map_err(|e| format!("the server serves no more: {e}"))?;
        Server::wait(PATIENCE, || server.descriptors() <= descriptors);
        thread::sleep(LOOK);
        memory = memory.min(server.memory());
    }
    Ok(memory)
}
