//! Making the runs: a fresh server for each, `fanfare bench` against it, and again if something else was running.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::args::Args;
use crate::history::{History, Record};
use crate::launch::Running;
use crate::place::Place;
use crate::plan::Run;
use crate::progress::Progress;

/// A run in which other programs took more than this share of a core is made again.
const OTHERS_MAX: f64 = 0.2;

/// Between a run and the next: the kernel still has to forget the connections.
const PAUSE: Duration = Duration::from_millis(200);

/// Makes all runs that the history does not have.
pub(crate) fn all(plan: &[Run<'_>], history: &mut History, place: &Place, args: &Args) -> Result<(), String> {
    let missing: Vec<&Run<'_>> = plan.iter().filter(|run| !history.has(run)).collect();
    let mut progress = Progress::new(&missing, args);
    for run in missing {
        progress.begin(run);
        let record = repeated(run, place, args);
        progress.end(&record, run);
        history.add(record)?;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Makes a run until nothing else was running, or until it has been tried often enough.
fn repeated(run: &Run<'_>, place: &Place, args: &Args) -> Record {
    let mut repeats = 0;
    let outcome = loop {
        let outcome = once(run, place, args);
        if repeats == args.repeats() || !outcome.as_ref().is_ok_and(is_disturbed) {
            break outcome;
        }
        repeats += 1;
        std::thread::sleep(PAUSE);
    };
    let (scenario, server) = (run.scenario.name.to_owned(), run.server.name.to_string());
    Record { scenario, server, round: run.round, repeats, outcome }
}

fn is_disturbed(report: &Value) -> bool {
    match (report["others_cpu_s"].as_f64(), report["seconds"].as_f64()) {
        (Some(others), Some(seconds)) => others > OTHERS_MAX * seconds,
        _ => false,
    }
}

fn once(run: &Run<'_>, place: &Place, args: &Args) -> Result<Value, String> {
    let server = Running::start(run.server, run.scenario, place)?;
    let protocol = run.server.protocol;
    let (name, options) = run.scenario.args.split_first().ok_or("a scenario without a name")?;
    let mut bench = Command::new(place.fanfare());
    bench.args(["bench", name, &protocol.url.replace("{port}", &server.port.to_string())]);
    bench.args(options).args(["--protocol", protocol.name]).args(protocol.args);
    if *name == "echo" {
        bench.args(protocol.echo_args);
    }
    let seconds = args.seconds.unwrap_or(run.scenario.seconds);
    bench.args(["--seconds", &seconds.to_string(), "--warmup", &run.scenario.warmup.to_string()]);
    bench.args(["--server-pid", &server.pid().to_string(), "--json", "--quiet"]);
    let output = bench.stdin(Stdio::null()).output().map_err(|e| format!("cannot start fanfare bench: {e}"))?;
    report(&output).map_err(|message| format!("{message} (the server's last line: {})", server.last_words()))
}

/// The report, of a run with losses as well: they are in it.
fn report(output: &Output) -> Result<Value, String> {
    match output.status.code() {
        Some(0 | 3) => serde_json::from_slice(&output.stdout).map_err(|e| format!("its report is not JSON: {e}")),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("without a word").trim().to_owned();
            Err(format!("fanfare bench ended with {}: {last}", output.status))
        }
    }
}
