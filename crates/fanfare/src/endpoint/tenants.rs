//! Those who share the node: what they may have of it, and what their back ends publish.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Endpoint;
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::tenant::{Asset, OverQuota, Quotas, Tenant, is_a_name};

impl Endpoint {
    /// Puts other quotas in force, from now on: for the next socket, join and message. Nothing is taken away from those who have more.
    pub fn replace_quotas(&self, quotas: Quotas) {
        self.gate().tenants.replace(quotas);
    }

    /// A back end of a tenant is about to publish so many messages: all of them count, or none. What is refused is counted, logged, and kept
    /// among the [last facts](Endpoint::facts). A name that no tenant [can have](crate::Connected::tenant) has no quota.
    ///
    /// # Errors
    /// They are more than its quota allows now.
    pub fn take_publishes(&self, tenant: &str, messages: usize, address: Option<SocketAddr>) -> Result<(), OverQuota> {
        let Some(tenant) = self.tenant(tenant) else { return Ok(()) };
        let now_ns = self.clock().now_us().saturating_mul(1_000);
        tenant.publish(messages, now_ns).inspect_err(|over| {
            let event = match over.asset() {
                Asset::Bytes => Event::TenantBytesRefused,
                _ => Event::TenantPublishesRefused,
            };
            let (kind, who) = (Kind::Limited, Who { address, ..Who::default() });
            let detail = format_args!("{messages} messages were not published: {over}");
            Fact { kind, event, who, topic: None, code: Some(429), detail }.tell(self.own_counters());
        })
    }

    /// The tenant of a name, if it is one.
    pub(crate) fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        if !is_a_name(name) {
            return None;
        }
        let (tenant, is_other) = self.gate().tenants.get(name, self.clock().now_ms());
        if is_other {
            self.own_counters().count(Event::TenantsMaxPassed);
        }
        Some(tenant)
    }
}
