//! `fanfare why`: the last facts about clients, and what to do about them.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::address::encoded;
use super::api::Api;
use super::escape::plain;
use super::place::{Place, cell};
use crate::cli::client::Why;
use crate::terminal::print;

/// At most so many hints stand below a table.
const HINTS_MAX: usize = 3;

/// How long `--follow` waits before it looks again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(asked: &Why, place: &Place) -> Result<(), String> {
    let mut path = format!("/api/why?limit={}", asked.limit);
    let address = asked.address.map(|address| address.to_string());
    for (name, value) in [
        ("user", &asked.user),
        ("address", &address),
        ("topic", &asked.topic),
        ("kind", &asked.kind),
        ("since", &asked.since),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encoded(value)));
        }
    }
    let api = Api::new(&asked.api)?;
    if asked.follow {
        return follow(&api, &path, place).await;
    }
    let answer = api.get(&path, "facts").await?;
    let facts = answer["facts"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !place.print(facts, |fact| row(fact, place))? {
        return Ok(());
    }
    if facts.is_empty() {
        eprintln!(
            "nothing was refused, closed or dropped that fits; the server keeps the last facts only, and none over a restart"
        );
    }
    print(&hints(facts).map(|hint| format!("next: {}\n", plain(hint))).collect::<String>())
}

/// Prints facts as they happen; one that has happened again is printed again, with its number.
async fn follow(api: &Api, path: &str, place: &Place) -> Result<(), String> {
    let mut known: HashMap<String, u64> = HashMap::new();
    loop {
        let answer = api.get(path, "facts").await?;
        let facts = answer["facts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let counted = facts.iter().map(|fact| (name(fact), fact["count"].as_u64().unwrap_or(1)));
        let counted: HashMap<String, u64> = counted.collect();
        let is_new = |fact: &&Value| known.get(&name(fact)) != counted.get(&name(fact));
        for fact in facts.iter().rev().filter(is_new) {
            place.print_line(fact, |fact| {
                let cells: Vec<_> = row(fact, place).into_iter().filter(|cell| !cell.is_empty()).collect();
                cells.join("  ")
            })?;
        }
        known = counted;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What stays the same while a fact happens again.
fn name(fact: &Value) -> String {
    ["first", "kind", "reason", "code", "user", "address", "endpoint", "topic"]
        .map(|field| fact[field].to_string())
        .join(" ")
}

fn row(fact: &Value, place: &Place) -> [String; 7] {
    let count = fact["count"].as_u64().filter(|&count| count > 1);
    let kind = match fact["code"].as_u64() {
        Some(code) => format!("{} {code}", cell(&fact["kind"])),
        None => cell(&fact["kind"]),
    };
    let about = if fact["topic"].is_null() { &fact["endpoint"] } else { &fact["topic"] };
    [
        place.time(&fact["at"]),
        count.map_or_else(String::new, |count| format!("×{count}")),
        kind,
        cell(&fact["detail"]),
        cell(&fact["user"]),
        cell(&fact["address"]),
        cell(about),
    ]
}

/// What to do, about the newest first.
fn hints(facts: &[Value]) -> impl Iterator<Item = &str> {
    let mut hints: Vec<&str> = Vec::new();
    for hint in facts.iter().filter_map(|fact| fact["next"].as_str()) {
        if !hints.contains(&hint) && hints.len() < HINTS_MAX {
            hints.push(hint);
        }
    }
    hints.into_iter()
}
