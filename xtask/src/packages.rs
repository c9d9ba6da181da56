//! The Debian packages that the tests need, and installing those that are missing.

use std::process::Command;

use crate::process;

/// A program or module from outside the Rust world that some step of the tests runs.
struct Need {
    /// Debian's names for it.
    packages: &'static [&'static str],
    used_for: &'static str,
    /// It is there when one of these commands succeeds.
    present: &'static [(&'static str, &'static [&'static str])],
}

const NEEDS: &[Need] = &[
    Need {
        packages: &["nodejs", "npm"],
        used_for: "the JavaScript clients, the demo page's build",
        present: &[("npm", &["--version"])],
    },
    Need {
        packages: &["chromium"],
        used_for: "the browser tests",
        present: &[("chromium", &["--version"]), ("google-chrome", &["--version"])],
    },
    Need {
        packages: &["python3", "python3-venv"],
        used_for: "Autobahn, the recorded transcripts, the Python client",
        present: &[("python3", &["-c", "import venv, ensurepip"])],
    },
    Need { packages: &["valgrind"], used_for: "counting instructions", present: &[("valgrind", &["--version"])] },
    Need {
        packages: &["redis-server", "redis-tools"],
        used_for: "the tests of sources and brokers",
        present: &[("sh", &["-c", "command -v redis-server && command -v redis-cli"])],
    },
    Need {
        packages: &["nats-server"],
        used_for: "the tests of sources and brokers",
        present: &[("nats-server", &["--version"])],
    },
    Need {
        packages: &["postgresql"],
        used_for: "the tests of sources and of API keys",
        present: &[("sh", &["-c", "command -v initdb || ls /usr/lib/postgresql/*/bin/initdb"])],
    },
    Need {
        packages: &["nginx-light", "caddy", "haproxy", "openssl"],
        used_for: "the proxies of the guide to deploying",
        present: &[("sh", &["-c", "command -v nginx && command -v caddy && command -v haproxy && command -v openssl"])],
    },
    Need {
        packages: &["pebble"],
        used_for: "a certificate authority for the tests of ACME",
        present: &[("sh", &["-c", "command -v pebble && command -v pebble-challtestsrv"])],
    },
    Need {
        packages: &["prometheus"],
        used_for: "promtool, which checks metrics and alerts",
        present: &[("promtool", &["--version"])],
    },
    Need { packages: &["curl"], used_for: "the commands of the guides", present: &[("curl", &["--version"])] },
];

/// Installs what is missing when it may (root, with apt-get), and otherwise says what to install.
pub(crate) fn ensure() -> Result<(), String> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !need.is_present()).collect();
    if missing.is_empty() {
        println!("all there: {}", NEEDS.iter().flat_map(|n| n.packages).copied().collect::<Vec<_>>().join(" "));
        return Ok(());
    }
    for need in &missing {
        println!("missing: {} (for {})", need.packages.join(" "), need.used_for);
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let install = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !is_root() || !process::succeeds("apt-get", &["--version"]) {
        return Err(format!("install these first, on Debian as root: apt-get update && {install}"));
    }
    let mut apt_get = Command::new("sh");
    apt_get.env("DEBIAN_FRONTEND", "noninteractive").args(["-c", &format!("apt-get update && {install}")]);
    process::run(&mut apt_get)?;
    match missing.iter().find(|need| !need.is_present()) {
        Some(need) => Err(format!("{} installed, but still not usable", need.packages.join(" "))),
        None => Ok(()),
    }
}

impl Need {
    fn is_present(&self) -> bool {
        self.present.iter().any(|(program, args)| process::succeeds(program, args))
    }
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
