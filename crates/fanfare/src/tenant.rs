//! Tenants: those who share a node, each with all of its clients, and what each of them has of it. `quota` has what they may have, `meter`
//! what a shard counts for them.
//!
//! A tenant that is remembered costs a few hundred bytes, and there are so many at most; the others are one together.

mod meter;
mod quota;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_proto::rate::{Bucket, Rate};
use parking_lot::Mutex;

pub(crate) use meter::{Meter, Meters};
pub(crate) use quota::Asset;
pub use quota::{OverQuota, Quota, Quotas, TenantFrom};

/// What all are called that cannot be told apart.
const OTHER: &str = "other";

/// The longest name, in bytes.
const NAME_SIZE_MAX: usize = 128;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// While each tenant that has a place needs it, it is looked this often for one that does not.
const SWEEP_MS: u64 = 1_000;

/// The tenants of a node.
#[derive(Debug)]
pub(crate) struct Tenants {
    known: Mutex<Known>,
    other: Arc<Tenant>,
    is_any: AtomicBool,
}

#[derive(Debug)]
struct Known {
    quotas: Quotas,
    by_name: HashMap<Arc<str>, Arc<Tenant>>,
    /// How many of them have no quota of their own.
    unnamed: usize,
    swept_ms: Option<u64>,
}

/// What one tenant has.
#[derive(Debug)]
pub(crate) struct Tenant {
    name: Arc<str>,
    sockets: AtomicU64,
    joins: AtomicU64,
    /// Messages of its clients, and those that they were sent.
    received: AtomicU64,
    sent: AtomicU64,
    /// Whether its quota is of messages: most messages need not look further.
    counts_messages: AtomicBool,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    quota: Quota,
    messages: Bucket,
    publishes: Bucket,
    /// Since 1970, and what was sent on it.
    day: u64,
    bytes: u64,
}

/// One of the sockets that a tenant may have; given back when dropped.
#[derive(Debug)]
pub(crate) struct TenantSlot(Arc<Tenant>);

/// One of the joins that a tenant may have; given back when dropped.
#[derive(Debug)]
pub(crate) struct TenantJoin(Arc<Tenant>);

/// What a message of a client is, for its tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    /// Whether it is for a topic.
    pub(crate) is_published: bool,
    /// Whether it is handled in any case, and its sender made to wait.
    pub(crate) is_paced: bool,
}

impl Tenants {
    pub(crate) fn new(quotas: Quotas) -> Self {
        let other = Tenant::new(OTHER.into(), quotas.each);
        let known = Known { quotas, by_name: HashMap::new(), unnamed: 0, swept_ms: None };
        Tenants { known: Mutex::new(known), other, is_any: AtomicBool::new(false) }
    }

    /// The tenant of a name, and whether it is one that cannot be told from others, since there are as many as there can be.
    pub(crate) fn get(&self, name: &str, now_ms: u64) -> (Arc<Tenant>, bool) {
        self.is_any.store(true, Ordering::Relaxed);
        let mut known = self.known.lock();
        if let Some(tenant) = known.by_name.get(name) {
            return (tenant.clone(), false);
        }
        let is_named = known.quotas.named.contains_key(name);
        if !is_named && known.unnamed >= known.quotas.tenants_max && !self.make_room(&mut known, now_ms) {
            return (self.other.clone(), true);
        }
        let name: Arc<str> = name.into();
        let tenant = Tenant::new(name.clone(), known.quotas.of(&name));
        known.by_name.insert(name, tenant.clone());
        known.unnamed += usize::from(!is_named);
        (tenant, false)
    }

    /// Forgets tenants that need no place, and says whether there is room for another one. If all of them were sent something of what they may
    /// be sent today, only the one goes that was sent least: otherwise those who make up names could push out one that was sent much, and
    /// give it a new day.
    fn make_room(&self, known: &mut Known, now_ms: u64) -> bool {
        if known.swept_ms.is_some_and(|swept_ms| now_ms < swept_ms.saturating_add(SWEEP_MS)) {
            return false;
        }
        let Known { quotas, by_name, unnamed, .. } = known;
        let mut forget = |tenant: &Tenant| {
            *unnamed -= 1;
            // Sums over all tenants never fall.
            let (received, sent) = tenant.messages();
            self.other.had(received, sent, 0);
        };
        let (mut has_forgotten, mut least) = (false, None::<(u64, Arc<str>)>);
        by_name.retain(|name, tenant| {
            let is_named = quotas.named.contains_key(name);
            match tenant.bytes_if_idle(now_ms).filter(|_| !is_named) {
                Some(0) => {
                    forget(tenant);
                    has_forgotten = true;
                    return false;
                }
                Some(bytes) if least.as_ref().is_none_or(|(least, _)| bytes < *least) => {
                    least = Some((bytes, name.clone()));
                }
                _ => {}
            }
            true
        });
        if !has_forgotten && let Some(tenant) = least.and_then(|(_, name)| by_name.remove(&name)) {
            forget(&tenant);
        }
        let is_room = *unnamed < quotas.tenants_max;
        known.swept_ms = (!is_room).then_some(now_ms);
        is_room
    }

    /// Puts other quotas in force, for those who have more as well: nothing of it is taken away.
    pub(crate) fn replace(&self, quotas: Quotas) {
        let mut known = self.known.lock();
        self.other.may_have(quotas.each);
        known.by_name.values().for_each(|tenant| tenant.may_have(quotas.of(&tenant.name)));
        known.unnamed = known.by_name.keys().filter(|name| !quotas.named.contains_key(*name)).count();
        known.quotas = quotas;
    }

    /// All that are known, by name; none where nobody has ever been one.
    #[cfg(feature = "metrics")]
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        if !self.is_any.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut all: Vec<_> = self.known.lock().by_name.values().cloned().chain([self.other.clone()]).collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl Tenant {
    fn new(name: Arc<str>, quota: Quota) -> Arc<Self> {
        let (messages, publishes) = Default::default();
        let tenant = Tenant {
            name,
            sockets: AtomicU64::new(0),
            joins: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            counts_messages: AtomicBool::new(false),
            account: Mutex::new(Account { quota, messages, publishes, day: 0, bytes: 0 }),
        };
        tenant.may_have(quota);
        Arc::new(tenant)
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn may_have(&self, quota: Quota) {
        self.account.lock().quota = quota;
        self.counts_messages.store(quota.is_of_messages(), Ordering::Relaxed);
    }

    /// A place for one more socket, which joins so many topics at once.
    ///
    /// # Errors
    /// It has as many as it may have, or was sent all of today.
    pub(crate) fn take_socket(self: &Arc<Self>, joins: usize) -> Result<TenantSlot, OverQuota> {
        let quota = self.quota_of_today()?;
        if let Some(max) = quota.joins_max
            && self.joins.load(Ordering::Relaxed).saturating_add(joins as u64) > max
            && joins > 0
        {
            return Err(self.over(Asset::Joins, max));
        }
        self.take(&self.sockets, quota.sockets_max, Asset::Sockets)?;
        Ok(TenantSlot(self.clone()))
    }

    fn take_join(self: &Arc<Self>) -> Result<TenantJoin, OverQuota> {
        let quota = self.quota_of_today()?;
        self.take(&self.joins, quota.joins_max, Asset::Joins)?;
        Ok(TenantJoin(self.clone()))
    }

    fn take(&self, held: &AtomicU64, max: Option<u64>, asset: Asset) -> Result<(), OverQuota> {
        let max = max.unwrap_or(u64::MAX);
        let taken = held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| (held < max).then_some(held + 1));
        taken.map(drop).map_err(|_| self.over(asset, max))
    }

    /// Its quota, unless it was sent all of today.
    fn quota_of_today(&self) -> Result<Quota, OverQuota> {
        let account = &mut *self.account.lock();
        match account.left_of_today() {
            Ok(()) => Ok(account.quota),
            Err((max, wait)) => Err(OverQuota { wait: Some(wait), ..self.over(Asset::Bytes, max) }),
        }
    }

    /// A client has sent a message: whether it may.
    fn weigh(&self, weight: Weight, now_ns: u64) -> Result<(), OverQuota> {
        if !self.counts_messages.load(Ordering::Relaxed) {
            return Ok(());
        }
        let account = &mut *self.account.lock();
        if weight.is_published
            && let Err((max, wait)) = account.left_of_today()
        {
            return Err(OverQuota { wait: Some(wait), ..self.over(Asset::Bytes, max) });
        }
        let Account { quota, messages, publishes, .. } = account;
        let publishes_rate = quota.publishes.filter(|_| weight.is_published);
        let buckets = [(Asset::Messages, quota.messages, messages), (Asset::Publishes, publishes_rate, publishes)];
        let mut buckets = buckets.map(|(asset, rate, bucket)| rate.map(|rate| (asset, rate, bucket)));
        let charge = |buckets: &mut [Option<(Asset, Rate, &mut Bucket)>]| {
            buckets.iter_mut().flatten().for_each(|(_, rate, bucket)| bucket.charge(*rate, now_ns, 1));
        };
        // Whoever is paced has sent it already, and waits behind it.
        if weight.is_paced {
            charge(&mut buckets);
        }
        let cost = u64::from(!weight.is_paced);
        let waits =
            buckets.iter().flatten().map(|(asset, rate, bucket)| (bucket.wait(*rate, now_ns, cost), *asset, *rate));
        match waits.max_by_key(|(wait_ns, ..)| *wait_ns).filter(|(wait_ns, ..)| *wait_ns > 0) {
            Some((wait_ns, asset, rate)) => Err(self.over_rate(asset, rate, wait_ns)),
            None => {
                if !weight.is_paced {
                    charge(&mut buckets);
                }
                Ok(())
            }
        }
    }

    /// A back end of its publishes so many messages: all of them or none.
    ///
    /// # Errors
    /// It may not now.
    pub(crate) fn publish(&self, messages: usize, now_ns: u64) -> Result<(), OverQuota> {
        self.quota_of_today()?;
        let Account { quota, publishes, .. } = &mut *self.account.lock();
        let Some(rate) = quota.publishes else { return Ok(()) };
        publishes.take(rate, now_ns, messages as u64).map_err(|wait_ns| self.over_rate(Asset::Publishes, rate, wait_ns))
    }

    /// Its clients have sent, and were sent, so many messages.
    fn had(&self, received: u64, sent: u64, bytes: u64) {
        self.received.fetch_add(received, Ordering::Relaxed);
        self.sent.fetch_add(sent, Ordering::Relaxed);
        if bytes > 0 && self.counts_messages.load(Ordering::Relaxed) {
            let account = &mut *self.account.lock();
            account.begin_day();
            account.bytes += bytes;
        }
    }

    fn over(&self, asset: Asset, max: u64) -> OverQuota {
        OverQuota { tenant: self.name.clone(), asset, max, at_once: max, wait: None }
    }

    fn over_rate(&self, asset: Asset, rate: Rate, wait_ns: u64) -> OverQuota {
        let wait = Some(Duration::from_millis(wait_ns.div_ceil(1_000_000)));
        OverQuota { at_once: rate.at_once().into(), wait, ..self.over(asset, rate.each_second().into()) }
    }

    /// If it has no socket, and its rates allow all again that they allow at once: how much was sent of what it may be sent today, 0 without
    /// such a quota.
    fn bytes_if_idle(self: &Arc<Self>, now_ms: u64) -> Option<u64> {
        let account = &mut *self.account.lock();
        account.begin_day();
        let now_ns = now_ms.saturating_mul(1_000_000);
        let is_rested = account.messages.is_full(now_ns) && account.publishes.is_full(now_ns);
        let bytes = account.quota.bytes_out_per_day.map_or(0, |_| account.bytes);
        (Arc::strong_count(self) == 1 && is_rested).then_some(bytes)
    }

    /// How many messages its clients have sent, and were sent.
    pub(crate) fn messages(&self) -> (u64, u64) {
        (self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }

    /// How many sockets it has.
    #[cfg(feature = "metrics")]
    pub(crate) fn sockets(&self) -> u64 {
        self.sockets.load(Ordering::Relaxed)
    }
}

impl Account {
    /// Since when which day it is; what was sent on another one does not count. How long it lasts.
    fn begin_day(&mut self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let day = now.as_secs() / DAY.as_secs();
        if day != self.day {
            (self.day, self.bytes) = (day, 0);
        }
        DAY - Duration::from_secs(now.as_secs() % DAY.as_secs())
    }

    /// Whether it may be sent more today; if not, what it may be sent in a day, and when the next one begins.
    fn left_of_today(&mut self) -> Result<(), (u64, Duration)> {
        let Some(max) = self.quota.bytes_out_per_day else { return Ok(()) };
        let left = self.begin_day();
        if self.bytes < max { Ok(()) } else { Err((max, left)) }
    }
}

impl TenantSlot {
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.0
    }

    /// Whether its tenant cannot be told from others.
    pub(crate) fn is_of_other(&self) -> bool {
        &*self.0.name == OTHER
    }

    /// One more join of this socket's.
    ///
    /// # Errors
    /// The tenant has as many as it may have, or was sent all of today.
    pub(crate) fn take_join(&self) -> Result<TenantJoin, OverQuota> {
        self.0.take_join()
    }

    /// The same of a topic for which there was a place when the socket was let in.
    pub(crate) fn join(&self) -> TenantJoin {
        self.0.joins.fetch_add(1, Ordering::Relaxed);
        TenantJoin(self.0.clone())
    }

    /// A client has sent a message.
    ///
    /// # Errors
    /// The tenant may not send it now, or with [`is_paced`](Weight::is_paced) is to send nothing for a while.
    #[inline]
    pub(crate) fn weigh(&self, weight: Weight, now_ns: u64) -> Result<(), OverQuota> {
        self.0.weigh(weight, now_ns)
    }
}

impl Drop for TenantSlot {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for TenantJoin {
    fn drop(&mut self) {
        self.0.joins.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a tenant can be called so: not as those are who have no place, or it had their quota.
pub(crate) fn is_a_name(name: &str) -> bool {
    (1..=NAME_SIZE_MAX).contains(&name.len()) && !name.contains(char::is_control) && name != OTHER
}

/// The tenant that the host of a request is.
pub(crate) fn of_host(host: &str) -> String {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    without_port.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_tenants_without_their_ports() {
        let cases = [
            ("Acme.Example.com:4000", "acme.example.com"),
            ("acme.", "acme"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ];
        for (host, tenant) in cases {
            assert_eq!(of_host(host), tenant);
        }
    }

    #[test]
    fn so_many_tenants_are_told_apart_and_those_with_nothing_are_forgotten() {
        let quotas = Quotas::new(Quota::new().sockets_max(1)).tenants_max(2).named("own", Quota::new());
        let tenants = Tenants::new(quotas);
        let slot = |name: &str, now_ms| {
            let (tenant, is_other) = tenants.get(name, now_ms);
            (tenant.take_socket(0), is_other)
        };
        let held: Vec<_> = ["a", "b"].map(|name| slot(name, 0)).into();
        assert!(held.iter().all(|(slot, is_other)| slot.is_ok() && !is_other));
        // One with a quota of its own has a place in any case; all others have one together.
        assert!(matches!(slot("own", 0), (Ok(_), false)));
        let third = slot("c", 0);
        assert!(matches!(&third, (Ok(slot), true) if &**slot.tenant().name() == "other"));
        assert!(matches!(slot("d", 0), (Err(_), true)), "they share one quota");
        drop(held);
        assert!(matches!(slot("d", SWEEP_MS - 1), (_, true)), "it was looked a moment ago");
        assert!(matches!(slot("d", SWEEP_MS), (Ok(_), false)));
        let names: Vec<_> = tenants.known.lock().by_name.keys().map(|name| name.to_string()).collect();
        assert!(!names.contains(&"a".to_owned()) && names.contains(&"own".to_owned()), "{names:?}");
    }

    #[test]
    fn the_tenant_that_needs_its_place_least_gives_it_to_a_new_one() {
        /// Its bytes of today, whether it has a socket, and what its back end has published.
        type Had = (u64, bool, usize);
        let daily = Quota::new().publishes(Rate::per_second(1)).bytes_out_per_day(100);
        let without = daily.bytes_out_per_day(None::<u64>);
        let cases: [(&str, Quota, [Had; 3], &[usize]); 8] = [
            ("who was sent least", daily, [(90, false, 0), (5, false, 0), (50, false, 0)], &[1]),
            ("who was sent all of today last", daily, [(100, false, 0), (99, false, 0), (120, false, 0)], &[1]),
            ("all who were sent nothing", daily, [(0, false, 0), (1, false, 0), (0, false, 0)], &[0, 2]),
            ("nobody with a socket", daily, [(5, true, 0), (50, false, 0), (60, false, 0)], &[1]),
            ("nobody who has to wait", daily, [(5, false, 1), (50, true, 0), (60, false, 0)], &[2]),
            ("nobody of those", daily, [(5, true, 0), (5, false, 1), (0, true, 1)], &[]),
            ("all, where a day has no bound", without, [(90, false, 0), (5, false, 0), (0, false, 0)], &[0, 1, 2]),
            ("all of these without a socket", without, [(90, false, 0), (5, true, 0), (0, false, 1)], &[0]),
        ];
        for (what, quota, had, gone) in cases {
            let tenants = Tenants::new(Quotas::new(quota).tenants_max(3).named("own", quota));
            let _ = tenants.get("own", 0);
            let held = had.iter().enumerate().map(|(n, &(bytes, has_socket, published))| {
                let (tenant, _) = tenants.get(&n.to_string(), 0);
                let slot = has_socket.then(|| tenant.take_socket(0).unwrap());
                tenant.publish(published, 0).unwrap();
                tenant.had(1, 1, bytes);
                slot
            });
            let held: Vec<_> = held.collect();
            let (_, is_other) = tenants.get("new", 500);
            assert_eq!(is_other, gone.is_empty(), "{what}");
            let known = tenants.known.lock();
            let missing: Vec<_> = (0..3).filter(|n| !known.by_name.contains_key(&*n.to_string())).collect();
            assert_eq!(missing, gone, "{what}");
            assert!(known.by_name.contains_key("own"), "{what}");
            assert_eq!(known.unnamed, known.by_name.len() - 1, "{what}");
            assert_eq!(tenants.other.messages(), (gone.len() as u64, gone.len() as u64), "{what}");
            drop(held);
        }
    }

    #[test]
    fn a_day_that_is_used_up_ends_and_others_begin_with_nothing() {
        let tenants = Tenants::new(Quotas::new(Quota::new().bytes_out_per_day(10)));
        let (tenant, _) = tenants.get("a", 0);
        tenant.had(0, 1, 9);
        assert!(tenant.publish(1, 0).is_ok());
        tenant.had(0, 1, 1);
        let over = tenant.publish(1, 0).unwrap_err();
        assert_eq!(over.asset(), Asset::Bytes);
        assert!(over.retry_after().unwrap() <= DAY, "{over}");
        assert!(tenant.take_socket(0).is_err());
        tenant.account.lock().day -= 1;
        assert!(tenant.take_socket(0).is_ok());
    }
}
