//! Where the server is, taken from a URL.

use std::net::{SocketAddr, ToSocketAddrs};

/// A `ws://` or `wss://` URL, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// The name or address without a port, which a certificate must be for.
    pub(crate) host: String,
    /// Host and port, as they stand in the URL.
    pub(crate) authority: String,
    /// Path and query; empty when the URL has none.
    pub(crate) path: String,
    pub(crate) address: SocketAddr,
}

impl Target {
    /// # Errors
    /// What is wrong with the URL, or that its host is not known.
    pub(crate) fn parse(url: &str) -> Result<Target, String> {
        let wrong = |why: &str| format!("{url}: {why}; a URL looks like ws://127.0.0.1:4000/socket");
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("it has no ws:// or wss:// in front"))?;
        let (tls, port) = match scheme {
            "ws" => (false, 80),
            "wss" => (true, 443),
            other => return Err(wrong(&format!("`{other}` is not ws or wss"))),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, digits)) if !digits.ends_with(']') => {
                (host, digits.parse().map_err(|_| wrong(&format!("`{digits}` is not a port")))?)
            }
            _ => (authority, port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['@', '#']) || path.contains(['#', ' ']) {
            return Err(wrong("the host or the path is not one"));
        }
        let address = (host, port)
            .to_socket_addrs()
            .map_err(|error| format!("{url}: the host {host} is not known: {error}"))?
            // Servers that listen on one address only mostly do so on the older kind: `localhost` has both.
            .min_by_key(SocketAddr::is_ipv6)
            .ok_or_else(|| format!("{url}: the host {host} has no address"))?;
        Ok(Target { tls, host: host.to_owned(), authority: authority.to_owned(), path: path.to_owned(), address })
    }
}

/// The address of one more node, from its host and port.
///
/// # Errors
/// It is none, or its host is not known.
pub(crate) fn resolve(node: &str) -> Result<SocketAddr, String> {
    let addresses =
        node.to_socket_addrs().map_err(|error| format!("--nodes {node}: {error}; a node looks like 127.0.0.1:4010"))?;
    addresses.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| format!("--nodes {node}: the host has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes() {
        assert_eq!(resolve("127.0.0.1:4010").unwrap().to_string(), "127.0.0.1:4010");
        for wrong in ["127.0.0.1", "ws://127.0.0.1:4010", ":4010", ""] {
            assert!(resolve(wrong).is_err_and(|error| error.contains("a node looks like")), "{wrong}");
        }
    }

    #[test]
    fn urls() {
        #[track_caller]
        fn check(url: &str, expected: Result<(bool, &str, &str, &str), &str>) {
            let target = Target::parse(url);
            match (&target, expected) {
                (Ok(target), Ok((tls, host, address, path))) => {
                    let found = (target.tls, target.host.as_str(), target.address.to_string(), target.path.as_str());
                    assert_eq!(found, (tls, host, address.to_owned(), path));
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                _ => panic!("{url}: {target:?}"),
            }
        }
        check("ws://127.0.0.1:4000/socket", Ok((false, "127.0.0.1", "127.0.0.1:4000", "/socket")));
        check("wss://127.0.0.1", Ok((true, "127.0.0.1", "127.0.0.1:443", "")));
        check("ws://127.0.0.1?a=1", Ok((false, "127.0.0.1", "127.0.0.1:80", "?a=1")));
        check("ws://[::1]:4000/a/b?c", Ok((false, "::1", "[::1]:4000", "/a/b?c")));
        check("ws://[::1]/", Ok((false, "::1", "[::1]:80", "/")));
        check("127.0.0.1:4000", Err("has no ws://"));
        check("http://127.0.0.1", Err("`http` is not ws or wss"));
        check("ws://127.0.0.1:x/", Err("`x` is not a port"));
        check("ws:///socket", Err("not one"));
        check("ws://a@127.0.0.1/", Err("not one"));
        check("ws://no-such-host.invalid/", Err("not known"));
    }
}
