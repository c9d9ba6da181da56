//! `[bridge]`: what Redis is told of clients.

use std::path::PathBuf;

use super::problem::Problems;
use super::secret::{self, Secret};
use super::section::{Form, section};
use super::template::Template;
use super::value::Count;

section! {
    /// Present: Redis is told which clients come and go, and what clients of `protocol = "bullet"` send. What comes from Redis
    /// is a `[source.NAME]`. While Redis is away, what it is to be told waits, in order.
    struct Bridge: "bridge", Form::Table;
    keys {
        /// The environment variable that holds the address of Redis. Of the three address keys one must be given.
        url_env: Option<String> = "",
        /// The file that holds the address.
        url_file: Option<PathBuf> = "",
        /// The address, such as `redis://127.0.0.1:6379`. Better kept out of the file if it has a password: see the two keys
        /// above.
        url: Option<Secret> = "",
        /// The channel on which the id of a socket is published when the first one with that id has connected and joined its
        /// topics. With `bullet` the id is the client's key, unless `socket_id` says otherwise. Sockets without one are not
        /// told of.
        connected: String = "\"connected\"",
        /// The channel on which it is published when the last one has gone.
        disconnected: String = "\"disconnected\"",
        /// The channel on which texts of bullet.js clients are published that are not the protocol's own, as
        /// `{"key": ID, "data": TEXT}`. Left out: they are ignored.
        forward: Option<String> = "",
        /// The key that is told instead of the id, from claims in braces. `GET /api/connections` lists it, too.
        key: Option<Template> = "",
        /// How many messages may wait, with 16 MB in all. Those that come then are counted and lost.
        queue_max: Count<1, 1_000_000> = "10000",
    }
    later []
}

impl Bridge {
    /// Checks what concerns more than one key.
    pub(super) fn check(&self, problems: &mut Problems) {
        if !secret::is_given("url", &self.places) {
            self.places.problem(problems, "url", "the address is missing: give url_env, url_file or url");
        }
    }
}
