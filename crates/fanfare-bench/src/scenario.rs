//! The scenarios: for each a plan of who connects and sends, a script of what happens when, and the figures that only it has.

mod broadcast;
mod churn;
mod echo;
mod fanout;
mod idle;
mod jitter;
mod presence;
mod restart;
mod rooms;
mod storm;

use std::net::{IpAddr, Ipv4Addr};

use rustls::pki_types::ServerName;
use serde_json::{Map, Value};

use crate::args::{Common, ProtocolName, Scenario};
use crate::limits;
use crate::plan::{Life, Plan, Seat, Traffic};
use crate::process::Watch;
use crate::protocol::{self, Role};
use crate::report::Report;
use crate::report::progress::Progress;
use crate::run::{Halt, Outcome, Stage, run as lead};
use crate::stream::Dialer;
use crate::target::{self, Target};

/// Connections that one local address surely has ports for.
const PORTS: usize = 20_000;

/// Figures by name.
pub(crate) type Figures = Map<String, Value>;

/// Runs a scenario.
///
/// # Errors
/// Why nothing was measured.
pub(crate) fn run(scenario: &Scenario) -> Result<Report, String> {
    match scenario {
        Scenario::Fanout(args) => fanout::run(args),
        Scenario::Rooms(args) => rooms::run(args),
        Scenario::Echo(args) => echo::run(args),
        Scenario::Presence(args) => presence::run(args),
        Scenario::Idle(args) => idle::run(args),
        Scenario::Churn(args) => churn::run(args),
        Scenario::Storm(args) => storm::run(args),
        Scenario::Restart(args) => restart::run(args),
        Scenario::Jitter(args) => jitter::run(args),
        Scenario::Broadcast(args) => broadcast::run(args),
    }
}

/// Who is where.
struct Layout {
    topics: u32,
    subscribers: u32,
    publishers: u32,
    /// Whether publishers are subscribers as well.
    members: bool,
}

impl Layout {
    /// Clients in one topic that only listen, and some that only publish.
    fn audience(clients: u32, publishers: u32) -> Self {
        Self { topics: 1, subscribers: clients, publishers, members: false }
    }

    /// Rooms whose members all publish.
    fn rooms(rooms: u32, members: u32) -> Self {
        Self { topics: rooms, subscribers: members, publishers: members, members: true }
    }

    /// How many connections this takes.
    fn connections(&self, publishers_apart: bool) -> usize {
        let apart = if self.members && !publishers_apart { 0 } else { self.publishers };
        self.topics as usize * (self.subscribers as usize + apart as usize)
    }

    /// These connections.
    fn seats(&self, publishers_apart: bool) -> Vec<Seat> {
        let mut seats = Vec::new();
        let mut publisher = 0;
        for topic in 0..self.topics {
            let mut add = |role: Role, many: u32| {
                for _ in 0..many {
                    seats.push(Seat { topic, role, publisher });
                    publisher += u32::from(role.publishes());
                }
            };
            if self.members && !publishers_apart {
                add(Role::Member, self.subscribers);
            } else {
                add(Role::Subscriber, self.subscribers);
                add(Role::Publisher, self.publishers);
            }
        }
        seats
    }
}

/// What the options of every scenario come to.
struct Setup<'a> {
    name: &'static str,
    common: &'a Common,
    target: Target,
    watch: Watch,
}

impl<'a> Setup<'a> {
    fn new(name: &'static str, common: &'a Common) -> Result<Self, String> {
        let target = Target::parse(&common.url)?;
        Ok(Self { name, common, target, watch: Watch::new(&common.server_pid)? })
    }

    /// A plan without traffic, of connections that stay.
    fn plan(&self, layout: &Layout, echo: bool) -> Result<Plan, String> {
        let protocol = protocol::protocol(self.common, &self.target, echo)?;
        limits::allow(layout.connections(protocol.publishers_apart()), self.common.threads as usize)?;
        let seats = layout.seats(protocol.publishers_apart());
        Ok(Plan {
            sources: self.sources(seats.len()),
            seats,
            topics: self.topics(layout.topics)?,
            publishers_per_topic: layout.publishers,
            subscribers_per_topic: layout.subscribers,
            traffic: Traffic::None,
            life: Life::Stay,
            size: self.common.size as usize,
            pause: None,
            threads: self.common.threads as usize,
            connect_rate: self.common.connect_rate,
            protocol,
            dialer: self.dialer()?,
            authority: self.target.authority.clone(),
        })
    }

    /// A plan of clients that each are on their own, in a topic of their own if there is a `{room}`.
    fn plan_of_clients(&self, clients: u32) -> Result<Plan, String> {
        let layout = match self.template().contains("{room}") {
            true => Layout { topics: clients, subscribers: 1, publishers: 0, members: false },
            false => Layout::audience(clients, 0),
        };
        self.plan(&layout, false)
    }

    fn template(&self) -> &str {
        let default = if self.common.protocol == ProtocolName::Phoenix { "room:lobby" } else { "room-{room}" };
        self.common.topic.as_deref().unwrap_or(default)
    }

    /// The names of so many topics, all of one length, so that stamps are at the same place in messages of all.
    fn topics(&self, many: u32) -> Result<Vec<String>, String> {
        let template = self.template();
        if template.contains(['"', '\\', ' ', '?', '#']) || template.contains(|c: char| c.is_control()) {
            return Err(format!("--topic {template}: it cannot have quotes, backslashes, spaces, ? or # in it"));
        }
        let digits = many.saturating_sub(1).to_string().len();
        Ok((0..many).map(|number| template.replace("{room}", &format!("{number:0digits$}"))).collect())
    }

    fn dialer(&self) -> Result<Dialer, String> {
        let tls = match self.target.tls {
            false => None,
            true => {
                let name = ServerName::try_from(self.target.host.clone())
                    .map_err(|error| format!("{}: no certificate can be for this host: {error}", self.target.host))?;
                Some((self.common.trust.client_config()?, name))
            }
        };
        let nodes = self.common.nodes.iter().map(|node| target::resolve(node));
        let addresses = [Ok(self.target.address)].into_iter().chain(nodes).collect::<Result<_, _>>()?;
        Ok(Dialer { addresses, tls, time_stamps: false })
    }

    /// Local addresses to connect from: for a server on this machine as many as it takes.
    fn sources(&self, connections: usize) -> Vec<IpAddr> {
        match self.target.address.ip() {
            IpAddr::V4(address) if self.common.sources.is_empty() && address.is_loopback() && connections > PORTS => {
                (0..=(connections / PORTS).min(250)).map(|n| Ipv4Addr::new(127, 0, 0, n as u8 + 1).into()).collect()
            }
            _ => self.common.sources.clone(),
        }
    }

    /// Runs the script and reports.
    fn run(
        &self,
        clients: u32,
        plan: &Plan,
        script: impl FnOnce(&mut Stage<'_>) -> Result<Figures, Halt>,
    ) -> Result<Report, String> {
        let progress = Progress::new(self.common.quiet);
        let (outcome, figures) = lead(plan, &self.watch, progress, self.common.timeout, script)?;
        Ok(self.report(clients, plan, outcome, figures))
    }

    fn report(&self, clients: u32, plan: &Plan, outcome: Outcome, figures: Figures) -> Report {
        Report {
            scenario: self.name,
            protocol: self.common.protocol.name(),
            url: self.common.url.clone(),
            clients,
            size: self.common.size,
            traffic: plan.traffic,
            expected: outcome.sent * u64::from(plan.subscribers_per_topic - plan.unsteady()),
            watches_server: !self.watch.is_empty(),
            outcome,
            figures,
        }
    }

    /// The script of scenarios that only send: warm up, then measure.
    fn send_and_measure(&self, stage: &mut Stage<'_>) -> Result<Figures, Halt> {
        stage.connect(stage.plan.seats.len())?;
        stage.settle()?;
        stage.warm_up(self.common.warmup)?;
        stage.measure(self.common.seconds)?;
        Ok(Figures::new())
    }
}

/// A window or a rate, or else what the scenario has by default.
fn traffic(window: Option<u32>, rate: Option<f64>, default: Traffic) -> Traffic {
    match (window, rate) {
        (Some(window), _) => Traffic::Window(window),
        (None, Some(rate)) => Traffic::Rate(rate),
        (None, None) => default,
    }
}

/// The middle of some numbers; 0 without any.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match (numbers.len(), numbers.len() / 2) {
        (0, _) => 0.0,
        (len, half) if len % 2 == 1 => numbers[half],
        (_, half) => (numbers[half - 1] + numbers[half]) / 2.0,
    }
}

/// With three decimals.
fn rounded(number: f64) -> Value {
    ((number * 1_000.0).round() / 1_000.0).into()
}

/// So many for each second of the server's CPU time, where that is measured.
fn per_cpu_second(stage: &Stage<'_>, many: f64) -> Value {
    match stage.server_cpu() {
        Some(cpu) if cpu > 0.0 => rounded(many / cpu),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests;
