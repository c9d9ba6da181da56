//! The rows that there are. Their numbers are those of docs/reliability.md.

mod drops;
mod mutated;
mod panics;
mod rest;
mod restart;
mod stalled;

use crate::{Finding, Setting};

/// A check.
pub(crate) struct Row {
    pub(crate) number: u8,
    pub(crate) what: &'static str,
    /// An error is a failure that left nothing to measure.
    pub(crate) check: fn(&Setting) -> Result<Finding, String>,
}

pub(crate) const ROWS: &[Row] = &[
    Row { number: 3, what: "one stalled reader among many", check: stalled::one },
    Row { number: 4, what: "ten stalled readers under full load", check: stalled::ten },
    Row { number: 5, what: "a drain under many clients", check: restart::drained },
    Row { number: 10, what: "mutated frames, connects and drops", check: hostile },
    Row { number: 13, what: "a channel that panics", check: panics::check },
    Row { number: 14, what: "many clients that reconnect at once", check: restart::storm },
];

/// Row 10 has two halves.
fn hostile(setting: &Setting) -> Result<Finding, String> {
    let (frames, drops) = (mutated::check(setting)?, drops::check(setting)?);
    let figures = frames.figures.into_iter().chain(drops.figures).collect();
    Ok(Finding { size: format!("{}; {}", frames.size, drops.size), figures })
}
