//! The scoreboard of docs/reliability.md, on the release builds of it and of the server.

use std::process::Command;

use crate::{process, release, repository};

/// Runs the rows that the arguments name. A figure that misses its bar is an error.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    release::build()?;
    let mut scoreboard = Command::new(repository::release_program("scoreboard"));
    process::run_telling(scoreboard.args(args), |line| line.starts_with("row") && line.contains(" FAIL "))
}
