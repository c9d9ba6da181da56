//! What is told: how it goes, the table for people, JSON for programs.

pub(crate) mod json;
pub(crate) mod progress;
pub(crate) mod table;

use serde_json::{Map, Value};

use crate::plan::Traffic;
use crate::run::Outcome;

/// What was measured, and of what.
pub(crate) struct Report {
    pub(crate) scenario: &'static str,
    pub(crate) protocol: String,
    pub(crate) url: String,
    pub(crate) clients: u32,
    pub(crate) size: u32,
    pub(crate) traffic: Traffic,
    /// Deliveries that there had to be.
    pub(crate) expected: u64,
    /// Whether the server's processes were watched.
    pub(crate) watches_server: bool,
    pub(crate) outcome: Outcome,
    /// What only this scenario has.
    pub(crate) figures: Map<String, Value>,
}

impl Report {
    pub(crate) fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.outcome.sums.delivered)
    }

    /// Deliveries for each second of the server's CPU time.
    pub(crate) fn per_server_cpu(&self) -> Option<f64> {
        let cpu = self.outcome.measured.usage.server_total();
        (self.watches_server && cpu > 0.0).then(|| self.outcome.sums.delivered as f64 / cpu)
    }

    pub(crate) fn per_second(&self) -> f64 {
        match self.outcome.measured.seconds {
            seconds if seconds > 0.0 => self.outcome.sums.delivered as f64 / seconds,
            _ => 0.0,
        }
    }

    pub(crate) fn frames_per_read(&self) -> f64 {
        self.outcome.sums.frames as f64 / self.outcome.sums.reads.max(1) as f64
    }

    pub(crate) fn bytes_per_delivery(&self) -> f64 {
        self.outcome.sums.bytes as f64 / self.outcome.sums.frames.max(1) as f64
    }

    /// Whether every message came once, in order, and to nobody else.
    pub(crate) fn is_right(&self) -> bool {
        let sums = &self.outcome.sums;
        self.lost() + sums.duplicated + sums.reordered + sums.strays == 0
    }
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
