//! The token beside the parameters by which a client shows who it is: in the subprotocols of an upgrade, in a header of a
//! long-poll.

use fanfare_proto::phoenix::auth_token::{self, AuthToken};
use fanfare_proto::websocket::handshake;
use http::{HeaderMap, HeaderValue};

use super::admission::Asking;
use super::refusal::Refusal;
use crate::mount::Mount;
use crate::protocol::Served;
use crate::transport::Transport;

/// The subprotocol that a client with an auth token asks for.
const PHOENIX_SUBPROTOCOL: &str = "phoenix";

/// The same for clients that are none of Phoenix's.
const OWN_SUBPROTOCOL: &str = "fanfare";

/// The application's token, on the request that creates a long-poll session.
const AUTH_TOKEN_HEADER: &str = "x-phoenix-authtoken";

/// The auth token of a request, where it has one.
pub(super) fn auth_token(asking: &Asking<'_>) -> Result<Option<String>, Refusal> {
    let (mount, headers) = (&asking.found.mount, &asking.parts.headers);
    match asking.transport {
        Transport::WebSocket | Transport::Local => Ok(subprotocol(mount, headers)?.1),
        Transport::LongPoll if asking.found.served == Served::LongPoll && mount.auth_token => {
            let header = headers.get(AUTH_TOKEN_HEADER).and_then(|token| token.to_str().ok());
            Ok(header.map(str::to_owned))
        }
        Transport::LongPoll | Transport::EventStream => Ok(None),
    }
}

/// The subprotocol to confirm, and the auth token.
pub(super) fn subprotocol(
    mount: &Mount,
    headers: &HeaderMap,
) -> Result<(Option<HeaderValue>, Option<String>), Refusal> {
    let mut served: Vec<&str> = mount.subprotocols.iter().map(String::as_str).collect();
    let (mut token, mut offered) = (None, handshake::subprotocols(headers).collect::<Vec<_>>());
    let had_offers = !offered.is_empty();
    if mount.auth_token {
        served.splice(0..0, [PHOENIX_SUBPROTOCOL, OWN_SUBPROTOCOL]);
        let (auth_token, rest) = auth_token::extract(offered.into_iter());
        token = match auth_token {
            AuthToken::Absent => None,
            AuthToken::Token(token) => Some(token),
            AuthToken::Undecodable => return Err(Refusal::AuthToken),
        };
        offered = rest;
    }
    // Nobody asks for a token here, but a stock client that has one insists on an answer to its offer.
    if served.is_empty()
        && let Some(name) = mount.dialect.subprotocol().filter(|name| offered.contains(name))
    {
        return Ok((Some(HeaderValue::from_static(name)), None));
    }
    // A lone auth token asks for no protocol.
    if served.is_empty() || !had_offers || (token.is_some() && offered.is_empty()) {
        return Ok((None, token));
    }
    match served.iter().find(|name| offered.contains(name)) {
        Some(chosen) => Ok((HeaderValue::from_str(chosen).ok(), token)),
        // What is offered may be a token that a client has put there: only what is served is told.
        None => Err(Refusal::Subprotocol(served.join(", "))),
    }
}
