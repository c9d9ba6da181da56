//! The repository's own commands, run as `cargo xtask <command>`.
//!
//! `test` is the one that matters: it runs everything that must hold before a change lands, the other commands are its
//! parts. Nothing of Fanfare itself lives here, and nothing here is needed to build or use it.

mod autobahn;
mod counts;
mod dashboard;
mod dependencies;
mod distribution;
mod docs;
mod fuzz;
mod graph;
mod layering;
mod metadata;
mod packages;
mod process;
mod python;
mod release;
mod repository;
mod scoreboard;
mod source;
mod tables;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  test [STEP...]      run all the tests, or only the named steps; installs missing Debian packages when run as root
       --list           name the steps and stop
       --fail-fast      stop at the first step that fails
  layering            the repository's own rules: layers, purity of the protocol crate, size and shape of files
       --figures        the numbers among them, with their limits and what makes them up
  dependencies        licences, sources, banned and unused dependencies
  autobahn [--full]   Autobahn's WebSocket cases against the echo example; --full takes minutes instead of seconds
  counts [--update]   what the hot paths cost, in instructions, against bench/counts/baseline.toml
  scoreboard [ROW...] what the server must withstand, row by row, against the bars of docs/reliability.md; --help has more
       --full           the sizes of the table, in some minutes
  fuzz [READER...]    broken inputs for everything that reads what strangers send, 60 s for each reader
       --seconds N      so long instead
       --seed N         other inputs than by default; whatever fails names its seed
  tables              write the tables of docs/ that are made from the code; the Rust tests compare them
  dashboard           write deploy/grafana/fanfare.json from its table; the tests compare it
  docs [FILE...]      run the commands and snippets of README.md and docs/
  packages            make what is given to users, and try it: crates, systemd, Debian, container, Kubernetes; takes minutes
       --only NAME      one of these
       --program FILE   of this program instead of a build with the profile `dist`
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((command, rest)) => run(command, rest),
        None => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, args: &[String]) -> Result<(), String> {
    match command {
        "test" => test::run(args),
        "layering" if args == ["--figures"] => layering::print_figures(),
        "layering" => no_more(args).and_then(|()| layering::check()),
        "dependencies" => no_more(args).and_then(|()| dependencies::check()),
        "autobahn" if args == ["--full"] => autobahn::run(autobahn::Set::Full),
        "autobahn" => no_more(args).and_then(|()| autobahn::run(autobahn::Set::Quick)),
        "counts" if args == ["--update"] => counts::update(),
        "counts" => no_more(args).and_then(|()| counts::check()),
        "scoreboard" => scoreboard::run(args),
        "fuzz" => fuzz::run(args),
        "tables" => no_more(args).and_then(|()| tables::write()),
        "dashboard" => no_more(args).and_then(|()| dashboard::write()),
        "docs" => docs::run(args),
        "packages" => distribution::run(args),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("unknown command `{command}`\n\n{USAGE}")),
    }
}

fn no_more(args: &[String]) -> Result<(), String> {
    match args.first() {
        Some(arg) => Err(format!("unexpected argument `{arg}`\n\n{USAGE}")),
        None => Ok(()),
    }
}
