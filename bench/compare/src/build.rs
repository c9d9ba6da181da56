//! The release build of what is ours: a stale one would be measured without anybody noticing.

use std::process::Command;

use crate::place::Place;

/// Builds the generator, the oracle and the ceiling; a matter of a second when nothing has changed.
///
/// By two commands: together, the ceiling's choice of features could make libraries of the others be built once more.
pub(crate) fn ours(place: &Place) -> Result<(), String> {
    for what in [&["--bins", "--package=fanfare-server", "--package=fanfare-oracle"][..], &["--package=ceiling"][..]] {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--quiet", "--target-dir"]).arg(&place.target).args(what);
        let status = cargo.current_dir(&place.root).status().map_err(|e| format!("cannot start cargo: {e}"))?;
        if !status.success() {
            return Err(format!("cargo build {} ended with {status}", what.join(" ")));
        }
    }
    Ok(())
}
