//! Keys in PostgreSQL: the table of the original hub as it is, with columns for hashed keys beside its plain one.

use std::collections::HashSet;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Answer, KeyStore, New, Unavailable};
use crate::apikey::{Key, Record, now};
use crate::config::keys::Keys as Settings;
use crate::http_client::client_tls;

/// Taken for a new connection and for one query, when the server says nothing.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// The published table, less its faults: its sequence was never made, and its primary key's index twice. A hashed key has no
/// plain one.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS apikeys (
    id serial PRIMARY KEY,
    domain varchar(64) UNIQUE,
    username varchar(254),
    apikey varchar(36) UNIQUE,
    insert_ts timestamp DEFAULT now(),
    active boolean DEFAULT false
)";

/// What the published table lacks: its ids had no sequence to come from unless somebody has made one.
const COLUMNS_ADDED: &str = "ALTER TABLE apikeys ADD COLUMN IF NOT EXISTS key_name varchar(16);
    ALTER TABLE apikeys ADD COLUMN IF NOT EXISTS key_hash char(64);
    ALTER TABLE apikeys ADD COLUMN IF NOT EXISTS key_domain varchar(64);
    ALTER TABLE apikeys ADD COLUMN IF NOT EXISTS key_until bigint;
    ALTER TABLE apikeys ALTER COLUMN apikey DROP NOT NULL;
    CREATE UNIQUE INDEX IF NOT EXISTS apikeys_key_hash ON apikeys (key_hash);
    DO $$ BEGIN
        IF (SELECT column_default IS NULL AND is_identity = 'NO' FROM information_schema.columns
            WHERE table_schema = current_schema() AND table_name = 'apikeys' AND column_name = 'id') THEN
            CREATE SEQUENCE IF NOT EXISTS apikeys_id_seq OWNED BY apikeys.id;
            PERFORM setval('apikeys_id_seq', coalesce((SELECT max(id) FROM apikeys), 0) + 1, false);
            ALTER TABLE apikeys ALTER COLUMN id SET DEFAULT nextval('apikeys_id_seq');
        END IF;
    END $$";

/// One statement at a time: two servers that migrate at once must not trip over one another.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtext('fanfare.apikeys'))";

/// A row with a certain key: with another one it is another record. As JSON, a row has whatever columns the table has, so
/// that a table without the added ones can be read.
macro_rules! handle {
    () => {
        "id::text || ':' || left(coalesce(to_jsonb(a)->>'key_hash', encode(sha256(convert_to(apikey, 'UTF8')), 'hex')), 16)"
    };
}

/// A key that works for a while beside the one that has taken its place has its domain in a column of its own: in the
/// published one it may stand once.
const ROW: &str = concat!(
    "SELECT ",
    handle!(),
    ", to_jsonb(a)->>'key_name', apikey, coalesce(domain, to_jsonb(a)->>'key_domain'), username, \
     coalesce(active, false), (to_jsonb(a)->>'key_until')::bigint FROM apikeys a"
);

/// A pool of connections.
pub(super) struct Postgres(Pool);

impl Postgres {
    pub(super) fn new(settings: &Settings) -> Result<Self, String> {
        let url = settings.url.as_ref().map(|url| url.expose()).unwrap_or_default();
        let mut config: Config =
            url.parse().map_err(|_| "keys.url: not a URL such as postgres://user:password@host/database".to_owned())?;
        config.connect_timeout(QUERY_TIMEOUT).application_name("fanfare");
        let tls = MakeRustlsConnect::new(client_tls()?);
        let manager = Manager::from_config(config, tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager).max_size(settings.pool_size.0 as usize).runtime(Runtime::Tokio1);
        let pool = pool.wait_timeout(Some(settings.pool_timeout.0)).create_timeout(Some(QUERY_TIMEOUT)).build();
        pool.map(Self).map_err(|error| error.to_string())
    }

    async fn client(&self) -> Result<Object, Unavailable> {
        self.0.get().await.map_err(|error| Unavailable(format!("no connection to PostgreSQL: {error}")))
    }

    async fn query(&self, query: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Unavailable> {
        self.ask(query, params).await?.map_err(|error| failed(&error))
    }

    /// The same; an error of the statement itself is told apart.
    async fn ask(
        &self,
        query: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Result<Vec<Row>, tokio_postgres::Error>, Unavailable> {
        let client = self.client().await?;
        match tokio::time::timeout(QUERY_TIMEOUT, client.query(query, params)).await {
            Ok(result) => Ok(result),
            Err(_) => {
                // Its answer may still come: nobody else must read it.
                drop(Object::take(client));
                Err(Unavailable(format!("PostgreSQL did not answer within {QUERY_TIMEOUT:?}")))
            }
        }
    }

    async fn changes(&self, query: &str, params: &[&(dyn ToSql + Sync)]) -> Result<bool, Unavailable> {
        Ok(!self.query(query, params).await?.is_empty())
    }
}

/// Without the values, which may be keys.
fn failed(error: &tokio_postgres::Error) -> Unavailable {
    let Some(db) = error.as_db_error() else { return Unavailable(format!("PostgreSQL: {error}")) };
    let is_missing = [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN].contains(db.code());
    let next = if is_missing { "; `fanfare apikey migrate` makes what is missing" } else { "" };
    Unavailable(format!("PostgreSQL: {}{next}", db.message()))
}

fn record(row: &Row) -> Record {
    let plain: Option<String> = row.get(2);
    let name: Option<String> = row.get(1);
    let plain_name = || plain.as_deref().and_then(Key::presented).map(|key| key.name());
    Record {
        handle: row.get(0),
        name: name.or_else(plain_name).unwrap_or_else(|| "no key".into()),
        domain: row.get(3),
        username: row.get(4),
        is_active: row.get(5),
        until: row.get(6),
    }
}

impl KeyStore for Postgres {
    fn find<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Record>> {
        Box::pin(async move {
            let (plain, hash) = (key.expose(), key.hash().to_string());
            // A NUL cannot stand in a text of PostgreSQL's, so that no key has one.
            if plain.contains('\0') {
                return Ok(None);
            }
            let rows = match self.ask(&format!("{ROW} WHERE apikey = $1 OR key_hash = $2"), &[&plain, &hash]).await? {
                // The published table as it is has plain keys only.
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                    self.query(&format!("{ROW} WHERE apikey = $1"), &[&plain]).await?
                }
                rows => rows.map_err(|error| failed(&error))?,
            };
            Ok(rows.first().map(record))
        })
    }

    fn active<'a>(&'a self, handles: &'a [String]) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            // By the ids first, which have an index. They may be smaller than these, which is the same to the index.
            let ids: Vec<i64> = handles.iter().filter_map(|handle| handle.split(':').next()?.parse().ok()).collect();
            let query = format!("{ROW} WHERE active AND id = ANY($1::bigint[])");
            let records = self.query(&query, &[&ids]).await?;
            let wanted: HashSet<&String> = handles.iter().collect();
            let works = |record: &Record| record.works() && wanted.contains(&record.handle);
            Ok(records.iter().map(record).filter(works).map(|record| record.handle).collect())
        })
    }

    fn list(&self) -> Answer<'_, Vec<Record>> {
        Box::pin(async { Ok(self.query(&format!("{ROW} ORDER BY id"), &[]).await?.iter().map(record).collect()) })
    }

    fn add<'a>(&'a self, new: &'a New) -> Answer<'a, Result<(), String>> {
        Box::pin(async move {
            let New { key, domain, username, is_active } = new;
            let insert = "INSERT INTO apikeys (domain, username, key_name, key_hash, active) \
                          VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING id";
            let (name, hash) = (key.name(), key.hash().to_string());
            let is_added = self.changes(insert, &[domain, username, &name, &hash, is_active]).await?;
            let next = "`fanfare apikey rotate` gives it a new one";
            Ok(if is_added { Ok(()) } else { Err(format!("the domain has a key already; {next}")) })
        })
    }

    fn set_active<'a>(&'a self, handle: &'a str, is_active: bool) -> Answer<'a, bool> {
        let update = concat!("UPDATE apikeys a SET active = $2 WHERE ", handle!(), " = $1 RETURNING id");
        Box::pin(async move { self.changes(update, &[&handle, &is_active]).await })
    }

    fn rotate<'a>(&'a self, handle: &'a str, key: &'a Key, until: Option<i64>) -> Answer<'a, bool> {
        let replace = concat!(
            "UPDATE apikeys a SET key_name = $2, key_hash = $3, apikey = NULL WHERE ",
            handle!(),
            " = $1 RETURNING id"
        );
        let add_beside = concat!(
            "WITH old AS (UPDATE apikeys a SET key_domain = domain, domain = NULL, key_until = $4 WHERE ",
            handle!(),
            " = $1 RETURNING key_domain, username, active) \
             INSERT INTO apikeys (domain, username, key_name, key_hash, active) \
             SELECT key_domain, username, $2, $3, active FROM old RETURNING id"
        );
        Box::pin(async move {
            let (name, hash) = (key.name(), key.hash().to_string());
            let Some(until) = until else { return self.changes(replace, &[&handle, &name, &hash]).await };
            self.query("DELETE FROM apikeys WHERE key_until <= $1", &[&now()]).await?;
            self.changes(add_beside, &[&handle, &name, &hash, &until]).await
        })
    }

    fn server(&self) -> Answer<'_, String> {
        Box::pin(async {
            let rows = self.query("SHOW server_version", &[]).await?;
            Ok(format!("PostgreSQL {}", rows.first().map_or("", |row| row.get(0))))
        })
    }

    fn migrate(&self) -> Answer<'_, String> {
        Box::pin(async {
            let existed = self.changes("SELECT 1 WHERE to_regclass('apikeys') IS NOT NULL", &[]).await?;
            let mut client = self.client().await?;
            let run = async {
                let transaction = client.transaction().await?;
                transaction.query(LOCK, &[]).await?;
                transaction.batch_execute(&format!("{TABLE};\n{COLUMNS_ADDED}")).await?;
                transaction.commit().await
            };
            run.await.map_err(|error| failed(&error))?;
            Ok(match existed {
                true => "the table apikeys has the columns for hashed keys".to_owned(),
                false => "made the table apikeys".to_owned(),
            })
        })
    }
}

/// Whether an address can be used; the text does not quote it.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let parsed: Result<Config, _> = url.parse();
    parsed.map(drop).map_err(|_| "it is not a URL such as postgres://user:password@host/database".into())
}
