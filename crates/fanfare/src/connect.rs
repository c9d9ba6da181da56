//! What happens before a socket exists: the request to connect, and the application's answer.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use fanfare_proto::params::Params;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use http::{HeaderMap, Uri};

use crate::clock::Clock;
use crate::join::guarded;
use crate::socket::{SocketInfo, Transport};

/// Decides who may connect, and as whom.
///
/// A panic in it is answered with status 500. Without one, a mount lets everybody connect, without an id.
pub trait Connect: Send + Sync + 'static {
    /// Called once per WebSocket connection, and once per long-poll session.
    fn connect(&self, request: ConnectRequest) -> impl Future<Output = Result<Connected, Rejected>> + Send;

    /// Whether clients may send a new credential while they are connected, as the event `access_token` with the payload
    /// `{"access_token": "…"}` on the topic `phoenix` or on any that they have joined. If not, that is an event like any other.
    const REFRESHES: bool = false;

    /// Called with the credential that a connected client has sent. What it answers takes the place of what connect has
    /// answered: the assigns and the time of expiry. The id must be the same, unless the socket is
    /// [pending](Connected::pending). A refusal is told to the client with its reason, and the old credential counts until
    /// it expires.
    fn refresh(
        &self,
        socket: &SocketInfo,
        credential: String,
    ) -> impl Future<Output = Result<Connected, Rejected>> + Send {
        let _ = (socket, credential);
        async { Err(Rejected::new()) }
    }
}

/// What a client asks to connect with.
pub struct ConnectRequest {
    /// The query, decoded as form data, merged with the named segments of the path.
    pub params: Params,
    /// What the mount was told to give, see [`ConnectInfoFields`].
    pub info: ConnectInfo,
    /// The transport.
    pub transport: Transport,
    /// The protocol version.
    pub version: Version,
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Params and headers hold credentials.
        f.debug_struct("ConnectRequest").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// Which parts of the request connect is given. None unless asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectInfoFields {
    /// The client's address and port.
    pub peer: bool,
    /// The headers whose names begin with `x-`.
    pub x_headers: bool,
    /// `traceparent` and `tracestate`.
    pub trace_headers: bool,
    /// The URI of the request.
    pub uri: bool,
    /// The `user-agent` header.
    pub user_agent: bool,
    /// The headers whose names begin with `sec-websocket-`.
    pub sec_websocket_headers: bool,
}

/// The parts of the request that the mount was told to give. Header names are in lower case, in the order of the request.
#[derive(Clone, Default)]
pub struct ConnectInfo {
    /// The client's address and port.
    pub peer: Option<SocketAddr>,
    /// The headers whose names begin with `x-`.
    pub x_headers: Vec<(String, String)>,
    /// `traceparent` and `tracestate`.
    pub trace_headers: Vec<(String, String)>,
    /// The URI of the request.
    pub uri: Option<Uri>,
    /// The `user-agent` header.
    pub user_agent: Option<String>,
    /// The headers whose names begin with `sec-websocket-`.
    pub sec_websocket_headers: Vec<(String, String)>,
    /// On mounts with auth tokens on, the token of the subprotocol that carries one, or on long-poll of the header
    /// `x-phoenix-authtoken`.
    pub auth_token: Option<String>,
    /// On mounts with auth tokens on, the token of the header `authorization: Bearer …`, else the value of `x-api-key`. A
    /// proxy may have added these for purposes of its own, so let what only the client can have chosen win.
    pub header_token: Option<String>,
}

impl fmt::Debug for ConnectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and the token hold credentials.
        f.debug_struct("ConnectInfo").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl ConnectInfo {
    pub(crate) fn collect(
        fields: ConnectInfoFields,
        peer: Option<SocketAddr>,
        uri: &Uri,
        headers: &HeaderMap,
        auth_token: Option<String>,
    ) -> Self {
        let matching = |wanted: bool, matches: fn(&str) -> bool| {
            let headers = headers.iter().filter(|(name, _)| wanted && matches(name.as_str()));
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())).collect()
        };
        let user_agent = matching(fields.user_agent, |name| name == "user-agent");
        ConnectInfo {
            peer: peer.filter(|_| fields.peer),
            x_headers: matching(fields.x_headers, |name| name.starts_with("x-")),
            trace_headers: matching(fields.trace_headers, |name| name == "traceparent" || name == "tracestate"),
            uri: fields.uri.then(|| uri.clone()),
            user_agent: user_agent.into_iter().next().map(|(_, value): (String, String)| value),
            sec_websocket_headers: matching(fields.sec_websocket_headers, |name| name.starts_with("sec-websocket-")),
            auth_token,
            header_token: None,
        }
    }

    /// With the token that any program can send in a header.
    pub(crate) fn with_header_token(mut self, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let bearer = text("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
        });
        let token = bearer.or_else(|| text("x-api-key")).filter(|token| !token.is_empty());
        self.header_token = token.map(str::to_owned);
        self
    }
}

/// A topic that a socket is joined to at once.
#[derive(Debug, Clone)]
pub(crate) struct GivenTopic {
    pub(crate) topic: Arc<str>,
    /// From where it goes on.
    pub(crate) since: Option<Since>,
}

/// A connect that succeeded.
#[derive(Default)]
pub struct Connected {
    pub(crate) id: Option<String>,
    pub(crate) assigns: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) topics: Vec<GivenTopic>,
    pub(crate) is_pending: bool,
    pub(crate) publisher: Option<String>,
    /// From where the client wants to go on; the engine's own doing.
    pub(crate) since: Option<Since>,
}

impl Connected {
    /// Connected, without an id.
    pub fn new() -> Self {
        Connected::default()
    }

    /// Connected, but for sending a credential only: until [`refresh`](Connect::refresh) accepts one, the client can join
    /// nothing, and after the mount's [`credential_timeout`](crate::Mount::credential_timeout) it is closed with 1008. For
    /// mounts that serve Phoenix.
    pub fn pending() -> Self {
        Connected { is_pending: true, ..Connected::default() }
    }

    /// When the credential expires on the engine's clock.
    pub(crate) fn expires_ms(&self, clock: &Clock) -> Option<u64> {
        let left = self.expires_at?.duration_since(SystemTime::now()).unwrap_or_default();
        Some(clock.after(left))
    }

    /// The socket's id, by which [`Endpoint::disconnect`](crate::Endpoint::disconnect) reaches it, e.g. `user_socket:7`.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// What the socket's channels see by [`Context::assigns`](crate::Context::assigns): one value of a type of yours.
    pub fn assigns<T: Any + Send + Sync>(mut self, assigns: T) -> Self {
        self.assigns = Some(Arc::new(assigns));
        self
    }

    /// Joins the socket to a topic at once, in protocols whose clients do not join by themselves
    /// ([`Mount::bullet`](crate::Mount::bullet)). May be called several times. A topic that is empty, over 255 bytes or has
    /// control characters is a refused connect.
    pub fn topic(mut self, topic: impl Into<Arc<str>>) -> Self {
        self.topics.push(GivenTopic { topic: topic.into(), since: None });
        self
    }

    /// Names the publisher of a hub. Where the mount [says so](crate::Mount::replaces_publisher), it takes the place of one with
    /// the same name.
    pub fn publisher(mut self, name: impl Into<String>) -> Self {
        self.publisher = Some(name.into());
        self
    }

    /// When the credential expires: the socket's joins end then with `phx_error`, it is closed with 1001, and the client
    /// comes back to be checked anew.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A connect that did not succeed: 403, or what the mount's `on_reject` makes of the reason.
#[derive(Debug)]
pub struct Rejected {
    pub(crate) reason: Option<String>,
    /// For the log.
    pub(crate) because: Option<String>,
    pub(crate) is_passing: bool,
}

impl Rejected {
    /// Without a reason: always 403.
    pub fn new() -> Self {
        Rejected { reason: None, because: None, is_passing: false }
    }

    /// With a reason that the client is told: the text of the 403, unless the mount's `on_reject` answers in another way.
    pub fn reason(reason: impl Into<String>) -> Self {
        Rejected { reason: Some(reason.into()), ..Rejected::new() }
    }

    /// Nobody can tell now whether the client may connect: it is answered 503 and may come again.
    pub fn unavailable() -> Self {
        Rejected { is_passing: true, ..Rejected::new() }
    }

    /// What the log says of it, and the client is not told: what is wrong with the credential, and what would be accepted. Never
    /// a part of the credential. The default is the [`reason`](Rejected::reason).
    pub fn because(mut self, detail: impl Into<String>) -> Self {
        self.because = Some(detail.into());
        self
    }

    /// For the log.
    pub(crate) fn detail(&self) -> &str {
        let told = self.because.as_ref().or(self.reason.as_ref());
        told.map_or("the application does not let it in, and says no more", String::as_str)
    }
}

impl Default for Rejected {
    fn default() -> Self {
        Rejected::new()
    }
}

/// The application's answer on its way. `Err` is a panic's message.
type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Result<Connected, Rejected>, String>> + Send + 'a>>;

/// A [`Connect`] behind a pointer.
pub(crate) trait AnyConnect: Send + Sync {
    fn connect<'a>(&'a self, request: ConnectRequest) -> Connecting<'a>;
    fn refreshes(&self) -> bool;
    fn refresh<'a>(&'a self, socket: &'a SocketInfo, credential: String) -> Connecting<'a>;
}

impl<C: Connect> AnyConnect for C {
    fn connect<'a>(&'a self, request: ConnectRequest) -> Connecting<'a> {
        Box::pin(guarded(Connect::connect(self, request)))
    }

    fn refreshes(&self) -> bool {
        C::REFRESHES
    }

    fn refresh<'a>(&'a self, socket: &'a SocketInfo, credential: String) -> Connecting<'a> {
        Box::pin(guarded(Connect::refresh(self, socket, credential)))
    }
}

/// Lets everybody in.
pub(crate) struct Open;

impl Connect for Open {
    async fn connect(&self, _request: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(Connected::new())
    }
}
