//! `/api/session`: a browser logs in with a token once, and is known by a cookie from then on.
//!
//! Of the cookie only a digest is kept, and of the token as well: a session ends with its token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, COOKIE, HOST, HeaderName, ORIGIN, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use fanfare::{Connection, shown_address};
use fanfare_proto::cookie;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, ApiError, Code};
use super::wants::{Nothing, Wants};
use super::{Api, token};
use crate::access::{Access, Caller, Digest, digest_of};
use crate::message;
use crate::metrics;

/// Where sessions begin and end.
pub(super) const PATH: &str = "/api/session";

/// A session ends when nothing was asked by it for so long.
const IDLE_MAX: Duration = Duration::from_secs(30 * 60);

/// And in any case after this.
const AGE_MAX: Duration = Duration::from_secs(12 * 3_600);

/// So many there can be. One more takes the place of another, of the token that has most: no token keeps the others out.
const SESSIONS_MAX: usize = 100;

/// So many times a minute an address may try a wrong token.
const FAILURES_MAX: u32 = 5;

const MINUTE: Duration = Duration::from_secs(60);

/// Failures of so many addresses are remembered.
const ADDRESSES_MAX: usize = 1_000;

/// A body of a login is no longer.
const BODY_SIZE_MAX: usize = 8_192;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Who is logged in, and who has tried.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: Mutex<HashMap<Digest, Session>>,
    failures: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Debug)]
struct Session {
    token: Digest,
    /// Since when the token counted as it began.
    since: u64,
    began: Instant,
    used: Instant,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Session {
    /// By which token it goes on, if it does.
    fn access<'t>(&self, tokens: &'t [Access], now: Instant) -> Option<&'t Access> {
        let is_over = now.duration_since(self.used) >= IDLE_MAX || now.duration_since(self.began) >= AGE_MAX;
        Access::find(tokens, &self.token).filter(|access| !is_over && access.since == self.since)
    }
}

impl Sessions {
    /// Whose session a cookie names, if its token still counts.
    fn find(&self, cookie: &str, tokens: &[Access], now: Instant) -> Option<Caller> {
        self.use_of(digest_of(cookie.as_bytes()), tokens, now)
    }

    /// Whether what somebody reads may go on: it is asked again and again. A session that something is read by is in use.
    pub(super) fn still_may(&self, caller: &Caller, tokens: &[Access]) -> bool {
        let goes_on = |session| self.use_of(session, tokens, Instant::now()).is_some();
        caller.still_may(tokens) && caller.session.is_none_or(goes_on)
    }

    fn use_of(&self, cookie: Digest, tokens: &[Access], now: Instant) -> Option<Caller> {
        let mut open = locked(&self.open);
        let session = open.get_mut(&cookie)?;
        match session.access(tokens, now) {
            Some(access) => {
                session.used = now;
                let mut caller = access.caller();
                caller.session = Some(cookie);
                Some(caller)
            }
            None => {
                open.remove(&cookie);
                None
            }
        }
    }

    /// Begins a session of one of these tokens; `cookie` is known to nobody yet.
    fn begin(&self, cookie: &str, access: &Access, tokens: &[Access], now: Instant) {
        let mut open = locked(&self.open);
        open.retain(|_, session| session.access(tokens, now).is_some());
        if open.len() >= SESSIONS_MAX {
            let count = |token: &Digest| open.values().filter(|session| session.token == *token).count();
            let oldest =
                open.iter().max_by_key(|(_, session)| (count(&session.token), now.duration_since(session.used)));
            if let Some(cookie) = oldest.map(|(cookie, _)| *cookie) {
                open.remove(&cookie);
            }
        }
        open.insert(
            digest_of(cookie.as_bytes()),
            Session { token: access.digest, since: access.since, began: now, used: now },
        );
    }

    fn end(&self, cookie: &str) {
        locked(&self.open).remove(&digest_of(cookie.as_bytes()));
    }

    /// # Errors
    /// This address has failed too often; after so many seconds it may try again.
    fn may_try(&self, address: IpAddr, now: Instant) -> Result<(), u64> {
        let mut failures = locked(&self.failures);
        let is_over = |failed: &Failures| now.duration_since(failed.since) >= MINUTE;
        if failures.len() >= ADDRESSES_MAX {
            failures.retain(|_, failed| !is_over(failed));
        }
        match failures.get(&address) {
            Some(failed) if !is_over(failed) && failed.count >= FAILURES_MAX => {
                Err(MINUTE.saturating_sub(now.duration_since(failed.since)).as_secs().max(1))
            }
            None if failures.len() >= ADDRESSES_MAX => Err(MINUTE.as_secs()),
            _ => Ok(()),
        }
    }

    fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = locked(&self.failures);
        let failed = failures.entry(address).or_insert(Failures { since: now, count: 0 });
        if now.duration_since(failed.since) >= MINUTE {
            *failed = Failures { since: now, count: 0 };
        }
        failed.count += 1;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By what failures are counted: an address, of IPv6 the network that one customer has.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// The cookie's name. With TLS no other host and no unencrypted page can set one of this name. To browsers all ports of a host are one
/// when it comes to cookies, so that the port that they know the server by is part of it.
fn cookie_name(headers: &HeaderMap, is_secure: bool) -> String {
    let host = text(headers, &HOST).unwrap_or_default();
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let prefix = if is_secure { "__Host-" } else { "" };
    let port = port.map_or_else(String::new, |port| format!("_{port}"));
    format!("{prefix}fanfare_session{port}")
}

fn given(headers: &HeaderMap, is_secure: bool) -> Option<String> {
    let wanted = cookie_name(headers, is_secure);
    let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let mut pairs = cookies.flat_map(cookie::pairs);
    pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
}

/// Whose session a request belongs to, if it has one.
///
/// # Errors
/// It may have been made by a page of somebody else.
pub(super) fn of(
    sessions: &Sessions,
    tokens: &[Access],
    method: &Method,
    headers: &HeaderMap,
    is_secure: bool,
) -> Result<Option<Caller>, ApiError> {
    let Some(cookie) = given(headers, is_secure) else { return Ok(None) };
    let Some(caller) = sessions.find(&cookie, tokens, Instant::now()) else { return Ok(None) };
    match *method {
        Method::GET | Method::HEAD => check_reader(headers)?,
        _ => check_origin(headers, true)?,
    }
    Ok(Some(caller))
}

/// # Errors
/// A page of somebody else asks, which could not read the answer, but could take up taps and streams.
fn check_reader(headers: &HeaderMap) -> Result<(), ApiError> {
    // A browser says `none` of an address that was typed, and of a page of ours it need not say anything.
    let is_ours = match (text(headers, &FETCH_SITE), text(headers, &ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => is_own(origin, headers),
        (None, None) => true,
    };
    is_ours.then_some(()).ok_or_else(|| ApiError::new(Code::Forbidden, "a session is for this server's own pages only"))
}

/// # Errors
/// The request may come from a page of somebody else: it is no JSON, or of another origin. A browser says where it comes from; where
/// none is needed, a program may leave that out.
fn check_origin(headers: &HeaderMap, is_needed: bool) -> Result<(), ApiError> {
    let is_json = text(headers, &CONTENT_TYPE).is_some_and(|kind| kind.split(';').next() == Some("application/json"));
    let is_ours = match (text(headers, &FETCH_SITE), text(headers, &ORIGIN)) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => is_own(origin, headers),
        (None, None) => !is_needed,
    };
    if is_json && is_ours {
        return Ok(());
    }
    let text = "a request with a session needs the header `Content-Type: application/json` and has to come from this server's own \
                pages; programs send the header `Authorization: Bearer TOKEN` instead";
    Err(ApiError::new(Code::Forbidden, text))
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether a page is of the host that the request is for.
fn is_own(origin: &str, headers: &HeaderMap) -> bool {
    let host = origin.split_once("://").map(|(_, host)| host);
    host.is_some() && host == text(headers, &HOST)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Login {
    token: String,
}

/// Begins a session.
pub(super) async fn log_in(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    check_origin(&headers, false)?;
    let (address, now) = (network(connection.peer.ip()), Instant::now());
    if let Err(seconds) = api.sessions.may_try(address, now) {
        api.metrics.requests.count_login(metrics::Login::Limited);
        let text = format!("too many wrong tokens from this address: try again in {seconds} s");
        let mut response = ApiError::new(Code::TooMany, text).into_response();
        response.headers_mut().insert(axum::http::header::RETRY_AFTER, seconds.into());
        return Ok(response);
    }
    let body = api.bodies.collect(&headers, body, BODY_SIZE_MAX).await?;
    let Login { token: given } = message::decode(&body, r#"{"token": "…"}"#).map_err(ApiError::invalid)?;
    let live = api.live.load();
    let Some(access) = Access::find(&live.tokens, &digest_of(given.as_bytes())) else {
        api.sessions.failed(address, now);
        api.metrics.requests.count_login(metrics::Login::Failed);
        let address = shown_address(connection.peer);
        tracing::warn!(event = "admin_login_failed", %address, "somebody has tried to log in with a wrong token");
        return Err(token::unknown());
    };
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|_| ApiError::new(Code::Internal, "the system gives no random bytes"))?;
    let cookie: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    api.sessions.begin(&cookie, access, &live.tokens, now);
    api.metrics.requests.count_login(metrics::Login::Ok);
    let caller = access.caller();
    tracing::info!(event = "admin_action", token = &*caller.name, action = "log in", "somebody has logged in");
    let told = Answer(json!({ "name": &*caller.name, "rights": caller.rights.names() }));
    Ok(with_cookie(told.into_response(), &cookie_name(&headers, connection.is_secure), &cookie, AGE_MAX))
}

/// Ends the session that the request belongs to.
pub(super) async fn log_out(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Response {
    if let Some(cookie) = given(&headers, connection.is_secure) {
        api.sessions.end(&cookie);
    }
    let name = cookie_name(&headers, connection.is_secure);
    with_cookie(Answer(json!({ "ok": true })).into_response(), &name, "", Duration::ZERO)
}

/// Who asks, and what they may do.
pub(super) async fn tell(Extension(caller): Extension<Caller>, _: Wants<Nothing>) -> Response {
    Answer(json!({ "name": &*caller.name, "rights": caller.rights.names() })).into_response()
}

fn with_cookie(mut response: Response, name: &str, cookie: &str, age: Duration) -> Response {
    let (age_s, secure) = (age.as_secs(), if name.starts_with("__Host-") { "; Secure" } else { "" });
    let text = format!("{name}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age_s}{secure}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    /// The token with all rights, as it began to count with the configuration of this number.
    fn tokens(generation: u64, token: &str) -> Vec<Access> {
        Access::all(generation, &[], None, Some(&Secret::new(token.into())))
    }

    const TOKEN: &str = "a-token-of-some-length";

    #[test]
    fn sessions_end_unused_old_or_with_their_token() {
        let (sessions, tokens, now) = (Sessions::default(), tokens(1, TOKEN), Instant::now());
        let minutes = |minutes: u64| now + Duration::from_secs(minutes * 60);
        sessions.begin("unused", &tokens[0], &tokens, now);
        assert!(sessions.find("unused", &tokens, minutes(29)).is_some());
        assert!(sessions.find("unused", &tokens, minutes(58)).is_some(), "it was used meanwhile");
        assert!(sessions.find("unused", &tokens, minutes(88)).is_none());
        sessions.begin("old", &tokens[0], &tokens, now);
        for at in (0..720).step_by(20) {
            assert!(sessions.find("old", &tokens, minutes(at)).is_some(), "{at}");
        }
        assert!(sessions.find("old", &tokens, minutes(720)).is_none());
        sessions.begin("without", &tokens[0], &tokens, now);
        assert!(sessions.find("without", &[], now).is_none());
        assert!(sessions.find("another", &tokens, now).is_none());
    }

    #[test]
    fn a_token_that_comes_back_does_not_bring_its_sessions() {
        let (sessions, first, now) = (Sessions::default(), tokens(1, TOKEN), Instant::now());
        sessions.begin("c", &first[0], &first, now);
        let kept = Access::all(2, &first, None, Some(&Secret::new(TOKEN.into())));
        assert!(sessions.find("c", &kept, now).is_some(), "a reload that changes something else ends nothing");
        assert!(sessions.find("c", &tokens(4, TOKEN), now).is_none(), "it was away in the third configuration");
    }

    #[test]
    fn one_session_too_many_takes_the_place_of_another_of_the_token_that_has_most() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let tokens = [tokens(1, TOKEN), tokens(1, "a-token-of-somebody-else")].concat();
        let [board, ops] = [&tokens[0], &tokens[1]];
        sessions.begin("ops", ops, &tokens, now);
        let later = |number: usize| now + Duration::from_millis(number as u64);
        for number in 1..SESSIONS_MAX {
            sessions.begin(&format!("board {number}"), board, &tokens, later(number));
        }
        for (number, cookie) in ["ops again", "ops once more"].into_iter().enumerate() {
            sessions.begin(cookie, ops, &tokens, later(SESSIONS_MAX + number));
        }
        let lives = |cookie: &str| sessions.find(cookie, &tokens, later(SESSIONS_MAX + 9)).is_some();
        assert!(["ops", "ops again", "ops once more", "board 3", "board 99"].into_iter().all(lives));
        assert!(!lives("board 1") && !lives("board 2"), "those that were used longest ago");
        assert_eq!(locked(&sessions.open).len(), SESSIONS_MAX);
        sessions.begin("without those whose token is gone", ops, &tokens[1..], later(200));
        assert_eq!(locked(&sessions.open).len(), 4);
    }

    #[test]
    fn wrong_tokens_are_braked_by_address() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let address = |text: &str| network(text.parse().unwrap());
        for _ in 0..FAILURES_MAX {
            assert!(sessions.may_try(address("192.0.2.1"), now).is_ok());
            sessions.failed(address("192.0.2.1"), now);
            sessions.failed(address("2001:db8::1"), now);
        }
        assert_eq!(sessions.may_try(address("192.0.2.1"), now), Err(60));
        assert_eq!(sessions.may_try(address("192.0.2.1"), now + Duration::from_secs(50)), Err(10));
        assert!(sessions.may_try(address("192.0.2.1"), now + MINUTE).is_ok());
        assert!(sessions.may_try(address("192.0.2.2"), now).is_ok());
        assert!(sessions.may_try(address("2001:db8::2"), now).is_err(), "one customer has many of these");
        for number in 0..ADDRESSES_MAX as u32 {
            sessions.failed(IpAddr::from((10 << 24 | number).to_be_bytes()), now);
        }
        assert!(sessions.may_try(address("198.51.100.1"), now).is_err(), "nothing more can be remembered");
        assert!(sessions.may_try(address("198.51.100.1"), now + MINUTE).is_ok());
    }

    #[test]
    fn with_tls_the_cookie_is_of_this_host_and_never_sent_without() {
        for (is_secure, own, expected) in [
            (false, "a", "fanfare_session=c; HttpOnly; SameSite=Strict; Path=/; Max-Age=9"),
            (false, "a:4001", "fanfare_session_4001=c; HttpOnly; SameSite=Strict; Path=/; Max-Age=9"),
            (true, "[::1]", "__Host-fanfare_session=c; HttpOnly; SameSite=Strict; Path=/; Max-Age=9; Secure"),
            (true, "[::1]:4001", "__Host-fanfare_session_4001=c; HttpOnly; SameSite=Strict; Path=/; Max-Age=9; Secure"),
        ] {
            let host = |host: &str| (HOST, HeaderValue::from_str(host).unwrap());
            let name = cookie_name(&HeaderMap::from_iter([host(own)]), is_secure);
            let response = with_cookie(Response::default(), &name, "c", Duration::from_secs(9));
            assert_eq!(response.headers()[SET_COOKIE], expected);
            let pair: HeaderValue = expected.split(';').next().unwrap().parse().unwrap();
            let given_at =
                |at: &str, is_secure| given(&HeaderMap::from_iter([host(at), (COOKIE, pair.clone())]), is_secure);
            assert_eq!(given_at(own, is_secure).as_deref(), Some("c"));
            assert_eq!(given_at(own, !is_secure), None);
            assert_eq!(given_at("a:4002", is_secure), None, "the cookie of another server on this host");
        }
    }

    fn headers_of(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let named = |&(name, value): &_| (HeaderName::from_static(name), HeaderValue::from_static(value));
        headers.iter().map(named).collect()
    }

    #[test]
    fn a_request_with_a_session_comes_from_our_own_pages() {
        let check = |headers: &[(&'static str, &'static str)], is_needed: bool| {
            check_origin(&headers_of(headers), is_needed).is_ok()
        };
        let json = ("content-type", "application/json");
        assert!(check(&[json, ("sec-fetch-site", "same-origin")], true));
        assert!(check(&[json, ("host", "a:1"), ("origin", "http://a:1")], true));
        assert!(!check(&[json], true) && check(&[json], false));
        assert!(!check(&[("sec-fetch-site", "same-origin")], true));
        assert!(!check(&[("content-type", "text/plain"), ("sec-fetch-site", "same-origin")], true));
        for site in ["cross-site", "same-site", "none"] {
            assert!(!check(&[json, ("sec-fetch-site", site), ("host", "a"), ("origin", "http://a")], false), "{site}");
        }
        assert!(!check(&[json, ("host", "a:1"), ("origin", "http://b:1")], false));
        assert!(!check(&[json, ("host", "a:1"), ("origin", "null")], false));
        let reads = |headers: &[(&'static str, &'static str)]| check_reader(&headers_of(headers)).is_ok();
        assert!(reads(&[]) && reads(&[("sec-fetch-site", "none")]) && reads(&[("sec-fetch-site", "same-origin")]));
        assert!(reads(&[("host", "a:1"), ("origin", "http://a:1")]));
        for headers in [
            &[("sec-fetch-site", "same-site")][..],
            &[("host", "a:1"), ("origin", "http://b:1")],
            &[("host", "a:1"), ("origin", "null")],
        ] {
            assert!(!reads(headers), "{headers:?}");
        }
    }
}
