//! Known vulnerabilities, by cargo-deny and the RustSec database, neither of which every machine has.

use std::process::Command;

use crate::{process, repository};

/// Runs cargo-deny where it is installed. Says loudly what stays unchecked; only a finding is an error.
pub(super) fn check() -> Result<(), String> {
    if !process::succeeds("cargo", &["deny", "--version"]) {
        println!("NOT CHECKED: advisories. cargo-deny is not installed: cargo install --locked cargo-deny");
        return Ok(());
    }
    deny(&["bans", "licenses", "sources"])?;
    // The database lies in a git repository; without a way to it a finding and a failure could not be told apart.
    if !process::succeeds("cargo", &["deny", "fetch", "db"]) {
        println!("NOT CHECKED: advisories. The RustSec database cannot be reached from here");
        return Ok(());
    }
    deny(&["advisories"])
}

fn deny(checks: &[&str]) -> Result<(), String> {
    process::run(Command::new("cargo").current_dir(repository::root()).args(["deny", "check"]).args(checks))
}
