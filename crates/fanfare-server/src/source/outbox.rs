//! An outbox: a table of PostgreSQL where an application puts messages in the same transaction as the rest of its data.
//!
//! One server at a time takes rows, the oldest first: it claims some, marks or deletes them, publishes them, and commits.
//! So each is published once and in order, also with several servers. A server that is killed between the engine and the
//! commit leaves its rows to the next, which publishes them again.

use tokio_postgres::{Client, Row, Transaction};

use super::postgres::{Connected, answer, connect, quoted};
use super::publish::Publish;
use super::route::Skip;
use super::{Stop, stopped};
use crate::config::source::{Done, Source as Settings};
use crate::message;

/// The table, a trigger that tells of new rows, and the table for rows that cannot be published.
const TABLE: &str = include_str!("outbox/table.sql");
const PARK: &str = include_str!("outbox/park.sql");

/// A server that hangs in the middle must not keep the others from their work for ever.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '10s'; SET statement_timeout = '5s'";

/// Connects, makes the tables if need be, and hands over what is there and what comes.
pub(super) async fn listen(
    url: &str,
    settings: &Settings,
    publish: &mut Publish,
    mut stop: Stop,
) -> Result<(), String> {
    let Connected { mut client, mut notifications } = connect(url).await?;
    answer(client.batch_execute(SESSION)).await?;
    let outbox = Outbox::new(settings);
    outbox.create(&client).await?;
    answer(client.batch_execute(&format!("LISTEN {}", quoted(&outbox.channel)))).await?;
    publish.standing.connected();
    loop {
        // Only a full batch says that there may be more.
        while outbox.work(&mut client, publish).await? == settings.batch.0 as usize && !*stop.borrow() {}
        tokio::select! {
            told = notifications.recv() => if told.is_none() {
                return Err("the connection is lost".into());
            },
            () = tokio::time::sleep(settings.poll.0) => {}
            () = stopped(&mut stop) => return Ok(()),
        }
        // However many rows were told of, one look finds all.
        while notifications.try_recv().is_ok() {}
    }
}

/// The statements for one table.
struct Outbox<'s> {
    settings: &'s Settings,
    table: String,
    /// What the trigger tells on.
    channel: String,
    claim: String,
    finish: String,
    park: Option<String>,
}

impl<'s> Outbox<'s> {
    fn new(settings: &'s Settings) -> Self {
        let table = qualified(&settings.table);
        let open = match settings.done {
            Done::Delete => "",
            Done::Mark => "WHERE published_at IS NULL",
        };
        let columns = "id, topic, event, payload::text";
        let claim = format!("SELECT {columns} FROM {table} {open} ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED");
        let finish = match settings.done {
            Done::Delete => format!("DELETE FROM {table} WHERE id = ANY($1)"),
            Done::Mark => format!("UPDATE {table} SET published_at = now() WHERE id = ANY($1)"),
        };
        let park = settings.park.as_ref().map(|park| {
            let from = format!("SELECT id, topic, event, payload, $2 FROM {table} WHERE id = $1");
            format!("INSERT INTO {} (id, topic, event, payload, reason) {from}", qualified(park))
        });
        Self { settings, channel: settings.table.replace('.', "_"), table, claim, finish, park }
    }

    /// Makes the tables that there are not. Where they exist, no right to make any is needed.
    async fn create(&self, client: &Client) -> Result<(), String> {
        let park = self.settings.park.as_ref().map(|park| (qualified(park), PARK));
        for (table, statements) in [(self.table.clone(), TABLE)].into_iter().chain(park) {
            let exists = answer(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])).await?;
            if self.settings.create && !exists.get::<_, bool>(0) {
                answer(
                    client.batch_execute(
                        &statements
                            .replace("fanfare_outbox_table", &table)
                            .replace("fanfare_outbox_channel", &self.channel),
                    ),
                )
                .await?;
                tracing::info!(table, "a table was made");
            }
        }
        Ok(())
    }

    /// Takes one batch: how many rows it had.
    async fn work(&self, client: &mut Client, publish: &mut Publish) -> Result<usize, String> {
        let transaction = answer(client.transaction()).await?;
        // One server at a time, or the second batch could overtake the first.
        let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended('fanfare outbox', to_regclass($1)::oid::bigint))";
        if !answer(transaction.query_one(lock, &[&self.table])).await?.get::<_, bool>(0) {
            return Ok(0);
        }
        let rows = answer(transaction.query(&self.claim, &[&(self.settings.batch.0 as i64)])).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let mut messages = Vec::with_capacity(rows.len());
        for row in &rows {
            match publish.check(read(row)) {
                Ok(message) => messages.push(message),
                Err(skip) => self.park(&transaction, row, skip).await?,
            }
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        answer(transaction.execute(&self.finish, &[&ids])).await?;
        // All that can still fail is the commit.
        for message in messages {
            publish.take_checked(message).await;
        }
        answer(transaction.commit()).await?;
        Ok(rows.len())
    }

    async fn park(&self, transaction: &Transaction<'_>, row: &Row, skip: Skip) -> Result<(), String> {
        if let Some(park) = &self.park {
            answer(transaction.execute(park, &[&row.get::<_, i64>(0), &skip.reason()])).await?;
        }
        Ok(())
    }
}

/// The message in a row, if the HTTP API would take it.
fn read(row: &Row) -> Result<message::Message, Skip> {
    let text = |column| row.try_get::<_, Option<String>>(column).map_err(|_| Skip::Malformed);
    let (topic, event, payload) = (text(1)?, text(2)?, text(3)?);
    let (topic, event) = (topic.ok_or(Skip::Malformed)?, event.ok_or(Skip::Malformed)?);
    message::check(topic, event, payload.as_deref(), false).map_err(|_| Skip::Malformed)
}

/// The name of a table, with its schema if it has one.
fn qualified(table: &str) -> String {
    table.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_has_the_table_as_it_is_made() {
        let guide = include_str!("../../../../docs/sources.md");
        assert!(
            guide.contains(
                &TABLE
                    .replace("fanfare_outbox_table", "fanfare_outbox")
                    .replace("fanfare_outbox_channel", "fanfare_outbox")
            )
        );
    }
}
