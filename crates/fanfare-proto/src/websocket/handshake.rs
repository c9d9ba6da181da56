//! The server's half of the opening handshake (RFC 6455, section 4.2): what is checked, and what the answer says.
//!
//! Origins, authentication and the choice of a subprotocol are the application's; extensions are in
//! [`deflate`](super::deflate).

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use sha1::{Digest as _, Sha1};

/// The only version of the protocol there is.
const VERSION: &str = "13";

/// What every server appends to the client's key (RFC 6455, section 1.3).
const ACCEPT_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The key is only echoed, so that its unused last bits may be anything: clients with a fixed key get them wrong.
const KEY_BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// A request that may be answered with 101.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The value of `Sec-WebSocket-Accept`.
    pub accept: HeaderValue,
}

/// Why a request is not an opening handshake. The `Display` text is fit for the body of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// The method is not GET.
    Method,
    /// The request is not HTTP/1.1.
    HttpVersion,
    /// `Upgrade` does not name `websocket`.
    Upgrade,
    /// `Connection` does not name `upgrade`.
    Connection,
    /// `Sec-WebSocket-Version` is not 13, or there is none.
    Version,
    /// `Sec-WebSocket-Key` is not one value of 16 bytes in base64.
    Key,
}

impl HandshakeError {
    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        match self {
            HandshakeError::Method => StatusCode::METHOD_NOT_ALLOWED,
            HandshakeError::Version => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The header that the answer must carry with this status, if there is one.
    pub fn header(self) -> Option<(HeaderName, HeaderValue)> {
        match self {
            HandshakeError::Method => Some((header::ALLOW, HeaderValue::from_static("GET"))),
            HandshakeError::Version => Some((header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION))),
            _ => None,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HandshakeError::Method => "a WebSocket is opened with GET",
            HandshakeError::HttpVersion => "a WebSocket is opened with HTTP/1.1",
            HandshakeError::Upgrade => "the header Upgrade must contain websocket",
            HandshakeError::Connection => "the header Connection must contain upgrade",
            HandshakeError::Version => "the header Sec-WebSocket-Version must be 13",
            HandshakeError::Key => "the header Sec-WebSocket-Key must be 16 bytes in base64",
        })
    }
}

impl std::error::Error for HandshakeError {}

/// Checks that a request is an opening handshake, strictly.
///
/// # Errors
/// The first requirement that the request does not meet.
pub fn check(method: &Method, version: Version, headers: &HeaderMap) -> Result<Upgrade, HandshakeError> {
    if method != Method::GET {
        return Err(HandshakeError::Method);
    }
    if version != Version::HTTP_11 {
        return Err(HandshakeError::HttpVersion);
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(HandshakeError::Upgrade);
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(HandshakeError::Connection);
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        return Err(HandshakeError::Version);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).ok_or(HandshakeError::Key)?;
    // 24 characters are at most 18 bytes; anything longer does not fit and is refused without being read further.
    let mut decoded = [0; 18];
    match KEY_BASE64.decode_slice(key, &mut decoded) {
        Ok(16) => Ok(Upgrade { accept: accept(key) }),
        _ => Err(HandshakeError::Key),
    }
}

/// Checks a request that opens a stream of HTTP/2 as a WebSocket (RFC 8441, section 5): a `CONNECT` with this `:protocol`. It has no key, and
/// nothing is said about the connection.
///
/// # Errors
/// What it lacks.
pub fn check_connect(protocol: &str, headers: &HeaderMap) -> Result<(), HandshakeError> {
    match protocol {
        "websocket" if only(headers, &header::SEC_WEBSOCKET_VERSION) == Some(VERSION) => Ok(()),
        "websocket" => Err(HandshakeError::Version),
        _ => Err(HandshakeError::Upgrade),
    }
}

/// The subprotocols that the client offers, in its order.
pub fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
}

fn accept(key: &str) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).expect("base64 is a header value")
}

/// The value of a header that must come exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then(|| value.trim())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    // Most clients send it alone.
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(wanted.as_bytes()))
        || tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The elements of a header that is a comma-separated list, over all its lines.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A valid request with some headers replaced: each line is `name: value`; `name` alone removes it.
    fn headers(changes: &[&'static str]) -> HeaderMap {
        let valid = [
            "host: h",
            "upgrade: websocket",
            "connection: Upgrade",
            "sec-websocket-version: 13",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        let name = |line: &'static str| HeaderName::from_static(line.split(':').next().unwrap());
        let mut headers = HeaderMap::new();
        for line in valid.iter().filter(|line| changes.iter().all(|change| name(change) != name(line))).chain(changes) {
            if let Some((_, value)) = line.split_once(": ") {
                headers.append(name(line), HeaderValue::from_static(value));
            }
        }
        headers
    }

    #[test]
    fn the_accept_value_of_rfc_6455() {
        let upgrade = check(&Method::GET, Version::HTTP_11, &headers(&[])).unwrap();
        assert_eq!(upgrade.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_an_upgrade_and_what_is_not() {
        let check = |changes: &[&'static str], expected: Option<HandshakeError>| {
            let result = check(&Method::GET, Version::HTTP_11, &headers(changes));
            assert_eq!(result.err(), expected, "{changes:?}");
        };
        check(&["connection: keep-alive, Upgrade"], None);
        check(&["connection: keep-alive", "connection: UPGRADE"], None);
        check(&["upgrade: WebSocket"], None);
        check(&["upgrade: h2c, websocket"], None);
        check(&["sec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEC=="], None);

        check(&["upgrade"], Some(HandshakeError::Upgrade));
        check(&["upgrade: websockets"], Some(HandshakeError::Upgrade));
        check(&["connection"], Some(HandshakeError::Connection));
        check(&["connection: keep-alive"], Some(HandshakeError::Connection));
        check(&["connection: no-upgrade"], Some(HandshakeError::Connection));
        check(&["sec-websocket-version"], Some(HandshakeError::Version));
        check(&["sec-websocket-version: 8"], Some(HandshakeError::Version));
        check(&["sec-websocket-version: 13, 8"], Some(HandshakeError::Version));
        check(&["sec-websocket-version: 13", "sec-websocket-version: 13"], Some(HandshakeError::Version));
        check(&["sec-websocket-key"], Some(HandshakeError::Key));
        check(&["sec-websocket-key: "], Some(HandshakeError::Key));
        check(&["sec-websocket-key: AAAAAAAAAAAAAAAAAAAA"], Some(HandshakeError::Key)); // 15 bytes
        check(&["sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAAA="], Some(HandshakeError::Key)); // 17 bytes
        check(&["sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"], Some(HandshakeError::Key)); // 24 bytes
        check(&["sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA"], Some(HandshakeError::Key)); // no padding
        check(&["sec-websocket-key: dGhlIHNhbXBsZSBub25jZ!=="], Some(HandshakeError::Key));
        check(
            &["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="],
            Some(HandshakeError::Key),
        );
    }

    #[test]
    fn what_is_an_extended_connect_and_what_is_not() {
        let version = |value: &'static str| {
            HeaderMap::from_iter([(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(value))])
        };
        for (protocol, headers, expected) in [
            ("websocket", version("13"), Ok(())),
            ("websocket", version("8"), Err(HandshakeError::Version)),
            ("websocket", HeaderMap::new(), Err(HandshakeError::Version)),
            ("connect-udp", version("13"), Err(HandshakeError::Upgrade)),
            ("", version("13"), Err(HandshakeError::Upgrade)),
        ] {
            assert_eq!(check_connect(protocol, &headers), expected, "{protocol}");
        }
    }

    #[test]
    fn method_and_version_of_http() {
        let check = |method, version, expected| {
            assert_eq!(check(&method, version, &headers(&[])).unwrap_err(), expected);
        };
        check(Method::POST, Version::HTTP_11, HandshakeError::Method);
        check(Method::HEAD, Version::HTTP_11, HandshakeError::Method);
        check(Method::GET, Version::HTTP_10, HandshakeError::HttpVersion);
        check(Method::GET, Version::HTTP_2, HandshakeError::HttpVersion);
    }

    #[test]
    fn each_refusal_has_its_status_and_header() {
        let check = |error: HandshakeError, status: u16, header: Option<(&str, &str)>| {
            assert_eq!(error.status(), status);
            let actual = error.header();
            assert_eq!(actual.as_ref().map(|(name, value)| (name.as_str(), value.to_str().unwrap())), header);
        };
        check(HandshakeError::Method, 405, Some(("allow", "GET")));
        check(HandshakeError::Version, 426, Some(("sec-websocket-version", "13")));
        check(HandshakeError::Key, 400, None);
        check(HandshakeError::Upgrade, 400, None);
    }

    #[test]
    fn subprotocols_come_in_the_clients_order() {
        let check = |lines: &[&'static str], expected: &[&str]| {
            assert_eq!(subprotocols(&headers(lines)).collect::<Vec<_>>(), expected);
        };
        check(&[], &[]);
        check(
            &["sec-websocket-protocol: phoenix, base64url.bearer.phx.dG9rZW4"],
            &["phoenix", "base64url.bearer.phx.dG9rZW4"],
        );
        check(&["sec-websocket-protocol: b,,a ,", "sec-websocket-protocol: c"], &["b", "a", "c"]);
    }
}
