//! The sections that exist once: the listener and its TLS, limits, drain, log, admin.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use axum::http::HeaderName;
use fanfare::{AddressFrom, Network, OriginPattern, Proxies};
use tracing_subscriber::filter::Targets;

use super::problem::Problems;
use super::secret::Secret;
use super::section::{Form, Places, section};
use super::value::{Address, Count, OneOrMore, Size, Span, Text, choice};

/// When a client counts as vanished, unless told otherwise.
const VANISHED_TIMEOUT: Duration = Duration::from_secs(45);

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
        trusted_proxies: Option<OneOrMore<TrustedProxy>> = "",
        /// What tells the address of a client, for the log, limits, hooks and the API. `peer`: the connection, so that behind a proxy all
        /// clients have the proxy's. `x-forwarded-for`: the first address from the right of that header that is no trusted proxy's.
        /// `header:NAME`: a header with one address, such as `header:x-real-ip`. `proxy-protocol`: the header of the PROXY protocol,
        /// version 1 or 2, with which every connection has to begin. All but `peer` need `trusted_proxies`.
        address_from: AddressSource = "\"peer\"",
        /// How many threads own sockets and write to them. Left out: one fewer than there are cores, at least one.
        shards: Option<Count<1, 128>> = "",
    }
    later ["name"]
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
    /// What the proxies in front of a listener tell.
    pub(crate) fn proxies(&self, source: &AddressSource) -> Proxies {
        let trusted =
            self.trusted_proxies.iter().flat_map(|OneOrMore(proxies)| proxies).map(|TrustedProxy(network)| *network);
        Proxies::trusted(trusted).address_from(source.0.clone())
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
    /// Present: clients connect by `wss://` and `https://` only. Both files are PEM.
    struct Tls: "tls", Form::Table;
    keys {
        /// The certificate, followed by the intermediate ones.
        cert: PathBuf = "" => Once,
        /// The private key: PKCS #8, PKCS #1 or SEC 1.
        key: PathBuf = "" => Once,
    }
    later ["acme"]
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
    }
    later []
}

section! {
    /// Bounds on what clients can make the server hold.
    struct Limits: "limits", Form::Table;
    keys {
        /// The longest message that a client may send, fragments added up, as sent and as inflated: how well it is
        /// compressed does not matter. A longer one closes its socket with 1009.
        message_size_max: Size<1_000, 1_000_000_000> = "\"8MB\"" => Connect,
        /// The longest body of a long-poll request. A longer one is answered with HTTP 413.
        longpoll_body_size_max: Size<1_000, 1_000_000_000> = "\"8MB\"",
        /// How many messages one long-poll request may carry. More are answered with HTTP 413.
        longpoll_messages_max: Count<1, 1_000_000> = "1000" => Connect,
        /// How many topics one socket may have joined. The next join is refused with `too many channels joined`.
        joins_max: Count<1, 1_000_000> = "100" => Connect,
        /// How many messages may wait behind a join that is not answered yet, or behind a busy topic.
        waiting_frames_max: Count<1, 1_000_000> = "1024" => Connect,
        /// The same in bytes of payload, for all topics of a socket together.
        waiting_bytes_max: Size<1_000, 1_000_000_000> = "\"8MB\"" => Connect,
        /// How many bytes may wait for one slow reader. Beyond it the socket is closed with 1013, unless messages can give way
        /// by `channel.slow`.
        outbox_bytes_max: Size<10_000, 1_000_000_000> = "\"8MB\"" => Connect,
        /// How many frames may wait for one slow reader. Beyond it the same happens.
        outbox_frames_max: Count<10, 10_000_000> = "8192" => Connect,
        /// How many messages may wait to be handed out, for each shard. While this many wait, publishers wait as well: an HTTP
        /// request, a source, a channel; and a client whose messages have no room is not read, so that TCP slows it down.
        /// Messages of topics with a history have as much room of their own, so that a stalled disk delays no other topic.
        publishing_waiting_max: Count<16, 1_048_576> = "4096",
        /// The same in bytes of payload. A larger message waits until no other does.
        publishing_waiting_bytes_max: Size<10_000, 1_000_000_000> = "\"16MB\"",
        /// How long a publisher waits for room. After that a request is answered 503 with `Retry-After`, and a push with the
        /// error `unavailable`; nothing was published then.
        publishing_timeout: Span<0, 600_000> = "\"5s\"",
        /// A client that takes nothing for so long, while something waits for it, is closed with 1013.
        write_timeout: Span<100, 600_000> = "\"10s\"",
        /// How many bytes the bodies of requests may take together while they are received, on each listener. Above it requests are
        /// answered 503 with a `Retry-After`. A body may hold as much as is left, so that many large ones leave room for small
        /// ones: it takes twice the largest. Left out: twice `longpoll_body_size_max`, at least 16 MB.
        bodies_bytes_max: Option<Size<16_000_000, 100_000_000_000>> = "",
        /// How long a client may take for the body of a request. A later one is answered 408.
        body_timeout: Span<100, 600_000> = "\"10s\"",
        /// How many connections the server holds, as far as the system allows: each takes a file descriptor, and some of these are
        /// kept for the admin listener and the server itself. The next one is answered 503 and closed, but an `EventSource` is told
        /// to come again.
        connections_max: Count<1, 100_000_000> = "1000000",
        /// How many connections one address may hold. The next one is answered 429 and closed. Of IPv6 a /64
        /// counts as one address. Behind a proxy all clients have its address, unless `address_from` says what tells theirs.
        connections_per_address_max: Count<1, 100_000_000> = "100000",
        /// How many clients may connect a second, over all endpoints: handshakes of WebSockets, event streams and new long-poll
        /// sessions. Those beyond it are answered 503 with a `Retry-After` of 1 to 5 seconds, before any `auth` is asked.
        /// Left out: no limit.
        accept_rate: Option<Count<1, 1_000_000>> = "",
        /// How many may connect at once when it was quiet. The last quarter is kept for clients that resume: those whose request
        /// has the parameter `resume` (Phoenix) or `since` (hub, rooms, streams), or the header `Last-Event-ID` (event
        /// streams). Left out: as many as `accept_rate`.
        accept_burst: Option<Count<1, 10_000_000>> = "",
        /// How long a client may take for the head of a request, and so long again for a TLS handshake.
        handshake_timeout: Span<100, 600_000> = "\"10s\"",
        /// A client that has vanished without a word, like a phone that has lost its network, is given up when its system has
        /// acknowledged nothing for so long of what was sent to it, and no probe of the connection either. Longer than
        /// `write_timeout`. Left out: 45 s, or twice `write_timeout` where that is longer.
        vanished_timeout: Option<Span<1_000, 3_600_000>> = "",
    }
    later ["messages_per_second_max", "joins_per_second_max"]
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
    /// `Authorization: Bearer TOKEN`; without a token here, all of them are refused. Set at most one of the three token keys.
    struct Admin: "admin", Form::Table;
    keys {
        /// The address of the admin listener. It may be reachable from other machines only if a token is set.
        listen: Address = "\"127.0.0.1:4001\"",
        /// What tells the address of a client of this listener, as `address_from` at the top does.
        address_from: AddressSource = "\"peer\"",
        /// The environment variable that holds the token.
        token_env: Option<String> = "" => Once,
        /// The file that holds the token.
        token_file: Option<PathBuf> = "" => Once,
        /// The token itself, at least 16 characters. Better kept out of the file: see the two keys above.
        token: Option<Secret> = "" => Once,
        /// How many connections this listener holds. The next one is answered 503 and closed.
        connections_max: Count<1, 100_000> = "256",
    }
    later ["console", "tls"]
}

impl Tls {
    /// The files of each certificate.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, &Path)> {
        std::iter::once((&*self.cert, &*self.key))
    }
}

/// The largest body of a request to the HTTP API, in bytes.
pub(crate) const API_BODY_SIZE_MAX: u64 = 8_000_000;

impl Limits {
    /// What the bodies of requests may take together.
    pub(crate) fn bodies_bytes_max(&self) -> u64 {
        self.bodies_bytes_max.map_or(2 * self.longpoll_body_size_max.0.max(API_BODY_SIZE_MAX), |given| given.0)
    }

    /// When a client counts as vanished.
    pub(crate) fn vanished_timeout(&self) -> Duration {
        self.vanished_timeout.map_or((2 * self.write_timeout.0).max(VANISHED_TIMEOUT), |given| given.0)
    }

    /// Checks what concerns more than one key.
    pub(crate) fn check(&self, problems: &mut Problems) {
        if self.accept_burst.is_some() && self.accept_rate.is_none() {
            self.places.problem(problems, "accept_burst", "has no effect without `accept_rate`; set both or none");
        }
        let (bodies, body) = (self.bodies_bytes_max(), self.longpoll_body_size_max.0);
        if bodies < 2 * body {
            let text = format!(
                "{bodies} bytes are less than twice longpoll_body_size_max ({body}): set it to {} or more",
                2 * body
            );
            self.places.problem(problems, "bodies_bytes_max", text);
        }
        let (vanished, write) = (self.vanished_timeout(), self.write_timeout.0);
        if vanished <= write {
            let text = format!(
                "{vanished:?} is not longer than write_timeout ({write:?}): slow readers would be cut without a word"
            );
            self.places.problem(problems, "vanished_timeout", text);
        }
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
