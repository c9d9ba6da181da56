//! Redis, with its append-only file, so that streams survive a kill. What stands in the file `more.conf` of its folder
//! counts from its next start on.

use std::process::Command;

use redis::{Connection, FromRedisValue};

use super::{Service, run};
use crate::support::{Folder, eventually};

pub(crate) fn start() -> Service {
    Service::start(|_| {}, command)
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
    pub(crate) fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection, with this in front of the host in its address.
    pub(crate) fn redis_connect(&self, user: &str) -> Connection {
        let url = format!("redis://{user}127.0.0.1:{}", self.port);
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        // After a restart it answers before it has read what it had stored.
        let is_loading = |answer: redis::RedisResult<()>| answer.is_err_and(|error| error.code() == Some("LOADING"));
        eventually(|| !is_loading(redis::cmd("PING").query(&mut connection)));
        connection
    }

    /// One command, on a connection of its own.
    pub(crate) fn redis_query<T: FromRedisValue>(&self, words: &[&str]) -> T {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut self.redis_connect("")).unwrap()
    }

    /// Publishes: how many heard it.
    pub(crate) fn redis_publish(&self, channel: &str, message: &str) -> u64 {
        self.redis_query(&["PUBLISH", channel, message])
    }

    /// What `redis-cli` answers.
    pub(crate) fn redis(&self, args: &[&str]) -> String {
        run(Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(args)).trim().to_owned()
    }
}
