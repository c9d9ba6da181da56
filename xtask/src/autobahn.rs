//! Autobahn's WebSocket cases against the echo example.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::process::{self, Server};
use crate::{python, repository};

/// Runs Autobahn's own case files.
const RUNNER: &str = "kosoku==0.1.0";

/// How much of the suite runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Set {
    /// All but the long ones: of the compression groups, 12 and 13, only short messages, whole and in fragments.
    Quick,
    Full,
}

/// Each line is one call of the runner, whose `*` stands for dots as well.
const QUICK: &[&str] = &[
    "-x 12.* -x 13.*",
    "-i 12.1.1 -i 12.2.1 -i 12.3.1 -i 12.4.1 -i 12.5.1 -i 12.1.11 -i 12.4.11",
    "-i 13.1.1 -i 13.2.1 -i 13.3.1 -i 13.4.1 -i 13.5.1 -i 13.6.1 -i 13.7.1 -i 13.1.11 -i 13.5.11",
];
const FULL: &[&str] = &[""];

/// Runs the cases and prints the figures. A failed case is an error, and so is one that the server left unimplemented.
pub(crate) fn run(set: Set) -> Result<(), String> {
    let programs = python::environment("autobahn", &[RUNNER])?;
    let mut cargo = Command::new("cargo");
    process::run(cargo.current_dir(repository::root()).args([
        "build",
        "--release",
        "--package=fanfare-oracle",
        "--bin=echo",
    ]))?;
    let port = process::free_port()?.to_string();
    let server = Server::start(Command::new(repository::release_program("echo")).args(["--port", &port]))?;

    let mut verdicts = BTreeMap::new();
    for selection in if set == Set::Quick { QUICK } else { FULL } {
        let report = repository::scratch("autobahn")?;
        let mut runner = Command::new(programs.join("kosoku"));
        runner.args(selection.split_whitespace()).arg("--outdir").arg(&report).arg(&server.address);
        // Its exit status says less than its report does.
        let ended = process::run(&mut runner);
        let index = report.join("index.json");
        let index = std::fs::read_to_string(&index).map_err(|e| match ended {
            Err(message) => message,
            Ok(()) => format!("cannot read {}: {e}", index.display()),
        })?;
        verdicts.extend(verdicts_in(&index)?);
    }
    server.stop()?;
    judge(&verdicts)
}

/// The verdict for each case, from a report's index: `{"<server>": {"<case>": {"behavior": …}}}`.
fn verdicts_in(index: &str) -> Result<BTreeMap<String, String>, String> {
    let index: Value = serde_json::from_str(index).map_err(|e| format!("cannot read the report: {e}"))?;
    let servers = index.as_object().into_iter().flat_map(|servers| servers.values());
    let cases = servers.filter_map(Value::as_object).flatten();
    Ok(cases.map(|(case, result)| (case.clone(), worse(&result["behavior"], &result["behaviorClose"]))).collect())
}

/// A case is judged by what was echoed and by how the connection was closed; the worse of both counts.
fn worse(behavior: &Value, close: &Value) -> String {
    let verdict = |value: &Value| value.as_str().unwrap_or("FAILED").to_owned();
    let (behavior, close) = (verdict(behavior), verdict(close));
    if matches!(behavior.as_str(), "OK" | "NON-STRICT") && !is_good(&close) { close } else { behavior }
}

fn is_good(verdict: &str) -> bool {
    matches!(verdict, "OK" | "INFORMATIONAL" | "NON-STRICT")
}

fn judge(verdicts: &BTreeMap<String, String>) -> Result<(), String> {
    let count = |wanted: &str| verdicts.values().filter(|verdict| *verdict == wanted).count();
    let good = verdicts.values().filter(|verdict| is_good(verdict)).count();
    for (case, verdict) in verdicts.iter().filter(|(_, verdict)| *verdict != "OK") {
        println!("case {case}: {verdict}");
    }
    println!(
        "Autobahn: {good} of {} cases pass ({} OK, {} non-strict, {} informational), {} unimplemented, {} failed",
        verdicts.len(),
        count("OK"),
        count("NON-STRICT"),
        count("INFORMATIONAL"),
        count("UNIMPLEMENTED"),
        verdicts.len() - good - count("UNIMPLEMENTED"),
    );
    match (verdicts.len(), verdicts.len() - good) {
        (0, _) => Err("Autobahn ran no case".to_owned()),
        (_, 0) => Ok(()),
        (_, bad) => Err(format!("{bad} of Autobahn's cases do not pass")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_good_verdicts_pass() {
        for (behavior, close, passes) in [
            ("OK", "OK", true),
            ("NON-STRICT", "OK", true),
            ("INFORMATIONAL", "INFORMATIONAL", true),
            ("OK", "WRONG CODE", false),
            ("FAILED", "OK", false),
            ("UNIMPLEMENTED", "OK", false),
        ] {
            let index = format!(r#"{{"echo": {{"1.1.1": {{"behavior": "{behavior}", "behaviorClose": "{close}"}}}}}}"#);
            assert_eq!(judge(&verdicts_in(&index).unwrap()).is_ok(), passes, "{index}");
        }
        assert!(judge(&verdicts_in("{}").unwrap()).is_err());
    }
}
