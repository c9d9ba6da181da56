//! The byte stream below a WebSocket or a stream of messages, read and written by its shard without waiting.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

#[cfg(feature = "testing")]
use super::memory::Pipe;

/// A connection that a shard can take over.
pub(crate) trait IntoStream {
    /// # Errors
    /// The system refuses.
    fn into_stream(self) -> io::Result<Stream>;
}

impl IntoStream for tokio::net::TcpStream {
    fn into_stream(self) -> io::Result<Stream> {
        Ok(Stream::Tcp(for_shard(self)?))
    }
}

#[cfg(feature = "tls")]
impl IntoStream for tokio_rustls::server::TlsStream<tokio::net::TcpStream> {
    fn into_stream(self) -> io::Result<Stream> {
        let (tcp, tls) = self.into_inner();
        Ok(Stream::Tls(Box::new(TlsStream { tcp: for_shard(tcp)?, tls })))
    }
}

fn for_shard(tcp: tokio::net::TcpStream) -> io::Result<TcpStream> {
    tcp.set_nodelay(true)?;
    Ok(TcpStream::from_std(tcp.into_std()?))
}

/// A non-blocking stream that a shard owns.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Not there yet: the answer to the request is still to be written. It takes and gives nothing.
    Awaited,
    Tcp(TcpStream),
    /// The shard's end of a pair; a task of the runtime copies between the other end and whatever the server runs on.
    Bridged(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
    /// The test kit's: no descriptor, its readiness is told by the one who runs the shard.
    #[cfg(feature = "testing")]
    Memory(Pipe),
}

impl Stream {
    /// Registers once for both directions: with edge-triggered events no later change is needed.
    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self {
            Stream::Awaited => Ok(()),
            Stream::Tcp(stream) => registry.register(stream, token, interest),
            Stream::Bridged(stream) => registry.register(stream, token, interest),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => registry.register(&mut stream.tcp, token, interest),
            #[cfg(feature = "testing")]
            Stream::Memory(_) => Ok(()),
        }
    }

    /// Ends our direction after what was written; the other is read until the client ends it too.
    pub(crate) fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Stream::Awaited => Ok(()),
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Bridged(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.shutdown_write(),
            #[cfg(feature = "testing")]
            Stream::Memory(pipe) => pipe.end(),
        }
    }

    /// Whether a read that did not fill its buffer means that nothing is left to read for now.
    pub(crate) fn short_read_is_last(&self) -> bool {
        match self {
            Stream::Awaited | Stream::Tcp(_) | Stream::Bridged(_) => true,
            #[cfg(feature = "tls")]
            Stream::Tls(_) => false,
            #[cfg(feature = "testing")]
            Stream::Memory(_) => true,
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Awaited => Err(io::ErrorKind::WouldBlock.into()),
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Bridged(stream) => stream.read(buffer),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.read(buffer),
            #[cfg(feature = "testing")]
            Stream::Memory(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// One plain `send`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Awaited => Err(io::ErrorKind::WouldBlock.into()),
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Bridged(stream) => stream.write(bytes),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.write(bytes),
            #[cfg(feature = "testing")]
            Stream::Memory(pipe) => pipe.write(bytes),
        }
    }

    pub(crate) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self, slices) {
            (stream, [one]) => stream.write(one),
            (Stream::Awaited, _) => Err(io::ErrorKind::WouldBlock.into()),
            (Stream::Tcp(stream), many) => stream.write_vectored(many),
            (Stream::Bridged(stream), many) => stream.write_vectored(many),
            #[cfg(feature = "tls")]
            (Stream::Tls(stream), many) => stream.write(many.first().map_or(&[], |slice| slice)),
            #[cfg(feature = "testing")]
            (Stream::Memory(pipe), many) => pipe.write_vectored(many),
        }
    }

    /// Whether bytes that were taken have not reached the kernel.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Stream::Awaited | Stream::Tcp(_) | Stream::Bridged(_) => false,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.holds_back(),
            #[cfg(feature = "testing")]
            Stream::Memory(_) => false,
        }
    }

    /// Lets bytes leave that the stream itself holds back. `Ok(false)` when some are left.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self {
            Stream::Awaited | Stream::Tcp(_) | Stream::Bridged(_) => Ok(true),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.flush(),
            #[cfg(feature = "testing")]
            Stream::Memory(_) => Ok(true),
        }
    }
}

#[cfg(feature = "tls")]
pub(crate) use tls::TlsStream;

#[cfg(feature = "tls")]
mod tls {
    use super::{Read, Shutdown, TcpStream, Write, io};
    use rustls::ServerConnection;

    /// An established TLS connection, driven by its shard like a plain one.
    #[derive(Debug)]
    pub(crate) struct TlsStream {
        pub(super) tcp: TcpStream,
        pub(super) tls: ServerConnection,
    }

    impl TlsStream {
        pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            loop {
                match self.tls.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    done => return done,
                }
                if self.tls.read_tls(&mut self.tcp)? == 0 {
                    return Ok(0);
                }
                let processed = self.tls.process_new_packets();
                // Alerts and key updates leave even when the read failed.
                self.flush()?;
                processed.map_err(io::Error::other)?;
            }
        }

        /// Takes less than all only when the kernel takes no more: otherwise nobody would say when to go on.
        pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut taken = 0;
            while self.flush()? {
                if taken == bytes.len() {
                    return Ok(taken);
                }
                taken += self.tls.writer().write(&bytes[taken..])?;
            }
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }

        pub(super) fn holds_back(&self) -> bool {
            self.tls.wants_write()
        }

        pub(super) fn flush(&mut self) -> io::Result<bool> {
            while self.tls.wants_write() {
                match self.tls.write_tls(&mut self.tcp) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            Ok(true)
        }

        pub(super) fn shutdown_write(&mut self) -> io::Result<()> {
            self.tls.send_close_notify();
            self.flush()?;
            self.tcp.shutdown(Shutdown::Write)
        }
    }
}
