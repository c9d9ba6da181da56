//! From an accepted connection to its first request: whose it is, whether there is a place for it, and TLS.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::connection::{First, Served};
use super::door::{Entered, slot};
#[cfg(feature = "tls")]
use super::http2;
use super::pause::Arriving;
use crate::address::{self, Full, Place};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::fact::{Fact, Kind, Who};
use crate::service::Connection;

/// A connection that is turned away has so long to say what it wants.
const TURNED_AWAY_TIMEOUT: Duration = Duration::from_secs(1);

impl<S> Served<S> {
    /// Serves a connection from its beginning.
    pub(super) async fn receive<B>(
        mut self,
        mut tcp: TcpStream,
        mut entered: Entered,
        arriving: Arriving,
        handshake: Place,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + Sync + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        if self.shared.door.asks_for_header() {
            match self.introduced(&mut tcp, entered).await {
                Some(next) => entered = next,
                None => return,
            }
        }
        let refused: Option<(Full, OwnedSemaphorePermit)> = match entered {
            Entered::Let(place, of_address) => {
                self.connection.slot = Some(slot(place, of_address));
                None
            }
            Entered::TurnedAway(full, place) => Some((full, place)),
            Entered::Closed(full) => return self.close(&tcp, full),
            Entered::Stranger => return,
        };
        let timeout = match &refused {
            None => self.shared.handshake_timeout,
            Some((full, _)) => {
                // One that says nothing is told all the same.
                if tokio::time::timeout(TURNED_AWAY_TIMEOUT, tcp.peek(&mut [0])).await.is_err() {
                    return self.close(&tcp, *full);
                }
                TURNED_AWAY_TIMEOUT
            }
        };
        let full = refused.as_ref().map(|(full, _)| *full);
        let first = First { arriving: Some(arriving), handshake: Some(handshake), ..First::default() };
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.shared.tls {
            let accepted = tokio::time::timeout(timeout, tls.accept(tcp)).await;
            self.shared.door.figures.shook_hands(matches!(accepted, Ok(Ok(_))));
            match accepted {
                Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(http2::NAME) => {
                    self.run_http2(stream, first, timeout, full).await;
                }
                Ok(Ok(stream)) => self.run(stream, first, timeout, full).await,
                Ok(Err(error)) => self.ended_unasked(full, format_args!("the TLS handshake failed: {error}")),
                Err(_) => {
                    let detail = format_args!("the TLS handshake took longer than {timeout:?} (handshake_timeout)");
                    self.ended_unasked(full, detail);
                }
            }
            return;
        }
        self.run(tcp, first, timeout, full).await;
    }

    /// Reads who the client is from the header of the proxy.
    async fn introduced(&mut self, tcp: &mut TcpStream, entered: Entered) -> Option<Entered> {
        let shared = self.shared.clone();
        let timeout = if let Entered::Let(..) = entered { shared.handshake_timeout } else { TURNED_AWAY_TIMEOUT };
        let header = match tokio::time::timeout(timeout, address::read(tcp)).await {
            Ok(Ok(header)) => header,
            Ok(Err(fault)) => {
                tell_of_stranger(&shared.endpoint, &self.connection, format_args!("{fault}"));
                return None;
            }
            Err(_) => {
                let detail = format_args!("no whole PROXY header came within {timeout:?}");
                tell_of_stranger(&shared.endpoint, &self.connection, detail);
                return None;
            }
        };
        let connection = &mut self.connection;
        connection.peer = header.client.unwrap_or(connection.peer);
        connection.is_secure |= header.is_secure;
        Some(match entered {
            Entered::Let(place, _) => shared.door.enter_from(place, connection.peer.ip()),
            entered => entered,
        })
    }

    fn close(&self, tcp: &TcpStream, full: Full) {
        self.shared.endpoint.tell_of_full(self.connection.peer, full);
        self.shared.door.close(tcp, full);
    }
}

/// Counts and logs a connection that is closed since it does not begin as a proxy's does.
pub(super) fn tell_of_stranger(endpoint: &Endpoint, connection: &Connection, detail: fmt::Arguments<'_>) {
    let who = Who { address: Some(connection.peer), ..Who::default() };
    let fact = Fact { kind: Kind::Refused, event: Event::ProxyRefused, who, topic: None, code: None, detail };
    fact.tell(endpoint.own_counters());
}
