//! Thousands of well-behaved clients: `fanfare bench fanout` against a server.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Setting;
use crate::server::Server;

/// The topic that all the clients are in.
pub(crate) const TOPIC: &str = "crowd";

/// How much is sent.
#[derive(Clone, Copy)]
pub(crate) enum Load {
    /// Messages a second.
    Rate(u32),
    /// Messages in flight: as much as the server can do.
    Window(u32),
}

/// A run that has begun.
pub(crate) struct Run(Child);

/// What came of a run.
pub(crate) struct Report {
    pub(crate) expected: u64,
    /// Messages that came once and in order.
    pub(crate) right: u64,
    pub(crate) p99_ms: f64,
    /// What other programs took meanwhile, in cores.
    pub(crate) others: f64,
}

impl Report {
    /// What did not come once and in order.
    pub(crate) fn lost(&self) -> u64 {
        self.expected - self.right
    }
}

impl Run {
    pub(crate) fn start(
        setting: &Setting,
        server: &Server,
        clients: usize,
        load: Load,
        warmup: f64,
        seconds: f64,
    ) -> Result<Self, String> {
        let mut command = Command::new(&setting.fanfare);
        command.args(["bench", "fanout", &format!("ws://{}/socket", server.address), "--topic", TOPIC]);
        command.args(["--clients", &clients.to_string(), "--warmup", &warmup.to_string()]);
        command.args(["--seconds", &seconds.to_string(), "--json", "--quiet"]);
        command.args(["--server-pid", &server.pid().to_string()]);
        match load {
            Load::Rate(rate) => command.args(["--rate", &rate.to_string()]),
            Load::Window(window) => command.args(["--window", &window.to_string()]),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        child.map(Run).map_err(|e| format!("cannot start fanfare bench: {e}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Ends it early, and waits for its end.
    pub(crate) fn stop(self) -> Result<Report, String> {
        let interrupted = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT);
        interrupted.map_err(|e| format!("cannot end fanfare bench: {e}"))?;
        self.finish()
    }

    /// Waits for the end. Losses are no error: they are in the report.
    pub(crate) fn finish(self) -> Result<Report, String> {
        let output = self.0.wait_with_output().map_err(|e| format!("cannot wait for fanfare bench: {e}"))?;
        let failure = || format!("fanfare bench: {}", String::from_utf8_lossy(&output.stderr).trim());
        let report: Value = serde_json::from_slice(&output.stdout).map_err(|_| failure())?;
        let number = |name: &str| report[name].as_u64().ok_or_else(failure);
        let measure = |value: &Value| value.as_f64().ok_or_else(failure);
        let wrong = number("duplicated")? + number("reordered")? + number("strays")?;
        Ok(Report {
            expected: number("expected")?,
            right: number("delivered")?.saturating_sub(wrong),
            p99_ms: measure(&report["latency_us"]["p99"])? / 1e3,
            others: measure(&report["others_cpu_s"])? / measure(&report["seconds"])?,
        })
    }
}
