//! Redis, with its append-only file, so that streams survive a kill.

use std::process::Command;

use super::{Service, run};
use crate::support::Folder;

pub(crate) fn start() -> Service {
    Service::start(|_| {}, command)
}

fn command(folder: &Folder, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always", "--dir"]).arg(folder.path(""));
    command
}

impl Service {
    pub(crate) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` answers.
    pub(crate) fn redis(&self, args: &[&str]) -> String {
        run(Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(args)).trim().to_owned()
    }
}
