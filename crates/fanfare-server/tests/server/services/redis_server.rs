//! Redis, with its append-only file, so that streams survive a kill. What stands in the file `more.conf` of its folder
//! counts from its next start on.

use std::process::Command;

use super::process::{Folder, Service, run};

pub(crate) fn start() -> Service {
    Service::start(|_| {}, command)
}

/// With these lines of configuration.
pub(crate) fn start_with(lines: &str) -> Service {
    Service::start(|folder| drop(folder.write("more.conf", lines)), command)
}

/// With TLS only, this certificate and key, and the password `secret`.
pub(crate) fn start_tls(certificate: &str, key: &str) -> Service {
    let prepare = |folder: &Folder| {
        folder.write("certificate.pem", certificate);
        folder.write("key.pem", key);
    };
    Service::start(prepare, |folder, port| {
        let mut command = command(folder, 0);
        command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no", "--requirepass", "secret"]);
        command.arg("--tls-cert-file").arg(folder.path("certificate.pem"));
        command.arg("--tls-key-file").arg(folder.path("key.pem"));
        command
    })
}

/// A sentinel that is alone to decide over a master at this port, which it calls `chat`.
pub(crate) fn start_sentinel(master: u16) -> Service {
    let prepare = |folder: &Folder| {
        let settings = format!(
            "sentinel monitor chat 127.0.0.1 {master} 1\nsentinel down-after-milliseconds chat 500\n\
             sentinel failover-timeout chat 5000\n"
        );
        drop(folder.write("sentinel.conf", &settings));
    };
    Service::start(prepare, |folder, port| {
        let mut command = Command::new("redis-server");
        command.arg(folder.path("sentinel.conf")).args([
            "--sentinel",
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
        ]);
        command
    })
}

fn command(folder: &Folder, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    let more = folder.path("more.conf");
    if more.exists() {
        command.arg(more);
    }
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always", "--dir"]).arg(folder.path(""));
    command
}

impl Service {
    /// What `redis-cli` answers.
    pub(crate) fn redis(&self, args: &[&str]) -> String {
        run(Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(args)).trim().to_owned()
    }
}
