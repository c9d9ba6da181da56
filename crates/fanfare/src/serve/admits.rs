//! What a server admits, as it can be changed while it runs.

use std::sync::Arc;

use super::Limits;
use crate::address::{AddressCounts, Places};

/// How many connections a server admits, to be changed while it runs.
#[derive(Debug, Clone)]
pub struct Admits {
    pub(super) places: Arc<Places>,
    pub(super) handshakes: Arc<Places>,
    pub(super) addresses: Arc<AddressCounts>,
}

impl Admits {
    pub(super) fn new(limits: &Limits) -> Self {
        Admits {
            places: Places::new(limits.connections_max),
            handshakes: Places::new(limits.handshakes_max),
            addresses: AddressCounts::new(usize::MAX, limits.connections_per_address_max),
        }
    }

    /// Admits as many as these limits say, from the next connection on. Connections that are open stay so, and the timeouts are as they were.
    pub fn replace(&self, limits: &Limits) {
        self.places.resize(limits.connections_max);
        self.handshakes.resize(limits.handshakes_max);
        self.addresses.resize(limits.connections_per_address_max);
    }
}
