//! Where API keys are kept: one trait, and a store behind it for each kind of database.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::{Key, Record};
use crate::config::keys::{Keys as Settings, Store as Kind};

mod file;
#[cfg(feature = "mongodb")]
mod mongo;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

/// What a store answers, later.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

/// A store that cannot be asked now. The text is for the log and the person at the command line: it holds no key, no
/// password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unavailable(pub(crate) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A new key with what is stored beside it.
#[derive(Debug, Clone)]
pub(crate) struct New {
    pub(crate) key: Key,
    pub(crate) domain: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) is_active: bool,
}

/// Keeps keys. Every method may fail because the store cannot be reached; a later call may succeed.
pub(crate) trait KeyStore: Send + Sync {
    /// The record of a key, active or not. The key is compared as a whole, as text: it is never part of a query.
    fn find<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Record>>;

    /// Those of some records that are there and work, in one query.
    fn active<'a>(&'a self, handles: &'a [String]) -> Answer<'a, Vec<String>>;

    /// All records, the oldest first where the store knows.
    fn list(&self) -> Answer<'_, Vec<Record>>;

    /// Stores a new key. `Err` in the answer: it cannot be stored, and why.
    fn add<'a>(&'a self, new: &'a New) -> Answer<'a, Result<(), String>>;

    /// Makes a record active or inactive; whether it was there.
    fn set_active<'a>(&'a self, handle: &'a str, is_active: bool) -> Answer<'a, bool>;

    /// Puts a new key in the place of a record's, which keeps what is beside it; whether it was there. With a time the old
    /// key works until then, as a record of its own; those whose time has come are removed.
    fn rotate<'a>(&'a self, handle: &'a str, key: &'a Key, until: Option<i64>) -> Answer<'a, bool>;

    /// What it is, with its version where it has one.
    fn server(&self) -> Answer<'_, String>;

    /// Makes what the store needs, or adds what an older one lacks; what was done. Safe to repeat.
    fn migrate(&self) -> Answer<'_, String>;
}

#[cfg(feature = "postgres")]
pub(crate) use postgres::check_url as check_postgres_url;

/// Opens the store that a `[keys.NAME]` describes. A database need not be reachable now.
///
/// # Errors
/// The build lacks the store, or its address cannot be used.
pub(crate) fn open(settings: &Settings) -> Result<Arc<dyn KeyStore>, String> {
    match settings.store {
        Kind::File => Ok(Arc::new(file::File::new(settings))),
        #[cfg(feature = "sqlite")]
        Kind::Sqlite => Ok(Arc::new(sqlite::Sqlite::new(settings)?)),
        #[cfg(feature = "postgres")]
        Kind::Postgres => Ok(Arc::new(postgres::Postgres::new(settings)?)),
        #[cfg(feature = "mongodb")]
        Kind::Mongo => Ok(Arc::new(mongo::Mongo::new(settings)?)),
        #[cfg(not(all(feature = "sqlite", feature = "postgres", feature = "mongodb")))]
        other => {
            let name = other.name();
            Err(format!("this build has no store {name:?}: build it with the cargo feature of that name"))
        }
    }
}
