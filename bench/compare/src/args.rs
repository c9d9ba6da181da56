//! What can be typed behind `compare`.

use std::path::PathBuf;

use clap::Parser;

use crate::scenario::{ALL, QUICK, Scenario};
use crate::server::{self, Server};

/// Compares Fanfare with a server that only sends, and with other servers.
///
/// Servers take turns, round by round; a ratio is of two runs of one round. Ends with status 2 when Fanfare lost a message or a
/// run of it failed.
#[derive(Debug, Parser)]
#[command(max_term_width = 110)]
pub(crate) struct Args {
    /// Servers to measure [default: all that are installed]
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    servers: Vec<String>,
    /// Scenarios to measure [default: all]
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    scenarios: Vec<String>,
    /// A server of your own, for every round: its name, what it speaks (phoenix, plain, nchan, nats, socketio), and its
    /// command with {port}; phoenix needs a mount /bench with topics bench:*, as `oracle` of tests/oracle has
    #[arg(long = "server", value_name = "NAME=PROTOCOL=COMMAND", value_parser = server::guest)]
    guests: Vec<Server>,
    /// Rounds [default: 5]
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Rounds of the servers other than Fanfare and the ceiling [default: one or two, by the scenario]
    #[arg(long, value_name = "N")]
    pub(crate) peer_rounds: Option<u32>,
    /// How long each run measures, in seconds [default: by the scenario]
    #[arg(long, value_name = "S")]
    pub(crate) seconds: Option<f64>,
    /// How often a run is repeated in which other programs took more than a fifth of a core
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) repeats: u32,
    /// One round of three short scenarios: that everything works, not how fast
    #[arg(long)]
    quick: bool,
    /// A file to which every run is added, one line of JSON each; runs that it has already are not made again, so that an
    /// interrupted comparison goes on where it was
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// A folder for the report and the plots
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Replaces tables and plots of docs/performance.md
    #[arg(long)]
    pub(crate) write_docs: bool,
    /// Takes the release build as it is
    #[arg(long)]
    pub(crate) no_build: bool,
}

impl Args {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// Nobody wants to wait for quiet when figures do not count.
    pub(crate) fn repeats(&self) -> u32 {
        if self.quick { 0 } else { self.repeats }
    }

    pub(crate) fn scenarios(&self) -> Result<Vec<&'static Scenario>, String> {
        let table = if self.quick { QUICK } else { ALL };
        let names: Vec<&str> = table.iter().map(|scenario| scenario.name).collect();
        check("scenario", &self.scenarios, &names)?;
        let is_wanted = |name: &str| self.scenarios.is_empty() || self.scenarios.iter().any(|wanted| wanted == name);
        Ok(table.iter().filter(|scenario| is_wanted(scenario.name)).collect())
    }

    pub(crate) fn servers(&self) -> Result<Vec<Server>, String> {
        let mut servers = server::all();
        let names: Vec<&str> = servers.iter().map(|server| &*server.name).collect();
        check("server", &self.servers, &names)?;
        servers.retain(|server| self.servers.is_empty() || self.servers.iter().any(|wanted| *wanted == server.name));
        servers.extend(self.guests.iter().cloned());
        Ok(servers)
    }
}

fn check(kind: &str, wanted: &[String], names: &[&str]) -> Result<(), String> {
    match wanted.iter().find(|wanted| !names.contains(&wanted.as_str())) {
        Some(unknown) => Err(format!("there is no {kind} `{unknown}`; there are {}", names.join(", "))),
        None => Ok(()),
    }
}
