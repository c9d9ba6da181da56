//! Streams of Redis, read as a member of a consumer group: each entry is acknowledged once the engine has it, so that a
//! server that ends in between leaves it to another, or to itself when it is back. An entry may come twice, but not less
//! than once.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError, cmd};
use tokio::time::Instant;

use super::publish::{Publish, Refusal, Taken};
use super::redis::no_answer;
use super::route::Skip;
use super::{PATIENCE, Stop};
use crate::config::source::{Source as Settings, Start};

mod entry;

use entry::Entry;

/// How long a read waits for new entries. So long the end of the server may have to wait, too.
const WAIT: Duration = Duration::from_millis(500);

/// Names that were made up begin so; those left behind by servers that are gone are removed after a while.
const MADE_UP: &str = "fanfare-";
const LEFT_BEHIND: Duration = Duration::from_secs(86_400);

/// What outlives a connection.
#[derive(Default)]
pub(super) struct Reader {
    /// The name that was made up, so that what was taken by the last connection is this one's.
    made_up: Option<String>,
    /// The entry that the engine did not take to its end.
    unfinished: Option<Unfinished>,
}

struct Unfinished {
    stream: String,
    id: String,
    taken: Taken,
}

/// Connects, makes the group if need be, and hands over what comes.
pub(super) async fn listen(
    url: &str,
    settings: &Settings,
    reader: &mut Reader,
    publish: &mut Publish,
    stop: Stop,
) -> Result<(), String> {
    let mut group = Group::join(url, settings, reader, publish).await?;
    publish.standing.connected();
    // A group or stream that is gone is made again with the next connection.
    group.read(publish, stop).await.map_err(|error| error.to_string())
}

/// One member of the groups of all streams.
struct Group<'s> {
    settings: &'s Settings,
    connection: MultiplexedConnection,
    streams: &'s [String],
    group: &'s str,
    consumer: String,
    unfinished: &'s mut Option<Unfinished>,
    /// There may be entries that this consumer took and has not acknowledged.
    has_pending: bool,
}

/// What became of entries.
enum Handed {
    /// All of them were acknowledged: so many.
    All(usize),
    /// The engine takes nothing now. Those that it did not take are this consumer's, to be read again.
    Refused,
}

impl<'s> Group<'s> {
    async fn join(
        url: &str,
        settings: &'s Settings,
        reader: &'s mut Reader,
        publish: &Publish,
    ) -> Result<Self, String> {
        // A read waits on purpose; all else is answered at once.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(WAIT + PATIENCE));
        let client = Client::open(url).map_err(|error| error.to_string())?;
        let connected = tokio::time::timeout(PATIENCE, client.get_multiplexed_async_connection_with_config(&config));
        let connection = connected.await.map_err(|_| no_answer())?.map_err(|error| error.to_string())?;
        let consumer = match (&settings.consumer, &reader.made_up) {
            (Some(consumer), _) | (None, Some(consumer)) => consumer.clone(),
            (None, None) => {
                let random = getrandom::u64().map_err(|error| error.to_string())?;
                reader.made_up.insert(format!("{MADE_UP}{random:016x}")).clone()
            }
        };
        let streams = settings.channels.as_ref().map_or(&[][..], |streams| &streams.0);
        let group = settings.group.as_deref().unwrap_or_default();
        let unfinished = &mut reader.unfinished;
        let mut group = Self { settings, connection, streams, group, consumer, unfinished, has_pending: true };
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

    /// Reads until the server stops. Between two reads nothing is taken that is not acknowledged, but for what the engine
    /// does not take.
    async fn read(&mut self, publish: &mut Publish, mut stop: Stop) -> Result<(), RedisError> {
        let mut claim_at = Instant::now();
        while !*stop.borrow() {
            if let Handed::Refused = self.turn(publish, &mut claim_at).await? {
                self.has_pending = true;
                publish.pause(&mut stop).await;
            }
        }
        self.leave().await
    }

    /// Hands over what this consumer has taken before, then what others have left, then what is new.
    async fn turn(&mut self, publish: &mut Publish, claim_at: &mut Instant) -> Result<Handed, RedisError> {
        while self.has_pending {
            match self.read_once("0", publish).await? {
                Handed::All(count) => self.has_pending = count > 0,
                Handed::Refused => return Ok(Handed::Refused),
            }
        }
        if Instant::now() >= *claim_at {
            if let Handed::Refused = self.claim(publish).await? {
                return Ok(Handed::Refused);
            }
            *claim_at = Instant::now() + self.settings.claim_after.0 / 2;
        }
        self.read_once(">", publish).await
    }

    /// A name that was made up is not used again. As long as it has entries it stays, since they would go with it, and
    /// whoever comes next takes them over before anything new.
    async fn leave(&mut self) -> Result<(), RedisError> {
        if self.settings.consumer.is_some() {
            return Ok(());
        }
        for stream in self.streams {
            if self.has_pending {
                self.hand_back(stream).await?;
                continue;
            }
            let mut remove = cmd("XGROUP");
            remove.arg("DELCONSUMER").arg(stream).arg(self.group).arg(&self.consumer);
            remove.query_async::<()>(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Makes the entries that this consumer has look as if it had been silent for long.
    async fn hand_back(&mut self, stream: &str) -> Result<(), RedisError> {
        let mut list = cmd("XPENDING");
        list.arg(stream).arg(self.group).arg("-").arg("+").arg(self.settings.batch.0).arg(&self.consumer);
        let pending: redis::streams::StreamPendingCountReply = list.query_async(&mut self.connection).await?;
        if pending.ids.is_empty() {
            return Ok(());
        }
        let mut claim = cmd("XCLAIM");
        claim.arg(stream).arg(self.group).arg(&self.consumer).arg(0);
        for entry in pending.ids {
            claim.arg(entry.id);
        }
        claim.arg("IDLE").arg(self.settings.claim_after.0.as_millis() as u64).arg("JUSTID");
        claim.query_async(&mut self.connection).await
    }

    /// Takes new entries (`>`) or those that are this consumer's already (`0`).
    async fn read_once(&mut self, from: &str, publish: &mut Publish) -> Result<Handed, RedisError> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(self.group).arg(&self.consumer).arg("COUNT").arg(self.settings.batch.0);
        read.arg("BLOCK").arg(WAIT.as_millis() as u64).arg("STREAMS").arg(self.streams);
        for _ in self.streams {
            read.arg(from);
        }
        let mut count = 0;
        for (stream, entries) in entry::read(read.query_async(&mut self.connection).await?) {
            match self.hand_over(&stream, entries, publish).await? {
                Handed::All(handed) => count += handed,
                Handed::Refused => return Ok(Handed::Refused),
            }
        }
        Ok(Handed::All(count))
    }

    /// Takes over what others took and did not acknowledge for long.
    async fn claim(&mut self, publish: &mut Publish) -> Result<Handed, RedisError> {
        let mut count = 0;
        for stream in self.streams {
            let mut cursor = "0-0".to_owned();
            loop {
                let mut claim = cmd("XAUTOCLAIM");
                claim.arg(stream).arg(self.group).arg(&self.consumer);
                claim.arg(self.settings.claim_after.0.as_millis() as u64).arg(&cursor);
                claim.arg("COUNT").arg(self.settings.batch.0);
                let (next, entries) = entry::claimed(claim.query_async(&mut self.connection).await?);
                match self.hand_over(stream, entries, publish).await? {
                    Handed::All(handed) => count += handed,
                    Handed::Refused => return Ok(Handed::Refused),
                }
                if next == "0-0" {
                    break;
                }
                cursor = next;
            }
        }
        Ok(Handed::All(count))
    }

    /// Publishes entries, and acknowledges together those that the engine took and those that it never will.
    async fn hand_over(
        &mut self,
        stream: &str,
        entries: Vec<Entry>,
        publish: &mut Publish,
    ) -> Result<Handed, RedisError> {
        let mut acknowledge = cmd("XACK");
        acknowledge.arg(stream).arg(self.group);
        let (total, mut count) = (entries.len(), 0);
        for entry in entries {
            match self.publish(stream, &entry, publish).await {
                Ok(()) => {}
                Err(Refusal::Never(skip)) => self.park(stream, &entry, skip).await?,
                Err(Refusal::NotNow) => break,
            }
            acknowledge.arg(entry.id);
            count += 1;
        }
        if count > 0 {
            acknowledge.query_async::<()>(&mut self.connection).await?;
        }
        Ok(if count == total { Handed::All(count) } else { Handed::Refused })
    }

    /// Publishes one. What it had become when the engine did not take all of it is gone on with.
    async fn publish(&mut self, stream: &str, entry: &Entry, publish: &mut Publish) -> Result<(), Refusal> {
        // One that was deleted in the meantime has no fields.
        let Some(fields) = &entry.fields else { return Ok(()) };
        let mut taken = match self.unfinished.take_if(|begun| begun.stream == stream && begun.id == entry.id) {
            Some(begun) => begun.taken,
            None => {
                let body = fields.iter().find(|(name, _)| *name == self.settings.field.as_bytes());
                publish.take(stream, body.map_or(&[][..], |(_, value)| value))
            }
        };
        let published = publish.publish(&mut taken).await;
        // Redis begins an id with the time, unless whoever has added the entry has chosen another.
        let made_ms = entry.id.split('-').next().and_then(|time| time.parse().ok());
        if let (Ok(()), Some(made_ms)) = (&published, made_ms) {
            publish.standing.was_made_at(made_ms);
        }
        if published == Err(Refusal::NotNow) {
            *self.unfinished = Some(Unfinished { stream: stream.to_owned(), id: entry.id.clone(), taken });
        }
        published
    }

    async fn park(&mut self, stream: &str, entry: &Entry, skip: Skip) -> Result<(), RedisError> {
        let Some(park) = &self.settings.park else { return Ok(()) };
        let mut add = cmd("XADD");
        add.arg(park).arg("*").arg("stream").arg(stream).arg("id").arg(&entry.id).arg("reason").arg(skip.reason());
        for (name, value) in entry.fields.iter().flatten() {
            add.arg(name).arg(value);
        }
        add.query_async(&mut self.connection).await
    }
}
