//! Dependencies that a manifest names and no source uses.

use std::path::{Path, PathBuf};

use crate::metadata::Package;
use crate::{repository, source};

/// One line for each dependency that nothing uses, also those of `[workspace.dependencies]` that no member takes.
pub(super) fn check(packages: &[Package]) -> Result<Vec<String>, String> {
    let members: Vec<&Package> = packages.iter().filter(|package| package.source.is_none()).collect();
    let mut unused = Vec::new();
    for member in &members {
        let library = texts(&member.folder, |path| path.starts_with("src") || path == Path::new("build.rs"))?;
        let everything = texts(&member.folder, |_| true)?;
        // Documentation tests use development dependencies from inside comments; the others must be used by code.
        let library: Vec<String> = library.iter().map(|text| source::code(text)).collect();
        for dependency in &member.dependencies {
            let texts = if dependency.is_dev { &everything } else { &library };
            if !texts.iter().any(|text| source::mentions(text, &dependency.name_in_code)) {
                unused.push(format!("{}: depends on {} and does not use it", member.name, dependency.package));
            }
        }
    }
    let manifest = repository::text("Cargo.toml")?.unwrap_or_default();
    for name in shared_dependencies(&manifest) {
        if !members.iter().any(|member| member.dependencies.iter().any(|d| d.package == name)) {
            unused.push(format!("Cargo.toml: no member depends on {name}"));
        }
    }
    Ok(unused)
}

fn shared_dependencies(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().skip_while(|line| *line != "[workspace.dependencies]").skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter_map(|line| Some(line.split_once(" =")?.0)).collect()
}

/// The Rust files of a package whose path inside it is `wanted`.
fn texts(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    for file in repository::files()?.iter().filter(|file| file.ends_with(".rs")) {
        let path: PathBuf = repository::root().join(file);
        if path.strip_prefix(folder).is_ok_and(&wanted) {
            texts.extend(repository::text(file)?);
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_dependencies_are_read_from_the_manifest() {
        let manifest = "[workspace]\nx = 1\n\n[workspace.dependencies]\na = \"1\"\n\nb-c = { version = \"2\" }\n\n[profile.release]\nlto = true\n";
        assert_eq!(shared_dependencies(manifest), ["a", "b-c"]);
    }
}
