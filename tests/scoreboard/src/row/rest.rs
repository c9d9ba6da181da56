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

/// How often and how long to look at a server at rest.
const LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(100);

/// A server whose memory comes to rest soon.
pub(super) fn impatient_server(setting: &Setting) -> Result<Server, String> {
    Server::start_with(&setting.fanfare, &format!("{}s", IDLE_TIMEOUT.as_secs()), &[GIVE_BACK])
}

/// Does `all` of something in steps, with rests between, and says what the server has to show for it. `go` is told how much is to
/// be done up to the next rest.
///
/// Memory is compared from the first rests to the last, as the least of each.
pub(super) fn endure(
    setting: &Setting,
    server: &mut Server,
    all: u64,
    go: impl Fn(&Server, u64) -> Result<(), String>,
) -> Result<Vec<Figure>, String> {
    let steps = setting.size(3, 10);
    // Two rests are too few to tell a leak from chance by less.
    let drift_max = setting.size(0.1, 0.02);
    let base = server.descriptors();
    let mut memory = Vec::new();
    for step in 1..=steps {
        go(server, all * step / steps)?;
        memory.push(rest(server, base)?);
        eprintln!("  {} of {all}: {}", all * step / steps, mebibytes(memory[memory.len() - 1]));
    }
    server.check_alive()?;
    let several = memory.len().div_ceil(4);
    let least = |memory: &[u64]| memory.iter().copied().min().unwrap_or(0);
    let (first, last) = (least(&memory[..several]), least(&memory[memory.len() - several..]));
    let drift = last as f64 / first as f64 - 1.0;
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
