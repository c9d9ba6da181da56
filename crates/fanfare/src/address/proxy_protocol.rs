//! The header of the PROXY protocol, in front of everything else that a connection carries.

use std::io;
use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest header that is taken, with all that a proxy says besides the address.
const SIZE_MAX: usize = 4_096;

/// What a header says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// None where the proxy speaks for itself, as in health checks.
    pub(crate) client: Option<SocketAddr>,
    /// Whether the client came to the proxy by TLS.
    pub(crate) is_secure: bool,
}

/// What is wrong with the beginning of a connection.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is no such header.
    Other,
    TooLong,
    /// The connection ended before there was one.
    Io(io::Error),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Other => {
                f.write_str("it does not begin with a header of the PROXY protocol: have the proxy send one")
            }
            Fault::TooLong => write!(f, "its PROXY header is longer than {SIZE_MAX} bytes"),
            Fault::Io(error) => write!(f, "it ended before a whole PROXY header was there: {error}"),
        }
    }
}

/// Reads the header, and no byte more.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Header, Fault> {
    let mut buffer = vec![0; SIZE_MAX];
    let mut filled = 0;
    loop {
        let ahead = stream.peek(&mut buffer[filled..]).await.map_err(Fault::Io)?;
        if ahead == 0 {
            return Err(Fault::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let (header, taken) = match ProxyHeader::parse(&buffer[..filled + ahead], ParseConfig::default()) {
            Ok((header, size)) => (Some(of(&header)), size),
            // All of it belongs to the header, then.
            Err(Error::BufferTooShort) if filled + ahead < SIZE_MAX => (None, filled + ahead),
            Err(Error::BufferTooShort) => return Err(Fault::TooLong),
            Err(_) => return Err(Fault::Other),
        };
        stream.read_exact(&mut buffer[filled..taken]).await.map_err(Fault::Io)?;
        filled = taken;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

fn of(header: &ProxyHeader<'_>) -> Header {
    let client = header.proxied_address().map(|addresses| addresses.source);
    let client = client.map(|client| SocketAddr::new(client.ip().to_canonical(), client.port()));
    Header { client, is_secure: header.ssl().is_some_and(|ssl| ssl.client_ssl()) }
}
