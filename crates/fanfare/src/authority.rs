//! Whose tokens count with Supabase's clients, and what they give the right to: what a user of the crate writes. `settings` has what a
//! mount for them is set to, `token_hash` by what a token is known again.

mod settings;
mod token_hash;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fanfare_proto::supabase::Row;
pub use fanfare_proto::supabase::TokenFault;
pub use settings::Supabase;
pub(crate) use settings::{Asked, AuthorityRef, Settings};
pub(crate) use token_hash::{TokenHash, hash};

use crate::guard::guarded;

/// Says whom a token names, and what its bearer may do in a channel.
///
/// A socket has the token that it connects with, its API key; each channel has its own, which its join brings and later events
/// replace. Tokens of different users on one socket are normal.
pub trait Authority: Send + Sync + 'static {
    /// Whom a token names. It is asked for the key of a connection, and for the token of each join, of each `access_token`, and
    /// of each POST request. A panic in it is [`TokenFault::Unavailable`].
    fn verify(&self, token: &str) -> impl Future<Output = Result<Bearer, TokenFault>> + Send;

    /// What a bearer may do in a channel. It is asked at the join and whenever the channel's token has changed. A panic in it
    /// gives no right.
    fn rights(&self, request: RightsRequest<'_>) -> impl Future<Output = Rights> + Send;

    /// Whether a bearer may see a row of a table that [`Supabase::tables`](crate::Supabase::tables) names. It is asked for each
    /// change and each member that wants it, on the thread of the member's shard: it must not wait. Default: no.
    fn may_see(&self, bearer: &Bearer, row: ChangedRow<'_>) -> bool {
        let _ = (bearer, row);
        false
    }

    /// Whether changes of tables come now. Members that want them are told once they do. Default: yes.
    fn are_changes_coming(&self) -> bool {
        true
    }
}

/// The bearer of a token.
#[derive(Clone)]
pub struct Bearer {
    who: Arc<dyn Any + Send + Sync>,
    expires_at: Option<SystemTime>,
}

impl Bearer {
    /// Whoever it is, as a type of yours.
    pub fn new<T: Any + Send + Sync>(who: T) -> Self {
        Bearer { who: Arc::new(who), expires_at: None }
    }

    /// When the token expires: its channels end then, and the clients join again with a newer one.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Whoever it is, if it is of this type.
    pub fn who<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.who.downcast_ref()
    }

    /// How long the token is good for; `Err` is how long it has not been.
    pub(crate) fn left(&self) -> Option<Result<Duration, Duration>> {
        let left = self.expires_at?.duration_since(SystemTime::now());
        Some(left.map_err(|error| error.duration()))
    }

    /// The bearer of a token that is good still.
    pub(crate) fn current(self) -> Result<Self, TokenFault> {
        match self.left() {
            Some(Err(since)) => Err(TokenFault::Expired(since.as_secs())),
            Some(Ok(_)) | None => Ok(self),
        }
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// A channel that somebody wants to use.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RightsRequest<'a> {
    /// The engine's topic: `realtime:NAME` of a public channel, `private-realtime:NAME` of a private one.
    pub topic: &'a str,
    /// The channel's name, which is the topic in the words of Supabase.
    pub name: &'a str,
    /// Whether it is the private channel of the name.
    pub is_private: bool,
    /// Who wants to use it.
    pub bearer: &'a Bearer,
    /// Under which key the member would be shown; `None` for a POST request.
    pub presence_key: Option<&'a str>,
}

/// A row of a table that has changed.
#[derive(Debug, Clone, Copy)]
pub struct ChangedRow<'a> {
    /// The schema of the table.
    pub schema: &'a str,
    /// The table.
    pub table: &'a str,
    pub(crate) row: &'a Row,
}

impl ChangedRow<'_> {
    /// The value of a column as text, if it is a text, a number or a boolean.
    pub fn text(&self, column: &str) -> Option<String> {
        let raw = self.row.get(column)?.get();
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str(raw).ok(),
            b'{' | b'[' | b'n' => None,
            _ => Some(raw.to_owned()),
        }
    }
}

/// What somebody may do in a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    /// Get its broadcasts.
    pub broadcast_read: bool,
    /// Send broadcasts.
    pub broadcast_write: bool,
    /// See who is there.
    pub presence_read: bool,
    /// Be shown.
    pub presence_write: bool,
}

impl Rights {
    /// Everything.
    pub const ALL: Rights =
        Rights { broadcast_read: true, broadcast_write: true, presence_read: true, presence_write: true };

    /// Nothing: the join is refused.
    pub const NONE: Rights =
        Rights { broadcast_read: false, broadcast_write: false, presence_read: false, presence_write: false };
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An [`Authority`] behind a pointer.
pub(crate) trait AnyAuthority: Send + Sync {
    fn verify<'a>(&'a self, token: &'a str) -> Boxed<'a, Result<Bearer, TokenFault>>;
    fn rights<'a>(&'a self, request: RightsRequest<'a>) -> Boxed<'a, Rights>;
    fn may_see(&self, bearer: &Bearer, row: ChangedRow<'_>) -> bool;
    fn are_changes_coming(&self) -> bool;
}

impl<A: Authority> AnyAuthority for A {
    fn verify<'a>(&'a self, token: &'a str) -> Boxed<'a, Result<Bearer, TokenFault>> {
        Box::pin(async move {
            guarded(pin!(Authority::verify(self, token))).await.unwrap_or_else(|panic| {
                tracing::error!(panic, "an authority panicked");
                Err(TokenFault::Unavailable)
            })
        })
    }

    fn rights<'a>(&'a self, request: RightsRequest<'a>) -> Boxed<'a, Rights> {
        Box::pin(async move {
            guarded(pin!(Authority::rights(self, request))).await.unwrap_or_else(|panic| {
                tracing::error!(panic, "an authority panicked");
                Rights::NONE
            })
        })
    }

    fn may_see(&self, bearer: &Bearer, row: ChangedRow<'_>) -> bool {
        Authority::may_see(self, bearer, row)
    }

    fn are_changes_coming(&self) -> bool {
        Authority::are_changes_coming(self)
    }
}
