//! The package for Debian.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Made;
use crate::{process, repository};

/// The tool that makes it, by what the manifest of the server says.
const TOOL: &str = "cargo-deb";
const TOOL_VERSION: &str = "3.8.0";

/// The system that it is tried in.
const SUITE: &str = "bookworm";

/// How long a server in it may take to listen, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes it in two versions, and installs, starts, upgrades and purges it in a system of its own.
pub(super) fn check(made: &Made) -> Result<String, String> {
    check_files()?;
    if !process::succeeds("cargo", &["deb", "--version"]) {
        process::run(Command::new("cargo").args(["install", "--locked", TOOL, "--version", TOOL_VERSION]))?;
    }
    let scratch = repository::scratch("debian")?;
    prepare(made)?;
    let (first, second) = (pack(&scratch, "1", &[])?, pack(&scratch, "2", &["--fast"])?);
    process::run(Command::new("lintian").args(["--fail-on", "error", "--tag-display-limit", "0"]).arg(&first))?;
    let system = System::new(&scratch)?;
    system.copy(&first)?;
    system.copy(&second)?;
    let found = live(&system, &first, &second)?;
    let size = std::fs::metadata(&first).map_or(0, |file| file.len());
    Ok(format!("{:.1} MB, {found}", size as f64 / 1e6))
}

/// Whether every file is there that the package is made of and that is not built.
pub(super) fn check_files() -> Result<(), String> {
    let manifest = repository::text("crates/fanfare-server/Cargo.toml")?.unwrap_or_default();
    let assets = manifest.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next());
    let missing: Vec<_> = assets
        .filter(|asset| asset.starts_with("../../deploy/") && !asset.contains('*'))
        .filter(|asset| !repository::root().join(asset.trim_start_matches("../../")).exists())
        .collect();
    let (changes, version) = (repository::text("deploy/debian/changelog")?.unwrap_or_default(), super::version()?);
    if !changes.starts_with(&format!("fanfare ({version}-")) {
        return Err(format!("deploy/debian/changelog is not of version {version}"));
    }
    match (missing.is_empty(), manifest.contains("[package.metadata.deb]")) {
        (true, true) => Ok(()),
        (_, false) => Err("crates/fanfare-server/Cargo.toml has nothing about the package for Debian".to_owned()),
        _ => Err(format!("the package for Debian is made of files that are not there: {}", missing.join(", "))),
    }
}

/// Makes what the package has beside the program: manual pages and completions.
fn prepare(made: &Made) -> Result<(), String> {
    let dist = repository::target().join("dist");
    let pages = dist.join("man");
    let _ = std::fs::remove_dir_all(&pages);
    std::fs::create_dir_all(&pages).map_err(|error| format!("cannot make {}: {error}", pages.display()))?;
    process::run(Command::new(&made.program).args(["docs", "man"]).arg(&pages))?;
    process::run(Command::new("sh").arg("-c").arg(format!("gzip --best --no-name {}/*.1", pages.display())))?;
    for shell in ["bash", "zsh", "fish"] {
        let script = process::output(Command::new(&made.program).args(["completions", shell]))?;
        super::write(&dist.join(format!("fanfare.{shell}")), &script)?;
    }
    let program = dist.join("fanfare");
    if made.program != program {
        std::fs::copy(&made.program, &program).map_err(|error| format!("cannot copy the program: {error}"))?;
    }
    Ok(())
}

fn pack(scratch: &Path, revision: &str, options: &[&str]) -> Result<PathBuf, String> {
    let file = scratch.join(format!("fanfare_{revision}.deb"));
    let mut pack = Command::new("cargo");
    pack.current_dir(repository::root().join("crates/fanfare-server"));
    pack.args(["deb", "--no-build", "--no-strip", "--profile", "dist", "--deb-revision", revision, "--output"]);
    process::run(pack.arg(&file).args(options))?;
    Ok(file)
}

/// What the life of a package comes to.
fn live(system: &System, first: &Path, second: &Path) -> Result<String, String> {
    system.install(first)?;
    let port = process::free_port()?;
    let (address, file) = (format!("127.0.0.1:{port}"), "/etc/fanfare/fanfare.toml");
    system.run(&["fanfare", "check", "--config", file])?;
    for path in [
        "/usr/share/man/man1/fanfare.1.gz",
        "/usr/share/bash-completion/completions/fanfare",
        "/usr/share/doc/fanfare/copyright",
    ] {
        system.run(&["test", "-s", path])?;
    }
    let config = system.0.join(&file[1..]);
    let ours = std::fs::read_to_string(&config).map_err(|error| format!("{file}: {error}"))?;
    let ours = ours
        .replace("127.0.0.1:4000", &address)
        .replace("127.0.0.1:4001", &format!("127.0.0.1:{}", process::free_port()?));
    super::write(&config, &ours)?;
    system.run(&["install", "--directory", "--owner=fanfare", "--group=fanfare", "--mode=700", "/var/lib/fanfare"])?;
    let mut server = Running::start(system, file)?;
    server.serves(&address)?;
    // What the administrator has changed stays, and the program that comes takes over.
    system.install(second)?;
    if std::fs::read_to_string(&config).is_ok_and(|text| text != ours) {
        return Err("an upgrade of the package has changed the configuration".to_owned());
    }
    let before = server.process(port)?;
    process::succeeds("kill", &["-USR2", &before]);
    let deadline = Instant::now() + PATIENCE;
    while server.process(port).is_ok_and(|now| now == before)
        || server.child.try_wait().is_ok_and(|ended| ended.is_none())
    {
        if Instant::now() > deadline {
            return Err("the new program has not taken over".to_owned());
        }
        super::serves(&address)?;
    }
    super::serves(&address)?;
    let after = server.process(port)?;
    process::succeeds("kill", &["-TERM", &after]);
    system.run(&["apt-get", "purge", "--yes", "fanfare"])?;
    for path in ["usr/bin/fanfare", "etc/fanfare", "var/lib/fanfare", "usr/lib/systemd/system/fanfare.service"] {
        if system.0.join(path).exists() {
            return Err(format!("/{path} is left after the package is purged"));
        }
    }
    Ok("installed, started, upgraded with the server taken over, purged".to_owned())
}

/// A small system in a folder.
struct System(PathBuf);

impl System {
    fn new(scratch: &Path) -> Result<Self, String> {
        let root = scratch.join("system");
        let mut make = Command::new("mmdebstrap");
        make.args(["--variant=apt", "--include=systemd-standalone-sysusers,ca-certificates,procps,util-linux"]);
        // The mirrors of this machine.
        make.arg(SUITE).arg(&root);
        for file in ["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"] {
            if Path::new(file).exists() {
                make.arg(file);
            }
        }
        process::run(&mut make)?;
        Ok(Self(root))
    }

    fn copy(&self, file: &Path) -> Result<(), String> {
        let name = file.file_name().unwrap_or_default();
        std::fs::copy(file, self.0.join("tmp").join(name)).map(drop).map_err(|error| format!("cannot copy: {error}"))
    }

    fn install(&self, package: &Path) -> Result<(), String> {
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        self.run(&[
            "apt-get",
            "install",
            "--yes",
            "--no-install-recommends",
            "-o",
            "Dpkg::Options::=--force-confold",
            &format!("/tmp/{name}"),
        ])
    }

    fn run(&self, command: &[&str]) -> Result<(), String> {
        process::run(&mut self.command(command))
    }

    fn command(&self, command: &[&str]) -> Command {
        let mut chroot = Command::new("chroot");
        chroot
            .arg(&self.0)
            .args(command)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        chroot
    }
}

/// A server in it, as its own user.
struct Running {
    child: Child,
}

impl Running {
    fn start(system: &System, file: &str) -> Result<Self, String> {
        let mut command = system.command(&[
            "setpriv",
            "--reuid=fanfare",
            "--regid=fanfare",
            "--clear-groups",
            "/usr/bin/fanfare",
            "serve",
            "--config",
            file,
        ]);
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| format!("chroot: {error}"))?;
        Ok(Self { child })
    }

    fn serves(&self, address: &str) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match super::serves(address) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                served => return served,
            }
        }
    }

    /// The number of the process that listens.
    fn process(&self, port: u16) -> Result<String, String> {
        let said = process::output(Command::new("ss").args([
            "--tcp",
            "--listening",
            "--processes",
            "--no-header",
            &format!("sport = :{port}"),
        ]))?;
        let pids: Vec<_> = said.split("pid=").skip(1).filter_map(|rest| rest.split(',').next()).collect();
        pids.last().map(|pid| (*pid).to_owned()).ok_or_else(|| format!("nobody listens on {port}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
