//! What Fanfare must withstand, row by row: each row is a check that runs against the real server, or the crate, and ends in figures
//! beside their bars.
//!
//!     cargo xtask scoreboard 3 10 --full
//!
//! The rows are a table, [`row`]; a new one is a module below it and a line there. What they share: a [`server`] that runs beside the
//! check, [`mod@bench`] for thousands of well-behaved clients, and a [`client`] that can do everything wrong, as often
//! as [`workers`] can.

mod bench;
mod client;
mod figure;
mod others;
mod probe;
mod row;
mod server;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::figure::Figure;
use crate::row::{ROWS, Row};

/// Runs checks of docs/reliability.md, and prints a line for each.
#[derive(Debug, Parser)]
#[command(name = "scoreboard")]
struct Args {
    /// The rows, by number [default: all]
    #[arg(value_name = "ROW")]
    rows: Vec<u8>,
    /// The sizes of the table, in some minutes; without, smaller ones in about one
    #[arg(long)]
    full: bool,
    /// Where rows with chance in them begin; a failure names its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The program to check [default: the `fanfare` beside this one]
    #[arg(long, value_name = "PATH")]
    fanfare: Option<PathBuf>,
}

/// What a check is told.
struct Setting {
    fanfare: PathBuf,
    full: bool,
    seed: u64,
}

impl Setting {
    fn size<T>(&self, reduced: T, full: T) -> T {
        if self.full { full } else { reduced }
    }
}

/// What a check has found: how much was run, and what came of it.
struct Finding {
    size: String,
    figures: Vec<Figure>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("scoreboard: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every figure of the chosen rows is within its bar.
fn run(args: &Args) -> Result<bool, String> {
    let rows = chosen(&args.rows)?;
    let setting = Setting { fanfare: program(args)?, full: args.full, seed: args.seed };
    allow_descriptors()?;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{} sizes on {cores} cores, seed {}", setting.size("reduced", "full"), setting.seed);
    let mut all_pass = true;
    for row in rows {
        eprintln!("row {}: {} …", row.number, row.what);
        let start = Instant::now();
        let (passed, line) = match (row.check)(&setting) {
            Ok(finding) => (finding.figures.iter().all(Figure::passes), line(&finding)),
            Err(message) => (false, message),
        };
        let verdict = if passed { "pass" } else { "FAIL" };
        println!("row {:2} {verdict} {}: {line} ({:.0} s)", row.number, row.what, start.elapsed().as_secs_f64());
        all_pass &= passed;
    }
    Ok(all_pass)
}

fn line(finding: &Finding) -> String {
    let figures: Vec<String> = finding.figures.iter().map(ToString::to_string).collect();
    format!("{}: {}", finding.size, figures.join("; "))
}

fn chosen(numbers: &[u8]) -> Result<Vec<&'static Row>, String> {
    let known = || ROWS.iter().map(|row| row.number.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(number) = numbers.iter().find(|number| !ROWS.iter().any(|row| row.number == **number)) {
        return Err(format!("there is no row {number}; there are {}", known()));
    }
    Ok(ROWS.iter().filter(|row| numbers.is_empty() || numbers.contains(&row.number)).collect())
}

fn program(args: &Args) -> Result<PathBuf, String> {
    let path = match &args.fanfare {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|e| format!("cannot tell where this program is: {e}"))?
            .with_file_name("fanfare"),
    };
    match path.is_file() {
        true => Ok(path),
        false => Err(format!("there is no {}: build it, or name another with --fanfare", path.display())),
    }
}

/// The server and the load generator inherit the limit, and each holds ten thousand sockets.
fn allow_descriptors() -> Result<(), String> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|e| format!("cannot read the limit of open files: {e}"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|e| format!("cannot raise the limit of open files: {e}"))
}
