//! What the workspace depends on: licences, sources, banned and unused packages, and advisories where they can be had.
//!
//! The lists are those of `deny.toml`. The checks here need no tool and no network; cargo-deny adds its own when installed.

mod advisories;
mod license;
mod unused;

use std::collections::BTreeMap;

use crate::metadata::{self, Package};
use crate::repository;

/// Where all packages that are not our own must come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks everything and prints what is wrong, one line each.
pub(crate) fn check() -> Result<(), String> {
    let policy = repository::text("deny.toml")?.ok_or("deny.toml is not UTF-8")?;
    let packages = metadata::packages()?;
    let mut wrong = check_packages(&packages, &array(&policy, "allow")?, &array(&policy, "deny")?);
    wrong.extend(unused::check(&packages)?);
    for line in &wrong {
        println!("{line}");
    }
    for (name, versions) in duplicates(&packages) {
        println!("note: {name} in {} versions: {}", versions.len(), versions.join(", "));
    }
    advisories::check()?;
    if wrong.is_empty() {
        println!("{} packages: licences, sources, bans and use are as they should be", packages.len());
        Ok(())
    } else {
        Err(format!("{} things wrong with the dependencies", wrong.len()))
    }
}

fn check_packages(packages: &[Package], allowed: &[String], banned: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages {
        let shown = format!("{} {}", package.name, package.version);
        if !license::is_allowed(&package.license, allowed) {
            wrong.push(format!("{shown}: licence `{}` is not allowed by deny.toml", package.license));
        }
        if banned.contains(&package.name) {
            wrong.push(format!("{shown}: banned by deny.toml"));
        }
        if let Some(source) = package.source.as_ref().filter(|source| *source != REGISTRY) {
            wrong.push(format!("{shown}: comes from {source}, not from crates.io"));
        }
    }
    wrong
}

fn duplicates(packages: &[Package]) -> BTreeMap<&str, Vec<&str>> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    versions
}

/// The strings of `key = [ … ]` in a TOML text: the first such key, comments left out.
fn array(toml: &str, key: &str) -> Result<Vec<String>, String> {
    let without_comments: String =
        toml.lines().map(|line| line.split('#').next().unwrap_or_default().to_owned() + "\n").collect();
    let (_, behind) =
        without_comments.split_once(&format!("\n{key} = [")).ok_or(format!("deny.toml has no `{key}`"))?;
    let body = behind.split(']').next().unwrap_or_default();
    Ok(body.split('"').skip(1).step_by(2).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, license: &str, source: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: license.to_owned(),
            source: source.map(str::to_owned),
            folder: Default::default(),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn packages_are_held_to_the_policy() {
        let policy = "[a]\nallow = [ # all\n  \"MIT\",\n  \"ISC\", # x\n]\n[b]\ndeny = [\"openssl\"]\n";
        let (allowed, banned) = (array(policy, "allow").unwrap(), array(policy, "deny").unwrap());
        for (package, faults) in [
            (package("a", "MIT", None), 0),
            (package("a", "ISC", Some(REGISTRY)), 0),
            (package("a", "", None), 1),
            (package("a", "GPL-3.0", Some(REGISTRY)), 1),
            (package("openssl", "MIT", Some(REGISTRY)), 1),
            (package("a", "MIT", Some("git+https://example.com/a")), 1),
        ] {
            let name = format!("{} {} {:?}", package.name, package.license, package.source);
            assert_eq!(check_packages(&[package], &allowed, &banned).len(), faults, "{name}");
        }
    }
}
