//! The moments of a node between the addresses that it has taken and the first client: it is connected to its broker first, so that
//! clients that come back are not told to come again.

use std::time::Duration;

use fanfare::BrokerLink;

use super::Running;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(5);

impl Running {
    /// Waits until this node is connected to all servers of its broker, for as long as those may take to answer. Who connects meanwhile
    /// waits in the queue of the address. A broker that is away keeps nobody waiting for longer: what needs none is served without it.
    pub(super) async fn connected_to_its_broker(&self) {
        let Some(broker) = &self.config.broker else { return };
        let is_connected = || self.endpoint.broker_links().iter().all(|link: &BrokerLink| link.ups > 0);
        let connected = async {
            while !is_connected() {
                tokio::time::sleep(LOOK).await;
            }
        };
        // The log says why there is no connection.
        let _ = tokio::time::timeout(broker.timeout.0, connected).await;
    }
}
