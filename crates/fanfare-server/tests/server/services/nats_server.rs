//! A NATS server as its configuration says. `FANFARE_NATS_SERVER` names another program than the one that is installed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
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

/// With a JetStream, which keeps its files in the folder.
pub(crate) fn start_jetstream() -> Service {
    Service::start(|folder| drop(folder.write("nats.conf", &jetstream(folder))), command)
}

/// The line that gives it one.
pub(crate) fn jetstream(folder: &Folder) -> String {
    format!("jetstream {{ store_dir: {:?} }}", folder.path("jetstream").display().to_string())
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

pub(crate) fn command(folder: &Folder, port: u16) -> Command {
    let mut command = Command::new(std::env::var("FANFARE_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned()));
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(folder.path("nats.conf"));
    command
}

impl Service {
    /// Asks by hand: the answer.
    pub(crate) fn nats_ask(&self, subject: &str, question: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let ask = format!("SUB answer 1\r\nPUB {subject} answer {}\r\n{question}\r\n", question.len());
        stream.write_all(format!("CONNECT {{\"verbose\":false}}\r\n{ask}").as_bytes()).unwrap();
        let mut lines = BufReader::new(stream);
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            if let Some(size) = line.strip_prefix("MSG answer 1 ") {
                let mut answer = vec![0; size.trim().parse().unwrap()];
                lines.read_exact(&mut answer).unwrap();
                return String::from_utf8(answer).unwrap();
            }
        }
    }
}
