//! `fanfare nodes`: the nodes of a cluster, as one of them knows them.

use serde_json::Value;

use super::api::Api;
use super::place::{Place, cell};
use crate::cli::client::Nodes;

pub(super) async fn run(asked: &Nodes, place: &Place) -> Result<(), String> {
    let answer = Api::new(&asked.api)?.get("/api/nodes", "nodes").await?;
    let nodes = answer["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if nodes.is_empty() {
        eprintln!("the server is no node of a cluster: it has no [broker]");
        return Ok(());
    }
    let row = |node: &Value| {
        let state = if node["self"] == true { "answers" } else { "alive" };
        let [name, version, sockets, topics, members] =
            ["node", "version", "sockets", "topics", "joins"].map(|field| cell(&node[field]));
        [name, state.to_owned(), version, sockets, topics, members]
    };
    place.print_below(["NODE", "STATE", "VERSION", "SOCKETS", "TOPICS", "MEMBERS"], nodes, row)
}
