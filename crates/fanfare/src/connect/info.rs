//! What is known about a socket since it connected, and the handle by which others know it.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;

use super::{Connected, UserSlot};
use crate::address::ConnectionSlot;
use crate::close_reason::CloseReason;
use crate::endpoint::Endpoint;
use crate::event::{Event, Tally};
use crate::fact::{Fact, Kind, Who};
use crate::key::SocketKey;
use crate::mailbox::{Command, ShardHandle};
use crate::mount::Mount;
use crate::tenant::TenantSlot;
use crate::transport::Transport;

/// What is known about a socket since it connected.
pub struct SocketInfo {
    pub(crate) id: Option<Arc<str>>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) assigns: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) version: Version,
    pub(crate) transport: Transport,
    pub(crate) mount: Arc<Mount>,
    pub(crate) endpoint: Endpoint,
    pub(crate) shard: ShardHandle,
    /// When its credential expires, in milliseconds of the engine's clock.
    pub(crate) expires_ms: Option<u64>,
    /// It has to send a credential before anything else.
    pub(crate) is_pending: bool,
    /// From where it wants to go on with its topics, in a protocol whose joins do not say.
    pub(crate) since: Option<Since>,
    /// Counts among its user's sockets while it lives.
    pub(crate) of_user: Option<Arc<UserSlot>>,
    /// Counts among its tenant's sockets while it lives.
    pub(crate) tenant: Option<Arc<TenantSlot>>,
    /// Counts among its server's connections while it lives.
    pub(crate) _slot: Option<Arc<ConnectionSlot>>,
}

impl SocketInfo {
    /// The id that connect gave it.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The client's address, where the transport knows it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The tenant that it is a client of.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_ref().map(|slot| &**slot.tenant().name())
    }

    /// What connect assigned, if it is of this type.
    pub fn assigns<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.assigns.as_ref()?.downcast_ref()
    }

    /// The protocol version that the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What carries the socket.
    pub fn transport(&self) -> Transport {
        self.transport
    }
}

impl SocketInfo {
    /// Whose facts are told.
    pub(crate) fn who(&self) -> Who<'_> {
        Who {
            user: self.id().filter(|_| !self.mount.dialect.is_named_by_key()),
            address: self.peer,
            endpoint: self.mount.path.as_ref(),
        }
    }

    /// Tells what happens to a socket that stays open.
    pub(crate) fn tell(
        &self,
        counters: &impl Tally,
        (kind, event): (Kind, Event),
        topic: Option<&str>,
        detail: fmt::Arguments<'_>,
    ) {
        Fact { kind, event, who: self.who(), topic, code: None, detail }.tell(counters);
    }

    /// The same socket with other assigns.
    pub(crate) fn assigned(old: &SocketInfo, assigns: Arc<dyn Any + Send + Sync>) -> Self {
        SocketInfo { assigns: Some(assigns), ..old.copied() }
    }

    fn copied(&self) -> Self {
        SocketInfo {
            id: self.id.clone(),
            peer: self.peer,
            assigns: self.assigns.clone(),
            version: self.version,
            transport: self.transport,
            mount: self.mount.clone(),
            endpoint: self.endpoint.clone(),
            shard: self.shard.clone(),
            expires_ms: self.expires_ms,
            is_pending: self.is_pending,
            since: self.since,
            of_user: self.of_user.clone(),
            tenant: self.tenant.clone(),
            _slot: self._slot.clone(),
        }
    }

    /// The same socket with what a renewed credential says, and where it counts from then on.
    pub(crate) fn refreshed(
        old: &SocketInfo,
        connected: Connected,
        (of_user, tenant): (Option<Arc<UserSlot>>, Option<Arc<TenantSlot>>),
    ) -> Self {
        SocketInfo {
            of_user,
            tenant,
            expires_ms: connected.expires_ms(old.endpoint.clock()),
            id: connected.id.map(Arc::from),
            assigns: connected.assigns,
            is_pending: false,
            ..old.copied()
        }
    }
}

impl fmt::Debug for SocketInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Assigns may hold secrets.
        f.debug_struct("SocketInfo").field("id", &self.id).field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// A socket of this node, to be told from others and to be closed. Two handles are equal if they name the same socket.
#[derive(Clone)]
pub struct SocketHandle {
    pub(crate) info: Arc<SocketInfo>,
    pub(crate) key: SocketKey,
}

impl SocketHandle {
    /// What is known about it.
    pub fn info(&self) -> &SocketInfo {
        &self.info
    }

    /// Closes it with 1001, as a disconnect does. It may be closed already.
    pub fn close(&self) {
        self.info.shard.send(Command::Close { socket: self.key, reason: CloseReason::Disconnect });
    }

    fn identity(&self) -> (usize, SocketKey) {
        (self.info.shard.address(), self.key)
    }
}

impl PartialEq for SocketHandle {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for SocketHandle {}

impl std::hash::Hash for SocketHandle {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

impl fmt::Debug for SocketHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SocketHandle").field(&self.info).finish()
    }
}
