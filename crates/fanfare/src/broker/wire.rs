//! The bytes of a connection, with or without TLS, never waiting.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{SockRef, TcpKeepalive};

use crate::error::Error;

/// The system gives a connection up whose bytes nobody takes for so long.
#[cfg(target_os = "linux")]
const UNTAKEN_MAX: Duration = Duration::from_secs(3);

/// A connection on which nothing happens is tried by the system after so long.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A connection.
pub(super) struct Wire {
    tcp: mio::net::TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Wire {
    /// Takes a connection; with a configuration for TLS it speaks that to the host of this name.
    pub(super) fn new(tcp: TcpStream, tls: Option<(Arc<ClientConfig>, &str)>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_nonblocking(true)?;
        let socket = SockRef::from(&tcp);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(UNTAKEN_MAX))?;
        let tcp = mio::net::TcpStream::from_std(tcp);
        let mut wire = Wire { tcp, tls: None };
        if let Some((config, host)) = tls {
            wire.begin_tls(config, host)?;
        }
        Ok(wire)
    }

    /// What follows is TLS, with the host of this name.
    pub(super) fn begin_tls(&mut self, config: Arc<ClientConfig>, host: &str) -> io::Result<()> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.tls = Some(Box::new(ClientConnection::new(config, name).map_err(io::Error::other)?));
        Ok(())
    }

    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What the system is asked for events about.
    pub(super) fn source(&mut self) -> &mut mio::net::TcpStream {
        &mut self.tcp
    }

    /// Reads what is there: `None` if nothing is.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(tls) = &mut self.tls else { return some(self.tcp.read(buffer)) };
        loop {
            match some(tls.reader().read(buffer))? {
                Some(size) => return Ok(Some(size)),
                None => match some(tls.read_tls(&mut self.tcp))? {
                    None => return Ok(None),
                    Some(0) => return Ok(Some(0)),
                    Some(_) => {
                        tls.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    }
                },
            }
        }
    }

    /// Writes what is taken, `None` if nothing is, and what TLS has to say by itself.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let Some(tls) = &mut self.tls else {
            return if bytes.is_empty() { Ok(None) } else { some(self.tcp.write(bytes)) };
        };
        let taken = if bytes.is_empty() { 0 } else { tls.writer().write(bytes)? };
        while tls.wants_write() && some(tls.write_tls(&mut self.tcp))?.is_some() {}
        Ok((taken > 0).then_some(taken))
    }
}

/// What to look at where TLS is spoken to, and says nothing.
pub(super) const MAY_HAVE_NO_TLS: &str =
    "; does the server speak TLS on this port? If not, name it without TLS in the broker's address";

/// Whether one that was spoken to without TLS may want it, by the first byte that came: it has said nothing, or what TLS says of bytes that
/// make no sense to it.
pub(super) fn may_want_tls(first: Option<u8>) -> bool {
    /// How an alert begins.
    const ALERT: u8 = 21;
    first.is_none_or(|first| first == ALERT)
}

/// What is wrong with TLS, with the next step where there is one.
pub(super) fn tls_in_words(error: &io::Error) -> String {
    let text = error.to_string();
    let next = if text.contains("UnknownIssuer") {
        "; have the operating system trust its authority, or name the file of that by SSL_CERT_FILE"
    } else if text.contains("not valid for name") || text.contains("NotValidForName") {
        "; write the host as its certificate has it in the broker's address"
    } else if text.contains("CaUsedAsEndEntity") {
        "; its certificate is that of an authority: give it one that an authority has issued to it"
    } else if text.contains("InvalidContentType") {
        MAY_HAVE_NO_TLS
    } else if text.contains("CertificateRequired") {
        "; it asks for a certificate of the node, which has none: let it ask for a password"
    } else {
        ""
    };
    format!("TLS: {text}{next}")
}

/// `None` where one would have to wait.
fn some(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(size) => Ok(Some(size)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

/// TLS that trusts what the system trusts.
///
/// # Errors
/// The system trusts nobody.
pub(super) fn client_tls() -> Result<Arc<ClientConfig>, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let why = found.errors.first().map_or_else(String::new, |error| format!(": {error}"));
        return Err(Error::invalid(format!(
            "the system trusts no certificate authorities{why}; install some, or name a file by SSL_CERT_FILE"
        )));
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().map_err(|error| Error::invalid(format!("TLS: {error}")))?;
    Ok(Arc::new(tls.with_root_certificates(roots).with_no_client_auth()))
}
