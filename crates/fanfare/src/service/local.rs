//! Sockets of the test kit: admitted like a WebSocket client, but for the upgrade.

use fanfare_proto::websocket::deflate;
use http::{Request, Response, StatusCode};

use super::websocket::Admitted;
use super::{Body, Connection, Served, text};
use crate::endpoint::Endpoint;
use crate::key::SocketKey;
use crate::mailbox::ShardHandle;
use crate::socket::{Carrier, Transport};

impl Endpoint {
    /// Connects as the request asks. The carrier is told the window that permessage-deflate was negotiated with. `Err` is
    /// the refusal.
    pub(crate) async fn connect_local(
        &self,
        request: Request<()>,
        transport: Transport,
        carrier: impl FnOnce(Option<u8>) -> Carrier,
    ) -> Result<(ShardHandle, SocketKey), Box<Response<Body>>> {
        let refuse = |status, why| Box::new(text(status, why));
        let Some(found) = self.find(request.uri().path()).filter(|found| found.served != Served::LongPoll) else {
            return Err(refuse(StatusCode::NOT_FOUND, "not found"));
        };
        if self.is_draining() {
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, ""));
        }
        let connection = Connection::of(&request);
        let (parts, ()) = request.into_parts();
        let (mount, connection) = (found.mount.clone(), connection.as_ref());
        let Admitted { connected, version, .. } = self.admit(&found, &parts, transport, connection).await?;
        let agreement = if mount.compression { deflate::negotiate(&parts.headers) } else { None };
        let shard = self.next_shard().clone();
        let socket = self.new_socket(&found, shard.clone(), connected, version, transport, connection)?;
        let carrier = carrier(agreement.map(|agreement| agreement.window_bits));
        let attached = self.attach(socket, carrier).await;
        let key = attached.map_err(|_| refuse(StatusCode::SERVICE_UNAVAILABLE, "the engine has ended"))?;
        Ok((shard, key))
    }
}
