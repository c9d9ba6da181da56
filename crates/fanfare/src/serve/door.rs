//! Who may come in, who is told that there is no place, and who is not heard at all.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::SockRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Admits;
use crate::address::{AddressFrom, AddressSlot, ConnectionSlot, Full, Place, Proxies};
use crate::figures::ListenerFigures;
use crate::service::Connection;

/// So many connections that there is no place for are told so at a time, in the way that they understand. Others that come at
/// that moment are closed with a plain 503, and without a word where clients speak TLS.
const TURNED_AWAY_MAX: usize = 64;

/// The places of a server, and the proxies in front of it.
pub(super) struct Door {
    admits: Admits,
    pub(super) figures: Arc<ListenerFigures>,
    turned_away: Arc<Semaphore>,
    pub(super) proxies: Proxies,
    speaks_tls: bool,
}

/// What becomes of a connection.
pub(super) enum Entered {
    /// It has a place, and one of its client's address where that is known already.
    Let(Place, Option<AddressSlot>),
    /// It is told why not.
    TurnedAway(Full, OwnedSemaphorePermit),
    /// Too many are told so already.
    Closed(Full),
    /// It should begin with the header of a proxy, and comes from none that is trusted.
    Stranger,
}

impl Door {
    pub(super) fn new(name: &'static str, admits: Admits, proxies: Proxies, speaks_tls: bool) -> Self {
        // A server of few connections may have few descriptors.
        let turned_away = (admits.places.max() / 8).clamp(1, TURNED_AWAY_MAX);
        Door {
            figures: ListenerFigures::new(name, admits.places.clone(), admits.handshakes.clone()),
            admits,
            turned_away: Arc::new(Semaphore::new(turned_away)),
            proxies,
            speaks_tls,
        }
    }

    /// Whether connections begin with the header of a proxy.
    pub(super) fn asks_for_header(&self) -> bool {
        self.proxies.address_from == AddressFrom::ProxyProtocol
    }

    pub(super) fn enter(&self, peer: SocketAddr) -> Entered {
        if self.asks_for_header() && !self.proxies.trusts(peer.ip()) {
            return Entered::Stranger;
        }
        let place = self.admits.places.take();
        let of_address = match self.asks_for_header() || self.proxies.is_told_by_requests(peer) {
            true => None,
            false => match self.admits.addresses.take(peer.ip()) {
                Err(full) => return self.turn_away(full),
                Ok(slot) => Some(slot),
            },
        };
        place.map_or_else(|max| self.turn_away(Full::Server(max)), |place| Entered::Let(place, of_address))
    }

    /// A place among the connections that have not asked for anything yet.
    pub(super) fn handshake(&self) -> Result<Place, Full> {
        self.admits.handshakes.take().map_err(Full::Handshakes)
    }

    /// What becomes of a connection that has a place, once its client is known.
    pub(super) fn enter_from(&self, place: Place, address: IpAddr) -> Entered {
        match self.admits.addresses.take(address) {
            Ok(slot) => Entered::Let(place, Some(slot)),
            Err(full) => self.turn_away(full),
        }
    }

    /// Lets a connection go whose request was not read: with a plain answer where the client takes one. Within TLS there is none that
    /// costs less than a handshake, and so the connection only ends.
    pub(super) fn close(&self, tcp: &impl AsFd, full: Full) {
        if !self.speaks_tls {
            answer_unheard(tcp, full);
        }
    }

    fn turn_away(&self, full: Full) -> Entered {
        match self.turned_away.clone().try_acquire_owned() {
            Ok(place) => Entered::TurnedAway(full, place),
            Err(_) => Entered::Closed(full),
        }
    }

    /// The connection of a request with a place of its client's address. A proxy's connection has none of its own.
    ///
    /// # Errors
    /// The address has no place left.
    pub(super) fn placed(&self, mut connection: Connection) -> Result<Connection, Full> {
        if let Some(slot) = &connection.slot
            && let ConnectionSlot::Proxy { .. } = **slot
        {
            let (_connection, _of_address) = (slot.clone(), self.admits.addresses.take(connection.peer.ip())?);
            connection.slot = Some(Arc::new(ConnectionSlot::Request { _connection, _of_address }));
        }
        Ok(connection)
    }
}

#[cfg(feature = "tls")]
impl Door {
    /// The same with places of its own for a socket that shares its connection with others, which it keeps as well.
    ///
    /// # Errors
    /// The server or the address has no place left.
    pub(super) fn beside(&self, mut connection: Connection) -> Result<Connection, Full> {
        let Some(_connection) = connection.slot.take() else { return Ok(connection) };
        let _in_total = self.admits.places.take().map_err(Full::Server)?;
        let _of_address = self.admits.addresses.take(connection.peer.ip())?;
        connection.slot = Some(Arc::new(ConnectionSlot::Stream { _connection, _in_total, _of_address }));
        Ok(connection)
    }
}

/// The place that a connection keeps.
pub(super) fn slot(_in_total: Place, of_address: Option<AddressSlot>) -> Arc<ConnectionSlot> {
    Arc::new(match of_address {
        Some(_of_address) => ConnectionSlot::Client { _in_total, _of_address },
        None => ConnectionSlot::Proxy { _in_total },
    })
}

/// Answers without reading the request, so that a refusal costs next to nothing.
fn answer_unheard(tcp: &impl AsFd, full: Full) {
    let answer: &[u8] = match full {
        Full::Server(_) | Full::Handshakes(_) => {
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        }
        Full::Address(_) => {
            b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        }
    };
    // The buffer of a new connection has room; if not, closing it says enough. (The runtime does not know yet that it has.)
    let _ = SockRef::from(tcp).send(answer);
}
