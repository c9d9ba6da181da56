//! `fanfare top`: where most happens on a running server, again and again.

use serde_json::Value;

use super::address::encoded;
use super::api::Api;
use super::place::{Place, cell};
use super::status::in_a_line;
use crate::cli::client::Top;
use crate::ranking::{By, Column};
use crate::terminal::print;

mod screen;

/// Clears the screen of a terminal.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    by: By,
    column: Column,
    /// A part of the names, or nothing.
    filter: String,
}

pub(super) async fn run(asked: &Top, place: &Place) -> Result<(), String> {
    let mut view = View { by: asked.by, column: asked.by.checked(asked.sort)?, filter: asked.filter.clone() };
    let api = Api::new(&asked.api)?;
    if place.is_for_people() && !asked.once && screen::is_typed_at() {
        return screen::run(asked, place, &api, &mut view).await;
    }
    loop {
        let told = view.ask(&api, asked).await?;
        if place.is_for_people() {
            let clear = if asked.once { "" } else { CLEAR };
            print(&format!("{clear}{}\n", told.head()))?;
        }
        print(&view.table(&told.rows, place))?;
        if asked.once {
            return Ok(());
        }
    }
}

/// What a server tells.
#[derive(Debug, Default)]
struct Told {
    node: Value,
    rows: Vec<Value>,
}

impl Told {
    /// The node in a line; nothing of a server that does not tell of it.
    fn head(&self) -> String {
        let Self { node, .. } = self;
        if node.is_null() {
            return String::new();
        }
        let ready = if node["ready"] == true { "ready" } else { "not ready" };
        let cpu = node["cpu"].as_f64().map_or_else(String::new, |cpu| format!("  cpu {:.0} %", cpu * 100.0));
        let waiting = match node["waiting_sockets"].as_u64() {
            Some(sockets) if sockets > 0 => format!("  {} bytes wait for {sockets} sockets", node["waiting_bytes"]),
            _ => String::new(),
        };
        format!("{}  {ready}  {}{cpu}{waiting}", cell(&node["node"]), in_a_line(node))
    }
}

impl View {
    /// The answer. The server watches for as long as is asked before it answers: that is the pause.
    async fn ask(&self, api: &Api, asked: &Top) -> Result<Told, String> {
        let Self { by, column, filter } = self;
        let (by, column, window) = (by.name(), column.name(), asked.every.as_millis());
        let filter = if filter.is_empty() { String::new() } else { format!("&filter={}", encoded(filter)) };
        let path = format!("/api/top?by={by}&sort={column}&limit={}&window={window}ms{filter}", asked.limit);
        let mut answer = api.get(&path, "rows").await?;
        let node = answer["node"].take();
        match answer["rows"].take() {
            Value::Array(rows) => Ok(Told { node, rows }),
            _ => Err(api.strange("`rows` is no list")),
        }
    }

    /// The rows as a table, or as lines for programs.
    fn table(&self, rows: &[Value], place: &Place) -> String {
        let columns = self.by.columns();
        let mark = |column: &Column| if *column == self.column { " ▾" } else { "" };
        let titles = columns.iter().map(|column| format!("{}{}", column.title(), mark(column))).collect();
        place.table(Some(titles), rows, |row| columns.iter().map(|column| cell(&row[column.field()])).collect())
    }
}
