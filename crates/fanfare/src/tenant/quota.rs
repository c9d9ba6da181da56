//! What tenants may have of a node, and what is said where one has more.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::rate::Rate;

/// What a tenant may have of one node, all of its clients together. What is not said has no bound.
///
/// ```
/// use fanfare::{Quota, Rate};
///
/// let quota = Quota::new().sockets_max(1_000).messages(Rate::per_second(50));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    pub(super) sockets_max: Option<u64>,
    pub(super) joins_max: Option<u64>,
    pub(super) messages: Option<Rate>,
    pub(super) publishes: Option<Rate>,
    pub(super) bytes_out_per_day: Option<u64>,
}

impl Quota {
    /// Without a bound.
    pub const fn new() -> Self {
        Quota { sockets_max: None, joins_max: None, messages: None, publishes: None, bytes_out_per_day: None }
    }

    /// How many sockets its clients may have. Beyond it connecting is answered 429.
    pub fn sockets_max(mut self, sockets: impl Into<Option<u64>>) -> Self {
        self.sockets_max = sockets.into();
        self
    }

    /// How many topics its sockets may have joined, added up. Beyond it a join is answered with the error `quota exceeded`.
    pub fn joins_max(mut self, joins: impl Into<Option<u64>>) -> Self {
        self.joins_max = joins.into();
        self
    }

    /// How many messages its clients may send; joins, leaves and heartbeats do not count. Beyond it a message is answered with the error
    /// `quota exceeded` and `retry_after_ms`, or the client is paced or closed, as with a [rate](crate::Mount::over_rate).
    pub fn messages(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.messages = rate.into();
        self
    }

    /// How many messages its clients may send into topics that they have joined, and its back ends may
    /// [publish](crate::Endpoint::take_publishes). Beyond it the same happens.
    pub fn publishes(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.publishes = rate.into();
        self
    }

    /// How many bytes its sockets may be sent in a day, which begins at midnight UTC. Beyond it connecting is answered 429, joins and what
    /// is said in topics with the error `quota exceeded`, until the next day. Sockets that are open stay so, and get what is published.
    pub fn bytes_out_per_day(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.bytes_out_per_day = bytes.into();
        self
    }

    /// Whether messages are to be counted.
    pub(super) fn is_of_messages(&self) -> bool {
        self.messages.is_some() || self.publishes.is_some() || self.bytes_out_per_day.is_some()
    }
}

/// What each tenant may have.
#[derive(Debug, Clone)]
pub struct Quotas {
    pub(super) each: Quota,
    pub(super) named: HashMap<Arc<str>, Quota>,
    pub(super) tenants_max: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Quotas { each: Quota::new(), named: HashMap::new(), tenants_max: 1_000 }
    }
}

impl Quotas {
    /// For each tenant the same.
    pub fn new(each: Quota) -> Self {
        Quotas { each, ..Quotas::default() }
    }

    /// Another one for this tenant.
    pub fn named(mut self, tenant: &str, quota: Quota) -> Self {
        self.named.insert(tenant.into(), quota);
        self
    }

    /// How many tenants are told apart, beside those that were [named](Quotas::named). All beyond that share one quota, and are counted as
    /// `other`. Default 1,000.
    pub fn tenants_max(mut self, tenants: usize) -> Self {
        self.tenants_max = tenants;
        self
    }

    pub(super) fn of(&self, tenant: &str) -> Quota {
        self.named.get(tenant).copied().unwrap_or(self.each)
    }
}

/// Where the name of a client's tenant comes from, if connect does not [give it](crate::Connected::tenant).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenantFrom {
    /// The host that the request is for, in lower case and without its port.
    Host,
    /// A named segment of the mount's path: `tenant` of `/socket/:tenant`.
    Segment(String),
}

/// What a tenant has a quota of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asset {
    Sockets,
    Joins,
    Messages,
    Publishes,
    Bytes,
}

/// A tenant has all that its quota gives it. The text names the quota, what it allows, and when there will be more.
#[derive(Debug, Clone)]
pub struct OverQuota {
    pub(super) tenant: Arc<str>,
    pub(super) asset: Asset,
    /// What the quota is, and of a rate what it allows at once.
    pub(super) max: u64,
    pub(super) at_once: u64,
    pub(super) wait: Option<Duration>,
}

impl OverQuota {
    /// When there will be more, where only time is to pass.
    pub fn retry_after(&self) -> Option<Duration> {
        self.wait
    }

    pub(crate) fn asset(&self) -> Asset {
        self.asset
    }
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OverQuota { tenant, max, at_once, wait, .. } = self;
        let wait = wait.unwrap_or_default();
        let rate = fmt::from_fn(|f| {
            write!(f, "which is {max} a second and {at_once} at once: the next in {} ms", wait.as_millis())
        });
        match self.asset {
            Asset::Sockets => write!(f, "the tenant {tenant:?} has all of its {max} sockets (sockets_max)"),
            Asset::Joins => write!(f, "the sockets of the tenant {tenant:?} have joined {max} topics (joins_max)"),
            Asset::Messages => write!(f, "more messages of the tenant {tenant:?} than messages_per_s allows, {rate}"),
            Asset::Publishes => {
                write!(f, "more is published by the tenant {tenant:?} than publishes_per_s allows, {rate}")
            }
            Asset::Bytes => write!(
                f,
                "the tenant {tenant:?} was sent all of its {max} bytes of today (bytes_out_per_day): the next day begins in {} s",
                wait.as_secs()
            ),
        }
    }
}

impl std::error::Error for OverQuota {}
