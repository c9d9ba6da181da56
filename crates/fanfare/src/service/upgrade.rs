//! From a finished upgrade to a socket in its shard: the raw stream is taken back from the server where possible.

use std::io;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::close_reason::CloseReason;
use crate::connect::SocketInfo;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::mailbox::{AdmittedSocket, Command, NewSocket};
use crate::transport::Carrier;
use crate::transport::stream::{IntoStream, Stream};
use crate::transport::watched::Watched;
use crate::transport::wire::Wire;

/// The server has so long to write the answer and hand over the connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Gives the connection to its shard once the answer is written. When this ends the answer may be: a socket that is joined
/// to topics at once is a member of them, and what is published for it meanwhile waits as it does for a slow reader.
///
/// # Errors
/// The engine has ended.
pub(super) async fn take_over(
    endpoint: &Endpoint,
    on_upgrade: OnUpgrade,
    socket: AdmittedSocket,
    window_bits: Option<u8>,
) -> Result<(), Error> {
    let runtime = endpoint.runtime();
    if socket.topics.is_empty() {
        runtime.spawn(async move {
            let Some((stream, received)) = connection(on_upgrade, &socket.info).await else { return };
            let shard = socket.info.shard.clone();
            let carrier = Carrier::Wire(Wire::new(stream, window_bits));
            shard.send_promptly(Command::Attach(Box::new(NewSocket {
                admitted: socket,
                carrier,
                received,
                attached: None,
            })));
        });
        return Ok(());
    }
    let (attached, is_attached) = oneshot::channel();
    let (endpoint, info) = (endpoint.clone(), socket.info.clone());
    // By itself: whoever answers the request goes with its client.
    runtime.spawn(async move {
        let carrier = Carrier::Wire(Wire::new(Stream::Awaited, window_bits));
        let Ok(key) = endpoint.attach_among_others(socket, carrier).await else { return };
        let _ = attached.send(());
        info.shard.send_promptly(match connection(on_upgrade, &info).await {
            Some((stream, received)) => Command::Connected { socket: key, stream: Box::new(stream), received },
            None => Command::Close { socket: key, reason: CloseReason::Lost },
        });
    });
    is_attached.await.map_err(|_| Error::failed("the engine has ended"))
}

/// The connection of a finished upgrade, and what the client has sent behind its handshake.
async fn connection(on_upgrade: OnUpgrade, socket: &SocketInfo) -> Option<(Stream, Vec<u8>)> {
    let taken = match tokio::time::timeout(UPGRADE_TIMEOUT, on_upgrade).await {
        Ok(Ok(upgraded)) => raw_stream(upgraded).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the connection was not handed over in time".to_owned()),
    };
    taken.inspect_err(|error| tracing::debug!(peer = ?socket.peer, error, "an upgraded connection was lost")).ok()
}

/// The stream below the server, and what the client has sent behind its handshake.
///
/// The server's own buffers must go with it: even an empty one would cost an idle connection several kilobytes.
fn raw_stream(upgraded: Upgraded) -> io::Result<(Stream, Vec<u8>)> {
    let upgraded = match upgraded.downcast::<TokioIo<Watched<TcpStream>>>() {
        Ok(parts) => return given(parts.io.into_inner(), &parts.read_buf),
        Err(upgraded) => upgraded,
    };
    // Of another server: by axum and hyper-util's `auto`, or by hyper's own HTTP/1 connection.
    let upgraded = match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return Ok((parts.io.into_inner().into_stream()?, parts.read_buf.to_vec())),
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Ok((parts.io.into_inner().into_stream()?, parts.read_buf.to_vec())),
        Err(upgraded) => upgraded,
    };
    #[cfg(feature = "tls")]
    let upgraded = match upgraded.downcast::<TokioIo<Watched<tokio_rustls::server::TlsStream<TcpStream>>>>() {
        Ok(parts) => return given(parts.io.into_inner(), &parts.read_buf),
        Err(upgraded) => upgraded,
    };
    Ok((bridged(upgraded)?, Vec::new()))
}

fn given<IO: IntoStream>(watched: Watched<IO>, received: &[u8]) -> io::Result<(Stream, Vec<u8>)> {
    let (io, unread) = watched.into_inner().ok_or(io::ErrorKind::NotConnected)?;
    Ok((io.into_stream()?, [received, &unread].concat()))
}

/// Whatever else the server runs on: a task copies between it and a pair of local sockets.
fn bridged(upgraded: Upgraded) -> io::Result<Stream> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let mut far = tokio::net::UnixStream::from_std(far)?;
    tokio::spawn(async move {
        // Either end closing ends both.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(upgraded), &mut far).await;
    });
    Ok(Stream::Bridged(mio::net::UnixStream::from_std(near)))
}
