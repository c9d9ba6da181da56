//! Where a socket counts for those who share the node: among the sockets and joins of its tenant, and with what it sends and is sent.

use std::sync::Arc;

use super::{Socket, Turn};
use crate::connect::Connected;
use crate::event::Event;
use crate::fact::Kind;
use crate::tenant::{Asset, OverQuota, TenantJoin, TenantSlot};

/// What a client is told whose tenant has all that it may have.
pub(super) const OVER_QUOTA: &str = "quota exceeded";

impl Socket {
    /// What the socket sends and is sent counts for its tenant from now on.
    pub(super) fn count_for_tenant(&mut self, turn: &mut Turn) {
        if let Some(slot) = &self.info.tenant {
            self.meter = turn.backlog.meters.enter(slot.tenant());
        }
    }

    /// One of the joins of the socket's tenant, for a topic for which there was a place when the socket was let in.
    pub(super) fn tenant_join(&self) -> Option<TenantJoin> {
        self.info.tenant.as_ref().map(|slot| slot.join())
    }

    /// The same, if there is one.
    pub(super) fn take_tenant_join(&self) -> Result<Option<TenantJoin>, OverQuota> {
        self.info.tenant.as_ref().map(|slot| slot.take_join()).transpose()
    }

    /// Where the socket counts once its credential says this. One that had no tenant may be of any.
    pub(super) fn tenant_of(&self, connected: &Connected) -> Result<Option<Arc<TenantSlot>>, String> {
        let Some(name) = &connected.tenant else { return Ok(self.info.tenant.clone()) };
        match &self.info.tenant {
            Some(slot) if self.info.tenant() == Some(name) || slot.is_of_other() => Ok(Some(slot.clone())),
            Some(_) => Err("the credential is of another tenant: connect anew with it".to_owned()),
            None => {
                let tenant = self.info.endpoint.tenant(name);
                let tenant =
                    tenant.ok_or("the credential's tenant has no name of 1 to 128 bytes other than \"other\"")?;
                let slot = tenant.take_socket(0).map_err(|over| format!("{OVER_QUOTA}: {over}"))?;
                Ok(Some(Arc::new(slot)))
            }
        }
    }

    /// A topic could not be joined, since the tenant has all that it may have.
    pub(super) fn tell_over_quota(&self, turn: &Turn, over: &OverQuota, topic: &str) {
        let event = match over.asset() {
            Asset::Bytes => Event::TenantBytesRefused,
            _ => Event::TenantJoinsRefused,
        };
        self.info.tell(turn.counters(), (Kind::Limited, event), Some(topic), format_args!("{over}"));
        turn.figures().count_join(topic, event);
    }
}
