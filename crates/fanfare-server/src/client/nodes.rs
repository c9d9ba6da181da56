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
    let gone = answer["gone"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = [nodes, gone].concat();
    let row = |node: &Value| {
        let state = match node["heard_s"].as_f64() {
            Some(heard_s) => format!("{} {heard_s:.0} s ago", if node["left"] == true { "ended" } else { "gone" }),
            None if node["self"] == true => "answers".to_owned(),
            None => "alive".to_owned(),
        };
        let [node, name, version, sockets, topics, members] =
            ["node", "name", "version", "sockets", "topics", "joins"].map(|field| cell(&node[field]));
        [node, name, state, version, sockets, topics, members]
    };
    place.print_below(["NODE", "NAME", "STATE", "VERSION", "SOCKETS", "TOPICS", "MEMBERS"], &all, row)
}
