//! Servers that are only asked for a connection: those of hooks and of keys, which a request may set something off at.

use tokio::net::TcpStream;

use super::{Answer, Found};
use crate::config::url::Url;

/// Connects to the host of an address, and hangs up.
pub(super) async fn ask(url: &Url) -> Answer {
    let uri = &url.0;
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    match TcpStream::connect((host, port)).await {
        Ok(_) => Ok(Found { what: format!("{host}:{port} takes connections"), warnings: Vec::new() }),
        Err(error) => Err(format!("no connection to {host}:{port}: {error}; start it, or correct the address")),
    }
}
