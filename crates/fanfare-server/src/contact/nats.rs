//! A NATS: its version, and what it allows.

use fanfare::{NatsBroker, NatsJetStream, NatsServer};
use serde_json::Value;

use super::PATIENCE;
use crate::source::nats::addressed;

/// What a server says of itself, and its JetStream to a node.
pub(super) struct Said(NatsServer);

/// Connects to that of a source: what it is.
///
/// # Errors
/// Why there is no connection, with the next step.
pub(super) async fn what(url: &str) -> Result<String, String> {
    let (address, options) = addressed(url)?;
    let place = format!("{}:{}", address.host(), address.port());
    let connected = options.connection_timeout(PATIENCE).connect(address).await;
    let client = connected.map_err(|error| match error.to_string() {
        text if text.contains("InvalidContentType") => {
            format!("no connection to {place}: {text}; does the server speak TLS on this port? If not, write nats:// in the address")
        }
        text => format!("no connection to {place}: {text}; start it, or correct the address"),
    })?;
    let info = client.server_info();
    Ok(in_words(&info.version, info.jetstream))
}

/// Asks one of the servers of a broker, as a node does that has the credentials.
///
/// # Errors
/// Why it cannot be asked, with the next step.
pub(super) async fn ask(broker: NatsBroker, number: usize) -> Result<Said, String> {
    let asked = tokio::task::spawn_blocking(move || broker.ask(number)).await;
    asked.map_err(|error| error.to_string())?.map(Said).map_err(|error| error.to_string())
}

fn in_words(version: &str, has_jetstream: bool) -> String {
    format!("NATS {version} {} JetStream", if has_jetstream { "with" } else { "without" })
}

impl Said {
    pub(super) fn what(&self) -> String {
        in_words(&self.0.version, self.0.has_jetstream)
    }

    /// Whether its JetStream keeps histories for this user.
    ///
    /// # Errors
    /// It does not, and what to do.
    pub(super) fn keeps(&self) -> Result<(), String> {
        const NEXT: &str = "or give no channel a history";
        let answer = match &self.0.jetstream {
            NatsJetStream::Says(answer) => answer,
            NatsJetStream::Nobody => {
                return Err(format!(
                    "it has no JetStream, which topics with a history need: start it with -js, {NEXT}"
                ));
            }
            _ => {
                return Err(format!(
                    "its JetStream does not answer: allow the user of a node $JS.API.>, as docs/cluster.md has it, {NEXT}"
                ));
            }
        };
        let answer: Value = serde_json::from_str(answer).unwrap_or_default();
        if let Some(why) = answer["error"]["description"].as_str() {
            return Err(format!("its JetStream says {why:?}: enable it for the account of a node, {NEXT}"));
        }
        match answer["limits"]["max_storage"].as_i64() {
            Some(0) => {
                Err(format!("its JetStream gives the account of a node no room on disk: raise max_file, {NEXT}"))
            }
            _ => Ok(()),
        }
    }

    /// What of its settings is not as a broker's should be, where messages may have so many bytes.
    pub(super) fn warnings(&self, message_size_max: usize) -> Vec<String> {
        let Some(most) = self.0.payload_max else { return Vec::new() };
        let is_small = most < message_size_max;
        let warning = || {
            format!(
                "max_payload is {most}, and limits.message_size_max {message_size_max}: larger messages are refused; raise \
                 max_payload in its configuration, or lower the limit"
            )
        };
        is_small.then(warning).into_iter().collect()
    }
}
