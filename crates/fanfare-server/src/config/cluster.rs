//! `[cluster]`: one node among others.

use std::str::FromStr;

use fanfare::Broker;
use fanfare_proto::envelope::ADMIN_URL_SIZE_MAX;

use super::section::{Form, section};
use super::url::Url;
use super::value::Text;

section! {
    /// What concerns this server as one node among others. Without a `[broker]` its keys are a mistake, since they would have no effect.
    struct Cluster: "cluster", Form::Table;
    keys {
        /// What this node is called where nodes are told apart. Left out: the name of the host.
        name: Option<String> = "",

        /// Where people open the console of this node. `GET /api/nodes` and `fanfare nodes` of all nodes tell it, and their consoles link to it.
        /// Left out: there is no link to this node.
        admin_url: Option<AdminUrl> = "",
    }
    later ["secret_env", "lease"]
}

/// An absolute URL that whoever may read the console of any node gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminUrl(String);

impl Text for AdminUrl {
    fn accepts() -> String {
        format!(r#"an http or https URL of at most {ADMIN_URL_SIZE_MAX} bytes such as "https://node-1.example.com/""#)
    }

    fn shown(text: &str) -> String {
        text.parse::<Self>().map_or_else(|_| String::new(), |url| url.0)
    }
}

impl FromStr for AdminUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(['?', '#']) {
            return Err(
                "it has a `?` or `#`, behind which a token may be, and all nodes tell it: leave that out".into()
            );
        }
        let Url(uri) = text.parse()?;
        let url = uri.to_string();
        if url.len() > ADMIN_URL_SIZE_MAX {
            return Err(format!(
                "it has {} bytes, and {ADMIN_URL_SIZE_MAX} at most are told to other nodes",
                url.len()
            ));
        }
        Ok(Self(url))
    }
}

impl Cluster {
    /// The broker with what this node tells others of itself.
    pub(crate) fn introduced(&self, broker: Broker) -> Broker {
        let broker = broker.node_name(&self.name());
        match &self.admin_url {
            Some(AdminUrl(url)) => broker.admin_url(url),
            None => broker,
        }
    }

    /// What the node is called.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
            host.unwrap_or_else(|| "localhost".into())
        })
    }
}
