//! A NATS server as its configuration says. `FANFARE_NATS_SERVER` names another program than the one that is installed.

use std::process::Command;

use super::process::{Folder, Service};

/// One that asks for no credentials.
pub(crate) fn start() -> Service {
    start_with("")
}

/// With these lines of configuration.
pub(crate) fn start_with(lines: &str) -> Service {
    Service::start(|folder| drop(folder.write("nats.conf", lines)), command)
}

/// With TLS only, this certificate and key, and the token `secret`.
pub(crate) fn start_tls(certificate: &str, key: &str) -> Service {
    let prepare = |folder: &Folder| {
        let [certificate, key] = [("certificate.pem", certificate), ("key.pem", key)]
            .map(|(name, text)| folder.write(name, text).display().to_string());
        let tls = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
        folder.write("nats.conf", &format!("{tls}\nauthorization {{ token: secret }}\n"));
    };
    Service::start(prepare, command)
}

fn command(folder: &Folder, port: u16) -> Command {
    let mut command = Command::new(std::env::var("FANFARE_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned()));
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(folder.path("nats.conf"));
    command
}
