//! What a request needs, and the token that it is sent with.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};

use super::answer::{ApiError, Code};
use crate::access::{Access, Caller, digest_of};
use crate::config::token::Right;

/// # Errors
/// Whoever asks has not this right.
pub(super) fn check_right(caller: &Caller, right: Right) -> Result<(), ApiError> {
    if caller.rights.has(right) {
        return Ok(());
    }
    let text = format!(
        "the token {:?} lacks the right {}: add it to `may` of its [[admin.token]], or use another token",
        caller.name,
        right.name()
    );
    Err(ApiError::new(Code::Forbidden, text))
}

/// What a request needs; nothing but that somebody asks if there is none.
pub(super) fn needed(method: &Method, path: &str) -> Option<Right> {
    match path {
        super::session::PATH => None,
        "/api/publish" => Some(Right::Publish),
        "/api/disconnect" => Some(Right::Disconnect),
        "/api/reload" | "/api/upgrade" | "/api/config" | "/api/drain" | "/api/log" => Some(Right::Operate),
        _ if method == Method::DELETE => Some(Right::Disconnect),
        "/api/tap" => Some(Right::Tap),
        _ if path.starts_with("/api/history/") || path.starts_with("/api/presence/") => Some(Right::Tap),
        _ => Some(Right::Read),
    }
}

/// Who sends a request with a token; `None` if there is none. Of one that does not count it is `told`.
///
/// # Errors
/// None is set, or it is another one.
pub(super) fn bearer(tokens: &[Access], headers: &HeaderMap, told: impl FnOnce()) -> Result<Option<Caller>, ApiError> {
    if tokens.is_empty() {
        let text = "no API token is set, so that the API is closed; set token_env or token_file in [admin], or the \
                    environment variable FANFARE_ADMIN_TOKEN, and start again";
        return Err(ApiError::new(Code::Unauthorized, text));
    }
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let given = after_scheme(header.as_bytes());
    let given = given.ok_or_else(missing)?;
    let caller = Access::find(tokens, &digest_of(given)).map(|access| Some(access.caller()));
    caller.ok_or_else(|| {
        told();
        unknown()
    })
}

/// A token that does not count.
pub(super) fn unknown() -> ApiError {
    ApiError::new(Code::Unauthorized, "this is not an API token of this server")
}

/// Nobody says who asks.
pub(super) fn missing() -> ApiError {
    ApiError::new(Code::Unauthorized, "the API takes a token: send the header `Authorization: Bearer TOKEN`")
}

fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    #[test]
    fn tokens() {
        #[track_caller]
        fn check_header(header: Option<&'static str>, is_right: bool) {
            let own = Secret::new("right-token-of-some-length".into());
            let headers = header.map(|header| (AUTHORIZATION, header.parse().unwrap())).into_iter().collect();
            let mut is_told = false;
            let who = bearer(&Access::all(1, &[], None, Some(&own)), &headers, || is_told = true);
            assert_eq!(matches!(who, Ok(Some(_))), is_right, "{header:?}");
            let is_wrong = header.is_some_and(|header| header.starts_with("Bearer ")) && !is_right;
            assert_eq!(is_told, is_wrong, "{header:?}");
        }
        check_header(Some("Bearer right-token-of-some-length"), true);
        check_header(Some("bearer  right-token-of-some-length "), true);
        check_header(Some("Bearer right-token-of-some-lengtH"), false);
        check_header(Some("Bearer right-token-of-some-length2"), false);
        check_header(Some("Bearer "), false);
        check_header(Some("Bearer"), false);
        check_header(Some("Basic right-token-of-some-length"), false);
        check_header(Some("right-token-of-some-length"), false);
        check_header(None, false);
        assert!(bearer(&[], &HeaderMap::new(), || ()).is_err());
    }

    #[test]
    fn each_request_needs_its_right() {
        for (method, path, right) in [
            ("GET", "/api/topics", Some(Right::Read)),
            ("GET", "/metrics", Some(Right::Read)),
            ("GET", "/api/unknown", Some(Right::Read)),
            ("GET", "/api/presence/a", Some(Right::Tap)),
            ("GET", "/api/history/a", Some(Right::Tap)),
            ("GET", "/api/tap", Some(Right::Tap)),
            ("POST", "/api/publish", Some(Right::Publish)),
            ("POST", "/api/disconnect", Some(Right::Disconnect)),
            ("DELETE", "/api/sockets/0-1-1", Some(Right::Disconnect)),
            ("DELETE", "/api/connections/a", Some(Right::Disconnect)),
            ("POST", "/api/reload", Some(Right::Operate)),
            ("POST", "/api/upgrade", Some(Right::Operate)),
            ("GET", "/api/config", Some(Right::Operate)),
            ("GET", "/api/session", None),
        ] {
            assert_eq!(needed(&method.parse().unwrap(), path), right, "{method} {path}");
        }
    }
}
