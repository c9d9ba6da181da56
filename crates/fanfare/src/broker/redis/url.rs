//! The address of a Redis: `redis://user:password@host:6379`, and `rediss://` for TLS; of several servers, with commas between; of
//! the sentinels of one, `redis+sentinel://user:password@host:26379,host:26379/NAME?sentinel=user:password`; and of a Redis Cluster,
//! `redis+cluster://user:password@host:6379,host:6379`. `rediss+sentinel://` and `rediss+cluster://` are those with TLS.

use std::fmt;

use crate::broker::authority::{self, Authority};

/// The port where none is given.
const PORT: u16 = 6379;

/// The port of a sentinel where none is given.
const SENTINEL_PORT: u16 = 26379;

/// What addresses begin with whose servers speak TLS: one or several, found by sentinels, of a cluster.
pub(super) const TLS: &str = "rediss://";
pub(super) const SENTINEL_TLS: &str = "rediss+sentinel://";
pub(super) const CLUSTER_TLS: &str = "rediss+cluster://";

/// Those who know where a master is, by which name they know it, and who is to ask them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Sentinels {
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) master: String,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// Where a server is, and who is to connect.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// They are asked where it is; `host` and `port` are those of the first.
    pub(super) sentinels: Option<Sentinels>,
}

/// More servers are never meant.
const SERVERS_MAX: usize = 100;

/// What an address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Servers {
    /// Those that share the topics and know nothing of each other; one of them may be the master that sentinels know.
    Several(Vec<Url>),
    /// Some of a Redis Cluster, all with the same credentials.
    Cluster(Vec<Url>),
}

impl Servers {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead. The text has no password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        for (scheme, tls) in [("redis+cluster://", false), (CLUSTER_TLS, true)] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return Url::of_cluster(rest, tls).map(Servers::Cluster);
            }
        }
        Url::parse_all(text).map(Servers::Several)
    }

    pub(super) fn urls(&self) -> &[Url] {
        let (Servers::Several(urls) | Servers::Cluster(urls)) = self;
        urls
    }
}

impl Url {
    /// Reads one address or several, with commas between.
    fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        for (scheme, tls) in [("redis+sentinel://", false), (SENTINEL_TLS, true)] {
            if let Some(rest) = text.strip_prefix(scheme) {
                return Url::by_sentinels(rest, tls).map(|url| vec![url]);
            }
        }
        let mut urls: Vec<Url> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            // A password may have a comma.
            let end = [",redis://", ",rediss://"].iter().filter_map(|next| rest.find(next)).min().unwrap_or(rest.len());
            let url = Url::parse(&rest[..end])?;
            if urls.iter().any(|other| (&other.host, other.port) == (&url.host, url.port)) {
                return Err(format!("the server {url} is named twice"));
            }
            urls.push(url);
            rest = rest[end..].strip_prefix(',').unwrap_or_default();
        }
        match urls.len() {
            0 => Url::parse(text).map(|url| vec![url]),
            1..=SERVERS_MAX => Ok(urls),
            count => Err(format!("{count} servers are more than {SERVERS_MAX}")),
        }
    }

    fn of_cluster(rest: &str, tls: bool) -> Result<Vec<Self>, String> {
        let expected = "write it as redis+cluster://user:password@host:6379,host:6379, with some of the cluster's servers, or \
                        rediss+cluster:// for TLS";
        let (credentials, places) = match rest.rsplit_once('@') {
            Some((credentials, places)) => (format!("{credentials}@"), places),
            None => (String::new(), rest),
        };
        if let Some((_, path)) = places.split_once('/') {
            return Err(format!("the path {path:?} has no meaning: {expected}"));
        }
        let mut urls: Vec<Url> = Vec::new();
        for place in places.split(',') {
            let Authority { user, password, host, port } =
                authority::parse(&format!("{credentials}{place}"), PORT, expected)?;
            if user.is_some() && password.is_none() {
                return Err(format!(
                    "it has a user without a password: {expected}, with \":\" before a password alone"
                ));
            }
            urls.push(Url { host, port, tls, user, password, sentinels: None });
        }
        match urls.len() {
            ..=SERVERS_MAX => Ok(urls),
            count => Err(format!("{count} servers are more than {SERVERS_MAX}: some of the cluster's are enough")),
        }
    }

    fn by_sentinels(rest: &str, tls: bool) -> Result<Self, String> {
        let expected = "write it as redis+sentinel://user:password@host:26379,host:26379/NAME, where NAME is what the sentinels call \
                        the master, and user and password are the master's; with ?sentinel=user:password behind that if the sentinels \
                        want a password of their own, and rediss+sentinel:// for TLS with all of them";
        // The end comes first: a password in it may have an "@".
        let (rest, own) = match rest.rsplit_once("?sentinel=") {
            Some((rest, own)) => match authority::credentials(own)? {
                (_, None) => return Err(format!("it has no password behind \"?sentinel=\": {expected}")),
                own => (rest, own),
            },
            None => (rest, (None, None)),
        };
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (format!("{credentials}@"), rest),
            None => (String::new(), rest),
        };
        let (places, master) = rest
            .split_once('/')
            .filter(|(_, master)| !master.is_empty())
            .ok_or_else(|| format!("it does not say what the sentinels call the master: {expected}"))?;
        if master.contains('?') {
            // It may be a password.
            return Err(format!("what stands behind its \"?\" is not sentinel=user:password: {expected}"));
        }
        let hosts = places.split(',').map(|place| {
            authority::parse(place, SENTINEL_PORT, expected).map(|Authority { host, port, .. }| (host, port))
        });
        let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
        if hosts.len() > SERVERS_MAX {
            return Err(format!("{} sentinels are more than {SERVERS_MAX}", hosts.len()));
        }
        let first = places.split(',').next().unwrap_or_default();
        let Authority { user, password, host, port } =
            authority::parse(&format!("{credentials}{first}"), SENTINEL_PORT, expected)?;
        if user.is_some() && password.is_none() {
            return Err(format!("it has a user without a password: {expected}, with \":\" before a password alone"));
        }
        let (own_user, own_password) = own;
        let sentinels = Sentinels { hosts, master: master.to_owned(), user: own_user, password: own_password };
        Ok(Url { host, port, tls, user, password, sentinels: Some(sentinels) })
    }

    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it and what to write instead. The text has no password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let expected = "write it as redis://user:password@host:6379, or rediss:// for TLS";
        let (tls, rest) = match text.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            Some((scheme, _)) => return Err(format!("the scheme {scheme:?} is not Redis: {expected}")),
            None => return Err(format!("not a URL: {expected}")),
        };
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(credentials), rest),
            None => (None, rest),
        };
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        if !matches!(path, "" | "0") {
            return Err(format!(
                "the database {path:?} has no effect on channels, which are common to all: leave it out, and give each \
                 application its own namespace"
            ));
        }
        if place.contains(',') {
            return Err(format!("{place:?} names two hosts: {expected}, as a whole for each of several servers"));
        }
        let whole = credentials.map_or_else(|| place.to_owned(), |credentials| format!("{credentials}@{place}"));
        let Authority { user, password, host, port } = authority::parse(&whole, PORT, expected)?;
        if user.is_some() && password.is_none() {
            return Err(format!("it has a user without a password: {expected}, with \":\" before a password alone"));
        }
        Ok(Url { host, port, tls, user, password, sentinels: None })
    }
}

impl fmt::Display for Url {
    /// Where it is, without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Sentinels { hosts, master, .. }) = &self.sentinels else {
            return authority::show(&self.host, self.port, f);
        };
        write!(f, "{master} by its sentinels ")?;
        for (number, (host, port)) in hosts.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { ", " })?;
            authority::show(host, *port, f)?;
        }
        Ok(())
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

    #[test]
    fn addresses() {
        let url = |host: &str, port, tls, user: Option<&str>, password: Option<&str>| {
            let (user, password) = (user.map(Into::into), password.map(Into::into));
            Ok(Url { host: host.into(), port, tls, user, password, sentinels: None })
        };
        for (text, expected) in [
            ("redis://localhost", url("localhost", 6379, false, None, None)),
            ("redis://localhost:7000/", url("localhost", 7000, false, None, None)),
            ("rediss://redis.example/0", url("redis.example", 6379, true, None, None)),
            ("redis://:secret@10.0.0.7", url("10.0.0.7", 6379, false, None, Some("secret"))),
            ("redis://chat:p%40ss%3a@h:1", url("h", 1, false, Some("chat"), Some("p@ss:"))),
            ("redis://chat:a@b@h", url("h", 6379, false, Some("chat"), Some("a@b"))),
            ("redis://[::1]:7000", url("::1", 7000, false, None, None)),
            ("redis://[::1]", url("::1", 6379, false, None, None)),
            ("localhost:6379", Err("not a URL")),
            ("http://localhost", Err("the scheme \"http\" is not Redis")),
            ("redis://", Err("it names no host")),
            ("redis://:7000", Err("it names no host")),
            ("redis://h:0", Err("\"0\" is not a port")),
            ("redis://h:65536", Err("\"65536\" is not a port")),
            ("redis://h/3", Err("the database \"3\" has no effect")),
            ("redis://secret@h", Err("it has a user without a password")),
            ("redis://:%zz@h", Err("a user or password with \"%\"")),
            ("redis://:%2@h", Err("a user or password with \"%\"")),
            ("redis://h?sentinel=:secret", Err("nothing stands behind a \"?\" here")),
        ] {
            match (Url::parse(text), expected) {
                (read, Ok(expected)) => assert_eq!(read, Ok(expected), "{text}"),
                (read, Err(expected)) => {
                    let error = read.expect_err(text);
                    assert!(error.starts_with(expected), "{text}: {error}");
                    assert!(!error.contains("secret"), "{error}");
                }
            }
        }
    }

    #[test]
    fn several_addresses() {
        for (text, expected) in [
            ("redis://a", Ok("a:6379")),
            ("redis://a,redis://b:1", Ok("a:6379 b:1")),
            ("redis://:p,w@a,rediss://b,redis://c", Ok("a:6379 b:6379 c:6379")),
            ("redis://a,redis://a:6379", Err("the server a:6379 is named twice")),
            ("redis://a,b", Err("\"a,b\" names two hosts")),
            ("", Err("not a URL")),
            ("redis+sentinel://:p@a,[::1]:1/chat", Ok("chat by its sentinels a:26379, [::1]:1")),
            ("redis+sentinel://a", Err("it does not say what the sentinels call the master")),
            ("redis+sentinel://a,:7/chat", Err("it names no host")),
            ("redis+sentinel://user@a/chat", Err("it has a user without a password")),
            ("redis+sentinel://:p@a/chat?sentinel=node:@?/", Ok("chat by its sentinels a:26379")),
            ("redis+sentinel://a/chat?sentinel=secret", Err("it has no password behind \"?sentinel=\"")),
            ("redis+sentinel://a/chat?password=secret", Err("what stands behind its \"?\" is not sentinel=")),
            ("redis+sentinel://a/chat?sentinel=:%", Err("a user or password with \"%\"")),
        ] {
            match (Url::parse_all(text), expected) {
                (Ok(urls), Ok(expected)) => {
                    assert_eq!(urls.iter().map(Url::to_string).collect::<Vec<_>>().join(" "), expected);
                }
                (read, Err(expected)) => {
                    let is_so = |error: &String| error.starts_with(expected) && !error.contains("secret");
                    assert!(read.as_ref().is_err_and(is_so), "{read:?}");
                }
                (Err(error), _) => panic!("{text}: {error}"),
            }
        }
    }

    #[test]
    fn sentinels_have_credentials_of_their_own_and_tls_is_for_all() {
        let urls = Url::parse_all("rediss+sentinel://chat:a@b:1/main?sentinel=node:c%40:d").unwrap();
        let sentinels = urls[0].sentinels.as_ref().unwrap();
        let own = (sentinels.user.as_deref(), sentinels.password.as_deref());
        assert_eq!(own, (Some("node"), Some("c@:d")));
        assert_eq!(
            (urls[0].user.as_deref(), urls[0].password.as_deref(), urls[0].tls),
            (Some("chat"), Some("a"), true)
        );
        assert_eq!((&*sentinels.master, &sentinels.hosts[..]), ("main", &[("b".to_owned(), 1)][..]));
    }

    #[test]
    fn only_the_address_is_shown() {
        let url = Url::parse("redis://chat:secret@[::1]:7000").unwrap();
        assert_eq!(format!("{url} {url:?}"), "[::1]:7000 Url([::1]:7000)");
    }

    #[test]
    fn servers_of_a_cluster() {
        let url = |host: &str, port, tls, user: Option<&str>, password: Option<&str>| {
            let (user, password) = (user.map(Into::into), password.map(Into::into));
            Url { host: host.into(), port, tls, user, password, sentinels: None }
        };
        for (text, expected) in [
            ("redis+cluster://a", Ok(vec![url("a", 6379, false, None, None)])),
            (
                "rediss+cluster://chat:a,@a:1,[::1]",
                Ok(vec![url("a", 1, true, Some("chat"), Some("a,")), url("::1", 6379, true, Some("chat"), Some("a,"))]),
            ),
            ("redis+cluster://", Err("it names no host: write it as redis+cluster://")),
            ("redis+cluster://a,,b", Err("it names no host: write it as redis+cluster://")),
            ("redis+cluster://a/0", Err("the path \"0\" has no meaning")),
            ("redis+cluster://secret@a", Err("it has a user without a password")),
        ] {
            match (Servers::parse(text), expected) {
                (Ok(Servers::Cluster(urls)), Ok(expected)) => assert!(urls == expected, "{text}: {urls:?}"),
                (Err(error), Err(start)) => assert!(error.starts_with(start), "{text}: {error}"),
                (outcome, _) => panic!("{text}: {outcome:?}"),
            }
        }
    }
}
