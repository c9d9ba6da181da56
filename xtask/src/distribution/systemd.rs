//! The units of systemd.

use std::process::Command;

use crate::{process, repository};

/// What the unit may leave open, in tenths of systemd's points, without and with the drop-in for ports below 1024.
const EXPOSURE_MAX: [(&str, u8); 2] = [("", 14), ("deploy/systemd/low-ports.conf", 16)];

/// Checks the units: nothing that systemd does not know, and little left open.
pub(super) fn check() -> Result<String, String> {
    let folder = repository::scratch("units")?;
    let unit = repository::text("deploy/systemd/fanfare.service")?.unwrap_or_default();
    let mut told = Vec::new();
    for (drop_in, max) in EXPOSURE_MAX {
        let more = if drop_in.is_empty() { None } else { repository::text(drop_in)? };
        // Of a file that is not installed systemd looks at no drop-ins.
        let unit = [&unit, more.as_deref().unwrap_or_default()].join("\n");
        let file = folder.join("fanfare.service");
        super::write(&file, &unit)?;
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=true", "--no-pager", &format!("--threshold={max}")]).arg(&file);
        let found =
            process::output(&mut analyze).map_err(|error| format!("{error}: it leaves more open than {max}"))?;
        let level = found.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
        let level = level.split(": ").nth(1).and_then(|level| level.split(' ').next()).unwrap_or("unknown");
        told.push(format!("exposure {level} of at most {}.{}", max / 10, max % 10));
    }
    let socket = repository::text("deploy/systemd/fanfare.socket")?.unwrap_or_default();
    // What it starts need not be installed here.
    super::write(&folder.join("fanfare.service"), &unit.replace("/usr/bin/fanfare", "/bin/true"))?;
    super::write(&folder.join("fanfare.socket"), &socket)?;
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(folder.join("fanfare.service")).arg(folder.join("fanfare.socket"));
    let output = verify.output().map_err(|error| format!("systemd-analyze: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaints: Vec<_> = said.lines().filter(|line| line.contains("fanfare.")).collect();
    if complaints.is_empty() { Ok(told.join(", ")) } else { Err(complaints.join("\n")) }
}
