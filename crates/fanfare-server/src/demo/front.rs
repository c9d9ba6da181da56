//! The load balancer of a demo: each connection goes to the next node that takes it, whatever is in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// After the system had no descriptor for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Passes connections on until it is dropped, with those that there are.
pub(super) async fn serve(listener: TcpListener, nodes: Arc<[SocketAddr]>) {
    let mut connections = tokio::task::JoinSet::new();
    for first in (0..nodes.len()).cycle() {
        match listener.accept().await {
            Ok((client, _)) => drop(connections.spawn(pass(client, first, nodes.clone()))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Passes one on, to the first of the nodes that is there. If none is, its client finds it closed and tries again.
async fn pass(mut client: TcpStream, first: usize, nodes: Arc<[SocketAddr]>) {
    for address in nodes.iter().cycle().skip(first).take(nodes.len()) {
        if let Ok(mut node) = TcpStream::connect(address).await {
            let _ = (client.set_nodelay(true), node.set_nodelay(true));
            let _ = copy_bidirectional(&mut client, &mut node).await;
            return;
        }
    }
}
