//! The load generator behind `fanfare bench`.
//!
//! It opens thousands of connections from one thread, sends stamped messages through the server, and counts what arrives: how much, how
//! late, and whether anything is lost, doubled or out of order. It speaks Phoenix Channels and a few other protocols, so that servers can
//! be compared.
//!
//! A scenario is data, a plan of who connects and who sends when, and a short script; `run` leads the workers
//! through it, and `report` tells what came out. Nothing here knows the engine: it is a client like any other.

mod args;
mod handshake;
mod histogram;
mod limits;
mod plan;
mod process;
mod protocol;
mod report;
mod restart;
mod run;
mod scenario;
mod sequence;
mod shared;
mod stamp;
mod stream;
mod tally;
mod target;
mod tls;
mod worker;

pub use args::Bench;
pub use tls::Trust;

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was measured, and every message came once and in order.
    Right,
    /// It was measured, but messages were lost, doubled, out of order, or came to the wrong topic.
    Wrong,
}

/// Measures, and writes the report to the standard output.
///
/// # Errors
/// Why nothing was measured, and what to do about it.
pub fn run(bench: &Bench) -> Result<Verdict, String> {
    let report = scenario::run(&bench.scenario)?;
    let text = match bench.scenario.common().json {
        true => format!("{}\n", report::json::object(&report)),
        false => report::table::text(&report),
    };
    let printed = std::io::Write::write_all(&mut std::io::stdout().lock(), text.as_bytes());
    printed.map_err(|error| format!("cannot write to the standard output: {error}"))?;
    Ok(if report.is_right() { Verdict::Right } else { Verdict::Wrong })
}
