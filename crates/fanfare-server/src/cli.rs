//! The command line: what can be typed. What it does is in `command.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::value::Span;
use crate::config::{Flag, from_text};
use crate::contract::Format;

pub(crate) mod client;

/// Real-time channels: any Phoenix client connects, no code needed.
#[derive(Debug, Parser)]
#[command(name = "fanfare", version, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a development server: no config file, an open lobby, a demo page
    Dev {
        #[command(flatten)]
        settings: Settings,
    },
    /// Start the server that a configuration file describes
    Serve {
        /// The configuration, a TOML file; `fanfare init` writes one. Left out: fanfare.toml, or the environment alone if there is none
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        settings: Settings,
    },
    /// Check a configuration file: print its mistakes, or nothing if there are none
    Check {
        /// The configuration, a TOML file. Left out: fanfare.toml, or the environment alone if there is none
        #[arg(value_name = "FILE", conflicts_with = "config")]
        file: Option<PathBuf>,
        /// The same, as other commands take it
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Connect to every server that it names, and print what each is and which of its settings are wrong
        #[arg(long)]
        connect: bool,
        #[command(flatten)]
        settings: Settings,
    },
    /// Write a configuration file to start from, with every setting explained; --short writes the usual ones only
    Init {
        /// The file to write
        #[arg(default_value = "fanfare.toml")]
        file: PathBuf,
        /// Write the usual settings only, in less than 40 lines
        #[arg(long)]
        short: bool,
        /// Overwrite the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Write code for a Rust program that uses the crate `fanfare`
    New {
        #[command(subcommand)]
        what: New,
    },
    /// Try out several nodes with a broker between them
    Cluster {
        #[command(subcommand)]
        what: Cluster,
    },
    /// Load-test a server: throughput, latency, and whether every message arrives
    Bench(fanfare_bench::Bench),
    /// Publish to a topic of a running server, through its HTTP API
    Pub(client::Pub),
    /// Subscribe to topics of a running server and print their messages, one JSON object a line
    Sub(client::Sub),
    /// Print who is in a topic of a running server
    Presence(client::Presence),
    /// Print the messages that a topic has kept, one JSON object a line
    History(client::History),
    /// Print the topics of a running server that have members
    Topics(client::Topics),
    /// Print messages of a running server as they pass: what is published, what clients send and are answered
    Tap(client::Tap),
    /// Print where most happens on a running server, again and again; on a terminal `s` sorts, `/` filters, `q` quits
    Top(client::Top),
    /// Print whether a running server is ready, and how much it has and does
    Status(client::Status),
    /// Print the nodes of a running server's cluster, and what each has
    Nodes(client::Nodes),
    /// Print why clients were refused or closed, and what was dropped, the last first
    Why(client::Why),
    /// Close every socket of a running server that has this id
    Disconnect(client::Disconnect),
    /// Have a running server read its configuration again; nothing changes unless all of it is right
    Reload(client::Reload),
    /// Have a new process take over from a running server, with no client refused: the program and its configuration as they are now
    Upgrade(client::Upgrade),
    /// Have a running server drain and end, as SIGTERM does
    Drain(client::Drain),
    /// Print what a running server logs, or change it until the server reads its configuration again
    Log(client::Log),
    /// Make a token that the server accepts, for trying things out
    Token(Token),
    /// Make, list and revoke API keys
    #[command(name = "apikey")]
    ApiKey(ApiKey),
    /// Print what clients may send to the topics of a configuration, and what they get
    Contract {
        /// The configuration, a TOML file
        #[arg(short, long, value_name = "FILE", default_value = "fanfare.toml")]
        config: PathBuf,
        /// Take the contract of a program in Rust, as `Endpoint::contract` gives it, and no configuration
        #[arg(long, value_name = "FILE", conflicts_with = "config")]
        from: Option<PathBuf>,
        /// The form to write it in
        #[arg(long, value_enum, default_value_t = Format::Jsonschema)]
        format: Format,
        /// Write it to a file in this folder, which is made if it is not there
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Compare with an earlier contract in the form `jsonschema`, and fail if its clients break
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
    },
    /// Print the completions of a shell: put them where it looks for them
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print reference documentation
    Docs {
        #[command(subcommand)]
        page: Docs,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum New {
    /// A program with a channel and its test, ready to run: the folder NAME
    App {
        /// The name of the program: a word such as `chat`, or several as in `support_desk`
        name: String,
        /// Use the crate `fanfare` in this folder, not the one of the repository
        #[arg(long, value_name = "DIR")]
        crate_path: Option<PathBuf>,
    },
    /// A channel with its test, in a crate that is there: DIR/NAME.rs
    Channel {
        /// The name of the channel: a word such as `room`, or several as in `support_desk`
        name: String,
        /// The folder to write it to
        #[arg(long, value_name = "DIR", default_value = "src/channels")]
        dir: PathBuf,
        /// Overwrite the file if it exists
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Start several nodes, a broker between them and a load balancer in front: chat, kill a node, and see the chat go on
    Demo(ClusterDemo),
    /// Run one node of the demo, which starts it by this
    #[command(hide = true)]
    Node(ClusterNode),
}

/// What `fanfare cluster demo` starts.
#[derive(Debug, Args)]
pub(crate) struct ClusterDemo {
    /// How many nodes
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(1..=20))]
    pub(crate) nodes: u8,
    /// What the nodes have between them: redis and nats start a redis-server or nats-server that is installed, memory needs none. Left
    /// out: the first of them that is installed
    #[arg(long, value_name = "BROKER")]
    pub(crate) broker: Option<DemoBroker>,
    /// The address of the load balancer; the nodes take the ports after it. Port 0 chooses free ones
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4000")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DemoBroker {
    Redis,
    Nats,
    Memory,
}

/// A node of the demo.
#[derive(Debug, Args)]
pub(crate) struct ClusterNode {
    /// What it is called
    #[arg(long)]
    pub(crate) name: String,
    /// The address that clients connect to
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// The address of the broker
    #[arg(long)]
    pub(crate) broker: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Docs {
    /// Every key of the configuration, as Markdown
    Config,
    /// The manual pages of all commands, as files in a folder
    Man {
        /// The folder, which is made if it is not there
        dir: PathBuf,
    },
    /// SQL functions of Supabase's names, which send by an outbox
    Supabase,
}

/// What a token says, and with which keys it is made.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The configuration, a TOML file
    #[arg(short, long, value_name = "FILE", default_value = "fanfare.toml")]
    pub(crate) config: PathBuf,
    /// The `[auth.NAME]` that the token is for; can be left out if there is only one
    #[arg(long, value_name = "NAME")]
    pub(crate) auth: Option<String>,
    /// The user that the token is for: its claim `sub`
    #[arg(long, value_name = "USER")]
    pub(crate) sub: String,
    /// Another claim, such as `role=support`; the value can be JSON; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    pub(crate) claim: Vec<(String, serde_json::Value)>,
    /// How long the token is valid
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) expires_in: Duration,
    /// The issuer's private key in PEM form, if the configuration has the public key
    #[arg(long, value_name = "FILE")]
    pub(crate) private_key_file: Option<PathBuf>,
    /// The name of that key, if the issuer has several
    #[arg(long, value_name = "KID")]
    pub(crate) kid: Option<String>,
}

/// What is done with API keys, and where.
#[derive(Debug, Args)]
pub(crate) struct ApiKey {
    /// The configuration, a TOML file
    #[arg(short, long, value_name = "FILE", global = true, default_value = "fanfare.toml")]
    pub(crate) config: PathBuf,
    /// The `[keys.NAME]` that has the keys; can be left out if there is only one
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) keys: Option<String>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: ApiKeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKeyCommand {
    /// Make a key and print it, only this once: only its hash is stored
    Add {
        /// The domain of the key
        #[arg(long)]
        domain: Option<String>,
        /// The owner of the key
        #[arg(long)]
        username: Option<String>,
        /// Make a key that does not work until it is activated
        #[arg(long)]
        inactive: bool,
    },
    /// List the names of the keys, never the keys themselves
    List,
    /// Make a key inactive; its sockets are closed within 5 s
    Revoke {
        /// The name of the key, or the key
        key: String,
    },
    /// Make an inactive or revoked key active
    Activate {
        /// The name of the key, or the key
        key: String,
    },
    /// Replace a key by a new one for the same domain and user, and print the new one
    Rotate {
        /// The name of the old key, or the key
        key: String,
        /// Keep the old key valid for this long, such as 1h
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        overlap: Option<Duration>,
    },
    /// Create the store's file or table, or add what an older one lacks; can be repeated safely
    Migrate,
}

/// Settings that override the environment and the file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Settings {
    /// The address that clients connect to, such as 0.0.0.0:4000; port 0 chooses a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The address of the HTTP API
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// Any other setting, such as `limits.joins_max=500`; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

impl Settings {
    /// The settings as flags of the configuration.
    pub(crate) fn into_flags(self) -> Vec<Flag> {
        let flag = |name, path: &str, text| Flag { name, path: path.to_owned(), text };
        let listen = self.listen.map(|text| flag("--listen", "listen", text));
        let admin = self.admin.map(|text| flag("--admin", "admin.listen", text));
        let set = self.set.into_iter().map(|(path, text)| flag("--set", &path, text));
        set.chain(listen).chain(admin).collect()
    }
}

fn claim(text: &str) -> Result<(String, serde_json::Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            Ok((name.to_owned(), value))
        }
        _ => Err("it takes NAME=VALUE, such as role=support".into()),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let span = from_text::<Span<1_000, 315_360_000_000>>(text);
    span.map(|span| span.0).map_err(|faults| faults.into_iter().map(|fault| fault.text).collect())
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("it takes KEY=VALUE, such as limits.joins_max=500".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_documented() {
        let mut command = Cli::command();
        command.build();
        let mut stack = vec![command];
        while let Some(command) = stack.pop() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", command.get_name(), arg.get_id());
            }
            stack.extend(command.get_subcommands().filter(|command| command.get_name() != "help").cloned());
        }
    }
}
