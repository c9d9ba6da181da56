//! What `cargo metadata` says about the workspace and everything it depends on.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::{process, repository};

/// A package of the dependency graph.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The SPDX expression, empty when the package states none.
    pub(crate) license: String,
    /// Where it comes from; `None` for the workspace's own packages.
    pub(crate) source: Option<String>,
    /// The folder with its sources.
    pub(crate) folder: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a package's dependency tables.
pub(crate) struct Dependency {
    pub(crate) package: String,
    /// The name in the sources.
    pub(crate) name_in_code: String,
    /// Only for tests, examples and benches.
    pub(crate) is_dev: bool,
}

/// All packages, with all features, as `Cargo.lock` pins them.
pub(crate) fn packages() -> Result<Vec<Package>, String> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(repository::root()).args(["metadata", "--format-version=1", "--all-features", "--locked"]);
    let metadata: Value =
        serde_json::from_str(&process::output(&mut cargo)?).map_err(|e| format!("cannot read cargo metadata: {e}"))?;
    Ok(list(&metadata["packages"]).iter().map(package).collect())
}

fn package(value: &Value) -> Package {
    Package {
        name: text(&value["name"]),
        version: text(&value["version"]),
        license: text(&value["license"]),
        source: value["source"].as_str().map(str::to_owned),
        folder: PathBuf::from(text(&value["manifest_path"])).parent().map(PathBuf::from).unwrap_or_default(),
        dependencies: list(&value["dependencies"]).iter().map(dependency).collect(),
    }
}

fn dependency(value: &Value) -> Dependency {
    let package = text(&value["name"]);
    let name = value["rename"].as_str().unwrap_or(&package).replace('-', "_");
    Dependency { name_in_code: name, is_dev: value["kind"] == "dev", package }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
