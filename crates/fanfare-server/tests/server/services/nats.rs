//! NATS, with a user and a password.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use super::Service;
use crate::support::Folder;

pub(crate) fn start() -> Service {
    Service::start(|_| {}, command)
}

/// With a JetStream.
pub(crate) fn start_jetstream() -> Service {
    Service::start(
        |_| {},
        |folder, port| {
            let mut command = command(folder, port);
            command.arg("-js").arg("-sd").arg(folder.path("jetstream"));
            command
        },
    )
}

fn command(_: &Folder, port: u16) -> Command {
    let mut command = Command::new("nats-server");
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "--user", "u", "--pass", "m4rk3r"]);
    command
}

impl Service {
    pub(crate) fn nats_url(&self) -> String {
        format!("nats://u:m4rk3r@127.0.0.1:{}", self.port)
    }

    /// Publishes by hand, and waits until the server has taken it.
    pub(crate) fn nats_publish(&self, subject: &str, payload: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let hello = r#"CONNECT {"verbose":false,"user":"u","pass":"m4rk3r"}"#;
        let publish = format!("{hello}\r\nPUB {subject} {}\r\n{payload}\r\nPING\r\n", payload.len());
        stream.write_all(publish.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"PONG\r\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
}
