//! Streams of Redis, read as a member of a consumer group: each entry is acknowledged once the engine has it, so that a
//! server that ends in between leaves it to another, or to itself when it is back. An entry may come twice, but not less
//! than once.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, cmd};
use tokio::time::Instant;

use super::publish::Publish;
use super::redis::no_answer;
use super::{PATIENCE, Stop};
use crate::config::source::{Source as Settings, Start};

mod entry;

use entry::Entry;

/// How long a read waits for new entries. So long the end of the server may have to wait, too.
const WAIT: Duration = Duration::from_millis(500);

/// Names that were made up begin so; those left behind by servers that are gone are removed after a while.
const MADE_UP: &str = "fanfare-";
const LEFT_BEHIND: Duration = Duration::from_secs(86_400);

/// Connects, makes the group if need be, and hands over what comes.
pub(super) async fn listen(url: &str, settings: &Settings, publish: &mut Publish, stop: Stop) -> Result<(), String> {
    let mut group = Group::join(url, settings, publish).await?;
    publish.standing.connected();
    // A group or stream that is gone is made again with the next connection.
    group.read(publish, &stop).await.map_err(|error| error.to_string())
}

/// One member of the groups of all streams.
struct Group<'s> {
    settings: &'s Settings,
    connection: MultiplexedConnection,
    streams: &'s [String],
    group: &'s str,
    consumer: String,
}

impl<'s> Group<'s> {
    async fn join(url: &str, settings: &'s Settings, publish: &Publish) -> Result<Self, String> {
        // A read waits on purpose; all else is answered at once.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(WAIT + PATIENCE));
        let client = Client::open(url).map_err(|error| error.to_string())?;
        let connected = tokio::time::timeout(PATIENCE, client.get_multiplexed_async_connection_with_config(&config));
        let connection = connected.await.map_err(|_| no_answer())?.map_err(|error| error.to_string())?;
        let consumer = match &settings.consumer {
            Some(consumer) => consumer.clone(),
            None => format!("{MADE_UP}{:016x}", getrandom::u64().map_err(|error| error.to_string())?),
        };
        let streams = settings.channels.as_ref().map_or(&[][..], |streams| &streams.0);
        let group = settings.group.as_deref().unwrap_or_default();
        let mut group = Self { settings, connection, streams, group, consumer };
        group.create(publish.standing.was_connected()).await.map_err(|error| error.to_string())?;
        Ok(group)
    }

    /// Makes what does not exist. A group that was there and is gone went with the data of its Redis: what has come since
    /// is all new.
    async fn create(&mut self, is_known: bool) -> Result<(), RedisError> {
        let from = if is_known || self.settings.start == Start::Oldest { "0" } else { "$" };
        for stream in self.streams {
            let mut create = cmd("XGROUP");
            create.arg("CREATE").arg(stream).arg(self.group).arg(from).arg("MKSTREAM");
            match create.query_async::<()>(&mut self.connection).await {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
                _ => {}
            }
            self.remove_left_behind(stream).await?;
        }
        Ok(())
    }

    /// Every start makes up a name. Those that have nothing to acknowledge and have long been silent are of no use.
    async fn remove_left_behind(&mut self, stream: &str) -> Result<(), RedisError> {
        let mut info = cmd("XINFO");
        info.arg("CONSUMERS").arg(stream).arg(self.group);
        let reply: redis::streams::StreamInfoConsumersReply = info.query_async(&mut self.connection).await?;
        for consumer in reply.consumers {
            let is_silent = consumer.idle as u128 > LEFT_BEHIND.as_millis();
            if consumer.name.starts_with(MADE_UP) && consumer.pending == 0 && is_silent {
                let mut remove = cmd("XGROUP");
                remove.arg("DELCONSUMER").arg(stream).arg(self.group).arg(consumer.name);
                remove.query_async::<()>(&mut self.connection).await?;
            }
        }
        Ok(())
    }

    /// Reads until the server stops. Between two reads nothing is taken that is not acknowledged.
    async fn read(&mut self, publish: &mut Publish, stop: &Stop) -> Result<(), RedisError> {
        // What this consumer took before and did not acknowledge. It has none where its name was made up.
        while self.read_once("0", publish).await? > 0 {}
        let mut claim_at = Instant::now();
        while !*stop.borrow() {
            if Instant::now() >= claim_at {
                self.claim(publish).await?;
                claim_at = Instant::now() + self.settings.claim_after.0 / 2;
            }
            self.read_once(">", publish).await?;
        }
        self.leave().await
    }

    /// A name that was made up is not used again.
    async fn leave(&mut self) -> Result<(), RedisError> {
        if self.settings.consumer.is_none() {
            for stream in self.streams {
                let mut remove = cmd("XGROUP");
                remove.arg("DELCONSUMER").arg(stream).arg(self.group).arg(&self.consumer);
                remove.query_async::<()>(&mut self.connection).await?;
            }
        }
        Ok(())
    }

    /// Takes new entries (`>`) or those that are this consumer's already (`0`): how many there were.
    async fn read_once(&mut self, from: &str, publish: &mut Publish) -> Result<usize, RedisError> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(self.group).arg(&self.consumer).arg("COUNT").arg(self.settings.batch.0);
        read.arg("BLOCK").arg(WAIT.as_millis() as u64).arg("STREAMS").arg(self.streams);
        for _ in self.streams {
            read.arg(from);
        }
        let mut count = 0;
        for (stream, entries) in entry::read(read.query_async(&mut self.connection).await?) {
            count += entries.len();
            self.hand_over(&stream, entries, publish).await?;
        }
        Ok(count)
    }

    /// Takes over what others took and did not acknowledge for long.
    async fn claim(&mut self, publish: &mut Publish) -> Result<(), RedisError> {
        for stream in self.streams {
            let mut cursor = "0-0".to_owned();
            loop {
                let mut claim = cmd("XAUTOCLAIM");
                claim.arg(stream).arg(self.group).arg(&self.consumer);
                claim.arg(self.settings.claim_after.0.as_millis() as u64).arg(&cursor);
                claim.arg("COUNT").arg(self.settings.batch.0);
                let (next, entries) = entry::claimed(claim.query_async(&mut self.connection).await?);
                self.hand_over(stream, entries, publish).await?;
                if next == "0-0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(())
    }

    /// Publishes entries, and acknowledges them together.
    async fn hand_over(&mut self, stream: &str, entries: Vec<Entry>, publish: &mut Publish) -> Result<(), RedisError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut acknowledge = cmd("XACK");
        acknowledge.arg(stream).arg(self.group);
        for entry in entries {
            // One that was deleted in the meantime has no fields.
            if let Some(fields) = &entry.fields {
                let body = fields.iter().find(|(name, _)| *name == self.settings.field.as_bytes());
                let body = body.map_or(&[][..], |(_, value)| value);
                if let Err(skip) = publish.take(stream, body).await
                    && let Some(park) = &self.settings.park
                {
                    let mut add = cmd("XADD");
                    add.arg(park)
                        .arg("*")
                        .arg("stream")
                        .arg(stream)
                        .arg("id")
                        .arg(&entry.id)
                        .arg("reason")
                        .arg(skip.reason());
                    for (name, value) in fields {
                        add.arg(name).arg(value);
                    }
                    add.query_async::<()>(&mut self.connection).await?;
                }
            }
            acknowledge.arg(entry.id);
        }
        acknowledge.query_async(&mut self.connection).await
    }
}
