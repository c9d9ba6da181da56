//! Redis, with its append-only file, so that streams survive a kill. What stands in the file `more.conf` of its folder
//! counts from its next start on.

use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::process::{Folder, Service, run};

pub(crate) fn start() -> Service {
    Service::start(|_| {}, command)
}

/// With these lines of configuration.
pub(crate) fn start_with(lines: &str) -> Service {
    Service::start(|folder| drop(folder.write("more.conf", lines)), command)
}

/// A certificate and its key, as a service that speaks TLS reads them.
#[derive(Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) certificate: &'a str,
    pub(crate) key: &'a str,
}

impl Identity<'_> {
    /// Writes both into the folder of a service, and how Redis is told of them.
    fn write(self, folder: &Folder) -> String {
        let certificate = folder.write("certificate.pem", self.certificate);
        let key = folder.write("key.pem", self.key);
        format!(
            "tls-cert-file {0}\ntls-key-file {1}\ntls-ca-cert-file {0}\ntls-auth-clients no\ntls-replication yes\n",
            certificate.display(),
            key.display()
        )
    }
}

/// With TLS only, the password `secret`, and these lines of configuration.
pub(crate) fn start_tls(identity: Identity<'_>, lines: &str) -> Service {
    let prepare = |folder: &Folder| {
        let tls = identity.write(folder);
        drop(folder.write("more.conf", &format!("{tls}requirepass secret\nmasterauth secret\n{lines}")));
    };
    Service::start(prepare, |folder, port| {
        let mut command = command(folder, 0);
        command.args(["--tls-port", &port.to_string()]);
        command
    })
}

/// A sentinel that is alone to decide over a master at this port, which it calls `chat`; with these lines of configuration.
pub(crate) fn start_sentinel(master: u16, lines: &str) -> Service {
    Service::start(
        |folder| write_sentinel(folder, master, lines),
        |folder, port| {
            let mut command = sentinel(folder);
            command.args(["--port", &port.to_string()]);
            command
        },
    )
}

/// The same with TLS only, over a master that has it as well.
pub(crate) fn start_sentinel_tls(master: u16, identity: Identity<'_>, lines: &str) -> Service {
    let prepare = |folder: &Folder| {
        let tls = identity.write(folder);
        write_sentinel(folder, master, &format!("{tls}sentinel auth-pass chat secret\n{lines}"));
    };
    Service::start(prepare, |folder, port| {
        let mut command = sentinel(folder);
        command.args(["--port", "0", "--tls-port", &port.to_string()]);
        command
    })
}

fn write_sentinel(folder: &Folder, master: u16, lines: &str) {
    let settings = format!(
        "sentinel monitor chat 127.0.0.1 {master} 1\nsentinel down-after-milliseconds chat 500\n\
         sentinel failover-timeout chat 5000\n{lines}"
    );
    folder.write("sentinel.conf", &settings);
}

fn sentinel(folder: &Folder) -> Command {
    let mut command = Command::new("redis-server");
    command.arg(folder.path("sentinel.conf")).args(["--sentinel", "--bind", "127.0.0.1"]);
    command
}

/// Servers of a cluster: three masters that have a third of the slots each, and as many replicas of the first.
pub(crate) fn start_cluster(replicas: usize) -> Vec<Service> {
    start_cluster_of(replicas, start_with)
}

/// The same with TLS only, and the password `secret`.
pub(crate) fn start_cluster_tls(identity: Identity<'_>) -> Vec<Service> {
    start_cluster_of(0, |lines| start_tls(identity, &format!("tls-cluster yes\n{lines}")))
}

fn start_cluster_of(replicas: usize, start: impl Fn(&str) -> Service) -> Vec<Service> {
    let start = || {
        // The port where they talk to each other, which is the same after a restart.
        let bus = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let lines = format!(
            "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 2000\ncluster-require-full-coverage no\n\
             cluster-replica-validity-factor 0\n"
        );
        (start(&lines), bus)
    };
    let (services, buses): (Vec<_>, Vec<_>) = (0..3 + replicas).map(|_| start()).unzip();
    let [third, two_thirds] = ["5460", "10921"];
    for (number, range) in [["0", third], ["5461", two_thirds], ["10922", "16383"]].iter().enumerate() {
        services[number].redis(&["CLUSTER", "ADDSLOTSRANGE", range[0], range[1]]);
    }
    for (number, service) in services.iter().enumerate() {
        service.redis(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        if number > 0 {
            let (port, bus) = (services[0].port.to_string(), buses[0].to_string());
            service.redis(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
    }
    let first = services[0].redis(&["CLUSTER", "MYID"]);
    let knows_all = |service: &Service| {
        let info = service.redis(&["CLUSTER", "INFO"]);
        info.contains(&format!("cluster_known_nodes:{}", services.len())) && info.contains("cluster_state:ok")
    };
    let wait_for = |is_so: &dyn Fn() -> bool| {
        for _ in 0..6_000 {
            if is_so() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("it is no cluster after a minute");
    };
    wait_for(&|| services.iter().all(knows_all));
    for replica in &services[3..] {
        wait_for(&|| replica.redis(&["CLUSTER", "REPLICATE", &first]) == "OK");
        wait_for(&|| replica.redis(&["INFO", "replication"]).contains("master_link_status:up"));
    }
    services
}

/// Moves a slot of a cluster with what is in it from one master to another, as `redis-cli --cluster reshard` does. `meanwhile` it is on its
/// way, with all that was in it still where it was.
pub(crate) fn move_slot(services: &[Service], [from, to]: [usize; 2], slot: u16, meanwhile: impl FnOnce()) {
    let [from, to] = [from, to].map(|number| &services[number]);
    let [from_id, to_id] = [from, to].map(|service| service.redis(&["CLUSTER", "MYID"]));
    let slot = slot.to_string();
    to.redis(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id]);
    from.redis(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id]);
    meanwhile();
    loop {
        let keys = from.redis(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
        if keys.is_empty() {
            break;
        }
        let port = to.port.to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000"];
        migrate.extend(if to.has_tls() { &["AUTH", "secret"][..] } else { &[] });
        migrate.push("KEYS");
        migrate.extend(keys.lines());
        from.redis(&migrate);
    }
    let others = services.iter().filter(|service| ![from.port, to.port].contains(&service.port));
    for service in [to, from].into_iter().chain(others) {
        service.redis(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id]);
    }
}

fn command(folder: &Folder, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    let more = folder.path("more.conf");
    if more.exists() {
        command.arg(more);
    }
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always", "--dir"]).arg(folder.path(""));
    command
}

impl Service {
    /// What `redis-cli` answers, which connects as the server wants it.
    pub(crate) fn redis(&self, args: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string()]);
        if self.has_tls() {
            cli.args(["--tls", "--insecure", "-a", "secret", "--no-auth-warning"]);
        }
        run(cli.args(args)).trim().to_owned()
    }

    /// Whether it was started with TLS, and a password.
    pub(crate) fn has_tls(&self) -> bool {
        self.folder.path("certificate.pem").exists()
    }
}
