//! A table of PostgreSQL whose rows are published: an application writes a message in the transaction that it belongs to.
//!
//! One server at a time empties the table, so that the rows are published in their order. A row is marked in a transaction that
//! ends after it was published: a server that dies between the two publishes it again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::Client;

use super::postgres::{connect, execute, explain, too_late};
use super::{Ended, Skip, Source};
use crate::publish::Message;

/// Without a notification the table is looked at so often.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

const TIMEOUT: Duration = Duration::from_secs(10);

/// Rows published in one transaction.
const ROWS_MAX: i64 = 500;

pub(super) async fn empty(source: Arc<Source>) -> Ended {
    let (mut client, mut notifications) = connect(source.url()).await?;
    let table = &source.settings.table;
    let channel = table.replace('.', "_");
    // `IF NOT EXISTS` does not keep two servers from making it at once.
    let make = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(hashtext('fanfare.{table}'));
        CREATE TABLE IF NOT EXISTS {table} (id bigserial PRIMARY KEY, topic text NOT NULL, event text NOT NULL,
            payload jsonb NOT NULL DEFAULT '{{}}', created_at timestamptz NOT NULL DEFAULT now(), published_at timestamptz);
        CREATE INDEX IF NOT EXISTS {channel}_unpublished ON {table} (id) WHERE published_at IS NULL;
        COMMIT; LISTEN \"{channel}\""
    );
    execute(&client, &make).await?;
    source.connected();
    loop {
        let published = timeout(TIMEOUT, publish(&source, &mut client)).await.map_err(|_| too_late())?;
        if published? < ROWS_MAX as usize {
            // Whoever notifies it need not wait; a closed connection shows by the next statement.
            let _ = timeout(POLL_INTERVAL, notifications.recv()).await;
        }
    }
}

/// Publishes the oldest rows: how many there were.
async fn publish(source: &Source, client: &mut Client) -> Result<usize, String> {
    let table = &source.settings.table;
    let explain = |error: tokio_postgres::Error| explain(&error);
    let transaction = client.transaction().await.map_err(explain)?;
    let lock = format!("SELECT pg_try_advisory_xact_lock(hashtext('fanfare.{table}.reader'))");
    let is_mine: bool = transaction.query_one(&lock, &[]).await.map_err(explain)?.get(0);
    if !is_mine {
        return Ok(0);
    }
    let select = format!(
        "SELECT id, topic, event, payload::text FROM {table} WHERE published_at IS NULL ORDER BY id LIMIT {ROWS_MAX}"
    );
    let rows = transaction.query(&select, &[]).await.map_err(explain)?;
    let mut ids = Vec::with_capacity(rows.len());
    for row in &rows {
        let (topic, event, payload): (String, String, String) = (row.get(1), row.get(2), row.get(3));
        ids.push(row.get::<_, i64>(0));
        source.counts.received.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let payload = serde_json::value::RawValue::from_string(payload).map_err(|error| error.to_string())?;
        let size = payload.get().len();
        match (Message { topic, event, payload: Some(&payload) }.check(false)) {
            Ok(_) if size > source.settings.message_size_max.0 as usize => source.skip(Skip::TooLarge),
            // Counted where it is skipped.
            Ok(message) => drop(source.publish(vec![message]).await),
            Err(_) => source.skip(Skip::Malformed),
        }
    }
    let mark = format!("UPDATE {table} SET published_at = now() WHERE id = ANY($1)");
    transaction.execute(&mark, &[&ids]).await.map_err(explain)?;
    transaction.commit().await.map_err(explain)?;
    Ok(rows.len())
}
