//! Opening a WebSocket.

use std::fmt;
use std::io;
use std::time::Duration;

use axum::http::Uri;
use axum::http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use fanfare_bench::Trust;
use rustls::CertificateError;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::address::shown;
use crate::config::secret::Secret;

/// From the look-up of the name to the answer to the upgrade.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The largest message that is taken.
const MESSAGE_SIZE_MAX: usize = 64_000_000;

/// TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) type Socket = WebSocketStream<Box<dyn Stream>>;

/// Why there is no socket.
#[derive(Debug)]
pub(super) struct Failure {
    text: String,
    /// The status of a refusal.
    status: Option<u16>,
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), status: None }
    }

    /// Whether another try would be answered alike: the credential is not good.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.status, Some(401 | 403))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Opens sockets to one server.
pub(super) struct Dialer {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    shown: String,
}

impl Dialer {
    /// # Errors
    /// What is wrong with the URL.
    pub(super) fn new(url: &str, trust: &Trust) -> Result<Self, String> {
        let shown = shown(url).to_owned();
        let uri: Uri = url.parse().map_err(|error| format!("{shown}: not a URL: {error}"))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(format!("{}: not a valid host, or has a user name before it", uri.host().unwrap_or_default()));
        }
        let is_tls = uri.scheme_str() == Some("wss");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = match is_tls {
            false => None,
            true => {
                let name = ServerName::try_from(host.clone()).map_err(|_| {
                    format!("{shown}: {host} is not a host name or address that a certificate can have")
                })?;
                Some((TlsConnector::from(trust.client_config()?), name))
            }
        };
        Ok(Self { uri, host, port, tls, shown })
    }

    /// Opens one, with a token if there is one.
    pub(super) async fn dial(&self, token: Option<&Secret>) -> Result<Socket, Failure> {
        let opened = tokio::time::timeout(TIMEOUT, self.open(token)).await;
        let shown = &self.shown;
        match opened {
            Ok(Ok(socket)) => Ok(socket),
            Ok(Err(failure)) => Err(Failure { text: format!("{shown}: {failure}"), ..failure }),
            Err(_) => Err(Failure::new(format!("{shown}: no answer within {TIMEOUT:?}"))),
        }
    }

    async fn open(&self, token: Option<&Secret>) -> Result<Socket, Failure> {
        let next = "check that the server is running, or give another address with --url";
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|error| Failure::new(format!("cannot connect: {error}; {next}")))?;
        // Small frames go out at once. Where the system refuses, they are later.
        let _ = tcp.set_nodelay(true);
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some((connector, name)) => {
                Box::new(connector.connect(name.clone(), tcp).await.map_err(|error| Failure::new(explain_tls(&error)))?)
            }
        };
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_SIZE_MAX);
        config.max_frame_size = Some(MESSAGE_SIZE_MAX);
        let request = self.request(token)?;
        let upgraded = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
        upgraded.map(|(socket, _)| socket).map_err(|error| explain(&error, token.is_some()))
    }

    /// A token travels as newer clients of Phoenix send theirs, so that it is in no URL and in no proxy's log.
    fn request(&self, token: Option<&Secret>) -> Result<Request, Failure> {
        let mut request =
            self.uri.clone().into_client_request().map_err(|error| Failure::new(format!("not a URL: {error}")))?;
        if let Some(token) = token {
            let offered = format!("phoenix, base64url.bearer.phx.{}", STANDARD_NO_PAD.encode(token.expose()));
            let mut offered = HeaderValue::from_str(&offered).map_err(|_| Failure::new("the token cannot be sent"))?;
            offered.set_sensitive(true);
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, offered);
        }
        Ok(request)
    }
}

/// What went wrong with TLS, and what to do about it.
fn explain_tls(error: &io::Error) -> String {
    let (why, next) = match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(error)) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => ("has expired", "renew it"),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("is not valid yet", "check the clocks of both machines")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                ("is for another name", "connect to the name that it is for")
            }
            _ => ("is signed by nobody whom this machine trusts", "--ca FILE trusts another certificate"),
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            return "the server does not answer with TLS: check the port, or connect with ws://".into();
        }
        _ => return format!("TLS failed: {error}"),
    };
    format!("the certificate of the server {why}: {next}, or accept any with --insecure")
}

fn explain(error: &Error, has_token: bool) -> Failure {
    match error {
        Error::Http(answer) => {
            let status = answer.status().as_u16();
            let why = match (status, has_token) {
                (401 | 403, true) => "the server does not accept this token or these parameters",
                (401 | 403, false) => "the server requires a credential: give --token-env, --token-file or --param",
                (404, _) => {
                    "nothing is served at this path, or nobody has started the topic; give another address with --url"
                }
                (429 | 503, _) => "the server accepts no more connections for now; try again later",
                _ => "this is not a WebSocket of this protocol; give another address with --url",
            };
            Failure { text: format!("refused with status {status}: {why}"), status: Some(status) }
        }
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(SubProtocolError::NoSubProtocol)) => {
            Failure::new("the server does not accept a token in this way; leave it out, or send it with --param")
        }
        Error::Protocol(ProtocolError::HttparseError(_)) => {
            Failure::new("the server does not answer with HTTP: check the port, or connect with wss:// if it uses TLS")
        }
        error => Failure::new(format!("the WebSocket handshake failed: {error}")),
    }
}
