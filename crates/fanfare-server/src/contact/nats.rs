//! A NATS: its version, and what it allows.

use std::time::Duration;

use async_nats::{Client, RequestErrorKind, ServerInfo};
use serde_json::Value;
use tokio::time::timeout;

use super::PATIENCE;
use crate::source::nats::addressed;

/// What a server says of itself, and who has asked it.
pub(super) struct Said(ServerInfo, Client);

/// How long its JetStream may take: a server drops what a user is not allowed to ask.
const JETSTREAM_MAX: Duration = Duration::from_secs(2);

/// Connects.
///
/// # Errors
/// Why there is no connection, with the next step.
pub(super) async fn ask(url: &str) -> Result<Said, String> {
    let (address, options) = addressed(url)?;
    let place = format!("{}:{}", address.host(), address.port());
    let connected = options.connection_timeout(PATIENCE).connect(address).await;
    let client =
        connected.map_err(|error| format!("no connection to {place}: {error}; start it, or correct the address"))?;
    Ok(Said(client.server_info(), client))
}

impl Said {
    pub(super) fn what(&self) -> String {
        let Said(ServerInfo { version, jetstream, .. }, _) = self;
        format!("NATS {version} {} JetStream", if *jetstream { "with" } else { "without" })
    }

    /// Whether its JetStream keeps histories for this user.
    ///
    /// # Errors
    /// It does not, and what to do.
    pub(super) async fn keeps(&self) -> Result<(), String> {
        const NEXT: &str = "or give no channel a history";
        let asked = timeout(JETSTREAM_MAX, self.1.request("$JS.API.INFO", "".into())).await;
        let answer = match asked {
            Ok(Ok(answer)) => answer.payload,
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
                return Err(format!(
                    "it has no JetStream, which topics with a history need: start it with -js, {NEXT}"
                ));
            }
            Ok(Err(_)) | Err(_) => {
                return Err(format!(
                    "its JetStream does not answer: allow the user of a node $JS.API.>, as docs/cluster.md has it, {NEXT}"
                ));
            }
        };
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
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
        let most = self.0.max_payload;
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
