//! Row 10, first half: frames of every protocol, broken by chance.
//!
//! A frame counts when the server has come to its end: a ping behind it was answered, or the connection was closed. Before each the
//! server gets a valid one, so that what is broken meets sockets that are in topics.

mod mutation;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_mutations::Random;

use mutation::DIALECTS;

use crate::client::{Client, Dial, PING, Received, frame};
use crate::figure::count;
use crate::row::rest::{endure, impatient_server};
use crate::server::Server;
use crate::{Finding, Setting, workers};

/// A connection that withstands this many is given up for another.
const FRAMES_PER_CONNECTION_MAX: usize = 100;

pub(super) fn check(setting: &Setting) -> Result<Finding, String> {
    let mut server = impatient_server(setting)?;
    let tally = Tally::default();
    let many = setting.size(50_000, 1_000_000);
    let figures = endure(setting, &mut server, many, |server, up_to| send(setting, server, &tally, up_to))?;
    let (sent, taken) = (tally.sent.into_inner(), tally.taken.into_inner());
    let size = format!("{} mutated frames, {} of them taken and the others closed for", count(sent), count(taken));
    Ok(Finding { size, figures })
}

/// What all workers have done.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    /// Frames after which the connection went on.
    taken: AtomicU64,
    /// Connections so far: each has a stream of chance of its own.
    connections: AtomicU64,
}

fn send(setting: &Setting, server: &Server, tally: &Tally, up_to: u64) -> Result<(), String> {
    workers::repeat(|| {
        if tally.sent.load(Ordering::Relaxed) >= up_to {
            return Ok(false);
        }
        let stream = tally.connections.fetch_add(1, Ordering::Relaxed);
        let failed = |error| format!("seed {}, connection {stream}: {error}", setting.seed);
        connection(setting, server, tally, stream, up_to).map_err(failed)?;
        Ok(true)
    })
}

/// One connection, up to the frame that it does not withstand.
fn connection(setting: &Setting, server: &Server, tally: &Tally, stream: u64, up_to: u64) -> Result<(), String> {
    let mut random = Random::new(setting.seed, stream);
    let dialect = random.of(DIALECTS);
    let target = dialect.target.replace("{n}", &(stream % 1_000).to_string());
    let dial = Dial { abrupt: true, ..Dial::default() };
    let mut client = Client::connect(server.address, &target, dial).map_err(|e| format!("cannot connect: {e}"))?;
    for number in 0..FRAMES_PER_CONNECTION_MAX {
        let broken = dialect.broken(&mut random);
        let survives = meets(&mut client, &broken).map_err(|e| {
            let hex: String = broken.bytes.iter().take(2_000).map(|byte| format!("{byte:02x}")).collect();
            format!("frame {number} to {target} came to no end: {e}: {hex}")
        })?;
        let sent = tally.sent.fetch_add(1, Ordering::Relaxed) + 1;
        tally.taken.fetch_add(survives.into(), Ordering::Relaxed);
        if !survives || sent >= up_to {
            break;
        }
    }
    Ok(())
}

/// Sends a frame behind a valid one, and says whether the connection goes on.
fn meets(client: &mut Client, broken: &mutation::Broken) -> io::Result<bool> {
    let mut bytes = broken.before.clone();
    bytes.extend_from_slice(&broken.bytes);
    if broken.ends_where_it_says {
        bytes.extend(frame(PING, b""));
    }
    // What was closed meanwhile is told by what comes.
    let written = client.send(&bytes).and_then(|()| if broken.ends_where_it_says { Ok(()) } else { client.end() });
    if written.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
        return Err(io::Error::other("the server takes no more bytes"));
    }
    loop {
        match client.receive()? {
            Received::Pong if broken.ends_where_it_says => return Ok(true),
            Received::Close(_) | Received::End => return Ok(false),
            _ => {}
        }
    }
}
