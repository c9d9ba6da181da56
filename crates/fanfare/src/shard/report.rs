//! What is told of a socket to whoever looks into a server.

use fanfare_proto::phoenix::message::Version;

use crate::key::SocketId;
use crate::mailbox::SocketReport;
use crate::socket::Socket;

/// What is known of it.
pub(super) fn report(socket: &Socket, id: SocketId, now_ms: u64) -> SocketReport {
    let who = socket.info.who();
    SocketReport {
        id,
        user: who.user.map(str::to_owned),
        address: who.address,
        endpoint: who.endpoint.map(ToString::to_string),
        transport: socket.info.transport,
        protocol: socket.dialect.protocol_name(),
        version: match socket.info.version {
            Version::V1 => "1.0.0",
            Version::V2 => "2.0.0",
        },
        connected_ms: now_ms.saturating_sub(socket.began_ms),
        idle_ms: now_ms.saturating_sub(socket.heard_ms),
        joins: socket.session.entries().len(),
        received: u64::from(socket.received),
        waiting_bytes: socket.carrier.waiting().0,
        expires_ms: socket.info.expires_ms.map(|expires_ms| expires_ms.saturating_sub(now_ms)),
    }
}
