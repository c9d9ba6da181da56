//! What client and server agree on about compression (RFC 7692, sections 5 and 7.1).

use http::header::{self, HeaderMap, HeaderValue};

/// The smallest window that a client may ask for, as a power of two.
pub const WINDOW_BITS_MIN: u8 = 8;

/// The largest window, as a power of two, and what is used when the client does not ask for less.
pub const WINDOW_BITS_MAX: u8 = 15;

const NAME: &str = "permessage-deflate";

/// What was agreed on. Neither side keeps a context from one message to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub response: HeaderValue,
    /// The window that messages to this client may use; [`WINDOW_BITS_MAX`] for nearly all.
    pub window_bits: u8,
}

/// Accepts the first offer of permessage-deflate that can be honoured. `None` if there is none, or if the header cannot
/// be parsed: the connection then goes on without compression.
pub fn negotiate(headers: &HeaderMap) -> Option<Agreement> {
    // Offers count in their order over all lines, so one that can be accepted is remembered until the rest has parsed.
    let mut accepted = None;
    for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
        // Trimmed once: what is left of it ends as it does, so that a list of nothing but commas is not looked through for each.
        let mut rest = value.to_str().ok()?.trim();
        while !rest.is_empty() {
            let (offer, after) = cut(rest, b',')?;
            rest = after;
            accepted = accepted.or_else(|| accept(offer));
        }
    }
    let window_bits_asked = accepted?;
    let mut response = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
    if let Some(bits) = window_bits_asked {
        response.push_str(&format!("; server_max_window_bits={bits}"));
    }
    Some(Agreement {
        response: HeaderValue::try_from(response).expect("made of visible characters"),
        window_bits: window_bits_asked.unwrap_or(WINDOW_BITS_MAX),
    })
}

/// The window size that one offer asks for, if it does, which the answer then has to confirm; `None` declines the offer.
fn accept(offer: &str) -> Option<Option<u8>> {
    let (name, mut rest) = cut(offer, b';')?;
    if !name.trim().eq_ignore_ascii_case(NAME) {
        return None;
    }
    let mut seen = [false; 4];
    let mut window_bits_asked = None;
    // A `;` with nothing behind it is an empty parameter, which is unknown.
    let mut more = offer.len() > name.len();
    while more {
        let (parameter, after) = cut(rest, b';')?;
        more = rest.len() > parameter.len();
        rest = after;
        let (key, value) = match parameter.split_once('=') {
            Some((key, value)) => (key.trim(), Some(unquote(value.trim())?)),
            None => (parameter.trim(), None),
        };
        let index = match (key.to_ascii_lowercase().as_str(), value) {
            ("server_no_context_takeover", None) => 0,
            ("client_no_context_takeover", None) => 1,
            ("server_max_window_bits", Some(value)) => {
                window_bits_asked = Some(bits(value)?);
                2
            }
            // We inflate with the largest window, so that the client may use what it likes and no answer is due.
            ("client_max_window_bits", None) => 3,
            ("client_max_window_bits", Some(value)) => {
                bits(value)?;
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut seen[index], true) {
            return None;
        }
    }
    Some(window_bits_asked)
}

/// A window size in decimal, without leading zeros.
fn bits(value: &str) -> Option<u8> {
    let plain = !value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|bits| plain && (WINDOW_BITS_MIN..=WINDOW_BITS_MAX).contains(bits))
}

/// The value of a parameter, which is a token or a token in quotes.
fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"'),
        None => Some(value),
    }
}

/// Splits at the first `separator` outside quotes; what follows is empty when there is none. `None` if a quote is not
/// closed.
fn cut(list: &str, separator: u8) -> Option<(&str, &str)> {
    let mut quoted = false;
    for (at, byte) in list.bytes().enumerate() {
        if byte == b'"' {
            quoted = !quoted;
        } else if byte == separator && !quoted {
            return Some((&list[..at], &list[at + 1..]));
        }
    }
    (!quoted).then_some((list, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was agreed on.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Expected {
        NoCompression,
        FullWindow,
        Asked(u8),
    }
    use Expected::*;

    fn check(lines: &[&'static str], expected: Expected) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(line));
        }
        let base = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let expected = match expected {
            NoCompression => None,
            FullWindow => Some((base.to_owned(), 15)),
            Asked(bits) => Some((format!("{base}; server_max_window_bits={bits}"), bits)),
        };
        let actual = negotiate(&headers).map(|it| (it.response.to_str().unwrap().to_owned(), it.window_bits));
        assert_eq!(actual, expected, "{lines:?}");
    }

    #[test]
    fn offers_that_are_accepted() {
        check(&["permessage-deflate"], FullWindow);
        check(&["Permessage-Deflate"], FullWindow);
        check(&["permessage-deflate; client_max_window_bits"], FullWindow); // browsers
        check(&["permessage-deflate;client_max_window_bits=10"], FullWindow);
        check(&["permessage-deflate; client_max_window_bits=8"], FullWindow);
        check(&["permessage-deflate; server_no_context_takeover; client_no_context_takeover"], FullWindow);
        check(&["permessage-deflate; server_max_window_bits=15"], Asked(15));
        check(&["permessage-deflate; server_max_window_bits=9"], Asked(9));
        check(&["permessage-deflate; server_max_window_bits = \"10\""], Asked(10));
        check(&["x-webkit-deflate-frame, permessage-deflate"], FullWindow);
        check(&["x; a=\"1, 2; permessage-deflate\"", "permessage-deflate; server_max_window_bits=12"], Asked(12));
    }

    #[test]
    fn the_first_that_can_be_honoured_wins() {
        check(&["permessage-deflate; server_max_window_bits=9, permessage-deflate"], Asked(9));
        check(&["permessage-deflate, permessage-deflate; server_max_window_bits=9"], FullWindow);
        check(&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], Asked(8));
        check(&["permessage-deflate; what, permessage-deflate; server_max_window_bits=11"], Asked(11));
    }

    #[test]
    fn offers_that_are_declined() {
        check(&[], NoCompression);
        check(&[""], NoCompression);
        check(&["permessage-bzip2"], NoCompression);
        check(&["permessage-deflate; unknown"], NoCompression);
        check(&["permessage-deflate;"], NoCompression);
        check(&["permessage-deflate; ; client_max_window_bits"], NoCompression);
        check(&["permessage-deflate; server_no_context_takeover=1"], NoCompression);
        check(&["permessage-deflate; client_no_context_takeover="], NoCompression);
        check(&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], NoCompression);
        check(&["permessage-deflate; client_max_window_bits; client_max_window_bits=9"], NoCompression);
        for value in ["", "=", "=7", "=16", "=010", "=+9", "=9.", "=256", "=9\"", "=\"9"] {
            let line = format!("permessage-deflate; server_max_window_bits{value}");
            check(&[line.leak()], NoCompression);
        }
        for value in ["=", "=7", "=16", "=08", "=x"] {
            let line = format!("permessage-deflate; client_max_window_bits{value}");
            check(&[line.leak()], NoCompression);
        }
        // A quote that is not closed spoils the header.
        check(&["permessage-deflate, x; a=\"b"], NoCompression);
    }
}
