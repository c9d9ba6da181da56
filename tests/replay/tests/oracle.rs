//! Everything that was recorded from Phoenix, played against `oracle` of tests/oracle.
//!
//! The example is built with the profile of this test. `FANFARE_ORACLE` may name a program that is built already.

use fanfare_replay::suite::{self, Outcome};
use fanfare_replay::{Better, Options, Server, load};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Server processes a test. One transcript waits for a minute, so that the others have time to share the rest.
const SERVERS: usize = 2;

#[test]
fn replays_with_every_improvement() {
    check(Better::Require);
}

#[test]
fn replays_with_or_without_improvements() {
    check(Better::Allow);
}

#[track_caller]
fn check(better: Better) {
    let transcripts = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../transcripts")).unwrap();
    let oracles: Vec<Oracle> = (0..SERVERS).map(|_| Oracle::start()).collect();
    let servers: Vec<Server> = oracles.iter().map(|oracle| oracle.server).collect();
    let failures = Mutex::new(Vec::new());
    let options = Options { better, ..Options::default() };
    // None ends its server, so that all can be played.
    let summary = suite::run(&transcripts, &servers, options, |transcript, outcome| {
        if let Outcome::Failed(mismatch) = outcome {
            failures.lock().unwrap().push(format!("{}: {mismatch}", transcript.name));
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{better:?}, {} failed:\n{}", summary.failed, failures.join("\n"));
    assert_eq!(summary.passed, transcripts.len(), "{better:?}: some were not played");
}

/// A running oracle, which ends with this value.
struct Oracle {
    process: Child,
    server: Server,
}

impl Oracle {
    fn start() -> Oracle {
        let mut process = Command::new(program())
            .args(["--port", "0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle cannot be started");
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        stdout.read_line(&mut line).expect("the oracle's stdout cannot be read");
        // Whatever it prints later is read as well, or it would block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let digits_from = line.trim_end().rfind(|c: char| !c.is_ascii_digit()).map_or(0, |i| i + 1);
        let port = line.trim_end()[digits_from..].parse();
        let mut oracle = Oracle { process, server: Server { port: 0, pid: None } };
        oracle.server.port = port.unwrap_or_else(|_| panic!("the oracle's first line is no address: {line:?}"));
        oracle.server.pid = Some(oracle.process.id());
        oracle
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("FANFARE_ORACLE").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--package", "fanfare-oracle", "--bin", "oracle", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "the oracle cannot be built");
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "oracle").then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    executable.expect("cargo names the oracle's executable")
}
