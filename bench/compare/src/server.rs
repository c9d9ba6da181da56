//! What it is measured on: one row for each server.
//!
//! In commands, files and URLs `{port}` is the server's port, `{port2}` another free one, `{dir}` a folder of its own,
//! `{batch}` what the scenario asks of the ceiling, and the rest places of the repository: see [`Place::fill`].

use std::borrow::Cow;

use crate::place::Place;

pub(crate) const CEILING: &str = "ceiling";
pub(crate) const CEILING_PHOENIX: &str = "ceiling-phoenix";
pub(crate) const FANFARE: &str = "fanfare";
pub(crate) const FANFARE_2: &str = "fanfare-2";
pub(crate) const FANFARE_TLS: &str = "fanfare-tls";

/// A server that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: Cow<'static, str>,
    /// How the page's tables call it.
    pub(crate) title: Cow<'static, str>,
    pub(crate) role: Role,
    pub(crate) protocol: &'static Protocol,
    pub(crate) command: Vec<Cow<'static, str>>,
    /// Written to `{dir}` before the start: file name and text.
    pub(crate) file: Option<(&'static str, &'static str)>,
    /// What must be there.
    pub(crate) requires: &'static [&'static str],
    pub(crate) install: &'static str,
    pub(crate) version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Role {
    Ceiling,
    Fanfare,
    Peer,
    /// Of whoever runs this: takes part in every round.
    Guest,
}

/// How `fanfare bench` talks to a server.
#[derive(Debug)]
pub(crate) struct Protocol {
    /// As `--protocol` has it.
    pub(crate) name: &'static str,
    pub(crate) url: &'static str,
    pub(crate) args: &'static [&'static str],
    /// Only for the scenario `echo`.
    pub(crate) echo_args: &'static [&'static str],
}

/// Where a server's version is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Version {
    None,
    /// The last word of what it prints, with a `v` or `name/` in front of the number left out.
    Command(&'static [&'static str]),
    /// An npm package among those of the peers.
    Npm(&'static str),
    /// A crate in the lock file of the peers.
    Crate(&'static str),
}

/// The program `oracle` of tests/oracle, whose channel `bench:*` does as little as a channel can.
const PHOENIX: Protocol = Protocol {
    name: "phoenix",
    url: "ws://127.0.0.1:{port}/bench",
    args: &["--topic", "bench:{room}"],
    echo_args: &["--event", "echo"],
};
const PHOENIX_TLS: Protocol = Protocol {
    name: "phoenix",
    url: "wss://127.0.0.1:{port}/bench",
    args: &["--topic", "bench:{room}", "--insecure"],
    echo_args: &[],
};
const PLAIN: Protocol = Protocol { name: "plain", url: "ws://127.0.0.1:{port}/{room}", args: &[], echo_args: &[] };
const NCHAN: Protocol = Protocol { name: "nchan", url: "ws://127.0.0.1:{port}/sub/{room}", args: &[], echo_args: &[] };
const NATS: Protocol = Protocol { name: "nats", url: "ws://127.0.0.1:{port}/", args: &[], echo_args: &[] };
const SOCKET_IO: Protocol = Protocol { name: "socketio", url: "ws://127.0.0.1:{port}", args: &[], echo_args: &[] };

/// What a server of the user's own may speak.
const PROTOCOLS: &[&Protocol] = &[&PHOENIX, &PLAIN, &NCHAN, &NATS, &SOCKET_IO];

const OURS: &str = "Leave out --no-build";
const RUST: &str =
    "Build it: cargo build --release --manifest-path bench/peers/rust/Cargo.toml --target-dir target/peers";
const NODE: &str = "Install Node 20 or newer, then: npm ci --prefix bench/peers/node";

/// All servers, in the order of the tables.
pub(crate) fn all() -> Vec<Server> {
    vec![
        server(CEILING, "ceiling: only `send`", Role::Ceiling, &PLAIN)
            .starts("{release}/ceiling --port {port} --batch {batch}", OURS),
        server(CEILING_PHOENIX, "ceiling, frames of Phoenix's size", Role::Ceiling, &PLAIN)
            .starts("{release}/ceiling --port {port} --batch {batch} --overhead {overhead}", OURS),
        server(FANFARE, "**Fanfare**", Role::Fanfare, &PHOENIX).starts("{release}/oracle --port {port}", OURS),
        server(FANFARE_2, "**Fanfare**, two shards", Role::Fanfare, &PHOENIX)
            .starts("{release}/oracle --port {port} --shards 2", OURS),
        Server {
            file: Some(("fanfare.toml", include_str!("../../peers/fanfare-tls.toml"))),
            ..server(FANFARE_TLS, "**Fanfare**, TLS", Role::Fanfare, &PHOENIX_TLS)
                .starts("{release}/fanfare serve --config {dir}/fanfare.toml", OURS)
        },
        Server {
            version: Version::Crate("axum"),
            ..server("axum-ws", "axum, a task per socket", Role::Peer, &PLAIN).starts("{peers}/axum-ws {port}", RUST)
        },
        Server {
            version: Version::Crate("socketioxide"),
            ..server("socketioxide", "socketioxide", Role::Peer, &SOCKET_IO).starts("{peers}/socketioxide {port}", RUST)
        },
        Server {
            requires: &["node", "{node}/node_modules/ws"],
            version: Version::Npm("ws"),
            ..server("ws", "Node, ws", Role::Peer, &PLAIN).starts("node {node}/ws.mjs {port}", NODE)
        },
        Server {
            requires: &["node", "{node}/node_modules/socket.io"],
            version: Version::Npm("socket.io"),
            ..server("socket.io", "Node, Socket.IO", Role::Peer, &SOCKET_IO)
                .starts("node {node}/socketio.mjs {port}", NODE)
        },
        Server {
            file: Some(("nchan.conf", include_str!("../../peers/nchan.conf"))),
            requires: &["nginx", "{nginx-modules}/ngx_nchan_module.so"],
            version: Version::Command(&["nginx", "-v"]),
            ..server("nchan", "nginx with nchan", Role::Peer, &NCHAN).starts(
                "nginx -c {dir}/nchan.conf -e {dir}/error.log",
                "On Debian: apt-get install nginx-light libnginx-mod-nchan",
            )
        },
        Server {
            file: Some(("nats.conf", include_str!("../../peers/nats.conf"))),
            version: Version::Command(&["nats-server", "--version"]),
            ..server("nats", "nats-server", Role::Peer, &NATS)
                .starts("nats-server -c {dir}/nats.conf", "On Debian: apt-get install nats-server")
        },
    ]
}

/// A server of the user's own, from `NAME=PROTOCOL=COMMAND`.
pub(crate) fn guest(text: &str) -> Result<Server, String> {
    let names: Vec<&str> = PROTOCOLS.iter().map(|protocol| protocol.name).collect();
    let wrong = || format!("`{text}` is not NAME=PROTOCOL=COMMAND, with a protocol of {}", names.join(", "));
    let mut parts = text.splitn(3, '=');
    let (Some(name), Some(protocol), Some(command)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let protocol = PROTOCOLS.iter().find(|known| known.name == protocol).ok_or_else(wrong)?;
    if name.is_empty() || !command.contains("{port}") {
        return Err(format!("{}, and {{port}} in the command", wrong()));
    }
    Ok(Server {
        name: name.to_owned().into(),
        title: name.to_owned().into(),
        command: command.split_whitespace().map(|word| word.to_owned().into()).collect(),
        ..server("", "", Role::Guest, protocol)
    })
}

fn server(name: &'static str, title: &'static str, role: Role, protocol: &'static Protocol) -> Server {
    Server {
        name: name.into(),
        title: title.into(),
        role,
        protocol,
        command: Vec::new(),
        file: None,
        requires: &[],
        install: "Its command comes from --server",
        version: Version::None,
    }
}

impl Server {
    fn starts(self, command: &'static str, install: &'static str) -> Self {
        Self { command: command.split(' ').map(Cow::from).collect(), install, ..self }
    }

    /// The first thing that it needs and that is not there.
    pub(crate) fn missing(&self, place: &Place) -> Option<String> {
        let program = self.command.first().map(Cow::as_ref);
        self.requires.iter().copied().chain(program).map(|path| place.fill(path)).find(|path| !Place::has(path))
    }

    /// The server's version, empty when it has none of its own.
    pub(crate) fn version(&self, place: &Place) -> String {
        match self.version {
            Version::None => String::new(),
            Version::Command(command) => place.version_by(command),
            Version::Npm(package) => place.version_of_npm(package),
            Version::Crate(name) => place.version_of_crate(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests() {
        let guest_is = |text: &str| guest(text).map(|server| (server.name.to_string(), server.command.len()));
        assert_eq!(guest_is("old=phoenix=/a/oracle --port {port}"), Ok(("old".to_owned(), 3)));
        assert_eq!(guest_is("u=plain=uws --set a=b {port}"), Ok(("u".to_owned(), 4)));
        for wrong in ["old", "old=phoenix", "old=http=x {port}", "old=plain=x", "=plain=x {port}"] {
            assert!(guest(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all().into_iter().map(|server| server.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
