//! What has been measured: in memory, and if wanted in a file that an interrupted comparison goes on from.
//!
//! The file has one JSON object a line: the machine first, then each run with the report of `fanfare bench`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::plan::Run;

/// How a run went.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) scenario: String,
    pub(crate) server: String,
    pub(crate) round: u32,
    /// How often it was repeated because other programs ran.
    pub(crate) repeats: u32,
    /// What `fanfare bench` reports, or why it could not.
    pub(crate) outcome: Result<Value, String>,
}

pub(crate) struct History {
    pub(crate) machine: Value,
    records: Vec<Record>,
    file: Option<File>,
}

impl History {
    /// With a file, what it has already. `machine` is asked only when there is nothing yet.
    pub(crate) fn open(path: Option<&Path>, machine: impl FnOnce() -> Value) -> Result<Self, String> {
        let Some(path) = path else {
            return Ok(Self { machine: machine(), records: Vec::new(), file: None });
        };
        let wrong = |e: std::io::Error| format!("cannot use {}: {e}", path.display());
        let text = if path.exists() { std::fs::read_to_string(path).map_err(wrong)? } else { String::new() };
        let mut history = Self::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        history.file = Some(OpenOptions::new().create(true).append(true).open(path).map_err(wrong)?);
        if history.machine.is_null() {
            history.machine = machine();
            history.append(&json!({ "machine": history.machine }))?;
        }
        Ok(history)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut history = Self { machine: Value::Null, records: Vec::new(), file: None };
        for (number, line) in text.lines().enumerate() {
            let mut value: Value =
                serde_json::from_str(line).map_err(|e| format!("line {} is not JSON: {e}; remove it", number + 1))?;
            match value.get_mut("machine") {
                Some(machine) => history.machine = machine.take(),
                None => history.records.push(Record::from_json(&mut value)),
            }
        }
        Ok(history)
    }

    pub(crate) fn add(&mut self, record: Record) -> Result<(), String> {
        self.append(&record.to_json())?;
        self.records.push(record);
        Ok(())
    }

    fn append(&mut self, line: &Value) -> Result<(), String> {
        match &mut self.file {
            Some(file) => writeln!(file, "{line}").map_err(|e| format!("cannot write what was measured: {e}")),
            None => Ok(()),
        }
    }

    /// Whether a run has been made, with success.
    pub(crate) fn has(&self, run: &Run<'_>) -> bool {
        self.of(run.scenario.name, &run.server.name).any(|record| record.round == run.round && record.outcome.is_ok())
    }

    pub(crate) fn of(&self, scenario: &str, server: &str) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.scenario == scenario && record.server == server)
    }

    /// A figure of each round; of a round that was measured twice the later one.
    pub(crate) fn figures(&self, scenario: &str, server: &str, pointer: &str) -> BTreeMap<u32, f64> {
        let figure = |record: &Record| record.outcome.as_ref().ok()?.pointer(pointer)?.as_f64();
        self.of(scenario, server).filter_map(|record| Some((record.round, figure(record)?))).collect()
    }
}

impl Record {
    fn to_json(&self) -> Value {
        let (key, value) = match &self.outcome {
            Ok(report) => ("report", report.clone()),
            Err(message) => ("error", message.as_str().into()),
        };
        let Self { scenario, server, round, repeats, .. } = self;
        json!({ "scenario": scenario, "server": server, "round": round, "repeats": repeats, key: value })
    }

    fn from_json(value: &mut Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| value[key].as_u64().unwrap_or_default() as u32;
        let (scenario, server, error) = (text("scenario"), text("server"), text("error"));
        let (round, repeats) = (number("round"), number("repeats"));
        let outcome = value.get_mut("report").map(Value::take).ok_or(error);
        Self { scenario, server, round, repeats, outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(round: u32, outcome: Result<Value, String>) -> Record {
        Record { scenario: "a".into(), server: "b".into(), round, repeats: 1, outcome }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let records = [record(1, Ok(json!({ "x": { "y": 2.5 } }))), record(2, Err("no server".into()))];
        let lines: Vec<String> = records.iter().map(|record| record.to_json().to_string()).collect();
        let history =
            History::parse(&format!("{}\n{}\n", json!({ "machine": { "cores": 2 } }), lines.join("\n"))).unwrap();
        assert_eq!(history.records, records);
        assert_eq!(history.machine["cores"], 2);
        assert_eq!(history.figures("a", "b", "/x/y"), BTreeMap::from([(1, 2.5)]));
        assert!(History::parse("{").is_err());
    }

    #[test]
    fn later_of_two_runs_of_a_round_counts() {
        let mut history = History::parse("").unwrap();
        for figure in [1.0, 2.0] {
            history.add(record(1, Ok(json!({ "x": figure })))).unwrap();
        }
        assert_eq!(history.figures("a", "b", "/x"), BTreeMap::from([(1, 2.0)]));
    }
}
