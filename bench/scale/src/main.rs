//! A million sockets in one process: what a socket and a join cost in memory, what connecting, joining, publishing, leaving and
//! going away cost in time, and whether that grows with their number.
//!
//! The sockets are in memory, since no machine has that many descriptors; all else is the engine as it is, one shard of it, on
//! one thread. Each measurement has a process of its own: what an earlier one has left in the allocator would not be seen.

mod args;
mod measure;
mod plot;
mod report;

use std::process::{Command, ExitCode};

use args::Args;
use measure::{Layout, Measured};

fn main() -> ExitCode {
    let outcome = match Args::parse(std::env::args().skip(1)) {
        Ok(Args::One(layout, sockets)) => {
            println!("{}", serde_json::to_string(&measure::run(layout, sockets)).expect("numbers are JSON"));
            Ok(())
        }
        Ok(Args::All { sockets, json, plot }) => all(sockets, json.as_deref(), plot.as_deref()),
        Err(message) => Err(message),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Measures both layouts in all sizes up to the largest.
fn all(largest: usize, json: Option<&str>, plot: Option<&str>) -> Result<(), String> {
    let mut measured = Vec::new();
    for layout in [Layout::OneTopic, Layout::ManyTopics] {
        let sizes = measure::SIZES.iter().copied().filter(|&size| size < largest).chain([largest]);
        for sockets in sizes {
            eprintln!("{}: {sockets} sockets", layout.title());
            measured.push(one(layout, sockets)?);
        }
    }
    print!("{}", report::tables(&measured));
    let write = |file: Option<&str>, text: String| match file {
        Some(file) => std::fs::write(file, text).map_err(|error| format!("cannot write {file}: {error}")),
        None => Ok(()),
    };
    write(json, serde_json::to_string_pretty(&measured).expect("numbers are JSON"))?;
    write(plot, plot::svg(&measured))
}

/// One measurement, in a process of its own.
fn one(layout: Layout, sockets: usize) -> Result<Measured, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
    let output = Command::new(program).args(["--one", layout.name(), &sockets.to_string()]).output();
    let output = output.map_err(|error| format!("cannot start a process: {error}"))?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        format!("{} with {sockets} sockets ended with {}: {stderr}", layout.title(), output.status)
    })
}
