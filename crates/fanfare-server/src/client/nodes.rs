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
        let [id, name, version, sockets, topics, members, page] =
            ["node", "name", "version", "sockets", "topics", "joins", "admin_url"].map(|field| cell(&node[field]));
        let [published, delivered, p99] = ["published_per_s", "delivered_per_s", "p99_ms"]
            .map(|field| if node[field].is_null() { "–".to_owned() } else { cell(&node[field]) });
        [id, name, state, version, sockets, topics, members, published, delivered, p99, page]
    };
    let titles =
        ["NODE", "NAME", "STATE", "VERSION", "SOCKETS", "TOPICS", "MEMBERS", "IN/S", "OUT/S", "P99 MS", "ADMIN PAGE"];
    place.print_below(titles, &all, row)
}
