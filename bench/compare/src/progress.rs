//! What is said while it runs: a line for each run, with the time that is left.

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::history::Record;
use crate::plan::Run;

pub(crate) struct Progress {
    total: usize,
    rounds: u32,
    done: usize,
    start: Instant,
    /// By the scenarios' own reckoning.
    expected_total: f64,
    expected_done: f64,
    seconds: Option<f64>,
}

impl Progress {
    pub(crate) fn new(runs: &[&Run<'_>], args: &Args) -> Self {
        let expected_total = runs.iter().fold(0.0, |sum, run| sum + expected(run, args.seconds));
        eprintln!("{} runs, about {}", runs.len(), shown(expected_total));
        Self {
            total: runs.len(),
            rounds: args.rounds(),
            done: 0,
            start: Instant::now(),
            expected_total,
            expected_done: 0.0,
            seconds: args.seconds,
        }
    }

    pub(crate) fn begin(&mut self, run: &Run<'_>) {
        let left = left(self.start.elapsed(), self.expected_done, self.expected_total);
        let Run { scenario, server, round } = run;
        eprint!(
            "{:>3}/{} {}, {}, round {round} of {}, {} left … ",
            self.done + 1,
            self.total,
            scenario.name,
            server.name,
            self.rounds,
            shown(left)
        );
    }

    pub(crate) fn end(&mut self, record: &Record, run: &Run<'_>) {
        self.done += 1;
        self.expected_done += expected(run, self.seconds);
        let again = if record.repeats > 0 { format!(" (repeated: {})", record.repeats) } else { String::new() };
        let figures = |report: &serde_json::Value| {
            let figures = run.scenario.figures.iter().filter_map(|figure| {
                let value = report.pointer(figure.pointer)?.as_f64()? * figure.scale;
                Some(format!("{}: {value:.*} {}", figure.title, figure.decimals, figure.unit))
            });
            figures.collect::<Vec<_>>().join("; ")
        };
        match &record.outcome {
            Ok(report) => eprintln!("{}{again}", figures(report)),
            Err(message) => eprintln!("FAILED: {message}{again}"),
        }
    }
}

fn expected(run: &Run<'_>, seconds: Option<f64>) -> f64 {
    // Starting and stopping the server, and the pause after it.
    const AROUND: f64 = 0.5;
    seconds.unwrap_or(run.scenario.seconds) + run.scenario.warmup + run.scenario.setup + AROUND
}

/// Seconds left: what was expected of the rest, corrected by how the expectation has fared so far.
fn left(elapsed: Duration, expected_done: f64, expected_total: f64) -> f64 {
    let factor = if expected_done > 0.0 { elapsed.as_secs_f64() / expected_done } else { 1.0 };
    (expected_total - expected_done) * factor
}

fn shown(seconds: f64) -> String {
    if seconds < 90.0 { format!("{seconds:.0} s") } else { format!("{:.0} min", seconds / 60.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_left() {
        for (elapsed, done, total, seconds) in [(0, 0.0, 100.0, 100.0), (20, 10.0, 100.0, 180.0), (5, 10.0, 20.0, 5.0)]
        {
            assert_eq!(left(Duration::from_secs(elapsed), done, total), seconds);
        }
        assert_eq!((shown(89.0), shown(120.0)), ("89 s".to_owned(), "2 min".to_owned()));
    }
}
