//! Why a connection ended, in words that say what to do about it.

use std::io::{self, ErrorKind};

/// Why a connection ended.
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What can be made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It cannot help to try again.
    Fatal,
    /// It may help.
    Transient,
    /// The server has enough to do, and says so.
    Busy,
    /// The server says that it restarts.
    Restart,
}

impl Failure {
    pub(super) fn transient(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Transient }
    }

    pub(super) fn fatal(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Fatal }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::fatal(
                "connection refused; is a server running there? `fanfare dev` starts one, and the URL comes behind the scenario",
            ),
            ErrorKind::AddrNotAvailable => Self::fatal(
                "no local port is free: name more local addresses with --sources 127.0.0.2,127.0.0.3, or widen the range with \
                 `sysctl net.ipv4.ip_local_port_range=\"1024 65535\"`",
            ),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::TimedOut => {
                Self::transient(error.to_string())
            }
            _ if error.to_string().contains("certificate") => {
                Self::fatal(format!("{error}; --ca FILE names whom to trust, --insecure takes any certificate"))
            }
            _ => Self::fatal(error.to_string()),
        }
    }

    pub(super) fn upgrade(status: u16, line: &str) -> Self {
        let next = match status {
            404 => {
                "no socket is served at this path; the URL's path is the one given to `new Socket(…)`, without /websocket"
            }
            401 | 403 => {
                "the server wants credentials, or another origin; --params '{\"token\": \"…\"}' sends parameters"
            }
            429 | 503 => {
                let text = format!("the server answered `{line}`: it has enough connections");
                return Self { text, kind: Kind::Busy };
            }
            _ => "this is no WebSocket of that protocol; --protocol says what the server speaks",
        };
        Self::fatal(format!("the server answered the upgrade with `{line}`: {next}"))
    }

    pub(super) fn refused(reason: &str) -> Self {
        Self::fatal(format!("{reason}; --topic names another topic, --join what the join carries"))
    }

    pub(super) fn close(code: Option<u16>) -> Self {
        let kind = if code == Some(1012) { Kind::Restart } else { Kind::Transient };
        let meaning = match code {
            Some(1011) => " (it did not understand us: --protocol says what it speaks)",
            Some(1012) => " (the server restarts)",
            Some(1013) => " (we read too slowly for it: take fewer clients, a lower rate, or more --threads)",
            Some(1002) => " (it heard nothing for too long, or did not like a frame)",
            Some(1009) => " (too large: a smaller --size, or a higher limit there)",
            _ => "",
        };
        let code = code.map_or("without a code".to_owned(), |code| format!("with code {code}"));
        Self { text: format!("the server closed the WebSocket {code}{meaning}"), kind }
    }
}
