//! Answers of the API.

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use fanfare::{BodyError, Error, OverQuota};
use serde::Serialize;
use serde_json::{Value, json};

/// In how many seconds to ask again for what cannot be had now.
const RETRY_AFTER_S: u64 = 1;

macro_rules! codes {
    ($($variant:ident = $name:literal, $status:ident, $about:literal;)*) => {
        /// What kind of error it is; clients go by this and not by the text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code { $(#[doc = $about] $variant,)* }

        impl Code {
            const ALL: &'static [Code] = &[$(Code::$variant,)*];

            pub(super) fn names() -> Vec<&'static str> {
                Code::ALL.iter().map(|code| code.name()).collect()
            }

            pub(super) fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status,)* }
            }

            /// When it is the answer, in the words of docs/http-api.md.
            #[cfg(test)]
            fn about(self) -> &'static str {
                match self { $(Code::$variant => $about,)* }
            }
        }
    };
}

codes! {
    Malformed = "malformed", BAD_REQUEST, "The body broke off, or is not sent as its head says.";
    Unauthorized = "unauthorized", UNAUTHORIZED, "No token, another token, or the server has none.";
    Forbidden = "forbidden", FORBIDDEN, "The token lacks a right, which the message names, or a request with a session does not come from the console.";
    NotFound = "not_found", NOT_FOUND, "There is no such path, nobody is connected with this key, or the socket has gone.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The path takes another method.";
    Timeout = "timeout", REQUEST_TIMEOUT, "The body of the request did not come in time.";
    Conflict = "conflict", CONFLICT, "A message expects its topic at another position than the topic is at. The other messages of the request are published.";
    RestartNeeded = "restart_needed", CONFLICT, "The configuration has changed in a key that counts only after a restart. Nothing was changed.";
    NotReloaded = "not_reloaded", CONFLICT, "The server drains or is being upgraded: it reads its configuration no more. Nothing was changed.";
    NotUpgraded = "not_upgraded", CONFLICT, "No new process has taken over. The old one serves as before, unless the message says that its histories are closed.";
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The body is over 8,000,000 bytes.";
    Invalid = "invalid", UNPROCESSABLE_ENTITY, "The body or a parameter is not what is expected.";
    TooMany = "too_many", TOO_MANY_REQUESTS, "As many taps or streams as there can be: end one. Or too many logins with wrong tokens: try again after the seconds that `Retry-After` says.";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "More messages than `admin.publish_rate` allows. None of them is published: send them again after the seconds that `Retry-After` says.";
    Quota = "quota", TOO_MANY_REQUESTS, "More messages than the tenant of the token may publish, or its clients were sent all bytes of the day. None of them is published: send them again after the seconds that `Retry-After` says.";
    Internal = "internal", INTERNAL_SERVER_ERROR, "A fault of the server, which its log has.";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "A message cannot be published now. Send it again after the seconds that `Retry-After` says. Without that header, and with `\"delivered\": \"local\"`, the members on this node have it, and get it twice if it is sent again.";
    Unknown = "unknown", GATEWAY_TIMEOUT, "The broker has not answered: the message may have been published. With an `idempotency_key` it can be sent again.";
}

/// A refusal.
#[derive(Debug)]
pub(super) struct ApiError {
    code: Code,
    message: String,
    /// A message has reached the members on this node.
    is_only_here: bool,
    /// After how many seconds it can be asked again.
    retry_after_s: Option<u64>,
}

impl ApiError {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        let retry_after_s = (code == Code::Unavailable).then_some(RETRY_AFTER_S);
        Self { code, message: message.into(), is_only_here: false, retry_after_s }
    }

    /// What can be asked again after so many seconds.
    pub(super) fn rate_limited(message: impl Into<String>, retry_after_s: u64) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(Code::RateLimited, message) }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }
}

impl Code {
    /// What kind an error of the engine is.
    pub(super) fn of(error: &Error) -> Self {
        match () {
            () if error.is_invalid() => Self::Invalid,
            () if error.is_conflict() => Self::Conflict,
            () if error.is_unavailable() => Self::Unavailable,
            () if error.is_unknown() => Self::Unknown,
            () => Self::Internal,
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let told = Self::new(Code::of(&error), error.to_string());
        match error.is_only_here() {
            // Sent again it comes twice: that is not for a program to decide by a header.
            true => Self { is_only_here: true, retry_after_s: None, ..told },
            false => told,
        }
    }
}

impl From<OverQuota> for ApiError {
    fn from(over: OverQuota) -> Self {
        let wait = over.retry_after().map(|wait| u64::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX));
        Self { retry_after_s: wait, ..Self::new(Code::Quota, over.to_string()) }
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge(_) => Code::TooLarge,
            BodyError::TimedOut(_) => Code::Timeout,
            BodyError::NoRoom => Code::Unavailable,
            _ => Code::Malformed,
        };
        Self::new(code, error.to_string())
    }
}

impl ApiError {
    /// What is told of it.
    pub(super) fn told(&self) -> Value {
        let mut told = json!({ "code": self.code.name(), "message": self.message });
        if self.is_only_here {
            told["delivered"] = "local".into();
        }
        told
    }

    /// Whether the same can be asked again later.
    pub(super) fn is_passing(&self) -> bool {
        self.code == Code::Unavailable
    }

    /// The answer with a body that tells of it.
    pub(super) fn respond(&self, body: Value) -> Response {
        let mut response = (self.code.status(), Answer(body)).into_response();
        let header = match self.code {
            Code::Unauthorized => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            _ => self.retry_after_s.map(|seconds| (RETRY_AFTER, seconds.into())),
        };
        response.headers_mut().extend(header);
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond(json!({ "error": self.told() }))
    }
}

/// What stands in a path, decoded.
pub(super) fn of_path(path: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    let Path(text) =
        path.map_err(|error| ApiError::invalid(format!("the path cannot be read: {}", error.body_text())))?;
    Ok(text)
}

/// A JSON answer.
#[derive(Debug)]
pub(super) struct Answer<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use fanfare_tables::Table;

    use super::*;

    #[test]
    fn error_codes_stand_in_the_guide() {
        let mut table = Table::new(&["status", "`code`", "when"]);
        for code in Code::ALL {
            table.row(&[code.status().as_str(), &format!("`{}`", code.name()), code.about()]);
        }
        table.check("http-api.md", "error-codes");
    }
}
