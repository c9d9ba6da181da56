//! The list of all that the program is made of, as CycloneDX has it (SBOM), for those who look for known faults in it.

use std::process::Command;

use serde_json::Value;

use crate::{process, repository};

/// The tool writes a list for each program of the workspace, beside its manifest.
const WRITTEN: &str = "_bin.cdx.json";

/// Where that of the server is.
const OF_SERVER: &str = "crates/fanfare-server/fanfare_bin.cdx.json";

/// Writes it, where the tool for that is installed.
pub(super) fn make() -> Result<String, String> {
    if !process::succeeds("cargo", &["cyclonedx", "--version"]) {
        return Ok("NOT MADE: cargo-cyclonedx is not installed: cargo install --locked cargo-cyclonedx".to_owned());
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(repository::root()).args(["cyclonedx", "--manifest-path=crates/fanfare-server/Cargo.toml"]);
    cargo.args(["--describe=binaries", "--format=json", "--spec-version=1.5", "--no-build-deps"]);
    process::run(&mut cargo)?;
    let root = repository::root();
    // Our own crates are called by where they lie.
    let here = format!("path+file://{}", root.display());
    let text = repository::text(OF_SERVER)?.ok_or_else(|| format!("{OF_SERVER} was not written"));
    let text = text.map(|text| text.replace(&here, "path+file://"));
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "--others", "--exclude-standard", &format!("*{WRITTEN}")]);
    for file in process::output(&mut git)?.lines() {
        std::fs::remove_file(root.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    let text = text?;
    let list: Value = serde_json::from_str(&text).map_err(|error| format!("{OF_SERVER}: {error}"))?;
    let (program, version) = (&list["metadata"]["component"], super::version()?);
    if program["name"] != "fanfare" || program["version"] != *version {
        return Err(format!("the list is of {} {}, not of fanfare {version}", program["name"], program["version"]));
    }
    let parts = list["components"].as_array().map_or(0, Vec::len);
    let folder = repository::target().join("dist");
    std::fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let file = folder.join("fanfare.cdx.json");
    super::write(&file, &text)?;
    Ok(format!("{parts} crates, in {}", file.strip_prefix(root).unwrap_or(&file).display()))
}
