//! `cargo xtask packages`: what is given to users is made, and tried as they would.
//!
//! Takes minutes, and installs what it needs; so the ordinary tests have only the part of it that takes seconds.

mod container;
mod crates;
mod debian;
mod kubernetes;
mod sbom;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::{process, repository};

/// Something that users are given.
struct Package {
    name: &'static str,
    what: &'static str,
    /// Debian's packages that making and trying it needs, and a program of theirs by which is seen whether they are there.
    needs: &'static [(&'static str, &'static str)],
    run: fn(&Made) -> Result<String, String>,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "systemd",
        what: "the units of systemd, and how much they leave open",
        needs: &[("systemd", "systemd-analyze")],
        run: |_| systemd::check(),
    },
    Package {
        name: "kubernetes",
        what: "the manifests, against the schemas of Kubernetes",
        needs: &[("kubernetes-client", "kubectl"), ("python3-venv", "python3")],
        run: |_| kubernetes::check(),
    },
    Package {
        name: "crates",
        what: "the packages of cargo, built from what is in them",
        needs: &[],
        run: |_| crates::check(),
    },
    Package { name: "sbom", what: "the list of all that the program is made of", needs: &[], run: |_| sbom::make() },
    Package {
        name: "debian",
        what: "the package for Debian: installed, started, upgraded and purged in a system of its own",
        needs: &[("lintian", "lintian"), ("mmdebstrap", "mmdebstrap"), ("dpkg-dev", "dpkg-shlibdeps")],
        run: debian::check,
    },
    Package {
        name: "container",
        what: "the image, built and run",
        needs: &[("buildah", "buildah")],
        run: container::check,
    },
];

/// What the packages are made of.
struct Made {
    /// The program that is packed.
    program: PathBuf,
}

/// Makes and tries all of them, or one.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let usage = || {
        let names: Vec<_> = PACKAGES.iter().map(|package| format!("  {:12} {}", package.name, package.what)).collect();
        format!("usage: cargo xtask packages [--only NAME] [--program FILE]\n{}", names.join("\n"))
    };
    let (mut only, mut program) = (None, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.next()) {
            ("--only", Some(name)) if PACKAGES.iter().any(|package| package.name == name) => only = Some(name),
            ("--program", Some(file)) => program = Some(PathBuf::from(file)),
            _ => return Err(usage()),
        }
    }
    let chosen: Vec<_> = PACKAGES.iter().filter(|package| only.is_none_or(|only| only == package.name)).collect();
    for package in &chosen {
        install(package)?;
    }
    let needs_program = chosen.iter().any(|package| ["debian", "container"].contains(&package.name));
    let program = match program {
        Some(program) => program,
        None if needs_program => build()?,
        None => PathBuf::new(),
    };
    let made = Made { program };
    let mut told = Vec::new();
    for package in chosen {
        println!("\n=== {}: {}", package.name, package.what);
        let begun = Instant::now();
        let found = (package.run)(&made).map_err(|error| format!("{}: {error}", package.name))?;
        told.push(format!("{:12} {found} ({:.0} s)", package.name, begun.elapsed().as_secs_f64()));
    }
    println!("\n{}", told.join("\n"));
    Ok(())
}

/// Installs what is missing.
fn install(package: &Package) -> Result<(), String> {
    let is_missing = |program: &str| !process::succeeds("sh", &["-c", &format!("command -v {program}")]);
    let missing: Vec<_> =
        package.needs.iter().filter(|(_, program)| is_missing(program)).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive");
    process::run(&mut install).map_err(|error| format!("{error}; install {} first", missing.join(" ")))
}

/// The program as it is shipped: with the list of its dependencies in it, where the tool for that is installed.
fn build() -> Result<PathBuf, String> {
    let can_be_audited = process::succeeds("cargo", &["auditable", "--version"]);
    if !can_be_audited {
        println!("without the list of its dependencies: cargo-auditable is not installed");
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(repository::root()).args(if can_be_audited { &["auditable", "build"][..] } else { &["build"] });
    process::run(cargo.args(["--profile=dist", "--package=fanfare-server"]))?;
    let program = repository::target().join("dist/fanfare");
    if can_be_audited && !has_list(&program)? {
        return Err(format!("{} has no list of its dependencies", program.display()));
    }
    Ok(program)
}

/// Whether a program has the list of its dependencies, by the name of the section that it is in.
fn has_list(program: &Path) -> Result<bool, String> {
    let bytes = std::fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(bytes.windows(8).any(|window| window == b".dep-v0\0"))
}

/// The version of all that is released.
fn version() -> Result<String, String> {
    let manifest = repository::text("Cargo.toml")?.unwrap_or_default();
    let of_workspace = manifest.split("[workspace.package]").nth(1).unwrap_or_default();
    let line = of_workspace.lines().find_map(|line| line.strip_prefix("version = "));
    line.map(|version| version.trim_matches('"').to_owned()).ok_or_else(|| "Cargo.toml has no version".to_owned())
}

/// A server that is tried: a client connects to it and is upgraded.
fn serves(address: &str) -> Result<(), String> {
    use std::io::{Read, Write};
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = std::net::TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).map_err(failed)?;
    let request = format!(
        "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).map_err(failed)?;
    if answer.ends_with(b" 101") { Ok(()) } else { Err(format!("{address}: {}", String::from_utf8_lossy(&answer))) }
}

/// Writes a file that a package is made of.
fn write(file: &Path, text: &str) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_leave_little_open() {
        match process::succeeds("systemd-analyze", &["--version"]) {
            true => println!("{}", systemd::check().unwrap()),
            false => println!("not checked: systemd is not installed"),
        }
    }

    #[test]
    fn manifests_can_be_read_and_have_the_version() {
        kubernetes::check_files().unwrap();
    }

    #[test]
    fn the_guide_shows_the_files_as_they_are() {
        let guide = repository::text("docs/deploy.md").unwrap().unwrap();
        for file in ["deploy/systemd/fanfare.service", "deploy/systemd/fanfare.socket", "deploy/Dockerfile"] {
            let text = repository::text(file).unwrap().unwrap();
            assert!(guide.contains(&format!("\n{text}```\n")), "docs/deploy.md shows another {file}");
        }
    }

    #[test]
    fn crates_have_their_licences_and_all_that_they_are_built_from() {
        crates::check_lists().unwrap();
    }

    #[test]
    fn the_package_for_debian_names_files_that_are_there() {
        debian::check_files().unwrap();
    }
}
