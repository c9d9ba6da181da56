//! Where to connect to: what flags, a configuration and the protocol's custom make of a URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fanfare_proto::hub;

use crate::cli::Settings;
use crate::cli::client::{Protocol, Sub};
use crate::config::Config;
use crate::config::endpoint::Protocol as Served;
use crate::terminal;

const DEFAULT: &str = "ws://127.0.0.1:4000";

/// The URL of a subscription's socket, with its parameters.
///
/// # Errors
/// The topics do not fit the protocol, or the configuration has no such endpoint.
pub(super) fn of_socket(asked: &Sub) -> Result<String, String> {
    let given = match (&asked.url, &asked.config) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) => {
            let config = terminal::load(file, Settings::default()).map_err(|report| report.to_string())?;
            of_endpoint(&config, asked.protocol).map_err(|error| format!("{}: {error}", file.display()))?
        }
        (None, None) => format!("{DEFAULT}{}", custom(asked.protocol)),
    };
    if !given.starts_with("ws://") && !given.starts_with("wss://") {
        return Err(format!("--url {given}: must begin with ws:// or wss://, such as {DEFAULT}/socket"));
    }
    let (path, query) = given.split_once('?').unwrap_or((&given, ""));
    let path = path.trim_end_matches('/');
    let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
    pairs.extend(asked.param.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))));
    let path = match (asked.protocol, asked.topics.as_slice()) {
        (Protocol::Phoenix | Protocol::Rooms, []) => return Err("name at least one topic to join".into()),
        (Protocol::Phoenix, _) => {
            if !pairs.iter().any(|pair| pair.starts_with("vsn=")) {
                pairs.push("vsn=2.0.0".into());
            }
            format!("{}/websocket", path.trim_end_matches("/websocket"))
        }
        (Protocol::Rooms, _) => path.to_owned(),
        (Protocol::Hub, [topic]) => match hub::domain_and_topic(topic) {
            Some((domain, topic)) => format!("{path}/sub/{}/{}", encoded(&domain), encoded(topic)),
            None => return Err(format!("{topic}: a topic of a hub is DOMAIN/TOPIC, such as example.com/news")),
        },
        (Protocol::Hub, _) => return Err("with --protocol hub, name exactly one DOMAIN/TOPIC".into()),
        (Protocol::Bullet, []) if pairs.is_empty() => {
            return Err("bullet needs a key in the URL: --param key=KEY, or --url ws://…/websocket?KEY".into());
        }
        (Protocol::Bullet, []) => path.to_owned(),
        (Protocol::Bullet, [topic, ..]) => {
            return Err(format!("{topic}: bullet has no topics to join, the key decides; leave the topic out"));
        }
    };
    let path = if path.matches('/').count() < 3 { format!("{path}/") } else { path };
    Ok(match pairs.is_empty() {
        true => path,
        false => format!("{path}?{}", pairs.join("&")),
    })
}

/// A URL as it may be shown: the query can hold a key.
pub(super) fn shown(url: &str) -> &str {
    url.split_once('?').map_or(url, |(path, _)| path)
}

/// The address by which a listener is reached from this machine.
///
/// # Errors
/// Its port is any free one.
pub(super) fn of_listener(listen: SocketAddr, flag: &str) -> Result<SocketAddr, String> {
    if listen.port() == 0 {
        return Err(format!("the configuration has port 0, so the address is not known; give it with {flag}"));
    }
    // Everywhere is no address to go to.
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

/// Text as a part of a path or a query takes it.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn custom(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Phoenix => "/socket",
        Protocol::Hub => "/ws",
        Protocol::Rooms => "/",
        Protocol::Bullet => "/websocket",
    }
}

fn of_endpoint(config: &Config, protocol: Protocol) -> Result<String, String> {
    let served = match protocol {
        Protocol::Phoenix => Served::Phoenix,
        Protocol::Hub => Served::Hub,
        Protocol::Rooms => Served::Rooms,
        Protocol::Bullet => Served::Bullet,
    };
    let fits = config.endpoints.iter().find(|endpoint| endpoint.protocol == served);
    let name = served.name();
    let endpoint =
        fits.ok_or_else(|| format!("no [[endpoint]] has protocol = \"{name}\"; --protocol names another"))?;
    let path = &endpoint.path.0;
    if path.contains(':') {
        return Err(format!("the path {path} has a parameter in it; give the whole address with --url"));
    }
    let scheme = if config.tls.is_some() { "wss" } else { "ws" };
    Ok(format!("{scheme}://{}{path}", of_listener(config.server.listen.0, "--url")?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn urls() {
        #[track_caller]
        fn check(args: &str, expected: Result<&str, &str>) {
            let args = ["fanfare", "sub"].into_iter().chain(args.split(' ').filter(|arg| !arg.is_empty()));
            let Command::Sub(sub) = Cli::try_parse_from(args).unwrap().command else { panic!("not sub") };
            match (of_socket(&sub), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url, expected),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (found, _) => panic!("{found:?}"),
            }
        }
        check("a", Ok("ws://127.0.0.1:4000/socket/websocket?vsn=2.0.0"));
        check("a --url wss://h/s/", Ok("wss://h/s/websocket?vsn=2.0.0"));
        check("a --url ws://h/s/websocket?vsn=2.0.1&x=1", Ok("ws://h/s/websocket?vsn=2.0.1&x=1"));
        check("a --param n=a&=b", Ok("ws://127.0.0.1:4000/socket/websocket?n=a%26%3Db&vsn=2.0.0"));
        check("", Err("at least one topic"));
        check("a --url http://h/s", Err("must begin with ws:// or wss://"));
        check("--protocol hub example.com/a/b", Ok("ws://127.0.0.1:4000/ws/sub/example.com/a%2Fb"));
        check("--protocol hub a%2Fb/t", Ok("ws://127.0.0.1:4000/ws/sub/a%2Fb/t"));
        check("--protocol hub news", Err("DOMAIN/TOPIC"));
        check("--protocol hub a/b c/d", Err("one DOMAIN/TOPIC"));
        check("--protocol rooms lobby", Ok("ws://127.0.0.1:4000/"));
        check("--protocol rooms lobby --url ws://h", Ok("ws://h/"));
        check("--protocol rooms lobby --url ws://h/x --param a=1", Ok("ws://h/x?a=1"));
        check("--protocol bullet --param key=k", Ok("ws://127.0.0.1:4000/websocket?key=k"));
        check("--protocol bullet --url ws://h/websocket?k", Ok("ws://h/websocket?k"));
        check("--protocol bullet", Err("needs a key"));
        check("--protocol bullet a --param key=k", Err("has no topics to join"));
    }
}
