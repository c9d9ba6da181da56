//! Keys in a file: one JSON object a line, for a handful of keys that are managed by hand or by a deployment.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::{Answer, KeyStore, New, Unavailable};
use crate::apikey::{Key, Record, now};
use crate::config::keys::Keys as Settings;

/// One line. The hash serves as the handle.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(default = "yes")]
    active: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
}

fn yes() -> bool {
    true
}

/// The file, and its content as it was when it last changed.
pub(super) struct File {
    path: PathBuf,
    known: Mutex<Known>,
}

/// When it was changed, and its length.
type Version = (SystemTime, u64);

#[derive(Default)]
struct Known {
    version: Option<Version>,
    records: Arc<HashMap<String, Record>>,
}

impl File {
    pub(super) fn new(settings: &Settings) -> Self {
        File { path: settings.path(), known: Mutex::default() }
    }

    /// The records by their hash; the file is read again only if it has changed.
    async fn records(&self) -> Result<Arc<HashMap<String, Record>>, Unavailable> {
        let mut known = self.known.lock().await;
        let (path, version) = (self.path.clone(), known.version);
        // Its disk may have stalled, and whoever asks may have sockets to serve.
        let looked = tokio::task::spawn_blocking(move || read_if_changed(&path, version)).await;
        if let Some((version, lines)) = looked.map_err(|error| Unavailable(error.to_string()))?? {
            let records = lines.into_iter().map(|line| (line.hash.clone(), line.into())).collect();
            *known = Known { version: Some(version), records: Arc::new(records) };
        }
        Ok(known.records.clone())
    }

    /// Changes the lines and writes the file anew, beside the old one first: a crash leaves the one or the other.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Line>) -> T) -> Result<T, Unavailable> {
        let failed = |error: io::Error| failed(&self.path, "write", &error);
        let guard_path = self.path.with_extension("lock");
        let mut options = fs::OpenOptions::new();
        let guard = options.create(true).truncate(false).write(true).mode(0o600).open(&guard_path).map_err(failed)?;
        // Two commands at a time would undo one another's change.
        guard.lock().map_err(failed)?;
        let mut lines = if self.path.exists() { read(&self.path)? } else { Vec::new() };
        let result = change(&mut lines);
        let new_path = self.path.with_extension("new");
        let write = || {
            let mut file =
                fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new_path)?;
            for line in &lines {
                writeln!(file, "{}", serde_json::to_string(line)?)?;
            }
            file.sync_all()?;
            fs::rename(&new_path, &self.path)
        };
        write().map_err(failed)?;
        Ok(result)
    }
}

fn failed(path: &Path, what: &str, error: &io::Error) -> Unavailable {
    let next = match error.kind() {
        io::ErrorKind::NotFound => "; `fanfare apikey migrate` makes it",
        _ => "",
    };
    Unavailable(format!("cannot {what} {}: {error}{next}", path.display()))
}

/// The lines, if the file is not what it was in this version.
fn read_if_changed(path: &Path, before: Option<Version>) -> Result<Option<(Version, Vec<Line>)>, Unavailable> {
    let failed = |error: io::Error| failed(path, "read", &error);
    let metadata = fs::metadata(path).map_err(failed)?;
    let version = (metadata.modified().map_err(failed)?, metadata.len());
    Ok(if before == Some(version) { None } else { Some((version, read(path)?)) })
}

fn read(path: &Path) -> Result<Vec<Line>, Unavailable> {
    let text = crate::file::check(path).and_then(|()| fs::read_to_string(path));
    let text = text.map_err(|error| Unavailable(format!("cannot read {}: {error}", path.display())))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parsed = lines.map(|(number, line)| {
        // The error's own text may quote the line.
        serde_json::from_str(line).map_err(|_| {
            let form = r#"{"name": "…", "hash": "…", "domain": "…", "username": "…", "active": true}"#;
            Unavailable(format!("{}:{}: not a line such as {form}", path.display(), number + 1))
        })
    });
    parsed.collect()
}

impl From<Line> for Record {
    fn from(line: Line) -> Self {
        let Line { name, hash, domain, username, active, until } = line;
        Record { handle: hash, name, domain, username, is_active: active, until }
    }
}

impl KeyStore for File {
    fn find<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Record>> {
        Box::pin(async move { Ok(self.records().await?.get(&key.hash().to_string()).cloned()) })
    }

    fn active<'a>(&'a self, handles: &'a [String]) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let records = self.records().await?;
            let is_active = |handle: &&String| records.get(*handle).is_some_and(Record::works);
            Ok(handles.iter().filter(is_active).cloned().collect())
        })
    }

    fn list(&self) -> Answer<'_, Vec<Record>> {
        Box::pin(async { Ok(read(&self.path)?.into_iter().map(Record::from).collect()) })
    }

    fn add<'a>(&'a self, new: &'a New) -> Answer<'a, Result<(), String>> {
        Box::pin(async {
            let New { key, domain, username, is_active } = new.clone();
            let (name, hash) = (key.name(), key.hash().to_string());
            let line = Line { name, hash, domain, username, active: is_active, until: None };
            self.change(|lines| lines.push(line)).map(Ok)
        })
    }

    fn set_active<'a>(&'a self, handle: &'a str, is_active: bool) -> Answer<'a, bool> {
        Box::pin(async move { self.change(|lines| with(lines, handle, |line| line.active = is_active)) })
    }

    fn rotate<'a>(&'a self, handle: &'a str, key: &'a Key, until: Option<i64>) -> Answer<'a, bool> {
        Box::pin(async move {
            self.change(|lines| {
                lines.retain(|line| line.until.is_none_or(|until| now() < until));
                let mut old = None;
                let is_there = with(lines, handle, |line| {
                    old = until.map(|_| Line { until, ..line.clone() });
                    (line.name, line.hash) = (key.name(), key.hash().to_string());
                });
                lines.extend(old);
                is_there
            })
        })
    }

    fn server(&self) -> Answer<'_, String> {
        Box::pin(async { Ok(format!("the file {}", self.path.display())) })
    }

    fn migrate(&self) -> Answer<'_, String> {
        Box::pin(async {
            let existed = self.path.exists();
            self.change(|_| ())?;
            let path = self.path.display();
            Ok(if existed { format!("{path} is as it should be") } else { format!("made {path}") })
        })
    }
}

fn with(lines: &mut [Line], handle: &str, change: impl FnOnce(&mut Line)) -> bool {
    lines.iter_mut().find(|line| line.hash == handle).map(change).is_some()
}
