//! `[broker]`: what several servers have between them, so that they are one cluster.

use std::path::PathBuf;
use std::str::FromStr;

use super::problem::Problems;
use super::secret::{self, Secret};
use super::section::{Form, section};
use super::value::{Size, Span, Text, choice};

section! {
    /// Present: this server is a node of a cluster. Members of a topic on all nodes that name the same broker get what is published
    /// on any of them, topics with a `history` keep it in the broker, and clients resume on whichever node they come back to.
    /// See [cluster.md](cluster.md).
    struct Broker: "broker", Form::Table;
    keys {
        /// The environment variable that holds the address of the broker. Of the three address keys one must be given.
        url_env: Option<String> = "",
        /// The file that holds the address.
        url_file: Option<PathBuf> = "",
        /// The address: `redis://user:password@host:6379`, or `rediss://` for TLS, of a Redis of version 7.0 or newer, several of which
        /// share the topics, with commas between and the same ones on all nodes;
        /// `redis+sentinel://user:password@host:26379,host:26379/NAME`, or `rediss+sentinel://` for TLS, for the master that sentinels call
        /// so, with `?sentinel=user:password` behind that if they want a password of their own;
        /// `redis+cluster://user:password@host:6379,host:6379`, or `rediss+cluster://` for TLS, with some servers of a Redis Cluster; or
        /// `nats://user:password@host:4222`,
        /// `nats://token@host:4222`, or `tls://` to insist on TLS, of a NATS of version 2.9 or newer, several servers of which are
        /// separated by commas; topics with a `history` need its JetStream. Better kept out of the file if it has a password: see the two
        /// keys above.
        url: Option<Secret> = "",
        /// The environment variable that holds what a node proves who it is by, where the servers of a NATS check NKeys or JWTs: the content of
        /// a `.creds` file, or the seed of a user's key, which begins with `SU`. The address has no user then.
        credentials_env: Option<String> = "",
        /// The file that holds it, as `nsc` and `nk` write it. It is read when the server starts.
        credentials_file: Option<PathBuf> = "",
        /// The same as text. Better kept out of the file: see the two keys above.
        credentials: Option<Secret> = "",
        /// What all names in the broker begin with: 1 to 64 letters, digits, `-`, `_`, `.` or `:`. Nodes with the same namespace
        /// are one cluster; applications that share a broker need one each.
        namespace: Namespace = "\"ff\"",
        /// How long the broker may take to answer. After that it is unknown whether a message was published, and whoever waits is
        /// told so. At its start a node waits as long for the connection, before it serves clients.
        timeout: Span<100, 60_000> = "\"2s\"",
        /// How long a topic without members stays attached on this node, give or take a fifth: clients that come back within it
        /// cost the broker nothing.
        grace: Span<0, 3_600_000> = "\"30s\"",
        /// How many bytes of recent messages the node keeps of all topics with a history, so that a crowd of resuming clients need not
        /// be served by the broker.
        window: Size<0, 100_000_000_000> = "\"64MiB\"",
        /// What `/readyz` says while this node is cut off from a server of the broker for 5 seconds, or was not connected to it yet. A broker
        /// that is gone makes all nodes unready at once with `fail`, and many load balancers then send clients nowhere.
        readiness: Readiness = "\"fail\"" => Once,
    }
    later ["manage", "replicas", "partitions"]
}

impl Broker {
    /// Checks what concerns more than one key.
    pub(super) fn check(&self, problems: &mut Problems) {
        if !secret::is_given("url", &self.places) {
            self.places.problem(problems, "url", "the address is missing: give url_env, url_file or url");
        }
    }
}

choice! {
    /// What a node says that is cut off from its broker.
    pub(crate) enum Readiness {
        /// 503: it is to get no new clients.
        Fail = "fail",
        /// 200, with the reason.
        Report = "report",
    } later []
}

/// What all names in a broker begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace(pub(crate) String);

impl Text for Namespace {
    fn accepts() -> String {
        "1 to 64 letters, digits, `-`, `_`, `.` or `:`".into()
    }
}

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let is_one = (1..=64).contains(&text.len()) && text.bytes().all(is_name);
        if is_one { Ok(Self(text.to_owned())) } else { Err(String::new()) }
    }
}
