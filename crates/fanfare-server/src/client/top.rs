//! `fanfare top`: where most happens on a running server, again and again.

use serde_json::Value;

use super::api::Api;
use super::place::{Place, cell};
use crate::cli::client::{Top, TopBy};
use crate::terminal::print;

/// Clears the screen of a terminal.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(super) async fn run(asked: &Top, place: &Place) -> Result<(), String> {
    let api = Api::new(&asked.api)?;
    let path = format!("/api/top?by={}&limit={}&window={}ms", asked.by.name(), asked.limit, asked.every.as_millis());
    loop {
        // The server watches for so long before it answers: that is the pause.
        let answer = api.get(&path, "rows").await?;
        let rows = answer["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        if place.is_for_people() && !asked.once {
            print(CLEAR)?;
        }
        show(asked.by, rows, place)?;
        if asked.once {
            return Ok(());
        }
    }
}

fn show(by: TopBy, rows: &[Value], place: &Place) -> Result<(), String> {
    let cells = |row: &Value, names: [&str; 5]| names.map(|name| cell(&row[name]));
    let (titles, names) = match by {
        TopBy::Topics => (
            ["TOPIC", "MEMBERS", "IN/S", "OUT/S", "BYTES/S"],
            ["name", "members", "published_per_s", "delivered_per_s", "bytes_per_s"],
        ),
        TopBy::Channels => {
            (["CHANNEL", "TOPICS", "MEMBERS", "OUT/S", ""], ["name", "topics", "members", "delivered_per_s", ""])
        }
        TopBy::Users | TopBy::Addresses => (
            ["NAME", "SOCKETS", "RECEIVED/S", "WAITING", ""],
            ["name", "sockets", "received_per_s", "waiting_bytes", ""],
        ),
    };
    place.print_below(titles, rows, |row| cells(row, names))
}
