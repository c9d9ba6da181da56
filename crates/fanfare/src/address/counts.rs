//! How many connections or sessions each client address has.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::block;

/// Counts per address, up to a bound. An address is forgotten when it has none.
#[derive(Debug)]
pub(crate) struct AddressCounts {
    counts: Mutex<HashMap<IpAddr, usize, foldhash::fast::RandomState>>,
    max: usize,
}

/// One of an address's places; given back when dropped.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    counts: Arc<AddressCounts>,
    address: IpAddr,
}

/// A connection's place among its server's, in total and of its address. A WebSocket keeps it for as long as it lives.
#[derive(Debug)]
pub(crate) enum ConnectionSlot {
    /// Of a connection whose client is known.
    Client { _in_total: OwnedSemaphorePermit, _of_address: AddressSlot },
    /// Of a proxy's connection: each of its requests tells whose it is.
    Proxy { _in_total: OwnedSemaphorePermit },
    /// Of one such request.
    Request { _connection: Arc<ConnectionSlot>, _of_address: AddressSlot },
}

impl AddressCounts {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(AddressCounts { counts: Mutex::default(), max })
    }

    /// A place for this address, unless it has as many as it may have.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<AddressSlot> {
        let address = block(address);
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(AddressSlot { counts: self.clone(), address })
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut counts = self.counts.counts.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_per_address_and_forgets() {
        let counts = AddressCounts::new(2);
        let (here, there) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let first = counts.take(here).unwrap();
        let _second = counts.take(here).unwrap();
        assert!(counts.take(here).is_none());
        let other = counts.take(there).unwrap();
        drop(first);
        assert!(counts.take(here).is_some());
        drop(other);
        assert_eq!(counts.counts.lock().len(), 1);
    }
}
