//! Python packages for the tests, each set in a virtual environment below the target directory.

use std::path::PathBuf;
use std::process::Command;

use crate::{process, repository};

/// The folder of programs of an environment that holds exactly these pinned packages (`name==version`).
pub(crate) fn environment(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let dir = repository::target().join("xtask").join(format!("venv-{name}"));
    let stamp = dir.join("installed");
    let wanted = packages.join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(dir.join("bin"));
    }
    process::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let mut pip = Command::new(dir.join("bin/pip"));
    process::run(pip.args(["install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("cannot write {}: {e}", stamp.display()))?;
    Ok(dir.join("bin"))
}
