//! How it goes, once a second: one line that is written over on a terminal, a line each elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::table::grouped;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    quiet: bool,
    terminal: bool,
    doing: &'static str,
    start: Instant,
    last: Instant,
    /// Deliveries at the last line.
    arrived: u64,
    /// Whether there is a line to be written over.
    open: bool,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        let now = Instant::now();
        let terminal = std::io::stderr().is_terminal();
        Self { quiet, terminal, doing: "", start: now, last: now, arrived: 0, open: false }
    }

    /// What happens from now on.
    pub(crate) fn say(&mut self, doing: &'static str) {
        self.doing = doing;
    }

    /// Writes a line, if it is time.
    pub(crate) fn show(&mut self, shared: &Shared) {
        let since = self.last.elapsed();
        if self.quiet || since < EVERY {
            return;
        }
        self.last = Instant::now();
        let counts = &shared.counts;
        let arrived = counts.arrived.load(Ordering::Relaxed);
        let rate = (arrived - self.arrived) as f64 / since.as_secs_f64();
        self.arrived = arrived;
        let clients = shared.live.load(Ordering::Relaxed) as f64;
        let mut line = format!("{:4} s  {}: {} clients", self.start.elapsed().as_secs(), self.doing, grouped(clients));
        if arrived > 0 {
            line += &format!(", {} deliveries/s", grouped(rate));
        }
        let left = counts.left.load(Ordering::Relaxed);
        if left > 0 {
            line += &format!(", {} came back", grouped(left as f64));
        }
        let problems: u64 = shared.problems().values().sum();
        if problems > 0 {
            line += &format!(", {problems} problems");
        }
        // Nobody to tell it to is no reason to stop.
        let _ = match self.terminal {
            true => write!(std::io::stderr(), "\r\x1b[K{line}"),
            false => writeln!(std::io::stderr(), "{line}"),
        };
        self.open = self.terminal;
    }

    /// Nothing more is coming: clears the line.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
