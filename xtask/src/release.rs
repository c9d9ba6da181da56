//! The release build that the tests' later steps and the scoreboard run.

use std::process::Command;

use crate::{process, repository};

/// The programs, the fixtures and the scoreboard by one command: apart, they would build some libraries twice, with different
/// features.
pub(crate) fn build() -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(repository::root()).args(["build", "--release", "--bins"]);
    process::run(cargo.args(["--package=fanfare-server", "--package=fanfare-oracle", "--package=fanfare-scoreboard"]))
}
