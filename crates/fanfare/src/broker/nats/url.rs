//! Addresses of servers: `nats://user:password@host:4222`, `nats://token@host`, and `tls://` to insist on TLS; several with commas.

use std::fmt;

use crate::broker::authority::{self, Authority};

/// The port where none is given.
const PORT: u16 = 4222;

/// So many servers may be named.
const SERVERS_MAX: usize = 32;

const EXPECTED: &str = "write it as nats://user:password@host:4222, or tls:// for TLS";

/// Where a server is, and who is to connect.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) host: String,
    pub(super) port: u16,
    /// Without TLS it is of no use.
    pub(super) tls: bool,
    pub(super) login: Login,
}

/// How a node says who it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Nobody,
    Token(String),
    User { name: String, password: String },
}

impl Url {
    /// Reads addresses, one at least. Those without credentials have those of the first.
    ///
    /// # Errors
    /// What is wrong and what to write instead. The text has no password.
    pub(super) fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let mut urls: Vec<Url> = text.split(',').map(|text| Url::parse(text.trim())).collect::<Result<_, _>>()?;
        if urls.len() > SERVERS_MAX {
            return Err(format!(
                "it names {} servers, more than {SERVERS_MAX}: a few of a cluster are enough",
                urls.len()
            ));
        }
        let first = urls[0].login.clone();
        urls.iter_mut().filter(|url| url.login == Login::Nobody).for_each(|url| url.login = first.clone());
        Ok(urls)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            Some(("nats", rest)) => (false, rest),
            Some(("tls", rest)) => (true, rest),
            Some((scheme, _)) => return Err(format!("the scheme {scheme:?} is not NATS: {EXPECTED}")),
            None => return Err(format!("not a URL: {EXPECTED}")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some((_, path)) = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest).split_once('/') {
            return Err(format!("the path {path:?} has no meaning: {EXPECTED}"));
        }
        let Authority { user, password, host, port } = authority::parse(rest, PORT, EXPECTED)?;
        let login = match (user, password) {
            (Some(name), Some(password)) => Login::User { name, password },
            (Some(token), None) => Login::Token(token),
            (None, None) => Login::Nobody,
            (None, Some(_)) => return Err(format!("it has a password without a user: {EXPECTED}")),
        };
        Ok(Url { host, port, tls, login })
    }
}

impl fmt::Display for Url {
    /// Where it is, without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        authority::show(&self.host, self.port, f)
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, port: u16, tls: bool, login: Login) -> Url {
        Url { host: host.into(), port, tls, login }
    }

    fn user(name: &str, password: &str) -> Login {
        Login::User { name: name.into(), password: password.into() }
    }

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("nats://localhost", vec![url("localhost", 4222, false, Login::Nobody)]),
            ("tls://nats.example/", vec![url("nats.example", 4222, true, Login::Nobody)]),
            ("nats://s3cret@10.0.0.7", vec![url("10.0.0.7", 4222, false, Login::Token("s3cret".into()))]),
            ("nats://chat:p%40ss%3a@h:1", vec![url("h", 1, false, user("chat", "p@ss:"))]),
            ("nats://chat:a@b@[::1]:7000", vec![url("::1", 7000, false, user("chat", "a@b"))]),
            (
                "nats://chat:secret@a, tls://b:5,nats://other@c",
                vec![
                    url("a", 4222, false, user("chat", "secret")),
                    url("b", 5, true, user("chat", "secret")),
                    url("c", 4222, false, Login::Token("other".into())),
                ],
            ),
        ] {
            assert_eq!(Url::parse_all(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_its_secret() {
        for (text, said) in [
            ("localhost:4222", "not a URL"),
            ("redis://secret@localhost", "the scheme \"redis\" is not NATS"),
            ("nats://", "it names no host"),
            ("nats://a,", "not a URL"),
            ("nats://:7000", "it names no host"),
            ("nats://h:0", "\"0\" is not a port"),
            ("nats://secret@h:65536", "\"65536\" is not a port"),
            ("nats://:secret@h", "it has a password without a user"),
            ("nats://h/3", "the path \"3\" has no meaning"),
            ("nats://secret%zz@h", "a user or password with \"%\""),
            (&["nats://h"; 33].join(","), "it names 33 servers, more than 32"),
        ] {
            let error = Url::parse_all(text).unwrap_err();
            assert!(error.starts_with(said) && !error.contains("secret"), "{text}: {error}");
        }
        let url = Url::parse_all("nats://chat:secret@[::1]:7000").unwrap();
        assert_eq!(format!("{} {url:?}", url[0]), "[::1]:7000 [Url([::1]:7000)]");
    }
}
