//! Compares Fanfare with a server that does nothing but send, and with other servers: by turns, round by round, with the
//! spread beside every figure.
//!
//!     cargo run --release -p compare
//!
//! What is measured is a table, [`scenario`]; what it is measured on is another, [`server`]. The measuring is done by
//! `fanfare bench`; here are the order of the runs, the ratios, and the page that comes of them. See bench/README.md.

mod args;
mod build;
mod history;
mod launch;
mod machine;
mod measure;
mod page;
mod place;
mod plan;
mod plot;
mod progress;
mod ratio;
mod report;
mod scenario;
mod server;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Args;
use crate::history::History;
use crate::place::Place;
use crate::server::{Role, Server};

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(message) => {
            eprintln!("compare: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every message of Fanfare and of the ceiling has arrived.
fn run(args: &Args) -> Result<bool, String> {
    let place = Place::find()?;
    place.raise_descriptor_limit();
    if !args.no_build {
        build::ours(&place)?;
    }
    let servers = installed(args, &place)?;
    let scenarios = args.scenarios()?;
    let mut history = History::open(args.json.as_deref(), || machine::describe(&place, &servers))?;
    let plan = plan::runs(&scenarios, &servers, args.rounds(), args.peer_rounds);
    measure::all(&plan, &mut history, &place, args)?;
    let report = report::Report::new(&scenarios, &servers, &history);
    report.print();
    if let Some(dir) = &args.out {
        report.write(dir)?;
    }
    if args.write_docs {
        report.write_docs(&place.root)?;
    }
    Ok(report.is_clean())
}

/// The servers that were asked for and are there. Others' that are missing are named, with what to install.
fn installed(args: &Args, place: &Place) -> Result<Vec<Server>, String> {
    let mut installed = Vec::new();
    for server in args.servers()? {
        match server.missing(place) {
            None => installed.push(server),
            Some(path) if server.role == Role::Peer => {
                eprintln!("skipped: {}, as there is no {path}. {}", server.name, server.install);
            }
            Some(path) => return Err(format!("{}: there is no {path}. {}", server.name, server.install)),
        }
    }
    if installed.is_empty() {
        return Err("none of the servers is installed".into());
    }
    Ok(installed)
}
