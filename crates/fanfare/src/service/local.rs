//! Sockets of the test kit: admitted like a WebSocket client, but for the upgrade.

use std::sync::Arc;

use fanfare_proto::websocket::deflate;
use http::{Request, Response};

use super::Connection;
use super::admission::Asking;
use super::refusal::Refusal;
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::key::SocketKey;
use crate::mailbox::ShardHandle;
use crate::protocol::Served;
use crate::transport::{Carrier, Transport};

impl Endpoint {
    /// Connects as the request asks. The carrier is told the window that permessage-deflate was negotiated with. `Err` is
    /// the refusal.
    pub(crate) async fn connect_local(
        &self,
        request: Request<()>,
        transport: Transport,
        carrier: impl FnOnce(Option<u8>) -> Carrier,
    ) -> Result<(ShardHandle, SocketKey), Box<Response<Body>>> {
        let Some(found) = self.find(request.uri().path()).filter(|found| found.served != Served::LongPoll) else {
            return Err(Box::new(self.refuse_path(request.uri().path(), None)));
        };
        let connection = Connection::of(&request, self);
        let (parts, ()) = request.into_parts();
        let (found, parts, connection) = (&found, &Arc::new(parts), connection.as_ref());
        let asking = Asking::new(self, found, parts, connection, transport);
        let attached = async {
            let admitted = asking.admit(asking.read()?).await?;
            let agreement = if found.mount.compression { deflate::negotiate(&parts.headers) } else { None };
            let shard = self.next_shard().clone();
            let socket = asking.socket(shard.clone(), admitted).await?;
            let carrier = carrier(agreement.map(|agreement| agreement.window_bits));
            let key = self.attach(socket, carrier).await.map_err(|_| Refusal::Ended)?;
            Ok((shard, key))
        };
        attached.await.map_err(|refusal| Box::new(asking.refuse(refusal)))
    }
}
