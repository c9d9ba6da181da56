//! The client's half of the opening handshake (RFC 6455, section 4.1).

/// The sample key of the RFC and the answer that it requires. A fixed one will do: it keeps caches from answering, and
/// there is none here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The longest answer that is waited for.
const ANSWER_SIZE_MAX: usize = 16 * 1024;

/// Appends the request.
pub(crate) fn request(path: &str, authority: &str, out: &mut Vec<u8>) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    out.extend_from_slice(request.as_bytes());
}

/// What the server's answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// There is more to come.
    Partial,
    /// The WebSocket is open; frames begin at this byte.
    Accepted(usize),
    /// It is not, and the status says why.
    Refused {
        status: u16,
        /// The first line, or what stands there in place of one.
        line: String,
    },
}

/// Reads what has come so far.
pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return match bytes.len() > ANSWER_SIZE_MAX {
            true => refused(bytes),
            false => Answer::Partial,
        };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let accepts = |line: &str| {
        let header = line.split_once(':');
        header.is_some_and(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT)
    };
    match head.starts_with("HTTP/1.1 101") && head.lines().any(accepts) {
        true => Answer::Accepted(end + 4),
        false => refused(bytes),
    }
}

fn refused(bytes: &[u8]) -> Answer {
    let line = bytes.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer::Refused { status, line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let accepted = format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n");
        let mut with_frames = accepted.clone().into_bytes();
        with_frames.extend_from_slice(b"\x81\x00");
        assert_eq!(answer(&with_frames), Answer::Accepted(accepted.len()));
        for cut in 0..accepted.len() {
            assert_eq!(answer(&accepted.as_bytes()[..cut]), Answer::Partial, "{cut}");
        }
        #[track_caller]
        fn check(text: &str, status: u16, line: &str) {
            assert_eq!(answer(text.as_bytes()), Answer::Refused { status, line: line.into() });
        }
        check("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", 403, "HTTP/1.1 403 Forbidden");
        check("HTTP/1.1 200 OK\r\n\r\n", 200, "HTTP/1.1 200 OK");
        check("HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, "HTTP/1.1 101 Switching Protocols");
        check(&accepted.replace("K+x", "K+y"), 101, "HTTP/1.1 101 Switching Protocols");
        check("nonsense\r\n\r\n", 0, "nonsense");
        check(&"x".repeat(ANSWER_SIZE_MAX + 1), 0, &"x".repeat(80));
    }

    #[test]
    fn the_request_is_what_the_server_checks() {
        let mut bytes = Vec::new();
        request("/socket/websocket?vsn=2.0.0", "h:1", &mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: h:1\r\n"), "{text}");
        assert!(text.ends_with(&format!("Sec-WebSocket-Key: {KEY}\r\n\r\n")), "{text}");
    }
}
