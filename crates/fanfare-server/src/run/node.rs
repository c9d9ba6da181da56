//! A node of `fanfare cluster demo`: what `fanfare dev` serves, for as long as the demo wants it.

use super::{Extra, Running, block_on};
use crate::config::Config;
use crate::pages;

/// Runs a node until it is told to end, or a signal. `broker` is given if it is shared within the process. `listens` is told the URL
/// once clients can connect.
///
/// # Errors
/// Why it could not start.
pub(crate) fn node(
    config: Config,
    broker: Option<fanfare::Broker>,
    listens: impl FnOnce(&str),
    told: impl Future<Output = ()>,
) -> Result<(), String> {
    block_on(async {
        let mut running = Running::new(None, config, Extra { broker, ..Extra::default() }).await?;
        let bound = running.bind(&[]).await?;
        let router = running.endpoint.routes().merge(pages::demo());
        let url = running.listen(bound.clients, router)?;
        listens(&url);
        running.until_stopped(told).await
    })
}
