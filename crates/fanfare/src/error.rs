//! The errors of the crate's face.
//!
//! What a client sees of a refusal is [`Refused`](crate::Refused) or [`Rejected`](crate::Rejected), never a printed `Error`.

use std::error::Error as StdError;
use std::fmt;

/// Any error: what the callbacks of a channel and of [`Connect`](crate::Connect) may end with.
///
/// It is the type that axum and tower call `BoxError`. Every error converts into it with `?`, those of `anyhow` too, and so does a text:
/// `Err("no such room".into())`.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why the engine could not do what it was asked.
pub struct Error(Box<Kind>);

enum Kind {
    /// The caller gave something that cannot be done; the text names the value, the limit and the next step.
    Invalid(String),
    /// What the caller took for granted is not so; the text says what is.
    Conflict(String),
    /// Something that the engine depends on is away or full.
    Unavailable(String),
    /// It may have happened, or may yet happen.
    Unknown(String),
    /// A message has reached the members on this node only.
    OnlyHere(String),
    /// Something that the engine depends on does not allow it, and will not until its settings are changed.
    Denied(String),
    /// The operating system refused.
    Io(&'static str, std::io::Error),
    /// The engine cannot go on; the text says why.
    Failed(String),
}

impl Error {
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Invalid(text.into())))
    }

    pub(crate) fn conflict(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Conflict(text.into())))
    }

    pub(crate) fn unavailable(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Unavailable(text.into())))
    }

    pub(crate) fn unknown(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Unknown(text.into())))
    }

    pub(crate) fn only_here(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::OnlyHere(text.into())))
    }

    pub(crate) fn denied(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Denied(text.into())))
    }

    pub(crate) fn io(what: &'static str, cause: std::io::Error) -> Self {
        Error(Box::new(Kind::Io(what, cause)))
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Error(Box::new(Kind::Failed(text.into())))
    }

    /// A value that serde could not serialize.
    pub(crate) fn unserializable(what: &str, cause: &serde_json::Error) -> Self {
        Error::invalid(format!("{what} cannot be written as JSON: {cause}"))
    }

    /// One word for it, as the HTTP API has it.
    pub(crate) fn name(&self) -> &'static str {
        match *self.0 {
            Kind::Invalid(_) => "invalid",
            Kind::Conflict(_) => "conflict",
            Kind::Unavailable(_) | Kind::OnlyHere(_) => "unavailable",
            Kind::Unknown(_) => "unknown",
            Kind::Denied(_) | Kind::Io(..) | Kind::Failed(_) => "internal",
        }
    }

    /// Whether the caller gave something that cannot be done: trying again without a change is of no use.
    pub fn is_invalid(&self) -> bool {
        matches!(*self.0, Kind::Invalid(_))
    }

    /// Whether a message was not published because its topic is not at the position that it expects.
    pub fn is_conflict(&self) -> bool {
        matches!(*self.0, Kind::Conflict(_))
    }

    /// Whether something that the engine depends on is away or full: trying again later may help. Of a message that has reached the
    /// members on [this node only](Error::is_only_here) it gives these a second copy.
    pub fn is_unavailable(&self) -> bool {
        matches!(*self.0, Kind::Unavailable(_) | Kind::OnlyHere(_))
    }

    /// Whether it is not known what became of a message: the broker did not answer in time, or its link broke. It may appear
    /// later. With an idempotency key it is safe to publish it again.
    pub fn is_unknown(&self) -> bool {
        matches!(*self.0, Kind::Unknown(_))
    }

    /// Whether a message has reached the members on this node, and perhaps no others, since the broker is away. It is
    /// [unavailable](Error::is_unavailable) as well.
    pub fn is_only_here(&self) -> bool {
        matches!(*self.0, Kind::OnlyHere(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Invalid(text)
            | Kind::Conflict(text)
            | Kind::Unavailable(text)
            | Kind::Unknown(text)
            | Kind::OnlyHere(text)
            | Kind::Denied(text)
            | Kind::Failed(text) => f.write_str(text),
            Kind::Io(what, cause) => write!(f, "{what}: {cause}"),
        }
    }
}

/// The same text: it is what a `main` that returns the error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for Error {
    /// Of what the operating system refused, its own cause: the text above names the refusal already.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            Kind::Io(_, cause) => cause.source(),
            _ => None,
        }
    }
}

/// What a client is told where the fault is neither its own nor that of a channel's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotNow {
    /// For programs.
    pub(crate) reason: &'static str,
    /// A message has reached the members on this node.
    pub(crate) is_only_here: bool,
}

impl NotNow {
    /// What an error of the application's code is to the client, if it is one of the engine's that concerns neither.
    pub(crate) fn of(error: &BoxError) -> Option<Self> {
        let error = error.downcast_ref::<Error>()?;
        let is_only_here = error.is_only_here();
        let reason = match &*error.0 {
            Kind::Unavailable(_) => "unavailable",
            Kind::Unknown(_) | Kind::OnlyHere(_) => "unknown",
            Kind::Denied(_) => "failed",
            _ => return None,
        };
        Some(NotNow { reason, is_only_here })
    }
}
