//! Heads of requests: those that say two things, which a proxy in front may have understood otherwise than we would, and those that
//! plainly ask for a WebSocket.

use std::mem::MaybeUninit;

use bytes::Bytes;
use fanfare_proto::origin::is_host_and_port;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use httparse::Status;

/// A request's head has at most this many bytes.
pub(super) const HEAD_SIZE_MAX: usize = 16 * 1024;

/// A request has at most this many headers.
pub(super) const HEADERS_MAX: usize = 100;

/// The request to which the bytes belong, and the size of its head, where they begin with the whole head of a GET of HTTP/1.1 that asks for a WebSocket and
/// has no body. Whatever else they are is for the HTTP library to say.
pub(super) fn upgrade(bytes: &Bytes) -> Option<(Parts, usize)> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let Ok(Status::Complete(size)) = request.parse_with_uninit_headers(bytes, &mut headers) else { return None };
    if size > HEAD_SIZE_MAX || request.version != Some(1) || request.method != Some("GET") {
        return None;
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    // Names and values are parts of the same memory.
    parts.uri = Uri::from_maybe_shared(bytes.slice_ref(request.path?.as_bytes())).ok()?;
    parts.headers.reserve(request.headers.len());
    for header in &*request.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(header.value)).ok()?;
        parts.headers.append(name, value);
    }
    let asks = parts.headers.get(UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    let has_more = [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].iter().any(|name| parts.headers.contains_key(name));
    (asks && !has_more).then_some((parts, size))
}

/// What is wrong with the head of a request, in words for its client; `None` where it says one thing.
pub(super) fn fault(uri: &Uri, version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Some("the request has more than one Host header"),
        (None, _) if version < Version::HTTP_11 => {}
        (None, _) => return Some("the request has no Host header"),
        (Some(host), None) => {
            let Some(host) = host.to_str().ok().filter(|host| is_host_and_port(host)) else {
                return Some("the Host header is not a host with or without a port");
            };
            if uri.authority().is_some_and(|authority| !authority.as_str().eq_ignore_ascii_case(host)) {
                return Some("the Host header is not the host of the request's address");
            }
        }
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let coding = codings.next()?;
    let is_chunked = coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
    (!is_chunked).then_some("the only Transfer-Encoding that is taken is chunked, once")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_heads_that_plainly_ask_for_a_websocket_are_read() {
        let head = |line: &str, more: &str| format!("{line}\r\nHost: a\r\nUpgrade: WebSocket\r\n{more}\r\n");
        let get = "GET /socket?a=b HTTP/1.1";
        let check = |text: &str, expected: Option<usize>| {
            let found = upgrade(&Bytes::copy_from_slice(text.as_bytes()));
            assert_eq!(found.as_ref().map(|(_, size)| *size), expected, "{text}");
            if let Some((parts, _)) = found {
                assert_eq!((parts.uri.path(), parts.uri.query()), ("/socket", Some("a=b")));
                assert_eq!((parts.headers["host"].as_bytes(), parts.version), (&b"a"[..], Version::HTTP_11));
            }
        };
        let plain = head(get, "x: y\r\nx: z\r\n");
        check(&plain, Some(plain.len()));
        check(&format!("{plain}\u{1}more"), Some(plain.len()));
        check(&format!("\r\n{plain}"), Some(plain.len() + 2));
        for size in 0..plain.len() {
            check(&plain[..size], None);
        }
        for line in
            ["POST / HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/2", "GET  HTTP/1.1", "PRI * HTTP/2.0", "\u{16}\u{3}\u{1}"]
        {
            check(&head(line, ""), None);
        }
        for more in [
            "content-length: 0\r\n",
            "Transfer-Encoding: chunked\r\n",
            "expect: 100-continue\r\n",
            "a b\r\n",
            "a: \u{0}\r\n",
        ] {
            check(&head(get, more), None);
        }
        check(&format!("{get}\r\nHost: a\r\n\r\n"), None);
        check(&format!("{get}\r\nHost: a\r\nUpgrade: h2c, websocket\r\n\r\n"), None);
        check(&head(get, &"a: b\r\n".repeat(HEADERS_MAX)), None);
        check(&head(get, &format!("a: {}\r\n", "b".repeat(HEAD_SIZE_MAX))), None);
    }

    #[test]
    fn heads_that_say_two_things() {
        let check = |uri: &str, version: Version, headers: &[(&'static str, &'static str)], expected: Option<&str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let fault = fault(&uri.parse().unwrap(), version, &map);
            assert_eq!(fault.is_some(), expected.is_some(), "{uri} {headers:?}: {fault:?}");
            assert!(expected.is_none_or(|part| fault.unwrap().contains(part)), "{uri} {headers:?}: {fault:?}");
        };
        let new = Version::HTTP_11;
        check("/", new, &[("host", "a")], None);
        check("/", new, &[("host", "a.example:4000")], None);
        check("/", new, &[("host", "[::1]:4000")], None);
        check("http://A:1/", new, &[("host", "a:1")], None);
        check("/", Version::HTTP_10, &[], None);
        check("/", new, &[("host", "a"), ("transfer-encoding", "Chunked")], None);
        check("/", new, &[], Some("no Host"));
        check("/", new, &[("host", "")], Some("not a host"));
        check("/", new, &[("host", "a b")], Some("not a host"));
        check("/", new, &[("host", "a@b")], Some("not a host"));
        check("/", new, &[("host", "a/b")], Some("not a host"));
        check("/", new, &[("host", "a:x")], Some("not a host"));
        check("/", new, &[("host", "a, b")], Some("not a host"));
        check("/", new, &[("host", "a"), ("host", "a")], Some("more than one"));
        check("http://b/", new, &[("host", "a")], Some("not the host"));
        check("/", Version::HTTP_10, &[("host", "a"), ("host", "b")], Some("more than one"));
        check("/", new, &[("host", "a"), ("transfer-encoding", "gzip, chunked")], Some("Transfer-Encoding"));
        check(
            "/",
            new,
            &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
            Some("once"),
        );
    }
}
