//! From a finished upgrade to a socket in its shard: the raw stream is taken back from the server where possible.

use std::io;
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::net::TcpStream;

use crate::command::Command;
use crate::socket::{AdmittedSocket, Carrier, NewSocket};
use crate::transport::stream::Stream;
use crate::transport::websocket::WebSocket;

/// The server has so long to write the answer and hand over the connection.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until the answer is written, and gives the connection to its shard.
pub(super) async fn take_over(on_upgrade: OnUpgrade, socket: AdmittedSocket, window_bits: Option<u8>) {
    let taken = match tokio::time::timeout(UPGRADE_TIMEOUT, on_upgrade).await {
        Ok(Ok(upgraded)) => raw_stream(upgraded).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the connection was not handed over in time".to_owned()),
    };
    match taken {
        Ok((stream, received)) => {
            let shard = socket.info.shard.clone();
            let carrier = Carrier::WebSocket(WebSocket::new(stream, window_bits));
            let new = NewSocket { admitted: socket, carrier, received, attached: None };
            shard.send_promptly(Command::Attach(Box::new(new)));
        }
        Err(error) => tracing::debug!(peer = ?socket.info.peer, error, "an upgraded connection was lost"),
    }
}

/// The stream below the server, and what the client has sent behind its handshake.
///
/// The server's own buffers must go with it: even an empty one would cost an idle connection several kilobytes.
fn raw_stream(upgraded: Upgraded) -> io::Result<(Stream, Vec<u8>)> {
    // By axum and hyper-util's `auto`, or by hyper's own HTTP/1 connection.
    let upgraded = match downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return Ok((plain(parts.io.into_inner())?, parts.read_buf.to_vec())),
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => return Ok((plain(parts.io.into_inner())?, parts.read_buf.to_vec())),
        Err(upgraded) => upgraded,
    };
    #[cfg(feature = "tls")]
    let upgraded = match upgraded.downcast::<TokioIo<tokio_rustls::server::TlsStream<TcpStream>>>() {
        Ok(parts) => {
            let (tcp, tls) = parts.io.into_inner().into_inner();
            return Ok((secure(tcp, tls)?, parts.read_buf.to_vec()));
        }
        Err(upgraded) => upgraded,
    };
    Ok((bridged(upgraded)?, Vec::new()))
}

fn plain(tcp: TcpStream) -> io::Result<Stream> {
    Ok(Stream::Tcp(for_shard(tcp)?))
}

#[cfg(feature = "tls")]
fn secure(tcp: TcpStream, tls: rustls::ServerConnection) -> io::Result<Stream> {
    Ok(Stream::Tls(Box::new(crate::transport::stream::TlsStream::new(for_shard(tcp)?, tls))))
}

fn for_shard(tcp: TcpStream) -> io::Result<mio::net::TcpStream> {
    tcp.set_nodelay(true)?;
    Ok(mio::net::TcpStream::from_std(tcp.into_std()?))
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
