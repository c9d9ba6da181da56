//! The image for containers, built and run without a daemon and without anything from a registry.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Made;
use crate::{process, repository};

/// The image may have so many bytes: the program, five libraries, certificates.
const SIZE_MAX: u64 = 64 * 1024 * 1024;

/// How long the server in it may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Builds it of a program that is there, instead of in a stage of its own; then runs it, and connects to it.
pub(super) fn check(made: &Made) -> Result<String, String> {
    let scratch = repository::scratch("container")?;
    let (store, run) = (scratch.join("store"), scratch.join("run"));
    let context = scratch.join("build");
    let image_of = repository::root().join("deploy/image.sh");
    process::run(Command::new("sh").arg(image_of).arg(&made.program).arg(context.join("image")))?;
    let size = size_of(&context)?;
    if size > SIZE_MAX {
        return Err(format!("the image has {size} bytes, more than {SIZE_MAX}"));
    }
    let buildah = || {
        let mut buildah = Command::new("buildah");
        buildah.args(["--storage-driver", "vfs", "--root"]).arg(&store).arg("--runroot").arg(&run);
        buildah
    };
    let mut build = buildah();
    build.args(["bud", "--isolation", "chroot", "--tag", "fanfare:test"]);
    build.arg("--build-context").arg(format!("build={}", context.display()));
    build.arg("--file").arg(repository::root().join("deploy/Dockerfile")).arg(&context);
    process::run(&mut build)?;
    let user = process::output(buildah().args([
        "inspect",
        "--type",
        "image",
        "--format",
        "{{.OCIv1.Config.User}}",
        "fanfare:test",
    ]))?;
    if user.trim() != "65532:65532" {
        return Err(format!("the image runs as {user:?}"));
    }
    let container = process::output(buildah().args(["from", "fanfare:test"]))?;
    let port = process::free_port()?;
    let config = scratch.join("fanfare.toml");
    super::write(&config, "[[channel]]\npreset = \"lobby\"\n")?;
    let mut serve = buildah();
    serve.args(["run", "--isolation", "chroot", "--volume"]);
    serve.arg(format!("{}:/etc/fanfare/fanfare.toml:ro", config.display())).arg(container.trim()).arg("--");
    serve.args(["/usr/bin/fanfare", "serve", "--config", "/etc/fanfare/fanfare.toml", "--listen"]);
    let mut child =
        serve.arg(format!("127.0.0.1:{port}")).stdin(Stdio::null()).spawn().map_err(|error| error.to_string())?;
    let (begun, address) = (Instant::now(), format!("127.0.0.1:{port}"));
    let served = loop {
        match super::serves(&address) {
            Err(_) if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(50)),
            served => break served,
        }
    };
    let who = served.and_then(|()| who_listens(port));
    process::succeeds("kill", &["-TERM", &child.id().to_string()]);
    let deadline = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    if super::serves(&address).is_ok() {
        return Err("the server in the container does not end on SIGTERM".to_owned());
    }
    match who?.as_str() {
        "65532" => Ok(format!("{:.1} MB, serves as 65532", size as f64 / 1e6)),
        other => Err(format!("the server in the container runs as {other}")),
    }
}

/// The user of the process that listens on a port.
fn who_listens(port: u16) -> Result<String, String> {
    let table = std::fs::read_to_string("/proc/net/tcp").map_err(|error| format!("/proc/net/tcp: {error}"))?;
    let address = format!("0100007F:{port:04X}");
    let line = table.lines().find(|line| line.contains(&format!(" {address} 00000000:0000 0A ")));
    let user = line.and_then(|line| line.split_whitespace().nth(7));
    user.map(str::to_owned).ok_or_else(|| format!("nobody listens on {port}"))
}

fn size_of(folder: &std::path::Path) -> Result<u64, String> {
    let said = process::output(Command::new("du").args(["--summarize", "--bytes"]).arg(folder))?;
    said.split_whitespace().next().and_then(|size| size.parse().ok()).ok_or_else(|| format!("no size: {said}"))
}
