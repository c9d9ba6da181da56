//! Connections to a Redis.

use redis::{Connection, FromRedisValue};

use super::Service;
pub(crate) use super::redis_server::{move_slot, start, start_cluster, start_sentinel, start_with};
use crate::support::eventually;

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
}
