//! `[keys.NAME]`: where API keys are kept.

use std::path::PathBuf;

use super::problem::Problems;
use super::secret::{self, Secret};
use super::section::{Form, section};
use super::value::{Count, Span, choice};

section! {
    /// Where API keys are kept; an `[auth.NAME]` with `kind = "apikeys"` names it. `fanfare apikey` adds, lists and revokes
    /// them. More about it, with examples: `docs/api-keys.md`.
    struct Keys: "keys", Form::Named;
    keys {
        /// The kind of store.
        store: Store = "\"sqlite\"",
        /// For `sqlite`, `file`: the file. Left out: `apikeys.db`, or `apikeys.jsonl`.
        path: Option<PathBuf> = "",
        /// For `postgres`, `mongo`: the environment variable that holds the address of the database. One of the three
        /// address keys must be given for `postgres`; left out, `mongo` is at `mongodb://127.0.0.1:27017`.
        url_env: Option<String> = "",
        /// The file that holds the address.
        url_file: Option<PathBuf> = "",
        /// The address itself, such as `postgres://user:password@host/database`, with `?sslmode=require` for TLS. Better kept
        /// out of the file if it has a password: see the two keys above.
        url: Option<Secret> = "",
        /// For `mongo`: the database.
        database: String = "\"myDB\"",
        /// For `mongo`: the collection.
        collection: String = "\"myCollection\"",
        /// For `postgres`, `mongo`: how many connections there may be.
        pool_size: Count<1, 1_000> = "10",
        /// For `postgres`: how long a connect waits for one of them. Then it is answered 503.
        pool_timeout: Span<100, 60_000> = "\"10s\"",
        /// How long a key that was found counts without being asked for again. One that is revoked stops counting within
        /// 5 s all the same.
        cache: Span<0, 86_400_000> = "\"60s\"" => Once,
        /// How long an unknown key counts as such: a new one works after that time at the latest.
        cache_unknown: Span<0, 3_600_000> = "\"5s\"" => Once,
        /// How many keys are remembered, known and unknown ones.
        cache_entries_max: Count<1, 10_000_000> = "100000" => Once,
        /// Whether the sockets that a key opened are closed when it is revoked, within 5 s.
        revoke_closes: bool = "true" => Once,
    }
    later []
}

choice! {
    /// A kind of store.
    pub(crate) enum Store {
        /// A file of SQLite's.
        Sqlite = "sqlite",
        /// A file with a JSON object a line.
        File = "file",
        /// The table `apikeys` in PostgreSQL.
        Postgres = "postgres",
        /// A collection in MongoDB.
        Mongo = "mongo",
    } later []
}

/// What each key but the common ones is for.
const USES: [(&str, &[Store]); 8] = [
    ("path", &[Store::Sqlite, Store::File]),
    ("url_env", &[Store::Postgres, Store::Mongo]),
    ("url_file", &[Store::Postgres, Store::Mongo]),
    ("url", &[Store::Postgres, Store::Mongo]),
    ("database", &[Store::Mongo]),
    ("collection", &[Store::Mongo]),
    ("pool_size", &[Store::Postgres, Store::Mongo]),
    ("pool_timeout", &[Store::Postgres]),
];

impl Keys {
    /// The file of a store that has one.
    pub(crate) fn path(&self) -> PathBuf {
        let default = if self.store == Store::File { "apikeys.jsonl" } else { "apikeys.db" };
        self.path.clone().unwrap_or_else(|| default.into())
    }

    /// Checks what concerns more than one key.
    pub(super) fn check(&self, problems: &mut Problems) {
        let choice = format!("store = \"{}\"", self.store.name());
        self.places.report_useless(problems, &choice, |key| {
            USES.iter().all(|(used, stores)| *used != key || stores.contains(&self.store))
        });
        if self.store == Store::Postgres && !secret::is_given("url", &self.places) {
            let text = "the address of the database is missing: give url_env, url_file or url";
            self.places.problem(problems, "url", text);
        }
    }
}
