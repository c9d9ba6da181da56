//! `cargo xtask test`: every check, step by step, each with its time.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::{autobahn, counts, dependencies, docs, layering, packages, process, release, repository, scoreboard};

/// One step of the tests.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<(), String>,
}

/// In this order: what is quick to fail first, and what needs the release build after it.
const STEPS: &[Step] = &[
    Step { name: "packages", what: "Debian packages that the tests need", run: packages::ensure },
    Step { name: "format", what: "rustfmt", run: || cargo(&["fmt", "--all", "--check", "--", "--files-with-diff"]) },
    Step { name: "layering", what: "the repository's own rules", run: layering::check },
    Step { name: "dependencies", what: "licences, sources, bans, unused, advisories", run: dependencies::check },
    Step { name: "built", what: "the built pages and packages in the repository are up to date", run: built },
    Step { name: "clippy", what: "clippy on everything, warnings denied", run: clippy },
    Step { name: "clippy-minimal", what: "clippy on the crate and the server without features", run: clippy_minimal },
    Step { name: "rustdoc", what: "documentation without warnings", run: rustdoc },
    Step { name: "rust", what: "the Rust tests", run: rust },
    Step { name: "doc-tests", what: "the examples in documentation and guides", run: doc_tests },
    Step { name: "build", what: "the release build that the next steps use", run: release::build },
    Step { name: "bench", what: "the comparison with other servers, a few seconds of it", run: bench },
    Step { name: "counts", what: "what the hot paths cost, in instructions", run: counts::check },
    Step {
        name: "autobahn",
        what: "Autobahn's WebSocket cases, the quick set",
        run: || autobahn::run(autobahn::Set::Quick),
    },
    Step { name: "scoreboard", what: "what the server must withstand, in reduced sizes", run: || scoreboard::run(&[]) },
    Step { name: "docs", what: "the commands and snippets of the guides", run: || docs::run(&[]) },
    Step { name: "e2e", what: "the clients of other people, and two browser pages", run: e2e },
];

/// Runs all the steps, or those that are named.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    if args == ["--list"] {
        STEPS.iter().for_each(|step| println!("{:16} {}", step.name, step.what));
        return Ok(());
    }
    let (flags, names): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| arg.starts_with('-'));
    if let Some(flag) = flags.iter().find(|flag| **flag != "--fail-fast") {
        return Err(format!("unknown option `{flag}`: there are --fail-fast and --list"));
    }
    if let Some(name) = names.iter().find(|name| !STEPS.iter().any(|step| step.name == **name)) {
        return Err(format!("no step `{name}`: `cargo xtask test --list` names them"));
    }
    let chosen: Vec<&Step> =
        STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| *name == step.name)).collect();
    let results = run_steps(&chosen, !flags.is_empty());
    summarize(&chosen, &results)
}

/// The outcome and time of each step, as far as they went.
fn run_steps(steps: &[&Step], fail_fast: bool) -> Vec<(Result<(), String>, Duration)> {
    let mut results = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        println!("\n=== {}/{} {}: {}", number + 1, steps.len(), step.name, step.what);
        let start = Instant::now();
        let outcome = (step.run)();
        if let Err(message) = &outcome {
            println!("{message}");
        }
        let failed = outcome.is_err();
        println!("=== {}: {}, {:.1} s", step.name, verdict(&outcome), start.elapsed().as_secs_f64());
        results.push((outcome, start.elapsed()));
        // Without its programs every later step would fail for a reason that is not its own.
        if failed && (fail_fast || step.name == "packages") {
            break;
        }
    }
    results
}

/// What has failed is said once more at the end, where it is looked for first.
fn summarize(steps: &[&Step], results: &[(Result<(), String>, Duration)]) -> Result<(), String> {
    for (step, (outcome, _)) in steps.iter().zip(results) {
        if let Err(message) = outcome {
            println!("\n{}: {message}", step.name);
        }
    }
    println!();
    for (step, (outcome, time)) in steps.iter().zip(results) {
        println!("{:7} {:16} {:7.1} s", verdict(outcome), step.name, time.as_secs_f64());
    }
    let total: Duration = results.iter().map(|(_, time)| *time).sum();
    println!("in {:.0} min {:.0} s", (total.as_secs() / 60) as f64, total.as_secs() % 60);
    let passed = results.iter().filter(|(outcome, _)| outcome.is_ok()).count();
    let skipped = steps.len() - results.len();
    println!("{passed} passed, {} failed, {skipped} skipped", results.len() - passed);
    if passed == steps.len() { Ok(()) } else { Err("the tests did not pass".to_owned()) }
}

fn verdict(outcome: &Result<(), String>) -> &'static str {
    if outcome.is_ok() { "ok" } else { "FAILED" }
}

fn cargo(args: &[&str]) -> Result<(), String> {
    process::run(Command::new("cargo").current_dir(repository::root()).args(args))
}

/// What they are built from is often only a text. A step that runs at the end would find it after half an hour.
fn built() -> Result<(), String> {
    let folder = repository::root().join("tests/e2e");
    process::run(Command::new("sh").arg("install.sh").current_dir(&folder))?;
    process::run(Command::new("node").args(["--test", "console/dist.test.mjs"]).current_dir(&folder))
}

fn clippy() -> Result<(), String> {
    cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "--deny=warnings"])
}

fn clippy_minimal() -> Result<(), String> {
    // One at a time: together, the server would turn features of the crate on.
    for package in ["--package=fanfare", "--package=fanfare-server"] {
        cargo(&["clippy", package, "--no-default-features", "--", "--deny=warnings"])?;
    }
    Ok(())
}

fn rustdoc() -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.env("RUSTDOCFLAGS", "--deny=warnings").current_dir(repository::root());
    process::run(cargo.args(["doc", "--workspace", "--all-features", "--no-deps"]))
}

fn rust() -> Result<(), String> {
    // cargo-nextest runs the tests of all crates side by side; without it they are the same tests, one crate at a time.
    let runner: &[&str] =
        if process::succeeds("cargo", &["nextest", "--version"]) { &["nextest", "run"] } else { &["test"] };
    let scope: &[&str] =
        if runner.len() == 2 { &["--no-fail-fast"] } else { &["--no-fail-fast", "--lib", "--bins", "--tests"] };
    cargo(&[runner, &["--workspace", "--all-features"], scope].concat())
}

fn doc_tests() -> Result<(), String> {
    cargo(&["test", "--doc", "--workspace", "--all-features"])
}

/// All servers that are installed, few clients, one round: figures mean nothing then, but nothing may be lost.
fn bench() -> Result<(), String> {
    cargo(&["build", "--release", "--package=compare", "--package=ceiling"])?;
    process::run(Command::new(repository::release_program("compare")).args(["--quick", "--no-build"]))
}

fn e2e() -> Result<(), String> {
    let mut script = Command::new(repository::root().join("tests/e2e/run.sh"));
    script.env("FANFARE_BIN", repository::release_program("fanfare"));
    process::run(script.env("FANFARE_ORACLE", repository::release_program("oracle")))
}
