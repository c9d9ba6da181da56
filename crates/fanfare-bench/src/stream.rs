//! A connection's bytes: plain TCP, or TLS over it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// What it takes to open one.
pub(crate) struct Dialer {
    /// Connections go to them by turns; one at least.
    pub(crate) addresses: Vec<SocketAddr>,
    /// For `wss`: the configuration, and whose certificate is expected.
    pub(crate) tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// Whether the kernel notes when bytes came in.
    pub(crate) time_stamps: bool,
}

impl Dialer {
    /// Where a client connects, by its number.
    pub(crate) fn address(&self, client: usize) -> SocketAddr {
        self.addresses[client % self.addresses.len()]
    }

    /// Begins to connect a client, from `source` if there is one.
    pub(crate) fn dial(&self, client: usize, source: Option<SocketAddr>) -> io::Result<Stream> {
        let address = self.address(client);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(source) = source {
            socket.bind(&source.into())?;
        }
        socket.set_tcp_nodelay(true)?;
        if self.time_stamps {
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimestampns, &true)?;
        }
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(error),
            _ => {}
        }
        let tcp = TcpStream::from_std(socket.into());
        Ok(match &self.tls {
            None => Stream::Plain(tcp),
            Some((config, name)) => {
                let session = ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
                Stream::Tls(Box::new(Tls { tcp, session }))
            }
        })
    }
}

/// An open connection.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

pub(crate) struct Tls {
    tcp: TcpStream,
    session: ClientConnection,
}

impl Stream {
    pub(crate) fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &mut tls.tcp,
        }
    }

    /// Closes it so that its port is free at once, and the peer sees it break off.
    pub(crate) fn reset(mut self) {
        // Without it the port stays taken for a minute, which is no reason to fail here.
        let _ = SockRef::from(&*self.tcp()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Whether a read that fills less than the buffer has taken everything.
    #[inline]
    pub(crate) fn short_read_is_last(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    #[inline]
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }

    /// Writes what the kernel takes: how much that was.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Sends what TLS still has: its handshake, and what the kernel did not take before.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}

impl Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            if self.session.read_tls(&mut self.tcp)? == 0 {
                return Ok(0);
            }
            self.session.process_new_packets().map_err(io::Error::other)?;
            self.flush()?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        self.flush()?;
        // The session takes a part at a time; what the kernel does not take is announced when it can.
        while taken < bytes.len() && !self.session.wants_write() {
            match self.session.writer().write(&bytes[taken..])? {
                0 => break,
                part => taken += part,
            }
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.tcp) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
