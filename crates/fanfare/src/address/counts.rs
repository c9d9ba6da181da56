//! How many connections or sessions each client address has.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Place, block};
use hashbrown::HashMap;
use parking_lot::Mutex;

/// Counts per address and in total, up to bounds. An address is forgotten when it has none.
#[derive(Debug)]
pub(crate) struct AddressCounts {
    counts: Mutex<Counts>,
    max: usize,
    per_address_max: AtomicUsize,
}

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, usize, foldhash::fast::RandomState>,
    total: usize,
}

/// What has no place for another connection or session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// There are this many already, which is the bound of all.
    Server(usize),
    /// The client's address has this many already, which is its bound.
    Address(usize),
    /// This many connections have not asked for anything yet, which is the bound of these.
    Handshakes(usize),
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
    Client { _in_total: Place, _of_address: AddressSlot },
    /// Of a proxy's connection: each of its requests tells whose it is.
    Proxy { _in_total: Place },
    /// Of one such request.
    Request { _connection: Arc<ConnectionSlot>, _of_address: AddressSlot },
    /// Of a socket that shares its connection with others.
    #[cfg(feature = "tls")]
    Stream { _connection: Arc<ConnectionSlot>, _in_total: Place, _of_address: AddressSlot },
}

impl AddressCounts {
    pub(crate) fn new(max: usize, per_address_max: usize) -> Arc<Self> {
        let per_address_max = AtomicUsize::new(per_address_max);
        Arc::new(AddressCounts { counts: Mutex::default(), max, per_address_max })
    }

    /// An address may have so many from now on. Whoever has one keeps it.
    pub(crate) fn resize(&self, per_address_max: usize) {
        self.per_address_max.store(per_address_max, Ordering::Relaxed);
    }

    /// A place for this address.
    ///
    /// # Errors
    /// There is none in total, or the address has all of its own.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Result<AddressSlot, Full> {
        let address = block(address);
        let mut counts = self.counts.lock();
        if counts.total >= self.max {
            return Err(Full::Server(self.max));
        }
        let per_address_max = self.per_address_max.load(Ordering::Relaxed);
        let count = counts.by_address.entry(address).or_default();
        if *count >= per_address_max {
            return Err(Full::Address(per_address_max));
        }
        *count += 1;
        counts.total += 1;
        Ok(AddressSlot { counts: self.clone(), address })
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        let mut counts = self.counts.counts.lock();
        counts.total -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_per_address_and_in_total_and_forgets() {
        let counts = AddressCounts::new(3, 2);
        let [here, there, elsewhere] = [1, 2, 3].map(|number| IpAddr::from([127, 0, 0, number]));
        let first = counts.take(here).unwrap();
        let _second = counts.take(here).unwrap();
        assert_eq!(counts.take(here).unwrap_err(), Full::Address(2));
        let other = counts.take(there).unwrap();
        assert_eq!(counts.take(elsewhere).unwrap_err(), Full::Server(3));
        drop(first);
        assert!(counts.take(here).is_ok());
        drop(other);
        assert_eq!(counts.counts.lock().by_address.len(), 1);
    }
}
