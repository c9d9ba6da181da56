//! `cargo xtask tables`: writes the tables of the guides that are made from the code, by the tests that compare them.

use std::process::Command;

use crate::{process, repository};

pub(crate) fn write() -> Result<(), String> {
    let mut tests = Command::new("cargo");
    tests.current_dir(repository::root()).env("FANFARE_WRITE_TABLES", "1");
    tests.args(["test", "--quiet", "--all-features", "--lib", "--bins", "--test", "server"]);
    tests.args(["--package=fanfare", "--package=fanfare-server", "--package=fanfare-scoreboard"]);
    // One at a time, as several tables are in one file.
    process::run(tests.args(["stand_in_the_guide", "--", "--test-threads=1", "--nocapture"]))
}
