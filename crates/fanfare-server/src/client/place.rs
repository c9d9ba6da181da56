//! Where a result is printed: as a table where somebody looks at it, as JSON lines where a program reads it.

use std::io::IsTerminal;
use std::time::SystemTime;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;
use time::UtcOffset;

use super::escape::{json, plain};
use crate::cli::client::Output;
use crate::moment;
use crate::terminal::print;

/// So many columns has a terminal that says it has none, as one in a container without a window does.
const COLUMNS_UNKNOWN: u16 = 80;

/// The standard output.
pub(super) struct Place {
    is_for_people: bool,
    offset: UtcOffset,
}

impl Place {
    /// To be made before any thread is.
    pub(super) fn new(output: &Output) -> Self {
        Self { is_for_people: !output.json && std::io::stdout().is_terminal(), offset: moment::local_offset() }
    }

    /// Prints rows as a table, or the values that they are made of, one a line. Whether it was a table.
    ///
    /// # Errors
    /// It cannot be printed.
    pub(super) fn print<'v, const N: usize>(
        &self,
        values: &'v [Value],
        row: impl Fn(&'v Value) -> [String; N],
    ) -> Result<bool, String> {
        self.print_titled(None, values, row)
    }

    /// Whether somebody looks at it.
    pub(super) fn is_for_people(&self) -> bool {
        self.is_for_people
    }

    /// The same below titles, which only a table has.
    ///
    /// # Errors
    /// It cannot be printed.
    pub(super) fn print_below<'v, const N: usize>(
        &self,
        titles: [&str; N],
        values: &'v [Value],
        row: impl Fn(&'v Value) -> [String; N],
    ) -> Result<(), String> {
        self.print_titled(Some(titles), values, row).map(|_| ())
    }

    fn print_titled<'v, const N: usize>(
        &self,
        titles: Option<[&str; N]>,
        values: &'v [Value],
        row: impl Fn(&'v Value) -> [String; N],
    ) -> Result<bool, String> {
        let titles = titles.map(|titles| titles.map(str::to_owned).to_vec());
        print(&self.table(titles, values, |value| row(value).to_vec()))?;
        Ok(self.is_for_people)
    }

    /// What is printed of rows: a table, or the values that they are made of, one a line.
    pub(super) fn table<'v>(
        &self,
        titles: Option<Vec<String>>,
        values: &'v [Value],
        row: impl Fn(&'v Value) -> Vec<String>,
    ) -> String {
        if !self.is_for_people {
            return values.iter().map(|value| format!("{}\n", json(&value.to_string()))).collect();
        }
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if table.width() == Some(0) {
            table.set_width(COLUMNS_UNKNOWN);
        }
        table.add_rows(titles.into_iter().chain(values.iter().map(row)));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// Prints one row of many, as soon as it is there.
    ///
    /// # Errors
    /// It cannot be printed.
    pub(super) fn print_line(&self, value: &Value, row: impl FnOnce(&Value) -> String) -> Result<(), String> {
        let line = if self.is_for_people { row(value) } else { json(&value.to_string()).into_owned() };
        print(&format!("{line}\n"))
    }

    /// A moment of an answer, as the clock on the wall has it.
    pub(super) fn time(&self, moment: &Value) -> String {
        moment::time_of_day(moment.as_str().unwrap_or_default(), self.offset, SystemTime::now())
    }
}

/// A value of an answer for a table.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => plain(text).into_owned(),
        other => json(&other.to_string()).into_owned(),
    }
}
