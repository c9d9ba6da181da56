//! What a shard counts for the tenants of its sockets: plain numbers of its thread, told once a turn.

use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;

use super::Tenant;

/// By which a shard finds the tenant of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meter(u32);

impl Meter {
    /// Of a socket without a tenant.
    pub(crate) const NONE: Meter = Meter(u32::MAX);
}

/// The tenants with sockets on a shard.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    counts: Slab<Count>,
    /// By the address of the tenant, which lives as long as it is in here.
    known: HashMap<usize, u32, foldhash::fast::RandomState>,
    /// Those with something to tell.
    untold: Vec<u32>,
}

#[derive(Debug)]
struct Count {
    tenant: Arc<Tenant>,
    sockets: usize,
    received: u64,
    sent: u64,
    bytes: u64,
    is_untold: bool,
}

impl Meters {
    /// Whether no socket has a tenant.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// One more socket of a tenant.
    pub(crate) fn enter(&mut self, tenant: &Arc<Tenant>) -> Meter {
        let counts = &mut self.counts;
        let index = *self.known.entry(Arc::as_ptr(tenant).addr()).or_insert_with(|| {
            let (tenant, sockets, received, sent, bytes) = (tenant.clone(), 0, 0, 0, 0);
            counts.insert(Count { tenant, sockets, received, sent, bytes, is_untold: false }) as u32
        });
        self.counts[index as usize].sockets += 1;
        Meter(index)
    }

    /// One less.
    pub(crate) fn leave(&mut self, meter: Meter) {
        let Some(count) = self.counts.get_mut(meter.0 as usize) else { return };
        count.sockets -= 1;
        if count.sockets == 0 {
            // Nothing may be left to tell of who is not here any more.
            self.tell();
            let count = self.counts.remove(meter.0 as usize);
            self.known.remove(&Arc::as_ptr(&count.tenant).addr());
        }
    }

    /// A socket has sent a message.
    #[inline]
    pub(crate) fn received(&mut self, meter: Meter) {
        if let Some(count) = self.touch(meter) {
            count.received += 1;
        }
    }

    /// A socket is sent messages.
    #[inline]
    pub(crate) fn sent(&mut self, meter: Meter, messages: usize, bytes: usize) {
        if let Some(count) = self.touch(meter) {
            count.sent += messages as u64;
            count.bytes += bytes as u64;
        }
    }

    #[inline]
    fn touch(&mut self, Meter(index): Meter) -> Option<&mut Count> {
        let count = self.counts.get_mut(index as usize)?;
        if !std::mem::replace(&mut count.is_untold, true) {
            self.untold.push(index);
        }
        Some(count)
    }

    /// Tells the tenants what was counted.
    #[inline]
    pub(crate) fn tell(&mut self) {
        for index in self.untold.drain(..) {
            let Count { tenant, received, sent, bytes, is_untold, .. } = &mut self.counts[index as usize];
            tenant.had(std::mem::take(received), std::mem::take(sent), std::mem::take(bytes));
            *is_untold = false;
        }
    }
}
