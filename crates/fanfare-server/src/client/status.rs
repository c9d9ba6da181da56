//! `fanfare status`: what a running server has and does.

use serde_json::{Value, json};

use super::api::Api;
use super::lines::Lines;
use super::place::{Place, cell};
use crate::cli::client::Status;

pub(super) async fn run(asked: &Status, place: &Place) -> Result<(), String> {
    let api = Api::new(&asked.api)?;
    let info = api.get("/api/info", "generation").await?;
    let mut samples = Lines::of(api.open("/api/live?what=overview,shards,health&every=500ms").await?);
    // The first one has no rates: it is what the second is compared with.
    let mut sample = Value::Null;
    for _ in 0..2 {
        let line = samples.next().await?.ok_or("the server drains: it tells nothing more")?;
        sample = serde_json::from_slice(&line).map_err(|_| api.strange("it is no JSON"))?;
    }
    let shards = sample["shards"].as_array().map(Vec::as_slice).unwrap_or_default();
    if asked.shards {
        let numbered: Vec<Value> = shards
            .iter()
            .enumerate()
            .map(|(number, shard)| {
                let mut shard = shard.clone();
                shard["shard"] = number.into();
                shard
            })
            .collect();
        let names = ["shard", "sockets", "busy", "turn_age_ms", "left_over"];
        let titles = ["SHARD", "SOCKETS", "BUSY", "TURN MS", "LEFT OVER"];
        return place.print_below(titles, &numbered, |shard| names.map(|name| cell(&shard[name])));
    }
    let overview = &sample["overview"];
    let told = json!({
        "version": info["version"], "started_at": info["started_at"], "generation": info["generation"], "shards": shards.len(),
        "ready": sample["health"]["ready"], "reasons": sample["health"]["reasons"], "parts": sample["health"]["parts"],
        "overview": overview,
    });
    place.print_line(&told, |told| {
        let troubled = troubled(&told["parts"]);
        let ready =
            if told["ready"] == true { "ready".to_owned() } else { format!("not ready: {}", cell(&told["reasons"])) };
        format!(
            "{ready}  {troubled}{}  {} shards  configuration {}  version {}  since {}",
            in_a_line(overview),
            shards.len(),
            told["generation"],
            cell(&told["version"]),
            place.time(&told["started_at"]),
        )
    })
}

/// What a node has and does, for people.
pub(super) fn in_a_line(overview: &Value) -> String {
    let dropped = overview["dropped_per_s"].as_object();
    // The sum of no numbers is -0.
    let dropped = dropped.into_iter().flatten().filter_map(|(_, rate)| rate.as_f64()).fold(0.0, |sum, rate| sum + rate);
    let p99 = overview["p99_ms"].as_f64().map_or_else(String::new, |ms| format!("p99 {ms} ms  "));
    format!(
        "{} sockets  {} joined  {} deliveries/s  {p99}drops {dropped}/s  {} MiB",
        overview["sockets"],
        overview["members"],
        overview["delivered_per_s"],
        overview["memory_bytes"].as_u64().unwrap_or(0) / (1024 * 1024),
    )
}

/// The parts that are not well, in the words of the health report.
fn troubled(parts: &Value) -> String {
    let named = parts.as_object().into_iter().flatten().filter_map(|(kind, names)| Some((kind, names.as_object()?)));
    let states = named.flat_map(|(kind, names)| {
        names.iter().map(move |(name, told)| {
            let state = told.get("state").unwrap_or(told).as_str().unwrap_or_default();
            (state, format!("{kind}.{name} is {state}  "))
        })
    });
    states.filter(|(state, _)| *state != "ok").map(|(_, text)| text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_not_well_are_named() {
        let parts = json!({
            "status": "degraded", "hooks": { "a": "ok", "b": "stale" }, "broker": { "redis": { "state": "unavailable" } },
        });
        assert_eq!(troubled(&parts), "broker.redis is unavailable  hooks.b is stale  ");
        assert_eq!(troubled(&Value::Null), "");
    }
}
