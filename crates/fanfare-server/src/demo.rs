//! `fanfare cluster demo`: several nodes, a broker between them and a load balancer in front, by one command.
//!
//! `broker` is what the nodes have between them, `node` one of them, `front` the load balancer. A node can be killed, from another
//! shell or by typing its number, and clients go on on the others.

use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::block_in_place;

use crate::cli::{ClusterDemo, ClusterNode};
use crate::signals::Signals;

mod broker;
mod front;
mod node;

use broker::Broker;
use node::Node;

/// How often nodes are looked after.
const LOOK: Duration = Duration::from_millis(100);

/// Runs a node of a demo until its standard input ends.
///
/// # Errors
/// Why it could not start.
pub(crate) fn node(asked: &ClusterNode) -> Result<(), String> {
    node::run(asked)
}

/// Runs the demo until SIGINT or SIGTERM.
///
/// # Errors
/// Why it could not start.
pub(crate) fn run(asked: &ClusterDemo) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start threads: {error}"))?;
    let result = runtime.block_on(demo(asked));
    // The standard input is read by a thread that cannot be stopped.
    runtime.shutdown_background();
    result
}

async fn demo(asked: &ClusterDemo) -> Result<(), String> {
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(asked.listen).await;
    let listener = listener
        .map_err(|error| format!("cannot listen on {}: {error}; choose another --listen address", asked.listen))?;
    let front = listener.local_addr().map_err(|error| error.to_string())?;
    let mut broker = block_in_place(|| Broker::start(asked.broker))?;
    let mut nodes = Vec::new();
    for number in 1..=u16::from(asked.nodes) {
        let port = if asked.listen.port() == 0 { 0 } else { front.port().saturating_add(number) };
        let address = node::free(SocketAddr::new(front.ip(), port))?;
        let mut node = Node::new(format!("node-{number}"), address);
        block_in_place(|| node.start(&broker))?;
        nodes.push(node);
    }
    let addresses: Arc<[SocketAddr]> = nodes.iter().map(Node::address).collect();
    let balancer = tokio::spawn(front::serve(listener, addresses));
    say(&mut std::io::stdout(), &format!("fanfare cluster demo: listening on http://{front}\n"));
    say(&mut std::io::stderr(), &explain(front, &broker, &nodes));
    let (mut lines, mut is_typed_to) = (lines(), true);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = signals.next() => break,
            line = lines.recv(), if is_typed_to => match line {
                Some(line) => block_in_place(|| act(line.trim(), &mut nodes, &broker)),
                // Whoever started it types nothing.
                None => is_typed_to = false,
            },
            _ = look.tick() => {
                for node in &mut nodes {
                    if let Some(how) = node.has_ended() {
                        say(&mut std::io::stderr(), &format!("{} has ended: {how}. {}", node.name(), next(node)));
                    }
                }
                broker.check()?;
            }
        }
    }
    say(&mut std::io::stderr(), "Ending the nodes and what is between them.\n");
    balancer.abort();
    block_in_place(|| node::end_all(nodes));
    Ok(())
}

/// Does what somebody has typed: a node's number kills it, or starts it again.
fn act(line: &str, nodes: &mut [Node], broker: &Broker) {
    let count = nodes.len();
    let numbered = line.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
    let told = match numbered.and_then(|index| nodes.get_mut(index)) {
        None if line.is_empty() => return,
        None => format!("{line:?} is no node: type a number from 1 to {count}, or Ctrl-C to end everything.\n"),
        Some(node) if node.is_running() => {
            let how = node.kill();
            format!("{} has ended: {how}. {}", node.name(), next(node))
        }
        Some(node) => match node.start(broker) {
            Ok(()) => format!("{} is back: {}\n", node.name(), node.describe()),
            Err(error) => format!("{} does not start: {error}\n", node.name()),
        },
    };
    say(&mut std::io::stderr(), &told);
}

/// What can be done about a node that has ended.
fn next(node: &Node) -> String {
    format!("Its clients go on on the others; type {} and Enter to start it again.\n", node.number())
}

/// What is typed, line by line.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (typed, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if typed.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

fn explain(front: SocketAddr, broker: &Broker, nodes: &[Node]) -> String {
    let mut told = format!(
        "
{} nodes with {} between them, behind a load balancer that gives each connection to the next node.

  Page     http://{front}/    open it in two tabs and chat: each says which node it is on
",
        nodes.len(),
        broker.describe(),
    );
    for node in nodes {
        told += &format!("  {:<8} {}\n", node.name(), node.describe());
    }
    told + "
Type the number of a node and Enter to kill it, and see the chat go on on another; the number again starts it. Ctrl-C ends everything.

"
}

/// Whoever started the process may have closed its outputs.
fn say(output: &mut dyn Write, text: &str) {
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
}
