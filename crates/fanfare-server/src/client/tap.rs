//! `fanfare tap`: messages of a running server as they pass.

use futures_util::StreamExt;
use serde_json::Value;

use super::address::encoded;
use super::api::Api;
use super::place::{Place, cell};
use crate::cli::client::Tap;

/// A line of the server's is no longer.
const LINE_SIZE_MAX: usize = 1_000_000;

pub(super) async fn run(asked: &Tap, place: &Place) -> Result<(), String> {
    let address = asked.address.map(|address| address.to_string());
    let event = (!asked.event.is_empty()).then(|| asked.event.join(","));
    let rate = asked.rate.map(|rate| rate.to_string());
    let mut path = String::from("/api/tap");
    let mut separator = '?';
    for (name, value) in [
        ("topic", &asked.topic),
        ("user", &asked.user),
        ("address", &address),
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
    let mut body = Api::new(&asked.api)?.open(path).await?;
    let (mut rest, mut printed, mut is_told) = (Vec::new(), 0, false);
    loop {
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
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
        match body.next().await {
            Some(Ok(chunk)) if rest.len() + chunk.len() <= LINE_SIZE_MAX => rest.extend_from_slice(&chunk),
            Some(Ok(_)) => return Err("the answer is none of ours: a line does not end".into()),
            Some(Err(_)) => return Err("the connection was lost".into()),
            None => return Err("the server has ended the tap: it drains, or the hour is over".into()),
        }
    }
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
