//! What happens before a socket exists: the request to connect, and the application's answer. `info` is what is known of the socket
//! from then on.

mod info;
mod users;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::SystemTime;

use fanfare_proto::cookie;
use fanfare_proto::params::Params;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use http::header::COOKIE;
use http::request::Parts;
use http::{HeaderMap, Uri};

use crate::clock::Clock;
use crate::guard::guarded;
use crate::transport::Transport;

pub use info::{SocketHandle, SocketInfo};
pub(crate) use users::{UserSlot, Users};

/// Decides who may connect, and as whom.
///
/// A panic in it is answered with status 500. Without one, a mount lets everybody connect, without an id.
pub trait Connect: Send + Sync + 'static {
    /// Called once per WebSocket connection, and once per long-poll session.
    ///
    /// Behind a server that has [`upgrades_first`](crate::serve::Server::upgrades_first) it begins on the thread of a shard, and must
    /// not block.
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
    /// The transport.
    pub transport: Transport,
    /// The protocol version.
    pub version: Version,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) auth_token: Option<String>,
    pub(crate) takes_tokens: bool,
    pub(crate) parts: Arc<Parts>,
}

impl ConnectRequest {
    /// The client's address and port, where the server knows it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The URI as the client sent it, also where a router has taken a prefix off.
    pub fn uri(&self) -> &Uri {
        #[cfg(feature = "axum")]
        if let Some(original) = self.parts.extensions.get::<axum::extract::OriginalUri>() {
            return &original.0;
        }
        &self.parts.uri
    }

    /// All headers of the request.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// A header's value, the first one if there are several; `None` also where it is not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// A cookie's value as it was sent: it is not percent-decoded.
    ///
    /// Browsers send a site's cookies with WebSockets that pages of *other* sites open, too: let [`Mount::origin`](crate::Mount::origin)
    /// say whose pages may connect.
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies().find_map(|(found, value)| (found == name).then_some(value))
    }

    /// The names and values of all cookies.
    pub fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        let headers = self.parts.headers.get_all(COOKIE).iter();
        headers.filter_map(|header| header.to_str().ok()).flat_map(cookie::pairs)
    }

    /// What middleware has put among the request's extensions: a session, say, or a user.
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.parts.extensions.get()
    }

    /// On mounts with [auth tokens](crate::Mount::auth_token) on, the token of the subprotocol that carries one, or on long-poll of the
    /// header `x-phoenix-authtoken`.
    pub fn auth_token(&self) -> Option<&str> {
        self.auth_token.as_deref()
    }

    /// On mounts with [auth tokens](crate::Mount::auth_token) on, the token of the header `authorization: Bearer …`, else the value of
    /// `x-api-key`. A proxy may have added these for purposes of its own, so let what only the client can have chosen win.
    pub fn header_token(&self) -> Option<&str> {
        let bearer = || {
            let (scheme, token) = self.header("authorization")?.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
        };
        let token = || bearer().or_else(|| self.header("x-api-key").map(str::trim));
        if self.takes_tokens { token().filter(|token| !token.is_empty()) } else { None }
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Params and headers hold credentials.
        f.debug_struct("ConnectRequest").field("transport", &self.transport).finish_non_exhaustive()
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
    pub(crate) tenant: Option<String>,
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

    /// Says whose client it is, among those who share the node: it takes part in what the [quota](crate::Quotas) of this tenant allows. A name has
    /// 1 to 128 bytes and no control characters, and is not `other`; with another one it is a refused connect.
    pub fn tenant(mut self, name: impl Into<String>) -> Self {
        self.tenant = Some(name.into());
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
        Box::pin(async move { guarded(pin!(Connect::connect(self, request))).await })
    }

    fn refreshes(&self) -> bool {
        C::REFRESHES
    }

    fn refresh<'a>(&'a self, socket: &'a SocketInfo, credential: String) -> Connecting<'a> {
        Box::pin(async move { guarded(pin!(Connect::refresh(self, socket, credential))).await })
    }
}

/// Lets everybody in.
pub(crate) struct Open;

impl Connect for Open {
    async fn connect(&self, _request: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(Connected::new())
    }
}
