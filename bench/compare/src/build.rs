//! The release build of what is ours: a stale one would be measured without anybody noticing.

use std::process::Command;

use crate::place::Place;

/// Builds the generator, the example and the ceiling; a matter of a second when nothing has changed.
pub(crate) fn ours(place: &Place) -> Result<(), String> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--quiet", "--bins", "--examples"]);
    cargo.args(["--package=fanfare", "--package=fanfare-server", "--package=ceiling", "--target-dir"]);
    let status = cargo.arg(&place.target).current_dir(&place.root).status();
    match status.map_err(|e| format!("cannot start cargo: {e}"))? {
        status if status.success() => Ok(()),
        status => Err(format!("cargo build ended with {status}")),
    }
}
