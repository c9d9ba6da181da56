//! Sockets of the test kit: admitted like a WebSocket client, but for the upgrade.

use http::{Request, Response, StatusCode};
use tokio::sync::mpsc;

use super::websocket::Admitted;
use super::{Body, Connection, text};
use crate::command::SocketKey;
use crate::endpoint::Endpoint;
use crate::mailbox::ShardHandle;
use crate::socket::{Carrier, LocalFrame, Protocol, Transport};

impl Endpoint {
    /// Connects as the request asks; what the server sends goes to `frames`. `Err` is the refusal.
    pub(crate) async fn connect_local(
        &self,
        request: Request<()>,
        frames: mpsc::UnboundedSender<LocalFrame>,
    ) -> Result<(ShardHandle, SocketKey), Box<Response<Body>>> {
        let refuse = |status, why| Box::new(text(status, why));
        let Some((found, false)) = self.find(request.uri().path()) else {
            return Err(refuse(StatusCode::NOT_FOUND, "not found"));
        };
        if self.is_draining() {
            return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, ""));
        }
        let connection = Connection::of(&request);
        let (parts, ()) = request.into_parts();
        let (mount, transport, connection) = (found.mount.clone(), Transport::Local, connection.as_ref());
        let Admitted { connected, version, .. } = self.admit(&found, &parts, transport, connection).await?;
        let shard = self.next_shard().clone();
        let (info, expires_ms) = self.new_socket(mount, shard.clone(), connected, version, transport, connection);
        let attached = self.attach(info, Protocol::Phoenix, Carrier::Frames(frames), expires_ms).await;
        let key = attached.map_err(|_| refuse(StatusCode::SERVICE_UNAVAILABLE, "the engine has ended"))?;
        Ok((shard, key))
    }
}
