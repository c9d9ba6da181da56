//! A node of `fanfare cluster demo`: what `fanfare dev` serves, for as long as the demo wants it.

use std::time::Duration;

use fanfare::{Endpoint, Since};

use super::{Extra, Running, block_on};
use crate::config::Config;
use crate::pages;
use crate::signals::Requests;

/// A topic of the demo, whose history every client wants.
const TOPIC: &str = "room:lobby";

/// How long a node waits for its broker, and how often it looks.
const CONNECTING_MAX: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

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
    let requests = Requests::take()?;
    block_on(async {
        let mut running = Running::new(None, config, requests, Extra { broker, ..Extra::default() }).await?;
        let bound = running.bind(&[]).await?;
        let router = running.endpoint.routes().merge(pages::demo());
        let url = running.listen(bound.clients, router)?;
        // A client that was told that its history cannot be read now would come back after a while, but nobody watches a demo for that.
        // Where the wait was in vain the log says why.
        let _ = tokio::time::timeout(CONNECTING_MAX, has_histories(&running.endpoint)).await;
        listens(&url);
        running.until_stopped(told).await
    })
}

/// Waits until the broker is connected, its stream of histories made where it has streams, and they can be read.
async fn has_histories(endpoint: &Endpoint) {
    while endpoint.history(TOPIC, Since::Now, 1).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
}
