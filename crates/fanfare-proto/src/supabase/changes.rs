//! Changes of a database: which of them a join wants, and what its member is told. A change is what the trigger of the guide's
//! SQL writes: an object with `schema`, `table`, `type`, `commit_timestamp`, `columns`, `record`, `old_record` and `errors`. Values
//! of rows go out byte for byte as the database wrote them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::filter::{Filter, REGULAR_MAX};
use crate::payload::{JsonText, Payload};

/// What the engine's topic of a table begins with.
pub const CHANGES: &str = "postgres_changes:";

/// What can happen to a row.
const OPERATIONS: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

/// How many columns a binding may name.
const COLUMNS_MAX: usize = 1_600;

/// A row, by its columns.
pub type Row = BTreeMap<String, Box<RawValue>>;

/// The engine's topic of a table.
pub fn changes_topic(schema: &str, table: &str) -> String {
    format!("{CHANGES}{schema}:{table}")
}

/// Changes that a join wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// By which the client knows them.
    pub id: u32,
    /// `None`: whatever has happened to a row.
    operation: Option<String>,
    /// `None`: all there are.
    schema: Option<String>,
    table: Option<String>,
    filter: Filter,
    select: Option<Vec<String>>,
}

impl Wanted {
    /// Reads the bindings of a join, which have the ids 1, 2, 3… Of each that cannot be served, why, for whoever wrote it.
    pub fn all(bindings: &[Map<String, Value>]) -> Vec<Result<Self, String>> {
        let mut regular_left = REGULAR_MAX;
        bindings.iter().zip(1..).map(|(binding, id)| Self::of(id, binding, &mut regular_left)).collect()
    }

    fn of(id: u32, binding: &Map<String, Value>, regular_left: &mut usize) -> Result<Self, String> {
        let text = |name: &str| match binding.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty() && *text != "*")),
            Some(_) => Err(format!("`{name}` is not a text")),
        };
        let operation = text("event")?.map(str::to_ascii_uppercase);
        if let Some(operation) = &operation
            && !OPERATIONS.contains(&operation.as_str())
        {
            return Err(format!("the event {operation:.40?} is none of *, INSERT, UPDATE and DELETE"));
        }
        let select = match binding.get("select") {
            None | Some(Value::Null) => None,
            Some(Value::Array(columns)) if columns.len() <= COLUMNS_MAX => {
                let columns = columns.iter().map(|column| column.as_str().map(str::to_owned));
                Some(columns.collect::<Option<Vec<_>>>().ok_or("`select` is not a list of columns")?)
            }
            Some(_) => return Err(format!("`select` is not a list of at most {COLUMNS_MAX} columns")),
        };
        Ok(Wanted {
            id,
            operation,
            schema: text("schema")?.map(str::to_owned),
            table: text("table")?.map(str::to_owned),
            filter: Filter::parse(text("filter")?.unwrap_or_default(), regular_left)?,
            select: select.filter(|columns| !columns.is_empty()),
        })
    }

    /// Whether changes of a table can be among them.
    pub fn covers(&self, schema: &str, table: &str) -> bool {
        self.schema.as_deref().is_none_or(|wanted| wanted == schema)
            && self.table.as_deref().is_none_or(|wanted| wanted == table)
    }

    /// A column that its filter or its `select` names, and the table of a change does not have. `None` as well where the change
    /// does not say which columns there are, and where any table is meant.
    pub fn unknown_column(&self, change: &Change) -> Option<&str> {
        self.table.as_ref()?;
        let there = change.column_names()?;
        let named = self.filter.columns().chain(self.select.iter().flatten().map(String::as_str));
        named.into_iter().find(|&column| !there.iter().any(|name| name == column))
    }

    fn matches(&self, change: &Change) -> bool {
        self.operation.as_deref().is_none_or(|operation| operation == change.operation)
            && self.covers(&change.schema, &change.table)
            && self.filter.matches(|column| serde_json::from_str(change.row().get(column)?.get()).ok())
    }
}

/// What has happened to a row.
#[derive(Debug, Deserialize)]
pub struct Change {
    /// The schema of its table.
    pub schema: String,
    /// Its table.
    pub table: String,
    #[serde(rename = "type")]
    operation: String,
    #[serde(default)]
    commit_timestamp: Option<Box<RawValue>>,
    #[serde(default)]
    columns: Option<Box<RawValue>>,
    #[serde(default)]
    record: Option<Row>,
    #[serde(default)]
    old_record: Option<Row>,
    #[serde(default)]
    errors: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Told<'a> {
    ids: &'a [u32],
    data: Data<'a>,
}

/// Older clients throw where a list or a row that they expect is missing.
#[derive(Serialize)]
struct Data<'a> {
    schema: &'a str,
    table: &'a str,
    #[serde(rename = "type")]
    operation: &'a str,
    commit_timestamp: &'a Option<Box<RawValue>>,
    columns: Columns<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<BTreeMap<&'a str, &'a RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_record: Option<BTreeMap<&'a str, &'a RawValue>>,
    errors: &'a Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Columns<'a> {
    All(&'a RawValue),
    Some(Vec<Map<String, Value>>),
}

impl Change {
    /// Reads one that was published. `None`: it is something else.
    pub fn of(payload: &Payload) -> Option<Self> {
        let Payload::Json(json) = payload else { return None };
        let change: Change = json.to().ok()?;
        OPERATIONS.contains(&change.operation.as_str()).then_some(change)
    }

    /// The row as it is now, or as it was when it was deleted: what filters and rules look at.
    pub fn row(&self) -> &Row {
        static NONE: Row = Row::new();
        self.record.as_ref().or(self.old_record.as_ref()).unwrap_or(&NONE)
    }

    fn column_names(&self) -> Option<Vec<String>> {
        #[derive(Deserialize)]
        struct Column {
            name: String,
        }
        let columns: Vec<Column> = serde_json::from_str(self.columns.as_ref()?.get()).ok()?;
        (!columns.is_empty()).then(|| columns.into_iter().map(|column| column.name).collect())
    }

    /// The row as it was before, where it is another one now.
    pub fn row_before(&self) -> Option<&Row> {
        self.record.as_ref().and(self.old_record.as_ref())
    }

    /// What a member is told that wants these changes: a message for all that get the same columns. `with_before` is
    /// whether it may see the row as it was.
    pub fn told(&self, wanted: &[Wanted], with_before: bool) -> Vec<Payload> {
        let mut groups: Vec<(Option<&Vec<String>>, Vec<u32>)> = Vec::new();
        for wanted in wanted.iter().filter(|wanted| wanted.matches(self)) {
            let select = wanted.select.as_ref();
            match groups.iter_mut().find(|(other, _)| *other == select) {
                Some((_, ids)) => ids.push(wanted.id),
                None => groups.push((select, vec![wanted.id])),
            }
        }
        groups.iter().filter_map(|(select, ids)| self.message(*select, ids, with_before)).collect()
    }

    fn message(&self, select: Option<&Vec<String>>, ids: &[u32], with_before: bool) -> Option<Payload> {
        let shows_old = with_before || self.record.is_none();
        let columns = match (&self.columns, select) {
            (Some(columns), None) => Columns::All(columns),
            (columns, _) => {
                let all = columns.as_ref().and_then(|columns| serde_json::from_str(columns.get()).ok());
                let all: Vec<Map<String, Value>> = all.unwrap_or_default();
                let name = |column: &Map<String, Value>| column.get("name").and_then(Value::as_str).map(str::to_owned);
                let is_wanted =
                    |column: &Map<String, Value>| name(column).is_some_and(|name| is_selected(select, &name));
                Columns::Some(all.into_iter().filter(is_wanted).collect())
            }
        };
        let (has_now, has_before) = (self.operation != "DELETE", self.operation != "INSERT");
        let now = self.record.as_ref().map(|row| part(row, select));
        let before = self.old_record.as_ref().filter(|_| shows_old).map(|row| part(row, select));
        let data = Data {
            schema: &self.schema,
            table: &self.table,
            operation: &self.operation,
            commit_timestamp: &self.commit_timestamp,
            columns,
            record: has_now.then(|| now.unwrap_or_default()),
            old_record: has_before.then(|| before.unwrap_or_default()),
            errors: &self.errors,
        };
        JsonText::of(&Told { ids, data }).ok().map(Payload::Json)
    }
}

fn is_selected(select: Option<&Vec<String>>, column: &str) -> bool {
    select.is_none_or(|select| select.iter().any(|name| name == column))
}

fn part<'a>(row: &'a Row, select: Option<&Vec<String>>) -> BTreeMap<&'a str, &'a RawValue> {
    let columns = row.iter().filter(|(column, _)| is_selected(select, column));
    columns.map(|(column, value)| (column.as_str(), &**value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(id: u32, binding: Value) -> Result<Wanted, String> {
        Wanted::of(id, binding.as_object().unwrap(), &mut REGULAR_MAX.clone())
    }

    fn told(change: &Value, bindings: &[Value], with_before: bool) -> Vec<Value> {
        let change = Change::of(&change.clone().into()).unwrap();
        let wanted: Vec<_> =
            bindings.iter().zip(1..).map(|(binding, id)| wanted(id, binding.clone()).unwrap()).collect();
        let payloads = change.told(&wanted, with_before);
        payloads.iter().map(|payload| payload.to().unwrap()).collect()
    }

    #[test]
    fn members_are_told_what_they_want() {
        let columns = json!([{"name": "id", "type": "int8"}, {"name": "total", "type": "numeric"}]);
        let change = json!({
            "schema": "public", "table": "orders", "type": "UPDATE", "commit_timestamp": "2026-08-21T10:00:00.000Z",
            "columns": columns, "record": {"id": 1, "total": 20}, "old_record": {"id": 1, "total": 10}, "errors": null,
        });
        let bindings = [
            json!({"event": "*", "schema": "*"}),
            json!({"event": "INSERT", "schema": "public", "table": "orders"}),
            json!({"event": "update", "schema": "public", "table": "orders", "filter": "total=gt.15"}),
            json!({"event": "UPDATE", "schema": "public", "table": "orders", "filter": "total=lt.15"}),
            json!({"event": "UPDATE", "schema": "public", "table": "others"}),
            json!({"event": "UPDATE", "schema": "public", "select": ["id"]}),
        ];
        let mut some = change.clone();
        some["record"] = json!({"id": 1});
        some["old_record"] = json!({"id": 1});
        some["columns"] = json!([columns[0]]);
        let expected = [json!({"ids": [1, 3], "data": change}), json!({"ids": [6], "data": some})];
        assert_eq!(told(&change, &bindings, true), expected);
        // The row as it was is left out for those who may not see it, and is all there is of one that was deleted.
        let mut without = change.clone();
        without["old_record"] = json!({});
        assert_eq!(told(&change, &bindings[..1], false), [json!({"ids": [1], "data": without})]);
        let mut deleted = change.clone();
        deleted["type"] = json!("DELETE");
        deleted.as_object_mut().unwrap().remove("record");
        let by_old = json!({"event": "DELETE", "schema": "public", "filter": "total=eq.10"});
        assert_eq!(told(&deleted, &[by_old], false), [json!({"ids": [1], "data": deleted})]);
    }

    #[test]
    fn columns_that_a_table_does_not_have_are_found() {
        let columns = json!([{"name": "id", "type": "int8"}, {"name": "total", "type": "numeric"}]);
        let change = |columns: Value| {
            let change =
                json!({"schema": "s", "table": "t", "type": "INSERT", "columns": columns, "record": {"id": 1}});
            Change::of(&change.into()).unwrap()
        };
        let (known, unknown) = (change(columns), change(Value::Null));
        for (binding, expected) in [
            (json!({"table": "t"}), None),
            (json!({"table": "t", "filter": "total=gt.1", "select": ["id"]}), None),
            (json!({"table": "t", "filter": "id=eq.1,totl=gt.1"}), Some("totl")),
            (json!({"table": "t", "select": ["id", "Total"]}), Some("Total")),
            (json!({"select": ["id", "Total"]}), None),
        ] {
            let wanted = wanted(1, binding).unwrap();
            assert_eq!((wanted.unknown_column(&known), wanted.unknown_column(&unknown)), (expected, None));
        }
    }

    #[test]
    fn values_are_told_as_the_database_wrote_them() {
        let text = r#"{"schema":"s","table":"t","type":"INSERT","record":{"n":1234567890.12345678901234567890}}"#;
        let change = Change::of(&Payload::Json(JsonText::parse(text).unwrap())).unwrap();
        let [Payload::Json(told)] = &change.told(&[wanted(1, json!({})).unwrap()], true)[..] else { panic!("one") };
        assert!(told.as_str().contains(r#""record":{"n":1234567890.12345678901234567890}"#), "{}", told.as_str());
    }

    #[test]
    fn bindings_that_cannot_be_served_are_explained() {
        for (binding, part) in [
            (json!({"event": "TRUNCATE"}), "is none of *, INSERT, UPDATE and DELETE"),
            (json!({"event": 5}), "`event` is not a text"),
            (json!({"table": ["a"]}), "`table` is not a text"),
            (json!({"filter": "id"}), "write column=operator.value"),
            (json!({"select": "id"}), "`select` is not a list"),
            (json!({"select": [5]}), "`select` is not a list"),
            (json!({"select": vec!["a"; COLUMNS_MAX + 1]}), "at most 1600 columns"),
        ] {
            let error = wanted(1, binding).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        for none in [json!({"schema": "s"}), json!({"schema": "s", "table": "t", "type": "TRUNCATE"})] {
            assert!(Change::of(&none.into()).is_none());
        }
    }

    #[test]
    fn clients_find_the_rows_and_the_columns_that_they_look_for() {
        for (operation, rows) in [
            ("INSERT", json!({"record": {}})),
            ("UPDATE", json!({"record": {}, "old_record": {}})),
            ("DELETE", json!({"old_record": {}})),
        ] {
            let bare = json!({"schema": "s", "table": "t", "type": operation});
            let mut expected = bare.clone();
            expected.as_object_mut().unwrap().extend(rows.as_object().unwrap().clone());
            expected["columns"] = json!([]);
            (expected["commit_timestamp"], expected["errors"]) = (Value::Null, Value::Null);
            assert_eq!(told(&bare, &[json!({})], true), [json!({"ids": [1], "data": expected})]);
        }
    }
}
