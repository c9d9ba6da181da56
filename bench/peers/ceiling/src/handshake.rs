//! The opening handshake: a request's bytes to its path and the answer.

use fanfare_proto::websocket::handshake;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

/// A request that is answered with 101.
#[derive(Debug)]
pub(crate) struct Opening {
    /// The path without its first slash.
    pub(crate) room: String,
    pub(crate) answer: String,
    /// How many bytes the request takes.
    pub(crate) len: usize,
}

/// `Ok(None)` while the request is not complete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Opening>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|e| e.to_string())?;
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.strip_prefix("GET /")?.strip_suffix(" HTTP/1.1"));
    let room = path.ok_or("not a GET of HTTP/1.1")?.to_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = HeaderName::try_from(name).map_err(|e| e.to_string())?;
        headers.append(name, HeaderValue::try_from(value.trim()).map_err(|e| e.to_string())?);
    }
    let upgrade = handshake::check(&Method::GET, Version::HTTP_11, &headers).map_err(|e| e.to_string())?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        upgrade.accept.to_str().unwrap_or_default()
    );
    Ok(Some(Opening { room, answer, len: end + 4 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let good = "GET /a HTTP/1.1\r\nhost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let opening = parse(format!("{good}more").as_bytes()).unwrap().unwrap();
        assert_eq!((opening.room.as_str(), opening.len), ("a", good.len()));
        assert!(opening.answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(parse(&good.as_bytes()[..good.len() - 1]).unwrap().is_none());
        for bad in ["POST /a HTTP/1.1\r\n\r\n", "GET /a HTTP/1.1\r\nhost: x\r\n\r\n"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
