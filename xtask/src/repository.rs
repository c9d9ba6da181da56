//! Where the repository lies and which files it has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::process;

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one folder below the root")
}

/// Cargo's target directory, `CARGO_TARGET_DIR` respected.
pub(crate) fn target() -> &'static Path {
    static TARGET: LazyLock<PathBuf> = LazyLock::new(|| match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    });
    &TARGET
}

/// A release binary. Building it is the caller's part.
pub(crate) fn release_program(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// An empty folder below the target directory for files that a command makes.
pub(crate) fn scratch(name: &str) -> Result<PathBuf, String> {
    let dir = target().join("xtask").join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir).map_err(|e| format!("cannot empty {}: {e}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    Ok(dir)
}

/// The repository's files, relative to the root: those in the index and new ones that are not ignored.
pub(crate) fn files() -> Result<Vec<String>, String> {
    let listing = process::output(Command::new("git").current_dir(root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut files: Vec<String> = listing.lines().filter(|f| root().join(f).is_file()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// The text of a file given relative to the root; `None` when it is not UTF-8.
pub(crate) fn text(file: &str) -> Result<Option<String>, String> {
    let bytes = std::fs::read(root().join(file)).map_err(|e| format!("cannot read {file}: {e}"))?;
    Ok(String::from_utf8(bytes).ok())
}
