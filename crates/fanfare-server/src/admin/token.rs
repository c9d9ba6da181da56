//! The API token.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use super::answer::{ApiError, Code};
use crate::config::secret::Secret;

/// Checks the token of a request.
///
/// # Errors
/// No token is set, or the request has none or another one.
pub(super) fn check(token: Option<&Secret>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(token) = token else {
        let text = "no API token is set, so that the API is closed; set token_env or token_file in [admin], or the \
                    environment variable FANFARE_ADMIN_TOKEN, and start again";
        return Err(ApiError::new(Code::Unauthorized, text));
    };
    let Some(given) = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes())) else {
        let text = "the API takes a token: send the header `Authorization: Bearer TOKEN`";
        return Err(ApiError::new(Code::Unauthorized, text));
    };
    if is_equal(given, token.expose().as_bytes()) {
        return Ok(());
    }
    Err(ApiError::new(Code::Unauthorized, "this is not the API token of this server"))
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Takes as long for a nearly right token as for a wrong one; only the length shows.
fn is_equal(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len() && given.iter().zip(token).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        #[track_caller]
        fn check_header(header: Option<&'static str>, is_right: bool) {
            let token = Secret::new("right-token-of-some-length".into());
            let headers = header.map(|header| (AUTHORIZATION, header.parse().unwrap()));
            assert_eq!(check(Some(&token), &headers.into_iter().collect()).is_ok(), is_right, "{header:?}");
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
        assert!(check(None, &HeaderMap::new()).is_err());
    }
}
