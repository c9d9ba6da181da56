//! Which proxies stand in front of a server, and what is believed of what they say: of their headers only, never of a client's.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use fanfare_proto::origin::is_host_and_port;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::error::Error;

/// So many entries of `X-Forwarded-For` are looked at, from the right.
const ENTRIES_MAX: usize = 32;

const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";

/// What tells the address of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressFrom {
    /// Its connection. Behind a proxy all clients have the proxy's.
    #[default]
    Peer,
    /// The header `X-Forwarded-For` of trusted proxies. It is read from the right: the first address that is no trusted proxy's is the
    /// client's, and what stands left of it is not believed.
    ForwardedFor,
    /// A header of trusted proxies with one address, such as `X-Real-IP`.
    Header(HeaderName),
    /// The PROXY protocol, version 1 or 2, which a [server](crate::serve::Server) reads in front of everything else. Each connection
    /// must begin with it, and come from a trusted proxy.
    ProxyProtocol,
}

/// The addresses of proxies: `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32`, or `loopback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Loopback,
    Of(IpNet),
}

impl Network {
    /// Whether it has every address there is: whoever connects is believed what it says.
    pub fn is_everything(&self) -> bool {
        matches!(self.0, Kind::Of(network) if network.prefix_len() == 0)
    }

    fn contains(&self, address: IpAddr) -> bool {
        match self.0 {
            Kind::Loopback => address.is_loopback(),
            Kind::Of(network) => network.contains(&address),
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "loopback" {
            return Ok(Network(Kind::Loopback));
        }
        let network = match text.parse::<IpAddr>() {
            Ok(address) => Ok(IpNet::from(address.to_canonical())),
            Err(_) => text.parse::<IpNet>(),
        };
        network.map(|network| Network(Kind::Of(network))).map_err(|_| {
            Error::invalid(format!(
                "{text:?} is no network: write one such as \"10.0.0.0/8\", an address, or \"loopback\""
            ))
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Loopback => f.write_str("loopback"),
            Kind::Of(network) => write!(f, "{network}"),
        }
    }
}

/// Which proxies stand in front, and which of what they say tells the address of a client. By default none does.
///
/// A header of whoever is not trusted is ignored. A trusted proxy must set the headers that are believed, or remove them, or clients
/// could send them: `X-Forwarded-Proto` and `X-Forwarded-Host`, by which [`SameAsRequest`](crate::OriginPolicy::SameAsRequest) is judged,
/// and the one of [`AddressFrom`]. With the PROXY protocol no header is believed.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    trusted: Arc<ArcSwap<Vec<Network>>>,
    pub(crate) address_from: AddressFrom,
}

/// What a proxy tells of a request's client.
#[derive(Debug)]
pub(crate) struct Told {
    /// With the port 0 where only the address is told.
    pub(crate) client: SocketAddr,
    pub(crate) is_secure: Option<bool>,
    pub(crate) host: Option<Arc<str>>,
    /// A part of the header that is no address: what stands left of it was not looked at.
    pub(crate) unread: Option<String>,
}

impl Proxies {
    /// Trusts proxies with these addresses.
    pub fn trusted(networks: impl IntoIterator<Item = Network>) -> Self {
        let proxies = Proxies::default();
        proxies.trust(networks);
        proxies
    }

    /// Trusts proxies with these addresses from now on, and no others: with all that were cloned from this one, such as those of a server that
    /// runs. It counts for the next connection, and for the next request of a connection that is open.
    pub fn trust(&self, networks: impl IntoIterator<Item = Network>) {
        self.trusted.store(Arc::new(networks.into_iter().collect()));
    }

    /// What tells the address of a client. Default: its connection.
    pub fn address_from(mut self, source: AddressFrom) -> Self {
        self.address_from = source;
        self
    }

    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.load().iter().any(|network| network.contains(address))
    }

    /// Whether it is a request that tells the address of the client of a connection from there.
    pub(crate) fn is_told_by_requests(&self, peer: SocketAddr) -> bool {
        matches!(self.address_from, AddressFrom::ForwardedFor | AddressFrom::Header(_)) && self.trusts(peer.ip())
    }

    /// What a request says that came over a connection from there; nothing if that is not to be believed.
    pub(crate) fn told(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<Told> {
        if self.address_from == AddressFrom::ProxyProtocol || !self.trusts(peer.ip()) {
            return None;
        }
        let walked = self.walk(peer, headers);
        let (client, unread) = match &self.address_from {
            AddressFrom::ForwardedFor => (walked.client, walked.unread),
            AddressFrom::Header(name) => single(peer, headers, name.as_str()),
            AddressFrom::Peer | AddressFrom::ProxyProtocol => (peer, None),
        };
        let told = |name| told_by(headers, name, walked.proxies);
        let is_secure = told(FORWARDED_PROTO).and_then(is_secure);
        let host = told(FORWARDED_HOST).and_then(|host| std::str::from_utf8(host).ok());
        Some(Told { client, is_secure, host: host.filter(|host| is_host_and_port(host)).map(Arc::from), unread })
    }

    /// The first address from the right that is no trusted proxy's.
    fn walk(&self, peer: SocketAddr, headers: &HeaderMap) -> Walked {
        let mut walked = Walked { client: peer, proxies: 1, unread: None };
        for (passed, entry) in entries(headers, FORWARDED_FOR).take(ENTRIES_MAX).enumerate() {
            walked.proxies = passed + 1;
            match address(entry) {
                Some(told) => walked.client = told,
                None => {
                    walked.unread = Some(shortened(entry));
                    break;
                }
            }
            if !self.trusts(walked.client.ip()) {
                break;
            }
        }
        walked
    }
}

/// What `X-Forwarded-For` leads to.
struct Walked {
    client: SocketAddr,
    /// So many proxies have passed the request on, as far as they are trusted.
    proxies: usize,
    /// What ended the walk, since it is no address.
    unread: Option<String>,
}

/// Whether a client has connected by TLS, in the words of the proxy that it has connected to. Schemes are the same in capitals.
fn is_secure(scheme: &[u8]) -> Option<bool> {
    let is_one_of = |schemes: [&str; 2]| schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()));
    match (is_one_of(["https", "wss"]), is_one_of(["http", "ws"])) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

/// The only address of a header.
fn single(peer: SocketAddr, headers: &HeaderMap, name: &str) -> (SocketAddr, Option<String>) {
    let mut entries = entries(headers, name);
    match (entries.next(), entries.next()) {
        (None, _) => (peer, None),
        (Some(entry), None) => address(entry).map_or_else(|| (peer, Some(shortened(entry))), |told| (told, None)),
        (Some(_), Some(_)) => (peer, Some("several addresses".to_owned())),
    }
}

/// What the first of so many proxies has told of its client: each adds an entry on the right, or leaves those that are there. What stands
/// further left may be the client's own.
fn told_by<'h>(headers: &'h HeaderMap, name: &'h str, proxies: usize) -> Option<&'h [u8]> {
    entries(headers, name).take(proxies).last()
}

/// The entries of a list, from the right, whatever lines it is on.
fn entries<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let of_line = |line: &'h HeaderValue| line.as_bytes().rsplit(|byte| *byte == b',');
    headers.get_all(name).iter().rev().flat_map(of_line).map(<[u8]>::trim_ascii)
}

/// An address with or without a port.
fn address(entry: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(SocketAddr::new(address.ip().to_canonical(), address.port()));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address.to_canonical(), 0))
}

/// What logs show of what a client may have written.
fn shortened(entry: &[u8]) -> String {
    String::from_utf8_lossy(entry).chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who the client is by a header's lines, over a connection from `peer`.
    #[track_caller]
    fn check(source: &AddressFrom, peer: &str, lines: &[&str], expected: &str) {
        let trusted = ["loopback", "10.0.0.0/8", "2001:db8:ffff::/48"].map(|network| network.parse().unwrap());
        let proxies = Proxies::trusted(trusted).address_from(source.clone());
        let name = match source {
            AddressFrom::Header(name) => name.clone(),
            _ => HeaderName::from_static(FORWARDED_FOR),
        };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        let peer = peer.parse().unwrap();
        let told = proxies.told(peer, &headers);
        let (client, unread) = told.map_or((peer, false), |told| (told.client, told.unread.is_some()));
        assert_eq!(
            format!("{}{}", super::super::shown_address(client), if unread { "!" } else { "" }),
            expected,
            "{lines:?}"
        );
    }

    /// `!` marks what is counted as unread.
    #[test]
    fn who_the_client_is() {
        let forwarded = AddressFrom::ForwardedFor;
        for (peer, lines, expected) in [
            // Nobody that may say so.
            ("198.51.100.9:7", &["192.0.2.1"][..], "198.51.100.9:7"),
            // What the client has written stands left of what the proxy has.
            ("10.0.0.1:7", &["192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1:7", &["127.0.0.1, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1:7", &["203.0.113.5, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1:7", &["nonsense, 192.0.2.1"], "192.0.2.1"),
            ("10.0.0.1:7", &["203.0.113.5", "192.0.2.1"], "192.0.2.1"),
            // Through several proxies.
            ("10.0.0.1:7", &["203.0.113.5, 192.0.2.1, 10.0.0.3", "10.0.0.2"], "192.0.2.1"),
            ("127.0.0.1:7", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("[::1]:7", &["2001:db8::5, 2001:db8:ffff::1"], "2001:db8::5"),
            ("[::ffff:10.0.0.1]:7", &["::ffff:192.0.2.1"], "192.0.2.1"),
            // With ports.
            ("10.0.0.1:7", &["192.0.2.1:4711"], "192.0.2.1:4711"),
            ("10.0.0.1:7", &["[2001:db8::5]:4711"], "[2001:db8::5]:4711"),
            ("10.0.0.1:7", &["[2001:db8::5]"], "2001:db8::5"),
            // Nothing, and nonsense where a proxy should have written: the last good one counts.
            ("10.0.0.1:7", &[], "10.0.0.1:7"),
            ("10.0.0.1:7", &[""], "10.0.0.1:7!"),
            ("10.0.0.1:7", &["192.0.2.1, unknown"], "10.0.0.1:7!"),
            ("10.0.0.1:7", &["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2!"),
            ("10.0.0.1:7", &["192.0.2.1,"], "10.0.0.1:7!"),
            ("10.0.0.1:7", &["192.0.2.999"], "10.0.0.1:7!"),
            ("10.0.0.1:7", &["192.0.2.1\u{e9}"], "10.0.0.1:7!"),
        ] {
            check(&forwarded, peer, lines, expected);
        }
        // Too many proxies are no proxies.
        let chain = format!("192.0.2.1{}", ",10.0.0.2".repeat(ENTRIES_MAX));
        check(&forwarded, "10.0.0.1:7", &[&chain], "10.0.0.2");
        let chain = format!("192.0.2.1{}", ",10.0.0.2".repeat(ENTRIES_MAX - 1));
        check(&forwarded, "10.0.0.1:7", &[&chain], "192.0.2.1");

        let header = AddressFrom::Header(HeaderName::from_static("x-real-ip"));
        check(&header, "10.0.0.1:7", &["192.0.2.1"], "192.0.2.1");
        check(&header, "10.0.0.1:7", &["10.0.0.2"], "10.0.0.2");
        check(&header, "198.51.100.9:7", &["192.0.2.1"], "198.51.100.9:7");
        check(&header, "10.0.0.1:7", &["192.0.2.1, 192.0.2.2"], "10.0.0.1:7!");
        check(&header, "10.0.0.1:7", &["192.0.2.1", "192.0.2.2"], "10.0.0.1:7!");
        check(&header, "10.0.0.1:7", &[], "10.0.0.1:7");
        check(&AddressFrom::Peer, "10.0.0.1:7", &["192.0.2.1"], "10.0.0.1:7");
        check(&AddressFrom::ProxyProtocol, "10.0.0.1:7", &["192.0.2.1"], "10.0.0.1:7");
    }

    /// Whether the client has connected by TLS, and by which name, through proxies of which two are at 10.0.0.1 and 10.0.0.2.
    #[test]
    fn what_the_client_asked_for_is_told_by_the_first_trusted_proxy() {
        for (forwarded_for, proto, host, expected) in [
            ("192.0.2.1", &["https"][..], "a.example", (Some(true), Some("a.example"))),
            ("192.0.2.1", &["HTTPS"], "a.example", (Some(true), Some("a.example"))),
            ("192.0.2.1", &["Wss"], "", (Some(true), None)),
            ("192.0.2.1", &["HTTP"], "", (Some(false), None)),
            ("192.0.2.1", &["httpss"], "", (None, None)),
            ("192.0.2.1", &[], "", (None, None)),
            // The first ends TLS, and the second adds what it was asked by.
            ("192.0.2.1, 10.0.0.2", &["https, http"], "a.example, inner.example", (Some(true), Some("a.example"))),
            ("192.0.2.1, 10.0.0.2", &["https", "http"], "", (Some(true), None)),
            ("192.0.2.1, 10.0.0.2", &["HTTPS,HTTP"], "", (Some(true), None)),
            // Or leaves what it was told.
            ("192.0.2.1, 10.0.0.2", &["https"], "a.example", (Some(true), Some("a.example"))),
            // What a client has written stands further left than what the proxies have.
            ("192.0.2.1", &["https, http"], "evil.example, a.example", (Some(false), Some("a.example"))),
            (
                "192.0.2.1, 10.0.0.2",
                &["https, http, http"],
                "evil.example, a.example, b.example",
                (Some(false), Some("a.example")),
            ),
            ("10.0.0.2, 192.0.2.1", &["https, http"], "evil.example, a.example", (Some(false), Some("a.example"))),
            // Nobody says who the client is: the proxy that has connected here.
            ("", &["http, https"], "evil.example, a.example", (Some(true), Some("a.example"))),
            ("nonsense", &["http, https"], "", (Some(true), None)),
        ] {
            for source in [AddressFrom::Peer, AddressFrom::ForwardedFor] {
                let proxies = Proxies::trusted(["10.0.0.0/8".parse().unwrap()]).address_from(source);
                let mut headers = HeaderMap::new();
                let mut add = |name, value: &str| {
                    if !value.is_empty() {
                        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
                    }
                };
                add(FORWARDED_FOR, forwarded_for);
                proto.iter().for_each(|line| add(FORWARDED_PROTO, line));
                add(FORWARDED_HOST, host);
                let told = proxies.told("10.0.0.1:7".parse().unwrap(), &headers).unwrap();
                assert_eq!((told.is_secure, told.host.as_deref()), expected, "{forwarded_for} {proto:?} {host}");
            }
        }
    }

    #[test]
    fn networks() {
        for (text, address, is_in) in [
            ("loopback", "127.9.9.9", true),
            ("loopback", "::1", true),
            ("loopback", "10.0.0.1", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("0.0.0.0/0", "192.0.2.7", true),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(Proxies::trusted([network]).trusts(address.parse().unwrap()), is_in, "{text} {address}");
            assert_eq!(network.is_everything(), text == "0.0.0.0/0");
        }
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0", "Loopback", "10.0.0.0/8 "] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?} is no network")), "{error}");
        }
        assert!(!Proxies::default().trusts([127, 0, 0, 1].into()));
    }
}
