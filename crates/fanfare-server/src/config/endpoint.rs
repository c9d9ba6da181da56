//! `[[endpoint]]`: a path that clients connect to.

use std::str::FromStr;

use fanfare::{OriginPattern, OriginPolicy};
use toml::de::DeValue;

use super::section::{Form, section};
use super::value::{Fault, OneOrMore, Raw, Setting, Span, Text, choice};
use crate::identity::Template;

section! {
    /// A path that clients connect to. Without any, there is one at `/socket` that lets everybody in.
    struct Endpoint: "endpoint", Form::List;
    keys {
        /// The path; clients add `/websocket` or `/longpoll` to it themselves. A segment may be a name
        /// (`/socket/:tenant`).
        path: MountPath = "\"/socket\"",
        /// What the frames mean.
        protocol: Protocol = "\"phoenix\"",
        /// How clients may connect.
        transports: OneOrMore<Transport> = "[\"websocket\", \"longpoll\"]",
        /// The name of the `[auth.NAME]` that checks credentials, or a list of names to try in this order. `none`: everybody
        /// is let in, without an identity.
        auth: OneOrMore<String> = "\"none\"",
        /// Names the sockets of a user, from claims in braces, so that `POST /api/disconnect` can close them all.
        socket_id: Option<Template> = "",
        /// The pages that may connect, by their origin: `//example.com` for any scheme and port,
        /// `https://*.example.com`, `http://localhost:3000`. `same`: those that this server is the origin of. `any`:
        /// all. Programs that are no browser send no origin and pass. Behind a proxy that ends TLS, list the origins.
        origins: Origins = "\"same\"",
        /// A socket from which nothing came for so long is closed. Clients send a heartbeat every 30 s.
        idle_timeout: Span<1_000, 86_400_000> = "\"60s\"",
        /// How long a poll waits for a message. Clients give up after 20 s.
        longpoll_window: Span<100, 19_000> = "\"10s\"",
        /// Whether permessage-deflate is offered on WebSockets.
        compression: bool = "false",
    }
    later ["limits", "slow", "subprotocols"]
}

choice! {
    /// What the frames of an endpoint mean.
    pub(crate) enum Protocol {
        /// Phoenix Channels, versions 1.0 and 2.0.
        Phoenix = "phoenix",
    } later ["hub", "rooms", "bullet", "supabase"]
}

choice! {
    /// A way to connect.
    pub(crate) enum Transport {
        /// WebSocket.
        Websocket = "websocket",
        /// Long-polling over HTTP.
        Longpoll = "longpoll",
    } later ["sse"]
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
            Some("") => Err(r#"the root itself cannot be an endpoint; take "/socket""#.into()),
            Some(rest) if rest.ends_with('/') => Err("leave out the slash at its end".into()),
            Some(rest) if rest.split('/').all(is_segment) => Ok(Self(text.to_owned())),
            Some(_) => Err("its segments may have letters, digits and -_.~ only, after an optional colon".into()),
        }
    }
}

impl Text for Template {
    fn accepts() -> String {
        r#"a text with names of claims in braces, such as "user_socket:{sub}""#.into()
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
        OriginPattern::parse(text).map(Self).map_err(|_| String::new())
    }
}
