//! Keys in an SQLite file, which is opened by a thread of its own: its calls block.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::oneshot;

use super::{Answer, KeyStore, New, Unavailable};
use crate::apikey::{Key, Record, now};
use crate::config::keys::Keys as Settings;

/// How long a call waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const TABLE: &str = "CREATE TABLE IF NOT EXISTS apikeys (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    key_hash TEXT NOT NULL UNIQUE,
    domain TEXT,
    username TEXT,
    active INTEGER NOT NULL DEFAULT 1,
    insert_ts TEXT NOT NULL DEFAULT (datetime('now')),
    until INTEGER
) STRICT";

/// Whether the table is there, and lacks what older ones did.
const IS_OLDER: &str = "SELECT count(*) > 0 AND sum(name = 'until') = 0 FROM pragma_table_info('apikeys')";

const COLUMN_ADDED: &str = "ALTER TABLE apikeys ADD COLUMN until INTEGER";

/// A row with a certain key: with another one it is another record.
macro_rules! handle {
    () => {
        "id || ':' || substr(key_hash, 1, 16)"
    };
}

const COLUMNS: &str = concat!("SELECT ", handle!(), ", name, domain, username, active, until FROM apikeys");

type Job = Box<dyn FnOnce(&mut Option<Connection>) + Send>;

/// The thread's address. It ends when this is dropped.
pub(super) struct Sqlite {
    path: PathBuf,
    jobs: mpsc::Sender<Job>,
}

impl Sqlite {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let run = move || {
            let mut connection = None;
            queue.into_iter().for_each(|job| job(&mut connection));
        };
        let spawned = thread::Builder::new().name("fanfare-keys".into()).spawn(run);
        spawned.map_err(|error| format!("cannot start a thread for the keys: {error}"))?;
        Ok(Sqlite { path: settings.path(), jobs })
    }

    /// Runs something with the connection, which is opened when it is first wanted, and again after an error.
    fn with<'a, T: Send + 'static>(
        &'a self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Answer<'a, T> {
        let (answer, answered) = oneshot::channel();
        let path = self.path.clone();
        let job: Job = Box::new(move |connection| {
            let result = match connection {
                Some(open) => run(open),
                None => open(&path).and_then(|opened| run(connection.insert(opened))),
            };
            if result.is_err() {
                *connection = None;
            }
            // The one who asked may have gone.
            let _ = answer.send(result);
        });
        let sent = self.jobs.send(job);
        Box::pin(async move {
            let gone = || Unavailable("the thread for the keys has ended".into());
            sent.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?.map_err(|error| {
                Unavailable(format!("{}: {error}; `fanfare apikey migrate` makes what is missing", self.path.display()))
            })
        })
    }
}

fn open(path: &PathBuf) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Readers and a writer do not wait for one another.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    if connection.query_row(IS_OLDER, [], |row| row.get(0))? {
        connection.execute(COLUMN_ADDED, [])?;
    }
    Ok(connection)
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        handle: row.get(0)?,
        name: row.get(1)?,
        domain: row.get(2)?,
        username: row.get(3)?,
        is_active: row.get(4)?,
        until: row.get(5)?,
    })
}

impl KeyStore for Sqlite {
    fn find<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Record>> {
        let hash = key.hash().to_string();
        self.with(move |c| c.query_row(&format!("{COLUMNS} WHERE key_hash = ?1"), [hash], record).optional())
    }

    fn active<'a>(&'a self, handles: &'a [String]) -> Answer<'a, Vec<String>> {
        let list = serde_json::to_string(handles).expect("texts have a JSON form");
        self.with(move |c| {
            // By the ids first, which have an index.
            let ids = "SELECT CAST(substr(value, 1, instr(value, ':') - 1) AS INTEGER) FROM json_each(?1)";
            let handles = "SELECT value FROM json_each(?1)";
            let query = format!("{COLUMNS} WHERE id IN ({ids}) AND {} IN ({handles})", handle!());
            let mut statement = c.prepare(&query)?;
            let records: Vec<Record> = statement.query_map([list], record)?.collect::<rusqlite::Result<_>>()?;
            Ok(records.into_iter().filter(Record::works).map(|record| record.handle).collect())
        })
    }

    fn list(&self) -> Answer<'_, Vec<Record>> {
        self.with(|c| c.prepare(&format!("{COLUMNS} ORDER BY id"))?.query_map([], record)?.collect())
    }

    fn add<'a>(&'a self, new: &'a New) -> Answer<'a, Result<(), String>> {
        let New { key, domain, username, is_active } = new.clone();
        self.with(move |c| {
            let insert = "INSERT INTO apikeys (name, key_hash, domain, username, active) VALUES (?1, ?2, ?3, ?4, ?5)";
            c.execute(insert, params![key.name(), key.hash().to_string(), domain, username, is_active])?;
            Ok(Ok(()))
        })
    }

    fn set_active<'a>(&'a self, handle: &'a str, is_active: bool) -> Answer<'a, bool> {
        let handle = handle.to_owned();
        self.with(move |c| {
            let update = concat!("UPDATE apikeys SET active = ?2 WHERE ", handle!(), " = ?1");
            Ok(c.execute(update, params![handle, is_active])? > 0)
        })
    }

    fn rotate<'a>(&'a self, handle: &'a str, key: &'a Key, until: Option<i64>) -> Answer<'a, bool> {
        let (handle, name, hash) = (handle.to_owned(), key.name(), key.hash().to_string());
        self.with(move |c| {
            c.execute("DELETE FROM apikeys WHERE until <= ?1", [now()])?;
            let Some(until) = until else {
                let update = concat!("UPDATE apikeys SET name = ?2, key_hash = ?3 WHERE ", handle!(), " = ?1");
                return Ok(c.execute(update, [handle, name, hash])? > 0);
            };
            let transaction = c.unchecked_transaction()?;
            let insert = concat!(
                "INSERT INTO apikeys (name, key_hash, domain, username, active) \
                 SELECT ?2, ?3, domain, username, active FROM apikeys WHERE ",
                handle!(),
                " = ?1"
            );
            transaction.execute(insert, [&handle, &name, &hash])?;
            let update = concat!("UPDATE apikeys SET until = ?2 WHERE ", handle!(), " = ?1");
            let changed = transaction.execute(update, params![handle, until])?;
            transaction.commit()?;
            Ok(changed > 0)
        })
    }

    fn server(&self) -> Answer<'_, String> {
        let path = self.path.display().to_string();
        self.with(move |_| Ok(format!("SQLite {}, the file {path}", rusqlite::version())))
    }

    fn migrate(&self) -> Answer<'_, String> {
        let path = self.path.display().to_string();
        self.with(move |c| {
            let existed =
                c.query_row("SELECT 1 FROM sqlite_schema WHERE name = 'apikeys'", [], |_| Ok(())).optional()?;
            c.execute(TABLE, [])?;
            Ok(match existed {
                Some(()) => format!("the table apikeys in {path} is as it should be"),
                None => format!("made the table apikeys in {path}"),
            })
        })
    }
}
