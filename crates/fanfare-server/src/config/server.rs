//! The sections that exist once: the listener and its TLS, drain, log, admin.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use axum::http::HeaderName;
use fanfare::{AddressFrom, Network, OriginPattern};
use tracing_subscriber::filter::Targets;

use super::problem::Problems;
use super::section::{Form, Places, section};
use super::token::Tokens;
use super::value::{Address, Count, OneOrMore, Span, Text, choice};

section! {
    /// Keys at the top of the file, before any section.
    struct Server: "", Form::Root;
    keys {
        /// The address that clients connect to. The default is reachable from this machine only.
        listen: Address = "\"127.0.0.1:4000\"",
        /// The address by which pages know this server, such as `https://chat.example.com`, or several. An endpoint with
        /// `origins = "same"` lets in pages of these and of no other. Needed behind a proxy that ends TLS, and wherever the
        /// header `Host` must not be believed. Left out: the address that each request is for.
        public_url: Option<OneOrMore<PublicUrl>> = "" => Connect,
        /// The proxies in front of this server: networks such as `10.0.0.0/8`, addresses, or `loopback`. What they say is believed, and of
        /// nobody else: `X-Forwarded-Proto` and `X-Forwarded-Host`, by which `origins = "same"` is judged, and what `address_from` names.
        /// Have them set these headers or remove them, or clients could send them.
        trusted_proxies: Option<OneOrMore<TrustedProxy>> = "" => Connect,
        /// What tells the address of a client, for the log, limits, hooks and the API. `peer`: the connection, so that behind a proxy all
        /// clients have the proxy's. `x-forwarded-for`: the first address from the right of that header that is no trusted proxy's.
        /// `header:NAME`: a header with one address, such as `header:x-real-ip`. `proxy-protocol`: the header of the PROXY protocol,
        /// version 1 or 2, with which every connection has to begin. All but `peer` need `trusted_proxies`.
        address_from: AddressSource = "\"peer\"",
        /// Whether `GET /livez` and `GET /readyz` are answered on this listener as well, without a body: for balancers that probe the port of
        /// the traffic.
        health: bool = "false",
        /// The parts without which clients should go elsewhere: `GET /readyz` says 503 while one of them is unavailable. Each is named as
        /// `GET /api/health` lists it, such as `hooks.backend`, `stores.users`, `sources.orders`, `webhooks.presence` or
        /// `bridge.redis`. Left out: none of these.
        ready_needs: Option<OneOrMore<PartName>> = "" => Once,
        /// How many threads own sockets and write to them. Left out: one fewer than there are cores, at least one.
        shards: Option<Count<1, 128>> = "",
    }
    later ["name"]
}

/// A part of the server, as the health report lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartName {
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Text for PartName {
    fn accepts() -> String {
        r#"the kind and name of a part, such as "hooks.backend""#.into()
    }
}

impl FromStr for PartName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('.').ok_or_else(String::new)?;
        Ok(Self { kind: kind.to_owned(), name: name.to_owned() })
    }
}

/// An address by which pages know the server: an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicUrl(pub(crate) OriginPattern);

impl Text for PublicUrl {
    fn accepts() -> String {
        r#"an address such as "https://chat.example.com""#.into()
    }
}

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(String::new)?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let port = match scheme {
            "https" => 443,
            "http" => 80,
            _ => return Err(r#"it begins with "https://" or "http://", as "https://chat.example.com" does"#.into()),
        };
        if authority.contains(['/', '*', '?', '#']) {
            return Err(r#"it takes a scheme, a host and perhaps a port, as in "https://chat.example.com""#.into());
        }
        // Other ports of the host are other servers.
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let origin =
            if has_port { format!("{scheme}://{authority}") } else { format!("{scheme}://{authority}:{port}") };
        OriginPattern::parse(&origin).map(Self).map_err(|_| String::new())
    }
}

/// A proxy that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrustedProxy(pub(crate) Network);

impl Text for TrustedProxy {
    fn accepts() -> String {
        r#"a network such as "10.0.0.0/8", an address, or "loopback""#.into()
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| String::new())
    }
}

/// What tells the address of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressSource(pub(crate) AddressFrom);

impl Text for AddressSource {
    fn accepts() -> String {
        r#""peer", "x-forwarded-for", "proxy-protocol", or "header:NAME" such as "header:x-real-ip""#.into()
    }
}

impl FromStr for AddressSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "peer" => Ok(Self(AddressFrom::Peer)),
            "x-forwarded-for" => Ok(Self(AddressFrom::ForwardedFor)),
            "proxy-protocol" => Ok(Self(AddressFrom::ProxyProtocol)),
            _ => {
                let name = text.strip_prefix("header:").ok_or_else(String::new)?;
                match HeaderName::from_bytes(name.as_bytes()) {
                    Ok(name) if name == "x-forwarded-for" => Err(r#"write "x-forwarded-for" for that header"#.into()),
                    Ok(name) => Ok(Self(AddressFrom::Header(name))),
                    Err(_) => Err(format!("{name:?} is no name of a header")),
                }
            }
        }
    }
}

impl Server {
    /// The proxies that are believed.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = Network> {
        self.trusted_proxies.iter().flat_map(|OneOrMore(proxies)| proxies).map(|TrustedProxy(network)| *network)
    }

    /// Reports a listener that believes nobody what it asks for. `places` are those of its section.
    pub(crate) fn check_source(&self, source: &AddressSource, places: &Places, problems: &mut Problems) {
        if source.0 != AddressFrom::Peer && self.trusted_proxies.is_none() {
            let text = "no proxy is trusted to tell the address of a client; name the proxies in `trusted_proxies`";
            places.problem(problems, "address_from", text);
        }
    }

    /// What looks wrong but may be meant.
    pub(crate) fn warn(&self, warnings: &mut Vec<String>) {
        let everything = self.trusted_proxies.iter().flat_map(|OneOrMore(proxies)| proxies);
        if let Some(TrustedProxy(network)) =
            everything.into_iter().find(|TrustedProxy(network)| network.is_everything())
        {
            warnings.push(format!(
                "trusted_proxies has {network}, which is everybody: each client is believed the address that it claims"
            ));
        }
    }
}

section! {
    /// Present: clients connect by `wss://` and `https://` only. Both files are PEM. They are looked at every minute, so that renewed ones
    /// are served without a reload. One certificate is given here; several, for several names, by `[[tls.certificate]]`.
    struct Tls: "tls", Form::Table;
    keys {
        /// The certificate, followed by the intermediate ones. It is given together with `key`.
        cert: Option<PathBuf> = "" => Once,
        /// The private key: PKCS #8, PKCS #1 or SEC 1.
        key: Option<PathBuf> = "" => Once,
        /// Offers HTTP/2 by ALPN beside HTTP/1.1: requests, and WebSockets by extended CONNECT (RFC 8441), share a connection. A message over HTTP/2
        /// costs the server more, see the [guide](deploy.md#http2-http3-and-webtransport).
        http2: bool = "false",
    }
    later []
}

section! {
    /// One certificate of several. A client gets the first that is for the name by which it connects (SNI); one that asks for no name, or
    /// for another, gets the first of all, which is that of `[tls]` where `cert` and `key` are given there.
    struct Certificate: "tls.certificate", Form::List => Once;
    keys {
        /// The certificate, followed by the intermediate ones. The names that it is for are its own.
        cert: PathBuf = "" => Once,
        /// Its private key: PKCS #8, PKCS #1 or SEC 1.
        key: PathBuf = "" => Once,
    }
    later []
}

section! {
    /// What happens on SIGTERM and SIGINT: no new connections, then every socket is closed with 1012, one after the other
    /// at an even pace, so that not all clients come back at once. `drain = "30s"` at the top is short for `limit`.
    struct Drain: "drain", Form::Shorthand("limit");
    keys {
        /// The longest that it may take; what is open then is cut. The pace becomes faster where it has to, so that the last
        /// socket is closed after three quarters of this time.
        limit: Span<0, 3_600_000> = "\"30s\"" => Once,
        /// How many sockets are closed in the time of `every`, evenly over it. Fewer sockets take less time.
        batch: Count<1, 10_000_000> = "10000" => Once,
        /// The time in which a batch is closed. `"0s"` closes all at once.
        every: Span<0, 60_000> = "\"2s\"" => Once,
        /// How long `GET /readyz` says 503 before the drain begins, while all is served as before: the time that a balancer takes to learn of it.
        /// `"5s"` behind Kubernetes. It comes before `limit`.
        announce: Span<0, 600_000> = "\"0s\"" => Once,
    }
    later []
}

section! {
    /// The log goes to the standard error. It holds no token, secret or payload at any level.
    struct Log: "log", Form::Table;
    keys {
        /// How much is logged.
        level: LogLevel = "\"info\"" => Once,
        /// Lines for people, or one JSON object a line.
        format: LogFormat = "\"text\"",
    }
    later ["file"]
}

section! {
    /// Opens the HTTP API, on an address of its own. Every request except `GET /api/health` needs
    /// `Authorization: Bearer TOKEN`; without a token here, all of them are refused. Set at most one of the three token keys. More tokens,
    /// which may do less, are tables: `[[admin.token]]` with a `name`, `token_env` or `token_file`, and `may`, a list of some of `read`
    /// (numbers and names), `tap` (payloads, histories, presence), `publish`, `disconnect` and `operate` (reload, payloads in full).
    struct Admin: "admin", Form::Table;
    keys {
        /// The address of the admin listener. It may be reachable from other machines only if a token is set.
        listen: Address = "\"127.0.0.1:4001\"",
        /// What tells the address of a client of this listener, as `address_from` at the top does.
        address_from: AddressSource = "\"peer\"",
        /// The environment variable that holds the token with all rights.
        token_env: Option<String> = "" => Once,
        /// The file that holds it.
        token_file: Option<PathBuf> = "" => Once,
        /// The token itself, at least 16 characters, which is better kept out of the file: see the two keys above. Or the tables described there.
        token: Option<Tokens> = "" => Once,
        /// How many messages `POST /api/publish` takes a second, and twice as many at once when it was quiet. Beyond it the answer is 429 with
        /// `Retry-After`, and nothing of the request is published. Left out: no limit.
        publish_rate: Option<Count<1, 10_000_000>> = "" => Once,
        /// How many connections this listener holds. The next one is answered 503 and closed.
        connections_max: Count<1, 100_000> = "256",
    }
    later ["console", "tls"]
}

impl Tls {
    /// The two files of the certificate that is given here.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        Some((self.cert.as_deref()?, self.key.as_deref()?))
    }

    /// Checks that there is one: here, among `others`, or one that is ordered.
    pub(super) fn check(&self, others: &[Certificate], is_ordered: bool, problems: &mut Problems) {
        let missing = match (&self.cert, &self.key) {
            (Some(_), None) => ("key", "is missing: it takes the file with the private key of `cert`"),
            (None, Some(_)) => ("cert", "is missing: it takes the file with the certificate of `key`"),
            (None, None) if others.is_empty() && !is_ordered => (
                "cert",
                "is missing: give `cert` and `key`, a `[[tls.certificate]]` for each of several certificates, or `[tls.acme]` to order \
                 one",
            ),
            _ => return,
        };
        self.places.problem(problems, missing.0, missing.1);
    }
}

choice! {
    /// The form of the log.
    pub(crate) enum LogFormat {
        /// For people.
        Text = "text",
        /// For machines.
        Json = "json",
    } later []
}

/// What is logged: a level, and levels for single modules.
#[derive(Debug, Clone)]
pub(crate) struct LogLevel(pub(crate) Targets);

impl Text for LogLevel {
    fn accepts() -> String {
        r#""off", "error", "warn", "info", "debug" or "trace"; for single modules as in "info,fanfare=debug""#.into()
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        // `Targets` takes any unknown word for the name of a module, so that "inof" would turn the log off.
        let is_level = |level: &str| LEVELS.contains(&level);
        let fits = text.split(',').all(|directive| match directive.split_once('=') {
            Some((module, level)) => !module.is_empty() && is_level(level),
            None => is_level(directive),
        });
        if !fits {
            return Err(String::new());
        }
        text.parse().map(Self).map_err(|_| String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_levels() {
        for good in ["info", "off", "warn,fanfare=trace", "fanfare::hub=debug"] {
            assert!(good.parse::<LogLevel>().is_ok(), "{good}");
        }
        for bad in ["", "inof", "INFO!", "info,", "fanfare", "fanfare=loud", "=info"] {
            assert!(bad.parse::<LogLevel>().is_err(), "{bad}");
        }
    }
}
