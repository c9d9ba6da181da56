//! Heads that say two things, which a proxy in front may have understood otherwise than we would.

use fanfare_proto::origin::is_host_and_port;
use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Uri, Version};

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
