//! A process in a network of its own, with one way for its clients and one to its broker, which can be cut as where a cable is pulled or a
//! router forgets a route: TCP repeats what is lost, and nobody is told.
//!
//! It needs the rights to make network namespaces: those of root, or of `unshare -rnm` with a `/run` of its own.

use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// A network.
pub(crate) struct Namespace {
    name: String,
    number: u8,
}

impl Namespace {
    /// Makes one.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let this = Namespace { name: format!("fanfare-test-{number}"), number };
        // What is left of a run that was killed: its network, and the route of one whose way was cut.
        let _ = Command::new("ip").args(["netns", "delete", &this.name]).output();
        this.open();
        let made = Command::new("ip").args(["netns", "add", &this.name]).output();
        let error = match made {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error {
            panic!(
                "NOT RUN, for this machine does not allow network namespaces: run it as root. `ip netns add` says: {error}"
            );
        }
        ip(&["-n", &this.name, "link", "set", "lo", "up"]);
        for (net, inside) in [(NET_OF_CLIENTS, "clients"), (NET_OF_BROKERS, "broker")] {
            let outside = this.outside(inside);
            ip(&["link", "add", &outside, "type", "veth", "peer", "name", inside, "netns", &this.name]);
            ip(&["address", "add", &format!("10.{net}.{number}.1/24"), "dev", &outside]);
            ip(&["link", "set", &outside, "up"]);
            ip(&["-n", &this.name, "address", "add", &format!("10.{net}.{number}.2/24"), "dev", inside]);
            ip(&["-n", &this.name, "link", "set", inside, "up"]);
        }
        this
    }

    /// Where its clients find it.
    pub(crate) fn address(&self) -> String {
        format!("10.{NET_OF_CLIENTS}.{}.2", self.number)
    }

    /// Where it finds what listens on all addresses outside.
    pub(crate) fn broker(&self) -> String {
        format!("10.{NET_OF_BROKERS}.{}.1", self.number)
    }

    /// Has a command run in it, as the same process.
    pub(crate) fn run(&self, command: &Command) -> Command {
        let mut within = Command::new("ip");
        within.args(["netns", "exec", &self.name]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => within.env(name, value),
                None => within.env_remove(name),
            };
        }
        within
    }

    /// From now on nothing arrives, of what goes to the broker as well or of what comes from there alone.
    pub(crate) fn cut(&self, one_way: bool) {
        match one_way {
            true => ip(&["route", "add", "blackhole", &self.far_end()]),
            false => ip(&["link", "set", &self.outside("broker"), "down"]),
        }
    }

    /// All arrives again, as far as TCP has not given it up.
    pub(crate) fn heal(&self) {
        self.open();
        ip(&["link", "set", &self.outside("broker"), "up"]);
    }

    /// The route of a cut belongs to the machine, which keeps it until it is told otherwise.
    fn open(&self) {
        let _ = Command::new("ip").args(["route", "delete", "blackhole", &self.far_end()]).output();
    }

    fn far_end(&self) -> String {
        format!("10.{NET_OF_BROKERS}.{}.2/32", self.number)
    }

    fn outside(&self, inside: &str) -> String {
        format!("{inside}-{}", self.number)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.open();
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).output();
    }
}

const NET_OF_CLIENTS: u8 = 213;
const NET_OF_BROKERS: u8 = 214;

fn ip(args: &[&str]) {
    super::run(Command::new("ip").args(args));
}
