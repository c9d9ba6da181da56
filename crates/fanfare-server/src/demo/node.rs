//! A node of a demo: a process that can be killed, or, where the broker is memory, threads of this one.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::broker::{self, Broker};
use crate::cli::ClusterNode;
use crate::config::{Config, Flag, Overrides};
use crate::{preflight, run};

/// How long all nodes together may take to end.
const ENDING_MAX: Duration = Duration::from_secs(5);

/// A node, running or not.
pub(super) struct Node {
    name: String,
    address: SocketAddr,
    running: Option<Running>,
}

enum Running {
    Process(Child),
    Thread { end: oneshot::Sender<()>, thread: JoinHandle<Result<(), String>> },
}

/// An address that can be listened on: this one, or one with another port if it is taken.
///
/// # Errors
/// There is none.
pub(super) fn free(wanted: SocketAddr) -> Result<SocketAddr, String> {
    let any = SocketAddr::new(wanted.ip(), 0);
    let free = broker::probe(wanted).or_else(|_| broker::probe(any));
    free.map_err(|error| format!("cannot listen on {any}: {error}"))
}

/// Runs a node in this process until its standard input ends, which it does when the demo ends, however that is.
///
/// # Errors
/// Why it could not start.
pub(super) fn run(asked: &ClusterNode) -> Result<(), String> {
    let config = config(&asked.name, asked.listen, Some(&asked.broker))?;
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = end.send(());
    });
    let listens =
        |url: &str| super::say(&mut std::io::stdout(), &format!("fanfare cluster node: listening on {url}\n"));
    run::node(config, None, listens, async { drop(ended.await) })
}

impl Node {
    /// A node that does not run yet.
    pub(super) fn new(name: String, address: SocketAddr) -> Self {
        Node { name, address, running: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What is typed to kill it.
    pub(super) fn number(&self) -> &str {
        self.name.trim_start_matches("node-")
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Its page, and how it is killed from another shell.
    pub(super) fn describe(&self) -> String {
        match &self.running {
            Some(Running::Process(child)) => format!("http://{}/    kill it: kill -9 {}", self.address, child.id()),
            _ => format!("http://{}/", self.address),
        }
    }

    /// Starts it: it listens then.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn start(&mut self, broker: &Broker) -> Result<(), String> {
        self.running = Some(match (broker.url(), broker.shared()) {
            (Some(url), _) => self.start_process(&url)?,
            (None, shared) => self.start_thread(shared)?,
        });
        Ok(())
    }

    fn start_process(&self, url: &str) -> Result<Running, String> {
        let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
        let mut command = Command::new(program);
        command.args(["cluster", "node", "--name", &self.name, "--broker", url, "--listen", &self.address.to_string()]);
        // Ctrl-C is for the demo, which ends its nodes.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.map_err(|error| format!("cannot start {}: {error}", self.name))?;
        let mut first = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut first);
        }
        let log = child.stderr.take().map(BufReader::new);
        if first.is_empty() {
            let mut why = String::new();
            let _ = log.map(|mut log| log.read_to_string(&mut why));
            let _ = child.wait();
            return Err(why.trim().to_owned());
        }
        let name = self.name.clone();
        std::thread::spawn(move || {
            for line in log.into_iter().flat_map(|log| log.lines().map_while(Result::ok)) {
                super::say(&mut std::io::stderr(), &format!("{name} | {line}\n"));
            }
        });
        Ok(Running::Process(child))
    }

    fn start_thread(&self, shared: Option<fanfare::Broker>) -> Result<Running, String> {
        let config = config(&self.name, self.address, None)?;
        let (end, ended) = oneshot::channel::<()>();
        let (listens, has_begun) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let listens = |_: &str| {
                let _ = listens.send(());
            };
            run::node(config, shared, listens, async { drop(ended.await) })
        });
        match has_begun.recv() {
            Ok(()) => Ok(Running::Thread { end, thread }),
            // It has ended before that, and says why.
            Err(_) => Err(joined(thread)),
        }
    }

    /// How it has ended since it was looked at last, if it has.
    pub(super) fn has_ended(&mut self) -> Option<String> {
        let how = match self.running.as_mut()? {
            Running::Process(child) => child.try_wait().ok().flatten()?.to_string(),
            Running::Thread { thread, .. } if !thread.is_finished() => return None,
            Running::Thread { .. } => self.kill(),
        };
        self.running = None;
        Some(how)
    }

    /// Ends it without a warning, where it is a process: how it has ended.
    pub(super) fn kill(&mut self) -> String {
        match self.running.take() {
            Some(Running::Process(mut child)) => {
                let _ = child.kill();
                child.wait().map_or_else(|error| error.to_string(), |status| status.to_string())
            }
            Some(Running::Thread { end, thread }) => {
                drop(end);
                joined(thread)
            }
            None => String::new(),
        }
    }
}

/// Ends them all, and cuts those that take too long.
pub(super) fn end_all(nodes: Vec<Node>) {
    let mut nodes: Vec<_> = nodes.into_iter().filter_map(|node| node.running).collect();
    for node in &mut nodes {
        match node {
            Running::Process(child) => drop(child.stdin.take()),
            Running::Thread { end, .. } => drop(std::mem::replace(end, oneshot::channel().0)),
        }
    }
    let deadline = Instant::now() + ENDING_MAX;
    let is_over = |node: &mut Running| match node {
        Running::Process(child) => !matches!(child.try_wait(), Ok(None)),
        Running::Thread { thread, .. } => thread.is_finished(),
    };
    while !nodes.iter_mut().all(is_over) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    for node in nodes {
        if let Running::Process(mut child) = node {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn joined(thread: JoinHandle<Result<(), String>>) -> String {
    match thread.join() {
        Ok(Ok(())) => "its threads have ended".into(),
        Ok(Err(error)) => error,
        Err(_) => "its threads have panicked".into(),
    }
}

/// What `fanfare dev` serves, as a node of this name.
fn config(name: &str, listen: SocketAddr, url: Option<&str>) -> Result<Config, String> {
    let flag = |path: &str, text: String| Flag { name: "--set", path: path.into(), text };
    let mut flags = vec![
        flag("listen", listen.to_string()),
        flag("log.level", "warn".into()),
        flag("shards", "1".into()),
        // A node that is to end does so while somebody watches.
        flag("drain.limit", "1s".into()),
    ];
    flags.extend(url.map(|url| flag("broker.url", url.into())));
    let config = preflight::parse("fanfare cluster demo", run::DEV, &Overrides::new(flags, []));
    let mut config = config.map_err(|report| report.to_string())?;
    config.cluster.name = Some(name.into());
    config.channels.iter_mut().for_each(|channel| channel.show_node = true);
    Ok(config)
}
