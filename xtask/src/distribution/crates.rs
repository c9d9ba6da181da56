//! The packages of cargo.

use std::process::Command;

use crate::{process, repository};

/// Those that are published, each behind those that it depends on.
const PUBLISHED: [&str; 4] = ["fanfare-proto", "fanfare-bench", "fanfare", "fanfare-server"];

/// The workspace's profile, which packages do not have.
const PROFILE: [&str; 2] = ["profile.dev.debug='line-tables-only'", "profile.dev.package.zlib-rs.opt-level=2"];

/// What each of them has beside its sources.
const EXPECTED: [&str; 4] = ["LICENSE-APACHE", "LICENSE-MIT", "README.md", "Cargo.toml"];

/// Builds each from what is in its package.
pub(super) fn check() -> Result<String, String> {
    check_lists()?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(repository::root()).args(["package", "--allow-dirty"]);
    // In the folder of the workspace and with its profile, most of what they depend on is there already; otherwise each package has a folder
    // of its own, and builds all of it.
    cargo.env("CARGO_TARGET_DIR", repository::target());
    cargo.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
    process::run(cargo.args(PUBLISHED.map(|name| format!("--package={name}"))))?;
    Ok(format!("built from their packages: {}", PUBLISHED.join(", ")))
}

/// Checks what the packages have in them.
pub(super) fn check_lists() -> Result<(), String> {
    for name in PUBLISHED {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(repository::root()).args(["package", "--list", "--allow-dirty", "--package", name]);
        let list = process::output(&mut cargo)?;
        let has = |file: &str| list.lines().any(|line| line == file);
        let pages: &[&str] =
            if name == "fanfare-server" { &["pages/demo/index.html", "resume/resume.js"] } else { &[] };
        if let Some(missing) = EXPECTED.iter().chain(pages).find(|file| !has(file)) {
            return Err(format!("the package of {name} lacks {missing}"));
        }
        let manifest = repository::text(&format!("crates/{name}/Cargo.toml"))?.unwrap_or_default();
        for key in
            ["description", "keywords", "categories", "readme", "license", "repository", "[package.metadata.docs.rs]"]
        {
            if !manifest.lines().any(|line| line.starts_with(key)) {
                return Err(format!("crates/{name}/Cargo.toml has no {key}"));
            }
        }
    }
    Ok(())
}
