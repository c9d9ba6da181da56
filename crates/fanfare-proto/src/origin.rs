//! Which web pages may connect: the check of the `Origin` header.
//!
//! Browsers always send the header, other programs need not; a request without one is no page's request and passes.

use std::fmt;
use std::str::FromStr;

/// Whose pages may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Everybody's.
    Any,
    /// Those that match one of the patterns.
    List(Vec<OriginPattern>),
    /// Those of this host, by any scheme and port. The host is compared without regard to case.
    Host(String),
    /// Those of the scheme, host and port that the request itself is for.
    SameAsRequest,
}

/// What a request says about the address that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOrigin<'a> {
    /// `http` or `https`, as the client sees it (before a proxy, if there is one).
    pub scheme: &'a str,
    /// The host, with `:port` where it is not the scheme's own: the `Host` header.
    pub host_and_port: &'a str,
}

impl OriginPolicy {
    /// Whose pages may connect by a request, for people.
    pub fn allowed(&self, request: RequestOrigin<'_>) -> String {
        match self {
            Self::Any => "everybody".to_owned(),
            Self::List(patterns) => patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            Self::Host(host) => format!("the host {host}"),
            Self::SameAsRequest => {
                let RequestOrigin { scheme, host_and_port } = request;
                let hint = match scheme {
                    "http" => "; behind a proxy that ends TLS, say by which address pages know this server",
                    _ => "",
                };
                format!("{scheme}://{host_and_port:.64}, the address that the request is for{hint}")
            }
        }
    }

    /// Whether a request with this `Origin` header may connect.
    pub fn allows(&self, origin: Option<&str>, request: RequestOrigin<'_>) -> bool {
        let Some(origin) = origin else { return true };
        if *self == Self::Any {
            return true;
        }
        let Some(origin) = Origin::parse(origin) else {
            return false;
        };
        match self {
            Self::Any => true,
            Self::List(patterns) => patterns.iter().any(|pattern| pattern.matches(&origin)),
            Self::Host(host) => origin.host.eq_ignore_ascii_case(host),
            Self::SameAsRequest => {
                let Some((host, port)) = split_port(request.host_and_port) else {
                    return false;
                };
                origin.scheme.eq_ignore_ascii_case(request.scheme)
                    && origin.host.eq_ignore_ascii_case(host)
                    && origin.port == port.or(default_port(request.scheme))
            }
        }
    }
}

/// An entry of a list of origins: `//ok.example`, `https://*.example.com`, `http://localhost:3000`.
///
/// `*.` in front of a host stands for any number of labels, none included. A scheme or port that is left out matches
/// any. Hosts and schemes are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPattern {
    scheme: Option<String>,
    host: String,
    any_subdomain: bool,
    port: Option<u16>,
}

impl OriginPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is not `[scheme:]//[*.]host[:port]`.
    pub fn parse(pattern: &str) -> Result<Self, OriginPatternError> {
        Self::read(pattern).ok_or_else(|| OriginPatternError { pattern: pattern.to_owned() })
    }

    fn read(pattern: &str) -> Option<Self> {
        let (scheme, rest) = match pattern.strip_prefix("//") {
            Some(rest) => (None, rest),
            None => {
                let (scheme, rest) = pattern.split_once("://")?;
                (Some(scheme), rest)
            }
        };
        let (any_subdomain, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (host, port) = split_port(rest)?;
        if !scheme.is_none_or(is_scheme) || (any_subdomain && host.starts_with('[')) {
            return None;
        }
        Some(Self { scheme: scheme.map(str::to_ascii_lowercase), host: host.to_ascii_lowercase(), any_subdomain, port })
    }

    fn matches(&self, origin: &Origin<'_>) -> bool {
        self.scheme.as_ref().is_none_or(|scheme| origin.scheme.eq_ignore_ascii_case(scheme))
            && self.port.is_none_or(|port| origin.port == Some(port))
            && self.matches_host(origin.host)
    }

    fn matches_host(&self, host: &str) -> bool {
        // All are ASCII here, so that cutting at a byte is safe.
        let Some(labels_size) = host.len().checked_sub(self.host.len()) else {
            return false;
        };
        let (labels, rest) = host.split_at(labels_size);
        rest.eq_ignore_ascii_case(&self.host) && (labels.is_empty() || (self.any_subdomain && labels.ends_with('.')))
    }
}

impl FromStr for OriginPattern {
    type Err = OriginPatternError;

    fn from_str(pattern: &str) -> Result<Self, OriginPatternError> {
        Self::parse(pattern)
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}:")?;
        }
        write!(f, "//{}{}", if self.any_subdomain { "*." } else { "" }, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A text that is no pattern for origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPatternError {
    pattern: String,
}

impl fmt::Display for OriginPatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no origin; write `//host`, `https://host`, `//*.host` or `//host:port`", self.pattern)
    }
}

impl std::error::Error for OriginPatternError {}

/// A well-formed header with a host. Anything else (`null`, `file://`, user information, a path) is none.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// The scheme's own where none is written.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(origin: &'a str) -> Option<Self> {
        let (scheme, rest) = origin.split_once("://")?;
        let (host, port) = split_port(rest)?;
        is_scheme(scheme).then_some(Self { scheme, host, port: port.or(default_port(scheme)) })
    }
}

/// Whether a text is a host name, an IPv4 address or an IPv6 one in brackets, with or without a port, as in a `Host` header.
pub fn is_host_and_port(text: &str) -> bool {
    split_port(text).is_some()
}

/// Splits `host[:port]`, and refuses everything that is not a host name, an IPv4 address or an IPv6 one in brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_size = match authority.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_size);
    let is_host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')),
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(digits.parse().ok()?),
        None if rest.is_empty() => None,
        _ => return None,
    };
    is_host.then_some((host, port))
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: RequestOrigin<'_> = RequestOrigin { scheme: "https", host_and_port: "App.example:8443" };

    #[test]
    fn patterns() {
        #[track_caller]
        fn check(pattern: &str, origin: &str, allowed: bool) {
            let policy = OriginPolicy::List(vec![pattern.parse().unwrap()]);
            assert_eq!(policy.allows(Some(origin), REQUEST), allowed, "{pattern} on {origin}");
        }
        check("//ok.example", "http://ok.example", true);
        check("//ok.example", "https://ok.example:8443", true);
        check("//ok.example", "HTTPS://OK.Example", true);
        check("//OK.example", "https://ok.example", true);
        check("//ok.example", "custom-app://ok.example", true);
        check("//ok.example", "http://evil.example", false);
        check("//ok.example", "http://a.ok.example", false);
        check("//ok.example", "http://notok.example", false);
        check("//ok.example", "http://ok.example.evil.com", false);
        check("//ok.example", "http://ok.example@evil.com", false);
        check("//ok.example", "http://evil.com@ok.example", false);
        check("//ok.example", "http://user:pw@ok.example", false);
        check("//ok.example", "http://ok.example/", false);
        check("//ok.example", "http://ok.example/path", false);
        check("//ok.example", "http://ok.example?x", false);
        check("//ok.example", "http://evil.com#//ok.example", false);
        check("//ok.example", "http://evil.com\\ok.example", false);
        check("//ok.example", "http://ok.example.", false);
        check("//ok.example", "http://ok.example:", false);
        check("//ok.example", "http://ok.example:x", false);
        check("//ok.example", "http://ok.example:99999", false);
        check("//ok.example", "http://ok.example:+80", false);
        check("//ok.example", "http://ok.example, http://evil.com", false);
        check("//ok.example", " http://ok.example", false);
        check("//ok.example", "null", false);
        check("//ok.example", "", false);
        check("//ok.example", "ok.example", false);
        check("//ok.example", "//ok.example", false);
        check("//ok.example", "://ok.example", false);
        check("//ok.example", "file://", false);
        check("//ok.example", "file:///ok.example", false);
        check("https://ok.example", "https://ok.example", true);
        check("https://ok.example", "https://ok.example:8443", true);
        check("https://ok.example", "http://ok.example", false);
        check("//ok.example:8443", "https://ok.example:8443", true);
        check("//ok.example:8443", "https://ok.example", false);
        check("//ok.example:443", "https://ok.example", true);
        check("//ok.example:80", "http://ok.example", true);
        check("//ok.example:80", "https://ok.example", false);
        check("https://*.example.com", "https://example.com", true);
        check("https://*.example.com", "https://a.example.com", true);
        check("https://*.example.com", "https://a.b.Example.com:8443", true);
        check("https://*.example.com", "http://a.example.com", false);
        check("https://*.example.com", "https://evilexample.com", false);
        check("https://*.example.com", "https://example.com.evil.org", false);
        check("https://*.example.com", "https://ample.com", false);
        check("//[::1]:4000", "http://[::1]:4000", true);
        check("//[::1]", "http://[::1]:4000", true);
        check("//[::1]", "http://[::2]", false);
        check("//127.0.0.1", "http://127.0.0.1:3000", true);
        check("//xn--bcher-kva.example", "https://xn--bcher-kva.example", true);
        check("//ok.example", "https://ök.example", false);
    }

    #[test]
    fn bad_patterns() {
        #[track_caller]
        fn check(pattern: &str) {
            assert!(OriginPattern::parse(pattern).is_err(), "{pattern}");
        }
        check("");
        check("*");
        check("//");
        check("//*");
        check("//*.");
        check("ok.example");
        check("//ok.example/path");
        check("//user@ok.example");
        check("//a.*.example");
        check("//*ok.example");
        check("//ok.example:");
        check("//ok.example:0x50");
        check("//ok.example:65536");
        check("//[::1");
        check("//[nonsense]");
        check("ht tp://ok.example");
        check("1http://ok.example");
        let message = OriginPattern::parse("ok.example").unwrap_err().to_string();
        assert!(message.contains("\"ok.example\"") && message.contains("//host"), "{message}");
    }

    #[test]
    fn other_policies() {
        #[track_caller]
        fn check(policy: &OriginPolicy, origin: impl Into<Option<&'static str>>, allowed: bool) {
            let origin = origin.into();
            assert_eq!(policy.allows(origin, REQUEST), allowed, "{policy:?} on {origin:?}");
        }
        check(&OriginPolicy::List(Vec::new()), None, true);
        check(&OriginPolicy::List(Vec::new()), "http://ok.example", false);
        check(&OriginPolicy::Any, None, true);
        check(&OriginPolicy::Any, "null", true);
        check(&OriginPolicy::Any, "http://evil.example", true);
        let host = OriginPolicy::Host("ok.example".into());
        check(&host, None, true);
        check(&host, "http://OK.example:4000", true);
        check(&host, "https://ok.example", true);
        check(&host, "https://a.ok.example", false);
        check(&host, "ok.example", false);
        check(&host, "null", false);
        let same = OriginPolicy::SameAsRequest;
        check(&same, None, true);
        check(&same, "https://app.example:8443", true);
        check(&same, "https://app.example", false);
        check(&same, "http://app.example:8443", false);
        check(&same, "https://other.example:8443", false);
        check(&same, "null", false);
    }

    #[test]
    fn the_requests_own_port_may_be_left_out() {
        #[track_caller]
        fn check(scheme: &str, host_and_port: &str, origin: &str, allowed: bool) {
            let request = RequestOrigin { scheme, host_and_port };
            assert_eq!(OriginPolicy::SameAsRequest.allows(Some(origin), request), allowed, "{request:?} on {origin}");
        }
        check("http", "a.example", "http://a.example", true);
        check("http", "a.example:80", "http://a.example", true);
        check("http", "a.example", "http://a.example:80", true);
        check("https", "a.example", "https://a.example:443", true);
        check("https", "a.example", "https://a.example:80", false);
        check("http", "[::1]:4000", "http://[::1]:4000", true);
        check("http", "", "http://a.example", false);
        check("http", "a b", "http://a.example", false);
    }

    proptest! {
        #[test]
        fn no_text_trips_the_parser(text in "[a-c:/@.*\\[\\]0-9ü ]{0,30}", host in "\\PC{0,12}") {
            let policy = OriginPolicy::List(vec!["//*.a.b".parse().unwrap()]);
            policy.allows(Some(&text), RequestOrigin { scheme: "http", host_and_port: &host });
            let _ = OriginPattern::parse(&text);
        }

        #[test]
        fn a_list_allows_only_its_own_hosts(labels in "[a-z.]{0,8}", tail in "[a-z.:0-9/@]{0,8}") {
            let policy = OriginPolicy::List(vec!["//*.ok.example".parse().unwrap()]);
            let origin = format!("http://{labels}ok.example{tail}");
            let expected = (labels.is_empty() || labels.ends_with('.'))
                && (tail.is_empty() || tail.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok()));
            prop_assert_eq!(policy.allows(Some(&origin), REQUEST), expected);
        }
    }
}
