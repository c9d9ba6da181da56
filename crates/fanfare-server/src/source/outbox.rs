//! An outbox: a table of PostgreSQL where an application puts messages in the same transaction as the rest of its data.
//!
//! One server at a time takes rows, the oldest first: it claims some, marks or deletes them, publishes them, and commits.
//! So each is published once and in order, also with several servers. A server that is killed between the engine and the
//! commit leaves its rows to the next, which publishes them again. Rows that the engine does not take now stay as they are.

use std::time::Duration;

use fanfare::Payload;
use tokio::time::Instant;
use tokio_postgres::{Client, Row, Transaction};

use super::postgres::{Connected, Wanted, answer, connect, quoted};
use super::publish::{Publish, Refusal, Taken};
use super::route::Skip;
use super::{Stop, stopped};
use crate::config::source::{Done, Source as Settings};
use crate::message;

/// The table, a trigger that tells of new rows, and the table for rows that cannot be published.
const TABLE: &str = include_str!("outbox/table.sql");
const PARK: &str = include_str!("outbox/park.sql");

/// A server that hangs in the middle must not keep the others from their work for ever.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '10s'; SET statement_timeout = '5s'";

/// A batch that takes longer to publish is committed as far as it has come, well before that.
const BATCH_TIME_MAX: Duration = Duration::from_secs(3);

/// Connects, makes the tables if need be, and hands over what is there and what comes.
pub(super) async fn listen(
    url: &str,
    settings: &Settings,
    publish: &mut Publish,
    mut stop: Stop,
) -> Result<(), String> {
    let Connected { mut client, mut notifications } = connect(url, Wanted::Any).await?;
    answer(client.batch_execute(SESSION)).await?;
    let outbox = Outbox::new(settings);
    outbox.create(&client).await?;
    answer(client.batch_execute(&format!("LISTEN {}", quoted(&outbox.channel)))).await?;
    publish.standing.connected();
    while !*stop.borrow() {
        match outbox.work(&mut client, publish).await? {
            Worked::Some => {}
            Worked::Refused => publish.pause(&mut stop).await,
            Worked::All => tokio::select! {
                told = notifications.recv() => if told.is_none() {
                    return Err("the connection is lost".into());
                },
                () = tokio::time::sleep(settings.poll.0) => {}
                () = stopped(&mut stop) => {}
            },
        }
        // However many rows were told of, one look finds all.
        while notifications.try_recv().is_ok() {}
    }
    Ok(())
}

/// How far a look at the table has come.
enum Worked {
    /// Nothing is left to be taken.
    All,
    /// There may be more.
    Some,
    /// The engine takes nothing now.
    Refused,
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

    /// Takes one batch.
    async fn work(&self, client: &mut Client, publish: &mut Publish) -> Result<Worked, String> {
        let mut transaction = answer(client.transaction()).await?;
        // One server at a time, or the second batch could overtake the first.
        let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended('fanfare outbox', to_regclass($1)::oid::bigint))";
        if !answer(transaction.query_one(lock, &[&self.table])).await?.get::<_, bool>(0) {
            return Ok(Worked::All);
        }
        let rows = answer(transaction.query(&self.claim, &[&(self.settings.batch.0 as i64)])).await?;
        if rows.is_empty() {
            return Ok(Worked::All);
        }
        let messages: Vec<_> = rows.iter().map(|row| publish.check(read(row))).collect();
        let mut skips: Vec<Option<Skip>> =
            messages.iter().map(|message| message.as_ref().err().map(|flaw| flaw.skip)).collect();
        let savepoint = answer(transaction.savepoint("batch")).await?;
        self.finish(&savepoint, &rows, &skips).await?;
        // All that can still fail is the commit, if the engine takes all.
        let (mut done, mut is_refused, mut is_as_foreseen) = (0, false, true);
        let begun = Instant::now();
        for message in messages {
            match publish.publish(&mut Taken::of(message)).await {
                Ok(()) => {}
                Err(Refusal::Never(skip)) => is_as_foreseen &= skips[done].replace(skip) == Some(skip),
                Err(Refusal::NotNow) => {
                    is_refused = true;
                    break;
                }
            }
            done += 1;
            if begun.elapsed() > BATCH_TIME_MAX {
                break;
            }
        }
        if done == rows.len() && is_as_foreseen {
            answer(savepoint.commit()).await?;
        } else {
            answer(savepoint.rollback()).await?;
            self.finish(&transaction, &rows[..done], &skips[..done]).await?;
        }
        answer(transaction.commit()).await?;
        Ok(match () {
            () if is_refused => Worked::Refused,
            // Only a full batch says that there may be more.
            () if done == rows.len() && rows.len() < self.settings.batch.0 as usize => Worked::All,
            () => Worked::Some,
        })
    }

    /// Marks or deletes rows, and parks those that cannot be published.
    async fn finish(&self, transaction: &Transaction<'_>, rows: &[Row], skips: &[Option<Skip>]) -> Result<(), String> {
        if let Some(park) = &self.park {
            for (row, skip) in rows.iter().zip(skips) {
                let Some(skip) = skip else { continue };
                answer(transaction.execute(park, &[&row.get::<_, i64>(0), &skip.reason()])).await?;
            }
        }
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        answer(transaction.execute(&self.finish, &[&ids])).await.map(drop)
    }
}

/// The message in a row, if the HTTP API would take it.
fn read(row: &Row) -> Result<message::Message, Skip> {
    let text = |column| row.try_get::<_, Option<String>>(column).map_err(|_| Skip::Malformed);
    let (topic, event, payload) = (text(1)?, text(2)?, text(3)?);
    let (topic, event) = (topic.ok_or(Skip::Malformed)?, event.ok_or(Skip::Malformed)?);
    let bytes = payload.as_deref().and_then(bytes);
    let payload = payload.as_deref().filter(|_| bytes.is_none());
    let message = message::check(topic, event, payload, false).map_err(|_| Skip::Malformed)?;
    Ok(match bytes {
        Some(bytes) => message::Message { payload: Payload::Binary(bytes.into()), ..message },
        None => message,
    })
}

/// Bytes, as PostgreSQL writes them into JSON: the string `\x` with two digits for each.
fn bytes(payload: &str) -> Option<Vec<u8>> {
    let text: String = serde_json::from_str(payload).ok()?;
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

/// The name of a table, with its schema if it has one.
fn qualified(table: &str) -> String {
    table.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_string_of_digits() {
        for (payload, expected) in [
            (r#""\\x""#, Some(&[][..])),
            (r#""\\x00Ff""#, Some(&[0, 255][..])),
            (r#""\\x0""#, None),
            (r#""\\xé""#, None),
            (r#""\\x+1""#, None),
            (r#""00ff""#, None),
            ("{}", None),
        ] {
            assert_eq!(bytes(payload).as_deref(), expected, "{payload}");
        }
    }

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
