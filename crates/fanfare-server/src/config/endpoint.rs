//! `[[endpoint]]`: a path that clients connect to.

use std::str::FromStr;
use std::time::Duration;

use fanfare::{OriginPattern, OriginPolicy, TenantFrom};
use toml::de::DeValue;

use super::channel::EventName;
use super::problem::Problems;
use super::rule::Rule;
use super::section::{Form, section};
use super::supabase::{ApiKeys, Changes, Expired};
use super::template::Template;
use super::tenant::Naming;
use super::value::{Fault, OneOrMore, Raw, Setting, Span, Text, choice};

section! {
    /// A path that clients connect to. Without any, there is one at `/socket` that lets everybody in.
    struct Endpoint: "endpoint", Form::List;
    keys {
        /// The path; Phoenix's clients add `/websocket` or `/longpoll` to it themselves. A segment may be a name
        /// (`/socket/:tenant`). With `protocol = "rooms"` every path below it is served, and it may be `/`.
        path: MountPath = "\"/socket\"",
        /// What the frames mean.
        protocol: Protocol = "\"phoenix\"",
        /// For `phoenix`: how clients may connect. Left out: in both ways. The other protocols have theirs.
        transports: Option<OneOrMore<Transport>> = "" => Connect,
        /// The name of the `[auth.NAME]` that checks credentials, or a list of names to try in this order. `none`: everybody
        /// is let in, without an identity; with `hub` and `bullet`, whose clients show a key, this must be said.
        auth: OneOrMore<String> = "\"none\"" => Connect,
        /// For `phoenix` with an `auth`: a client may connect without a credential, and has so long to send it, as the event
        /// `access_token` on the topic `phoenix`. Until then it can join nothing. Left out: it is refused.
        credential_within: Option<Span<100, 600_000>> = "" => Connect,
        /// Names the sockets of a user, from claims in braces, so that `POST /api/disconnect` can close them all. Left out:
        /// none, with `bullet` the key.
        socket_id: Option<Template> = "" => Connect,
        /// Whose clients connect here, where several share the server: from claims in braces, from a named segment of the path (`:tenant`), or
        /// the `host` that a request is for. What each may have, [tenant] says. A client without the claim is refused. Left out: nobody's.
        tenant: Option<Naming> = "" => Connect,
        /// The pages that may connect, by their origin: `//example.com` for any scheme and port,
        /// `https://*.example.com`, `http://localhost:3000`. `same`: those that this server is the origin of. `any`:
        /// all. Programs that are no browser send no origin and pass. Behind a proxy that ends TLS, set `public_url`
        /// or `trusted_proxies`, or list the origins.
        /// With `supabase`, whose pages send tokens and no cookies, left out: `any`.
        origins: Origins = "\"same\"" => Connect,
        /// A socket from which nothing came for so long is closed. Clients of Phoenix and bullet.js send heartbeats, others
        /// are pinged when half of it has passed. With `supabase` left out: 150 s.
        idle_timeout: Span<1_000, 86_400_000> = "\"60s\"" => Connect,
        /// How long a poll waits for a message. Left out: 10 s; Phoenix's clients give up after 20 s. With `bullet` it is
        /// 60 s.
        longpoll_window: Option<Span<100, 120_000>> = "" => Connect,
        /// Whether permessage-deflate is offered on WebSockets.
        compression: bool = "false" => Connect,
        /// For `hub`, `rooms`: the event that a client's message counts as, where a protocol with events asks for it.
        event: EventName = "\"message\"" => Connect,
        /// For `hub`: what is put before `DOMAIN/TOPIC` to name the server's topics, so that they are kept apart from others.
        topic_prefix: String = "\"hub:\"",
        /// For `hub`: how long a topic waits for another publisher when its own has gone. Then it ends.
        grace: Span<0, 86_400_000> = "\"10s\"" => Connect,
        /// For `hub`: whether subscribers may come before the publisher. Otherwise they are refused with 404.
        wait_for_topic: bool = "false" => Connect,
        /// For `hub` with an `auth`: whether a publisher takes the place of one with the same key, or of the same user, that
        /// seems to be connected still; that one is closed with 4409. Otherwise it is refused with 409 until the old connection
        /// is known to be lost.
        replace: bool = "false" => Connect,
        /// For `hub`: who may subscribe.
        subscribe: Subscribe = "\"open\"" => Connect,
        /// For `rooms`: whether clients are told what they have joined and left.
        acks: bool = "false" => Connect,
        /// For `bullet`: the topics whose messages a client gets, with `{key}` for its key (of a key that `fanfare apikey` made
        /// only the name, `ff_…`), and claims in braces.
        topics: OneOrMore<Template> = "[\"bridge:{key}\", \"bridge\"]" => Connect,
        /// For `supabase`: opaque keys (`sb_publishable_…`), by the environment variables that hold them, with the role that
        /// each stands for: `{ PUBLISHABLE_KEY = "anon", SECRET_KEY = "service_role" }`.
        api_keys: Option<ApiKeys> = "" => Connect,
        /// For `supabase`: who may do everything in every channel.
        bypass: OneOrMore<Rule> = "\"claim:role=service_role\"" => Connect,
        /// For `supabase`: whether public channels cannot be joined.
        private_only: bool = "false" => Connect,
        /// For `supabase`: what becomes of a channel whose token has expired. With `rejoin` clients join again with their newest
        /// token by themselves.
        expired: Expired = "\"rejoin\"" => Connect,
        /// For `supabase`: what becomes of a join that asks for changes of a database. With `tell` the client is told once that they
        /// are not served, with `refuse` the join is refused. The name of a `[source.NAME]` serves those of its `changes`.
        postgres_changes: Changes = "\"tell\"" => Connect,
    }
    later ["limits", "slow", "subprotocols"]
}

choice! {
    /// What the frames of an endpoint mean.
    pub(crate) enum Protocol {
        /// Phoenix Channels, versions 1.0 and 2.0.
        Phoenix = "phoenix",
        /// One publisher with an API key a topic, and subscribers that get its frames as they are.
        Hub = "hub",
        /// JSON frames that join, leave and say something; the channels are those of Phoenix.
        Rooms = "rooms",
        /// What clients of bullet.js speak: a key in the query, messages by WebSocket, server-sent events or polls.
        Bullet = "bullet",
        /// One topic of the channels at `PATH/TOPIC`, read only, as server-sent events or JSON lines over plain HTTP.
        Sse = "sse",
        /// Supabase Realtime: broadcast, presence and authorization for its clients as they are.
        Supabase = "supabase",
    } later []
}

choice! {
    /// Who may subscribe to a hub's topics.
    pub(crate) enum Subscribe {
        /// Everybody.
        Open = "open",
        /// Whoever has a credential of the topic's domain that `auth` accepts, by a header or the parameter `key`.
        Authenticated = "authenticated",
    } later []
}

/// What each key but the common ones is for.
const USES: [(&str, &[Protocol]); 18] = [
    ("credential_within", &[Protocol::Phoenix]),
    ("transports", &[Protocol::Phoenix]),
    ("longpoll_window", &[Protocol::Phoenix, Protocol::Bullet]),
    ("event", &[Protocol::Hub, Protocol::Rooms]),
    ("topic_prefix", &[Protocol::Hub]),
    ("grace", &[Protocol::Hub]),
    ("wait_for_topic", &[Protocol::Hub]),
    ("replace", &[Protocol::Hub]),
    ("subscribe", &[Protocol::Hub]),
    ("acks", &[Protocol::Rooms]),
    ("topics", &[Protocol::Bullet]),
    ("compression", &[Protocol::Phoenix, Protocol::Hub, Protocol::Rooms, Protocol::Bullet, Protocol::Supabase]),
    ("socket_id", &[Protocol::Phoenix, Protocol::Hub, Protocol::Rooms, Protocol::Bullet, Protocol::Sse]),
    ("api_keys", &[Protocol::Supabase]),
    ("bypass", &[Protocol::Supabase]),
    ("private_only", &[Protocol::Supabase]),
    ("expired", &[Protocol::Supabase]),
    ("postgres_changes", &[Protocol::Supabase]),
];

/// Phoenix's clients give up a poll after 20 s.
const PHOENIX_WINDOW_MAX: Duration = Duration::from_secs(19);

impl Protocol {
    /// Whether its clients join the topics of a `[[channel]]`.
    pub(crate) fn has_channels(self) -> bool {
        matches!(self, Protocol::Phoenix | Protocol::Rooms | Protocol::Sse | Protocol::Supabase)
    }
}

impl Endpoint {
    /// Checks what concerns more than one key.
    pub(crate) fn check(&self, problems: &mut Problems) {
        let choice = format!("protocol = \"{}\"", self.protocol.name());
        self.places.report_useless(problems, &choice, |key| {
            USES.iter().all(|(used, protocols)| *used != key || protocols.contains(&self.protocol))
        });
        if self.path.0 == "/" && self.protocol != Protocol::Rooms {
            let text = "the root itself can be an endpoint with protocol = \"rooms\" only; take \"/socket\"";
            self.places.problem(problems, "path", text);
        }
        if self.replace && self.auth.0.iter().all(|name| name == "none") {
            let text = "has no effect without `auth`: nobody can tell whose a connection is; set both or none";
            self.places.problem(problems, "replace", text);
        }
        self.check_tenant(problems);
        if let Some(window) = self.longpoll_window
            && self.protocol == Protocol::Phoenix
            && window.0 > PHOENIX_WINDOW_MAX
        {
            let text = format!("{:?} is too long: Phoenix's clients give up after 20 s; take at most 19s", window.0);
            self.places.problem(problems, "longpoll_window", text);
        }
    }
}

impl Endpoint {
    /// Whether a client of it can always be told whose it is.
    fn check_tenant(&self, problems: &mut Problems) {
        let text = match &self.tenant {
            Some(Naming::Request(TenantFrom::Segment(name)))
                if !self.path.0.split('/').any(|segment| segment.strip_prefix(':') == Some(name)) =>
            {
                format!(":{name} is no segment of the path {:?}: give that one, or take another name", self.path.0)
            }
            Some(Naming::Claims(_)) if self.protocol == Protocol::Supabase => {
                "clients of protocol = \"supabase\" connect without claims: take \"host\" or a segment of the path".into()
            }
            Some(Naming::Claims(_)) if self.protocol == Protocol::Hub && self.subscribe == Subscribe::Open => {
                "subscribers of this hub have no claims: take \"host\" or a segment of the path, or subscribe = \"authenticated\"".into()
            }
            _ => return,
        };
        self.places.problem(problems, "tenant", text);
    }
}

choice! {
    /// A way to connect.
    pub(crate) enum Transport {
        /// WebSocket.
        Websocket = "websocket",
        /// Long-polling over HTTP.
        Longpoll = "longpoll",
    } later []
}

/// The path of an endpoint, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPath(pub(crate) String);

impl Text for MountPath {
    fn accepts() -> String {
        r#"a path such as "/socket""#.into()
    }
}

impl FromStr for MountPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_segment = |segment: &str| {
            let name = segment.strip_prefix(':').unwrap_or(segment);
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b))
        };
        match text.strip_prefix('/') {
            None => Err(r#"a path begins with a slash, as "/socket" does"#.into()),
            Some("") => Ok(Self(text.to_owned())),
            Some(rest) if rest.ends_with('/') => Err("leave out the slash at its end".into()),
            Some(rest) if rest.split('/').all(is_segment) => Ok(Self(text.to_owned())),
            Some(_) => Err("its segments may have letters, digits and -_.~ only, after an optional colon".into()),
        }
    }
}

/// Whose pages may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origins(pub(crate) OriginPolicy);

impl Setting for Origins {
    fn accepts() -> String {
        r#""same", "any", or a list of origins such as "https://example.com""#.into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        match raw.get_ref() {
            DeValue::String(word) if word == "same" => Ok(Self(OriginPolicy::SameAsRequest)),
            DeValue::String(word) if word == "any" => Ok(Self(OriginPolicy::Any)),
            _ => {
                let OneOrMore(origins) = OneOrMore::<Origin>::read(raw)?;
                Ok(Self(OriginPolicy::List(origins.into_iter().map(|Origin(pattern)| pattern).collect())))
            }
        }
    }
}

struct Origin(OriginPattern);

impl Text for Origin {
    fn accepts() -> String {
        Origins::accepts()
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "same" | "any" => Err(format!(
                "this word stands alone, as in `origins = {text:?}`; a list has the origins themselves, this server's own among them"
            )),
            _ => OriginPattern::parse(text).map(Self).map_err(|_| String::new()),
        }
    }
}
