//! `fanfare apikey`: keys for people.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::store::{self, KeyStore, New};
use super::{Key, Record, now};
use crate::cli::{ApiKey, ApiKeyCommand};
use crate::config::Config;
use crate::config::keys::Keys as Settings;

/// Does what was asked for: what goes to the standard output.
///
/// # Errors
/// Why it was not done.
pub(crate) fn run(config: &Config, asked: &ApiKey) -> Result<String, String> {
    let (name, settings) = find_store(config, asked.keys.as_deref())?;
    let store = store::open(settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let done = runtime.block_on(execute(&*store, asked));
    done.map_err(|error| format!("[keys.{name}]: {error}"))
}

async fn execute(store: &dyn KeyStore, asked: &ApiKey) -> Result<String, String> {
    let failed = |error: store::Unavailable| error.to_string();
    match &asked.command {
        ApiKeyCommand::Add { domain, username, inactive } => {
            let key = Key::generate()?;
            let new = New { key, domain: domain.clone(), username: username.clone(), is_active: !inactive };
            store.add(&new).await.map_err(failed)??;
            Ok(made(&new.key, asked.json))
        }
        ApiKeyCommand::List => {
            let records = store.list().await.map_err(failed)?;
            Ok(if asked.json { records.iter().map(json_line).collect() } else { table(&records) })
        }
        ApiKeyCommand::Revoke { key } => set_active(store, key, false, asked.json).await,
        ApiKeyCommand::Activate { key } => set_active(store, key, true, asked.json).await,
        ApiKeyCommand::Rotate { key, overlap } => {
            let record = find(store, key).await?;
            if record.until.is_some() {
                return Err(format!("{} was rotated before; rotate the key that has taken its place", record.name));
            }
            let new = Key::generate()?;
            let until = overlap.map(|overlap| now() + overlap.as_secs() as i64);
            let is_done = store.rotate(&record.handle, &new, until).await.map_err(failed)?;
            gone(is_done, &record)?;
            Ok(made(&new, asked.json))
        }
        ApiKeyCommand::Migrate => {
            let what = store.migrate().await.map_err(failed)?;
            Ok(if asked.json { format!("{}\n", json!({"done": what})) } else { format!("{what}\n") })
        }
    }
}

async fn set_active(store: &dyn KeyStore, key: &str, is_active: bool, as_json: bool) -> Result<String, String> {
    let record = find(store, key).await?;
    let is_done = store.set_active(&record.handle, is_active).await.map_err(|error| error.to_string())?;
    gone(is_done, &record)?;
    let done = if is_active { "activated" } else { "revoked" };
    Ok(if as_json { format!("{}\n", json!({ done: record.name })) } else { format!("{done} {}\n", record.name) })
}

/// The record with a name, or of a key.
async fn find(store: &dyn KeyStore, wanted: &str) -> Result<Record, String> {
    let failed = |error: store::Unavailable| error.to_string();
    if let Some(key) = Key::presented(wanted)
        && let Some(record) = store.find(&key).await.map_err(failed)?
    {
        return Ok(record);
    }
    let records = store.list().await.map_err(failed)?;
    let mut named = records.into_iter().filter(|record| record.name == wanted);
    match (named.next(), named.next()) {
        (Some(record), None) => Ok(record),
        (Some(_), Some(_)) => Err("several keys have this name; give the key itself".into()),
        // It may have been a key, mistyped by one letter.
        (None, _) => Err("there is no such key; `fanfare apikey list` names them".into()),
    }
}

fn gone(is_done: bool, record: &Record) -> Result<(), String> {
    if is_done { Ok(()) } else { Err(format!("{} is gone: somebody else has removed it", record.name)) }
}

fn made(key: &Key, as_json: bool) -> String {
    match as_json {
        true => format!("{}\n", json!({"key": key.expose(), "name": key.name()})),
        false => format!("{}\n", key.expose()),
    }
}

fn json_line(record: &Record) -> String {
    let Record { name, domain, username, until, .. } = record;
    let mut line: Value = json!({"name": name, "domain": domain, "username": username, "active": record.works()});
    if let Some(until) = until {
        line["until"] = (*until).into();
    }
    format!("{line}\n")
}

fn table(records: &[Record]) -> String {
    let none = || "-".to_owned();
    let rows = records.iter().map(|record| {
        let state = match (record.works(), record.until) {
            (true, None) => "active".to_owned(),
            (true, Some(until)) => format!("active for {:?}", Duration::from_secs(until.saturating_sub(now()) as u64)),
            (false, _) => "inactive".to_owned(),
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_else(none);
        [record.name.clone(), text(&record.domain), text(&record.username), state]
    });
    let head = ["NAME", "DOMAIN", "USERNAME", "STATE"].map(str::to_owned);
    let rows: Vec<[String; 4]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2].map(width);
    rows.iter().fold(String::new(), |mut out, [name, domain, username, state]| {
        let [a, b, c] = widths;
        let _ = writeln!(out, "{name:a$}  {domain:b$}  {username:c$}  {state}");
        out
    })
}

fn find_store<'c>(config: &'c Config, name: Option<&str>) -> Result<(&'c str, &'c Settings), String> {
    let known = || config.keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut stores = config.keys.iter().filter(|(known, _)| name.is_none_or(|name| name == *known));
    match (stores.next(), stores.next(), name) {
        (Some((name, settings)), None, _) => Ok((name, settings)),
        (Some(_), ..) => Err(format!("there are several [keys.NAME]; say which with --keys: {}", known())),
        (None, _, Some(name)) if !config.keys.is_empty() => {
            Err(format!("there is no [keys.{name}]; there is {}", known()))
        }
        (None, ..) => Err("the configuration has no [keys.NAME], which says where keys are kept; add one".into()),
    }
}
