//! The command line of `fanfare bench`.

use std::net::IpAddr;

use clap::{Args, Subcommand, ValueEnum};

use crate::tls::Trust;

/// Load-test a server: throughput, latency, and whether every message arrives.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

const FANOUT: &str = "\
One client publishes, all others receive. With --window the publisher keeps this many messages in flight, which measures
throughput; with --rate it sends this many a second, which measures latency.

  fanfare bench fanout
  fanfare bench fanout --clients 100 --rate 500
  fanfare bench fanout ws://127.0.0.1:4000/bench --topic 'bench:{room}' --server-pid 1234";

const ROOMS: &str = "\
Many small rooms in which every member sends. Needs a channel that accepts any room name:

  fanfare bench rooms ws://127.0.0.1:4000/bench --topic 'bench:{room}' --clients 1000 --members 10 --rate 1";

const ECHO: &str = "\
Each client sends and gets an answer: with Phoenix the reply to its push, with the other protocols its own message, in a
room of its own. By default it sends the next message when the answer has come.

  fanfare bench echo ws://127.0.0.1:4000/bench --topic 'bench:{room}' --event echo";

const PRESENCE: &str = "\
All clients join one topic whose members see each other. Measures how long it takes until each has seen all others; then clients
leave and return, and the messages about it are counted.

  fanfare bench presence --clients 200";

const IDLE: &str = "\
Clients that join and do nothing. With --server-pid it measures the memory of one more client: the slope between the numbers of
--steps.

  fanfare bench idle --steps 1000,5000 --server-pid 1234";

const CHURN: &str = "\
Each client connects, joins, leaves and closes, again and again.

  fanfare bench churn --clients 50 --server-pid 1234";

const STORM: &str = "\
Cuts all connections at once, like a failing load balancer, and lets the clients reconnect like phoenix.js.
Measures how long it takes until all have joined again.

  fanfare bench storm --clients 2000 --server-pid 1234";

const RESTART: &str = "\
Waits, with all clients joined, until you restart the server, and lets the clients reconnect like phoenix.js.
Measures the time from the first client that the new server accepts until the last one has joined again.

  fanfare bench restart --clients 10000";

const JITTER: &str = "\
Messages flow while a share of the clients drops and reconnects, again and again. Shows how many messages
these clients got; the clients that stay must not lose any.

  fanfare bench jitter --clients 100 --share 0.2";

const BROADCAST: &str = "\
The time until the last client has a single message, while the clients do not run: they sleep until the server must be
done, and the kernel's receive time stamps say when each message arrived.

  fanfare bench broadcast --clients 1000";

#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// One client publishes, all others receive
    #[command(long_about = FANOUT)]
    Fanout(Fanout),
    /// Many small rooms in which every member sends
    #[command(long_about = ROOMS)]
    Rooms(Rooms),
    /// Each message is answered to its sender
    #[command(long_about = ECHO)]
    Echo(Echo),
    /// All clients join one topic and see each other come and go
    #[command(long_about = PRESENCE)]
    Presence(Presence),
    /// Cost of idle connections
    #[command(long_about = IDLE)]
    Idle(Idle),
    /// Clients that connect, join, leave and close again and again
    #[command(long_about = CHURN)]
    Churn(Churn),
    /// A reconnect storm: all clients are cut at once
    #[command(long_about = STORM)]
    Storm(Storm),
    /// The server restarts and all clients reconnect
    #[command(long_about = RESTART)]
    Restart(Restart),
    /// Some clients drop and reconnect while messages flow
    #[command(long_about = JITTER)]
    Jitter(Jitter),
    /// The time until the last client has a single message
    #[command(long_about = BROADCAST)]
    Broadcast(Broadcast),
}

impl Scenario {
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::Fanout(args) => &args.common,
            Self::Rooms(args) => &args.common,
            Self::Echo(args) => &args.common,
            Self::Presence(args) => &args.common,
            Self::Idle(args) => &args.common,
            Self::Churn(args) => &args.common,
            Self::Storm(args) => &args.common,
            Self::Restart(args) => &args.common,
            Self::Jitter(args) => &args.common,
            Self::Broadcast(args) => &args.common,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Fanout {
    /// Clients that receive; publishers are extra
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count())]
    pub(crate) clients: u32,
    /// Clients that publish
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count())]
    pub(crate) publishers: u32,
    /// Messages that each publisher keeps in flight [default: 16, unless there is a --rate]
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = count())]
    pub(crate) window: Option<u32>,
    /// Messages a second of each publisher; latency is measured from when a message was due
    #[arg(long, value_name = "R", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Rooms {
    /// Clients in all, rounded up to whole rooms
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count())]
    pub(crate) clients: u32,
    /// Clients in each room
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count())]
    pub(crate) members: u32,
    /// Rooms, instead of --clients
    #[arg(long, value_name = "N", conflicts_with = "clients", value_parser = count())]
    pub(crate) rooms: Option<u32>,
    /// Messages that each member keeps in flight
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = count())]
    pub(crate) window: Option<u32>,
    /// Messages a second of each member [default: 1, unless there is a --window]
    #[arg(long, value_name = "R", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Echo {
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count())]
    pub(crate) clients: u32,
    /// Messages that each client keeps in flight [default: 1, unless there is a --rate]
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = count())]
    pub(crate) window: Option<u32>,
    /// Messages a second of each client; latency is measured from when a message was due
    #[arg(long, value_name = "R", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Presence {
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = count())]
    pub(crate) clients: u32,
    /// Clients that leave and return each second; 0 for none
    #[arg(long, value_name = "R", default_value_t = 20.0, value_parser = not_negative)]
    pub(crate) rate: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count())]
    pub(crate) clients: u32,
    /// Numbers of clients at which memory is measured, instead of --clients
    #[arg(long, value_name = "N,N", value_delimiter = ',', conflicts_with = "clients", value_parser = count())]
    pub(crate) steps: Vec<u32>,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Churn {
    /// Clients at a time
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = count())]
    pub(crate) clients: u32,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Storm {
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = count())]
    pub(crate) clients: u32,
    /// How many times all clients are cut
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = count())]
    pub(crate) rounds: u32,
    /// How long a client waits before it tries again
    #[arg(long, value_enum, default_value_t = Backoff::Phoenix)]
    pub(crate) backoff: Backoff,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = count())]
    pub(crate) clients: u32,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// When a client reconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backoff {
    /// Like phoenix.js: after 10 ms, then 50, 100, 150, 200, 250, 500 ms, 1, 2, 5 s
    Phoenix,
    /// Immediately
    None,
}

#[derive(Debug, Args)]
pub(crate) struct Jitter {
    /// Clients that receive
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count())]
    pub(crate) clients: u32,
    /// Messages a second
    #[arg(long, value_name = "R", default_value_t = 20.0, value_parser = positive)]
    pub(crate) rate: f64,
    /// The share of the clients that drop
    #[arg(long, value_name = "0..1", default_value_t = 0.2, value_parser = share)]
    pub(crate) share: f64,
    /// How long these clients stay connected, on average, in seconds
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = positive)]
    pub(crate) up: f64,
    /// How long they stay away, in seconds
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = positive)]
    pub(crate) down: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

#[derive(Debug, Args)]
pub(crate) struct Broadcast {
    /// Clients that receive
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = count())]
    pub(crate) clients: u32,
    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count())]
    pub(crate) rounds: u32,
    /// How long the clients sleep, in seconds: longer than the message can take
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = positive)]
    pub(crate) pause: f64,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// What all scenarios have.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the server is: for Phoenix the URL that is given to `new Socket(…)`, for the others the whole URL, with {room} for
    /// the room
    #[arg(default_value = "ws://127.0.0.1:4000/socket")]
    pub(crate) url: String,
    /// More nodes of the same cluster: connections go to the server of the URL and to these by turns
    #[arg(long, value_name = "HOST:PORT,HOST:PORT", value_delimiter = ',')]
    pub(crate) nodes: Vec<String>,
    /// The protocol of the server
    #[arg(long, value_enum, default_value_t = ProtocolName::Phoenix)]
    pub(crate) protocol: ProtocolName,
    /// The topic; {room} in it becomes a number [default: room:lobby for Phoenix, room-{room} for the others]
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// The event to push; the server must broadcast it
    #[arg(long, default_value = "new_msg")]
    pub(crate) event: String,
    /// Parameters of the connection: a JSON object of strings
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) params: String,
    /// The payload of a join: any JSON; {client} in it becomes a number
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) join: String,
    /// The size of a payload, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(34..=8_000_000))]
    pub(crate) size: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = positive)]
    pub(crate) seconds: f64,
    /// How long to warm up
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = not_negative)]
    pub(crate) warmup: f64,

    /// Threads of the generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(), help_heading = "Generator")]
    pub(crate) threads: u32,
    /// Connections started a second, at most [default: as fast as the server accepts them]
    #[arg(long, value_name = "R", value_parser = positive, help_heading = "Generator")]
    pub(crate) connect_rate: Option<f64>,
    /// Local addresses to connect from, for more connections than one address has ports [default: for a server on this
    /// machine 127.0.0.1 and as many more as it takes]
    #[arg(long, value_name = "IP,IP", value_delimiter = ',', help_heading = "Generator")]
    pub(crate) sources: Vec<IpAddr>,
    /// How long to wait without any progress, in seconds
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = positive, help_heading = "Generator")]
    pub(crate) timeout: f64,
    #[command(flatten)]
    pub(crate) trust: Trust,

    /// The server's process, to measure its CPU time and memory, with all its descendants
    #[arg(long, value_name = "PID,PID", value_delimiter = ',', help_heading = "Report")]
    pub(crate) server_pid: Vec<u32>,
    /// Print one JSON object instead of the table
    #[arg(long, help_heading = "Report")]
    pub(crate) json: bool,
    /// No progress
    #[arg(long, short, help_heading = "Report")]
    pub(crate) quiet: bool,
}

/// A protocol that the generator speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolName {
    /// Phoenix Channels 2.0.0
    Phoenix,
    /// What a client of /{room} sends, everybody there gets, itself too
    Plain,
    /// nchan: subscribers at /sub/{room}, publishers at /pub/{room}
    Nchan,
    /// NATS over WebSocket; the topic is the subject
    Nats,
    /// Socket.IO: `join` with the room, then `msg` with the room and the payload
    Socketio,
}

impl ProtocolName {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=10_000_000)
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("it takes a number from 0 to 1,000,000,000".into()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match not_negative(text) {
        Ok(number) if number > 0.0 => Ok(number),
        _ => Err("it takes a number above 0, up to 1,000,000,000".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("it takes a number from 0 to 1".into()),
    }
}
