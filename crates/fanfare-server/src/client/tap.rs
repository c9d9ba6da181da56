//! `fanfare tap`: messages of a running server as they pass.

use serde_json::Value;

use super::address::encoded;
use super::api::Api;
use super::lines::Lines;
use super::place::{Place, cell};
use crate::cli::client::Tap;

pub(super) async fn run(asked: &Tap, place: &Place) -> Result<(), String> {
    let address = asked.address.map(|address| address.to_string());
    let socket = asked.socket.map(|socket| socket.to_string());
    let event = (!asked.event.is_empty()).then(|| asked.event.join(","));
    let rate = asked.rate.map(|rate| rate.to_string());
    let mut path = String::from("/api/tap");
    let mut separator = '?';
    for (name, value) in [
        ("topic", &asked.topic),
        ("user", &asked.user),
        ("address", &address),
        ("socket", &socket),
        ("direction", &asked.direction),
        ("event", &event),
        ("payload", &Some(asked.payload.clone())),
        ("rate", &rate),
    ] {
        if let Some(value) = value {
            path.push_str(&format!("{separator}{name}={}", encoded(value)));
            separator = '&';
        }
    }
    let watching = follow(asked, place, &path);
    match asked.span {
        Some(span) => tokio::time::timeout(span, watching).await.unwrap_or(Ok(())),
        None => watching.await,
    }
}

async fn follow(asked: &Tap, place: &Place, path: &str) -> Result<(), String> {
    let mut lines = Lines::of(Api::new(&asked.api)?.open(path).await?);
    let (mut printed, mut is_told) = (0, false);
    while let Some(line) = lines.next().await? {
        if !is_told {
            // The first line is empty: the server watches from now on.
            eprintln!("watching");
            is_told = true;
        }
        let Ok(message) = serde_json::from_slice::<Value>(&line) else { continue };
        place.print_line(&message, |message| shown(message, place))?;
        printed += 1;
        if asked.count == Some(printed) {
            return Ok(());
        }
    }
    Err("the server has ended the tap: it drains, the hour is over, or the token counts no more".into())
}

/// `12:01:07  ←  user 42   room:lobby  new_msg      64 B  {"body":"hi"}`
fn shown(message: &Value, place: &Place) -> String {
    let arrow = if message["direction"] == "in" { '←' } else { '→' };
    let who =
        if message["user"].is_null() { cell(&message["address"]) } else { format!("user {}", cell(&message["user"])) };
    let payload = match (&message["payload"], &message["payload_begin"]) {
        (Value::Null, Value::Null) => String::new(),
        (Value::Null, begin) => format!("{}…", cell(begin)),
        (payload, _) => cell(payload),
    };
    let left_out = message["left_out"].as_u64().map_or_else(String::new, |n| format!("  ({n} before it left out)"));
    let line = format!(
        "{}  {arrow}  {who:<21}  {:<16}  {:<12} {:>6} B  {}  {payload}{left_out}",
        place.time(&message["at"]),
        cell(&message["topic"]),
        cell(&message["event"]),
        message["bytes"],
        cell(&message["status"]),
    );
    line.trim_end().to_owned()
}
