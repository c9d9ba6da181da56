//! A NATS: its version, and what it allows.

use async_nats::ServerInfo;

use super::PATIENCE;
use crate::source::nats::addressed;

/// What a server says of itself.
pub(super) struct Said(ServerInfo);

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
    Ok(Said(client.server_info()))
}

impl Said {
    pub(super) fn what(&self) -> String {
        let Said(ServerInfo { version, jetstream, .. }) = self;
        format!("NATS {version} {} JetStream", if *jetstream { "with" } else { "without" })
    }

    /// What is missing to keep histories.
    pub(super) fn cannot_keep(&self) -> Option<String> {
        (!self.0.jetstream).then(|| {
            "it has no JetStream, which topics with a history need: start it with -js, or give no channel a history"
                .to_owned()
        })
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
