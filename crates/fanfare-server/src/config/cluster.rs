//! `[cluster]`: one node among others.

use super::section::{Form, section};

section! {
    /// What concerns this server as one node among others. Without a `[broker]` its keys are a mistake, since they would have no effect.
    struct Cluster: "cluster", Form::Table;
    keys {
        /// What this node is called where nodes are told apart. Left out: the name of the host.
        name: Option<String> = "",
    }
    later ["secret_env", "lease"]
}

impl Cluster {
    /// What the node is called.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
            host.unwrap_or_else(|| "localhost".into())
        })
    }
}
