//! The one error type of the crate's face.
//!
//! What a client sees of a refusal is [`Refused`](crate::Refused) or [`Rejected`](crate::Rejected), never a printed `Error`.

use std::error::Error as StdError;
use std::fmt;

/// What went wrong in the engine or in a channel.
///
/// A channel that returns an `Error` ends that one join with `phx_error`; anything that implements
/// [`std::error::Error`] converts into it with `?`.
pub struct Error(Box<Kind>);

enum Kind {
    /// The caller gave something that cannot be done; the text names the value, the limit and the next step.
    Invalid(String),
    /// What the caller took for granted is not so; the text says what is.
    Conflict(String),
    /// Something that the engine depends on is away or full.
    Unavailable(String),
    /// The operating system refused.
    Io(&'static str, std::io::Error),
    /// The user's code failed.
    Other(Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// An error with a text of your own, for use in channels.
    pub fn new(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Other(text.into().into())))
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Invalid(text.into())))
    }

    pub(crate) fn conflict(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Conflict(text.into())))
    }

    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Unavailable(text.into())))
    }

    pub(crate) fn io(what: &'static str, cause: std::io::Error) -> Self {
        Error(Box::new(Kind::Io(what, cause)))
    }

    /// Whether the caller gave something that cannot be done: trying again without a change is of no use.
    pub fn is_invalid(&self) -> bool {
        matches!(*self.0, Kind::Invalid(_))
    }

    /// Whether a message was not published because its topic is not at the position that it expects.
    pub fn is_conflict(&self) -> bool {
        matches!(*self.0, Kind::Conflict(_))
    }

    /// Whether something that the engine depends on is away or full: trying again later may help.
    pub fn is_unavailable(&self) -> bool {
        matches!(*self.0, Kind::Unavailable(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Invalid(text) | Kind::Conflict(text) | Kind::Unavailable(text) => f.write_str(text),
            Kind::Io(what, cause) => write!(f, "{what}: {cause}"),
            Kind::Other(cause) => fmt::Display::fmt(cause, f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

/// `Error` itself is not a `std::error::Error`, so that every other error converts into it.
impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(cause: E) -> Self {
        Error(Box::new(Kind::Other(Box::new(cause))))
    }
}
