//! Clients whose sockets were closed for their rates. For a while they are not let in again, since stock clients come back at once.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fanfare_proto::rate::{Bucket, Rate};

use super::keyed::KeyedRates;
use crate::address::block;

/// Who is meant: a user at an address, or those of an address without a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Penalized {
    address: Option<IpAddr>,
    user: Option<Arc<str>>,
}

/// A bucket of these is full again when the penalty is over: it costs its milliseconds.
const MILLISECONDS: Rate = Rate::per_second(1_000).burst(1);

/// All of them.
#[derive(Debug)]
pub(crate) struct Penalties {
    of_clients: KeyedRates<Penalized>,
    /// When the last of them is over: nearly always there is none, and nobody is looked up.
    over_ns: AtomicU64,
}

impl Penalized {
    /// `None` where nothing is known of the client by which it could be known again.
    pub(crate) fn of(address: Option<IpAddr>, user: Option<&Arc<str>>) -> Option<Self> {
        let is_known = address.is_some() || user.is_some();
        is_known.then(|| Penalized { address: address.map(block), user: user.cloned() })
    }
}

impl Penalties {
    pub(super) fn new(keys_max: usize) -> Self {
        Penalties { of_clients: KeyedRates::new(keys_max), over_ns: AtomicU64::new(0) }
    }

    /// A client is not let in for so long. Whether there was room to remember it.
    pub(crate) fn impose(&self, client: &Penalized, span: Duration, now_ns: u64) -> bool {
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let imposed = self.of_clients.with(client, now_ns, |bucket| {
            *bucket = Bucket::default();
            bucket.charge(MILLISECONDS, now_ns, span_ms);
        });
        let span_ns = span_ms.saturating_mul(1_000_000);
        self.over_ns.fetch_max(now_ns.saturating_add(span_ns), Ordering::Relaxed);
        imposed.is_some()
    }

    /// Whether there has been any: if not, nobody need look at the clock.
    pub(crate) fn were_any(&self) -> bool {
        self.over_ns.load(Ordering::Relaxed) > 0
    }

    /// For how many nanoseconds a client is not let in; 0 if it may come.
    pub(crate) fn left_ns(&self, client: &Penalized, now_ns: u64) -> u64 {
        if now_ns >= self.over_ns.load(Ordering::Relaxed) {
            return 0;
        }
        self.of_clients.get(client).map_or(0, |bucket| bucket.wait(MILLISECONDS, now_ns, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_penalty_is_of_one_user_at_one_address_and_ends() {
        let penalties = Penalties::new(64);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        let client = |last: u8, user: Option<&Arc<str>>| Penalized::of(Some([192, 0, 2, last].into()), user).unwrap();
        assert!(Penalized::of(None, None).is_none());
        let second = 1_000_000_000;
        assert!(penalties.impose(&client(1, Some(&ann)), Duration::from_secs(5), second));
        for (address, user, at_s, left_s) in [
            (1, Some(&ann), 1, 5),
            (1, Some(&ann), 4, 2),
            (1, Some(&bob), 4, 0),
            (1, None, 4, 0),
            (2, Some(&ann), 4, 0),
            (1, Some(&ann), 6, 0),
        ] {
            let left_ns = penalties.left_ns(&client(address, user), at_s * second);
            assert_eq!(left_ns, left_s * second, "{address} {user:?} at {at_s}");
        }
    }
}
