//! A path prefix with what is served below it: transports, limits, and the channels of its sockets.

mod rates;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::event::EVENT_SIZE_MAX;
use fanfare_proto::origin::OriginPolicy;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::rate::Rate;
use fanfare_proto::topic::{Pattern, TopicError};
use fanfare_proto::websocket::decoder;
use http::Response;

use crate::authority::AuthorityRef;
use crate::body::Body;
use crate::channel::{AnyChannel, Channel};
use crate::connect::{AnyConnect, Connect, Open};
use crate::dialect::Dialect;
use crate::outbox::Bounds;
use crate::path::MountPath;
use crate::presence::Presence;
use crate::tenant::TenantFrom;

pub use rates::OverRate;
pub(crate) use rates::Rates;

/// This many patterns are listed where a topic fits none.
const LISTED_MAX: usize = 20;

/// What a mount's refusals are answered with.
type OnReject = dyn Fn(&str) -> Response<Body> + Send + Sync;

/// What is done with texts of bullet.js clients: the socket's id, and the text.
type OnText = dyn Fn(Option<&str>, &str) + Send + Sync;

/// A socket's path, transports, limits and channels.
///
/// ```
/// # use fanfare::{BoxError, Channel, Context, Joined, Mount, Payload, Refused, Reply};
/// # struct Room;
/// # impl Channel for Room {
/// #     type State = ();
/// #     type Params = Payload;
/// #     type Info = ();
/// #     async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> { Ok(Joined::new(())) }
/// #     async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
/// #         Ok(Reply::none())
/// #     }
/// # }
/// let mount = Mount::new().channel("room:*", Room).joins_max(20);
/// ```
pub struct Mount {
    /// Where it is served, once it is.
    pub(crate) path: Option<MountPath>,
    pub(crate) dialect: Dialect,
    pub(crate) websocket_path: Option<String>,
    pub(crate) longpoll: bool,
    pub(crate) longpoll_window: Duration,
    /// A session ends when nobody has polled it for so long.
    pub(crate) unpolled_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) credential_timeout: Duration,
    pub(crate) limits: Limits,
    pub(crate) rates: Rates,
    /// How many sockets a user may have, and whether the oldest makes room for another.
    pub(crate) sockets_per_user: Option<(usize, bool)>,
    pub(crate) tenant_from: Option<TenantFrom>,
    pub(crate) origin: OriginPolicy,
    pub(crate) compression: bool,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) versions: Vec<Version>,
    pub(crate) auth_token: bool,
    pub(crate) connect: Box<dyn AnyConnect>,
    pub(crate) on_reject: Option<Box<OnReject>>,
    pub(crate) routes: Vec<Route>,
    /// What messages of clients without events count as.
    pub(crate) event: String,
    pub(crate) acks: bool,
    pub(crate) topic_prefix: String,
    pub(crate) owner_grace: Duration,
    pub(crate) waits_for_topic: bool,
    pub(crate) replaces_publisher: bool,
    pub(crate) on_text: Option<Box<OnText>>,
    /// Of Supabase's clients.
    pub(crate) authority: Option<AuthorityRef>,
    bad_pattern: Option<(String, TopicError)>,
}

/// What a client can make a mount hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) websocket: decoder::Limits,
    pub(crate) joins_max: usize,
    pub(crate) outbox: Bounds,
    pub(crate) waiting_frames_max: usize,
    pub(crate) waiting_bytes_max: usize,
    pub(crate) body_size_max: usize,
    pub(crate) body_lines_max: usize,
}

/// A topic pattern with its channel.
pub struct Route {
    pattern: Result<Pattern, (String, TopicError)>,
    pub(crate) channel: Arc<dyn AnyChannel>,
    pub(crate) presence: Option<Presence>,
    /// Of what the members of a topic send, all together.
    pub(crate) rate: Option<Rate>,
}

impl Route {
    /// The topics that match `pattern` (exact, or a prefix that ends in `*`) behave as `channel`.
    pub fn new(pattern: &str, channel: impl Channel) -> Self {
        let parsed = Pattern::parse(pattern).map_err(|error| (pattern.to_owned(), error));
        Route { pattern: parsed, channel: Arc::new(channel), presence: None, rate: None }
    }

    /// How many messages the members of one topic may send into it, all together, on this node. Beyond it a message is answered with the error
    /// `rate limited` and `retry_after_ms`. Default: as many as they like.
    pub fn message_rate(mut self, rate: impl Into<Option<Rate>>) -> Self {
        self.rate = rate.into();
        self
    }

    /// Uses this presence instead of the endpoint's own. In a cluster a topic has one presence that nodes share, that of the first
    /// mount with a route for the topic; another one of another mount stays on its node.
    pub fn presence(mut self, presence: Presence) -> Self {
        self.presence = Some(presence);
        self
    }
}

impl Default for Mount {
    fn default() -> Self {
        Mount::new()
    }
}

impl Mount {
    /// Phoenix Channels over WebSocket and long-poll, open to everybody, without a channel yet.
    pub fn new() -> Self {
        Mount {
            path: None,
            dialect: Dialect::Phoenix,
            websocket_path: Some("websocket".into()),
            longpoll: true,
            longpoll_window: Duration::from_secs(10),
            unpolled_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(10),
            credential_timeout: Duration::from_secs(10),
            limits: Limits {
                websocket: decoder::Limits::default(),
                joins_max: 100,
                outbox: Bounds { bytes_max: 8_000_000, frames_max: 8_192 },
                waiting_frames_max: 1_024,
                waiting_bytes_max: 8_000_000,
                body_size_max: 8_000_000,
                body_lines_max: 1_000,
            },
            rates: Rates::default(),
            sockets_per_user: None,
            tenant_from: None,
            origin: OriginPolicy::SameAsRequest,
            compression: false,
            subprotocols: Vec::new(),
            versions: vec![Version::V1, Version::V2],
            auth_token: false,
            connect: Box::new(Open),
            on_reject: None,
            routes: Vec::new(),
            event: "message".into(),
            acks: false,
            topic_prefix: String::new(),
            owner_grace: Duration::from_secs(10),
            waits_for_topic: false,
            replaces_publisher: false,
            on_text: None,
            authority: None,
            bad_pattern: None,
        }
    }

    /// What a message counts as that comes from a client of a protocol without events. Default: `message`.
    pub fn event(mut self, event: &str) -> Self {
        self.event = event.to_owned();
        self
    }

    /// The topics that match `pattern` behave as `channel`. The first match in the order of declaration wins.
    pub fn channel(self, pattern: &str, channel: impl Channel) -> Self {
        self.channel_with(Route::new(pattern, channel))
    }

    /// The same with a route's own options.
    pub fn channel_with(mut self, route: Route) -> Self {
        if let Err(problem) = &route.pattern {
            self.bad_pattern.get_or_insert(problem.clone());
        }
        self.routes.push(route);
        self.with_rates()
    }

    /// Who may connect. Default: everybody.
    pub fn connect(mut self, connect: impl Connect) -> Self {
        self.connect = Box::new(connect);
        self
    }

    /// Whether WebSocket is served, at `<mount>/websocket` and at the mount itself. Default: yes.
    pub fn websocket(mut self, on: bool) -> Self {
        self.websocket_path = on.then(|| "websocket".into());
        self
    }

    /// Serves WebSocket below another path; it may have named segments (`custom/:shard`), which become params.
    pub fn websocket_path(mut self, path: &str) -> Self {
        self.websocket_path = Some(path.trim_matches('/').to_owned());
        self
    }

    /// Whether long-polling is served, at `<mount>/longpoll`. Default: yes.
    pub fn longpoll(mut self, on: bool) -> Self {
        self.longpoll = on;
        self
    }

    /// How long a poll waits for a message, and with half as much on top how long a session lives without one. Default 10 s;
    /// stock clients give up after 20 s.
    pub fn longpoll_window(mut self, window: Duration) -> Self {
        self.longpoll_window = window;
        self.unpolled_timeout = window * 3 / 2;
        self
    }

    /// A client that sends nothing for so long is closed with 1002. Default 60 s; stock clients send every 30 s. Clients of
    /// protocols without heartbeats are pinged when half of it has passed.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// A client that takes nothing for so long while something waits for it is closed with 1013. Default 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// How long a client may take to send its credential that has connected [without one](crate::Connected::pending). Default
    /// 10 s.
    pub fn credential_timeout(mut self, timeout: Duration) -> Self {
        self.credential_timeout = timeout;
        self
    }

    /// The largest message, all fragments added up, as sent and as inflated; above it the socket is closed with 1009. How well
    /// a message is compressed does not matter. Default 8,000,000 bytes.
    pub fn message_size_max(mut self, bytes: usize) -> Self {
        self.limits.websocket.message_size_max = bytes;
        self
    }

    /// How many channels a socket may have joined at a time. Default 100.
    pub fn joins_max(mut self, joins: usize) -> Self {
        self.limits.joins_max = joins;
        self
    }

    /// Whose clients connect here, among those who share the node, if connect does not [say so](crate::Connected::tenant). What a tenant may have is
    /// said for the [whole node](crate::Builder::quotas). Default: nobody's.
    pub fn tenant_from(mut self, from: TenantFrom) -> Self {
        self.tenant_from = Some(from);
        self
    }

    /// What may wait for a slow reader before it is closed with 1013. Default 8,000,000 bytes.
    pub fn outbox_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.outbox.bytes_max = bytes;
        self
    }

    /// The same in frames. Default 8,192.
    pub fn outbox_frames_max(mut self, frames: usize) -> Self {
        self.limits.outbox.frames_max = frames;
        self
    }

    /// How many messages may wait behind a join that is not answered, or a busy channel. Default 1,024.
    pub fn waiting_frames_max(mut self, frames: usize) -> Self {
        self.limits.waiting_frames_max = frames;
        self
    }

    /// The same in bytes of payload, for all joins of a socket together. Default 8,000,000.
    pub fn waiting_bytes_max(mut self, bytes: usize) -> Self {
        self.limits.waiting_bytes_max = bytes;
        self
    }

    /// The largest body of a long-poll POST; above it the answer is 413. Default 8,000,000 bytes.
    pub fn body_size_max(mut self, bytes: usize) -> Self {
        self.limits.body_size_max = bytes;
        self
    }

    /// How many messages one long-poll POST may carry; above it the answer is 413. Default 1,000.
    pub fn body_lines_max(mut self, lines: usize) -> Self {
        self.limits.body_lines_max = lines;
        self
    }

    /// Whose pages may connect. Default: those of the scheme, host and port that the request is for. A server behind a proxy that ends
    /// TLS does not see the scheme: it names the origins.
    pub fn origin(mut self, policy: OriginPolicy) -> Self {
        self.origin = policy;
        self
    }

    /// Whether permessage-deflate is negotiated. Default: no.
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = on;
        self
    }

    /// The WebSocket subprotocols, in order of preference. Default: none, and what clients offer is ignored.
    pub fn subprotocols<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.subprotocols = names.into_iter().map(str::to_owned).collect();
        self
    }

    /// The protocol versions that are served. Default: both.
    pub fn versions(mut self, versions: impl IntoIterator<Item = Version>) -> Self {
        self.versions = versions.into_iter().collect();
        self
    }

    /// Whether auth tokens are taken from the subprotocol header (`base64url.bearer.phx.…` of Phoenix's clients, or `fanfare,
    /// bearer.…`), on long-poll from `x-phoenix-authtoken`, and from `authorization: Bearer …` and `x-api-key`. Default: no.
    pub fn auth_token(mut self, on: bool) -> Self {
        self.auth_token = on;
        self
    }

    /// Answers a WebSocket connect that was refused with a reason. Default: 403 with the reason as text.
    pub fn on_reject(mut self, answer: impl Fn(&str) -> Response<Body> + Send + Sync + 'static) -> Self {
        self.on_reject = Some(Box::new(answer));
        self
    }

    /// The first route that matches a topic, with its number. Private channels of Supabase's clients are no other mount's, whatever its
    /// patterns are: who may be there is for the authority to say.
    pub(crate) fn route_of(&self, topic: &str) -> Option<(u32, &Route)> {
        if !self.dialect.reaches(topic) {
            return None;
        }
        let matches = |route: &Route| route.pattern.as_ref().is_ok_and(|pattern| pattern.matches(topic));
        let index = self.routes.iter().position(matches)?;
        Some((index as u32, &self.routes[index]))
    }

    /// The patterns of its channels.
    pub(crate) fn declared(&self) -> impl Iterator<Item = &Pattern> {
        self.routes.iter().filter_map(|route| route.pattern.as_ref().ok())
    }

    /// The patterns of its channels, as far as they help a reader.
    pub(crate) fn patterns(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            if self.routes.is_empty() {
                return f.write_str("none");
            }
            for (index, pattern) in self.declared().take(LISTED_MAX).enumerate() {
                write!(f, "{}{pattern}", if index > 0 { ", " } else { "" })?;
            }
            f.write_str(if self.routes.len() > LISTED_MAX { ", …" } else { "" })
        })
    }

    /// What its channels say in their contracts.
    #[cfg(feature = "contract")]
    pub(crate) fn contracts(&self) -> impl Iterator<Item = (String, crate::channel::Contract)> {
        self.routes
            .iter()
            .filter_map(|route| Some((route.pattern.as_ref().ok()?.to_string(), route.channel.contract())))
    }

    /// The presences of routes that have one of their own.
    pub(crate) fn presences(&self) -> impl Iterator<Item = &Presence> {
        self.routes.iter().filter_map(|route| route.presence.as_ref())
    }

    /// What is wrong with the mount, if something is.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some((pattern, error)) = &self.bad_pattern {
            return Some(format!("the topic pattern {pattern:?} cannot be used: {error}"));
        }
        if self.event.is_empty() || self.event.len() > EVENT_SIZE_MAX {
            let size = self.event.len();
            return Some(format!("its event has {size} bytes: it takes 1 to {EVENT_SIZE_MAX}"));
        }
        (self.websocket_path.is_none() && !self.longpoll).then(|| "a mount needs at least one transport".to_owned())
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount").field("dialect", &self.dialect).field("limits", &self.limits).finish_non_exhaustive()
    }
}
