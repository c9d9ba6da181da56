//! The part of an address that says who connects to what: `user:password@host:port`.

use std::fmt;

/// Who connects to what.
pub(super) struct Authority {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Reads it. `expected` says what is to be written instead where it is none.
///
/// # Errors
/// What is wrong with it. The text has no password.
pub(super) fn parse(text: &str, default_port: u16, expected: &str) -> Result<Authority, String> {
    let (credentials, place) = match text.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, text),
    };
    if place.contains('?') {
        // It may be a password.
        return Err(format!("nothing stands behind a \"?\" here: {expected}"));
    }
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let number = port.parse().ok().filter(|port| *port != 0);
            (host, number.ok_or_else(|| format!("{port:?} is not a port: {expected}"))?)
        }
        _ => (place, default_port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return Err(format!("it names no host: {expected}"));
    }
    let (user, password) = credentials.map(self::credentials).transpose()?.unwrap_or_default();
    Ok(Authority { user, password, host: host.to_owned(), port })
}

/// Reads the part in front of the host: `user:password`, either of which may be missing.
///
/// # Errors
/// What is wrong with it. The text has no password.
pub(super) fn credentials(text: &str) -> Result<(Option<String>, Option<String>), String> {
    let decoded =
        |text: &str| decode(text).ok_or_else(|| "a user or password with \"%\" that is not percent-encoded".to_owned());
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (text, None),
    };
    Ok((Some(decoded(user)?).filter(|user| !user.is_empty()), password))
}

/// Writes where something is.
///
/// # Errors
/// Those of the formatter.
pub(super) fn show(host: &str, port: u16, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, left)) = rest.split_first() {
        rest = left;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, left) = rest.split_at_checked(2)?;
        let digits = str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = left;
    }
    String::from_utf8(bytes).ok()
}
