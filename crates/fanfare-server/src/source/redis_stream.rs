//! Streams of Redis, read by a consumer group: an entry is acknowledged once it was published, and one that a server took and
//! did not acknowledge before it died is taken over by another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamReadReply};
use redis::{AsyncConnectionConfig, FromRedisValue, Value, cmd};

use super::redis::{client, explain};
use super::{Ended, Source};

const BLOCK: Duration = Duration::from_secs(2);

/// Taken for an answer, beyond what it may wait for entries.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Entries taken at a time.
const ENTRIES_MAX: usize = 100;

/// An entry that another server has had for so long is taken over: it would have been acknowledged.
const IDLE_MAX: Duration = Duration::from_secs(10);

const CLAIM_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn read(source: Arc<Source>) -> Ended {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(TIMEOUT)).set_response_timeout(Some(BLOCK + TIMEOUT));
    let connection = client(source.url())?.get_multiplexed_async_connection_with_config(&config).await;
    let connection = connection.map_err(|error| explain(&error))?;
    let group = source.settings.group.clone().unwrap_or_default();
    let mut reader = Reader { source, connection, group, consumer: format!("fanfare-{:x}", random()) };
    reader.run().await
}

/// Two servers with one name would take each other's entries for their own.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| u64::from(std::process::id()))
}

struct Reader {
    source: Arc<Source>,
    connection: MultiplexedConnection,
    group: String,
    consumer: String,
}

impl Reader {
    async fn run(&mut self) -> Ended {
        let streams = self.source.channels().to_vec();
        for stream in &streams {
            self.make_group(stream).await?;
        }
        self.source.connected();
        let mut claimed_at: Option<Instant> = None;
        loop {
            if claimed_at.is_none_or(|at| at.elapsed() >= CLAIM_INTERVAL) {
                for stream in &streams {
                    self.claim(stream).await?;
                }
                claimed_at = Some(Instant::now());
            }
            let mut read = cmd("XREADGROUP");
            read.arg("GROUP").arg(&self.group).arg(&self.consumer).arg("COUNT").arg(ENTRIES_MAX);
            read.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS").arg(&streams);
            read.arg(vec![">"; streams.len()]);
            let reply: Option<StreamReadReply> =
                read.query_async(&mut self.connection).await.map_err(|error| explain(&error))?;
            for stream in reply.into_iter().flat_map(|reply| reply.keys) {
                for entry in stream.ids {
                    self.take(&stream.key, entry).await?;
                }
            }
        }
    }

    /// From its first entry on, so that what was added before the first server came is published.
    async fn make_group(&mut self, stream: &str) -> Result<(), String> {
        let mut make = cmd("XGROUP");
        make.arg("CREATE").arg(stream).arg(&self.group).arg("0").arg("MKSTREAM");
        match make.query_async::<Value>(&mut self.connection).await {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(explain(&error)),
            _ => Ok(()),
        }
    }

    async fn claim(&mut self, stream: &str) -> Result<(), String> {
        let mut from = "0-0".to_owned();
        loop {
            let mut claim = cmd("XAUTOCLAIM");
            claim.arg(stream).arg(&self.group).arg(&self.consumer).arg(IDLE_MAX.as_millis() as u64).arg(&from);
            claim.arg("COUNT").arg(ENTRIES_MAX);
            let reply: StreamAutoClaimReply =
                claim.query_async(&mut self.connection).await.map_err(|error| explain(&error))?;
            for entry in reply.claimed {
                self.take(stream, entry).await?;
            }
            if reply.next_stream_id == "0-0" {
                return Ok(());
            }
            from = reply.next_stream_id;
        }
    }

    /// Publishes an entry, and then acknowledges it.
    async fn take(&mut self, stream: &str, entry: StreamId) -> Result<(), String> {
        let body: Vec<u8> = match entry.map.get(&self.source.settings.field) {
            Some(value) => Vec::from_redis_value_ref(value).unwrap_or_default(),
            // Skipped as malformed, whatever the route.
            None => Vec::new(),
        };
        let skipped = match body.is_empty() {
            true => {
                self.source.skip(super::Skip::Malformed);
                true
            }
            false => self.source.deliver(stream, &body).await.is_err(),
        };
        if let (true, Some(park)) = (skipped, &self.source.settings.park) {
            let mut add = cmd("XADD");
            add.arg(park).arg("*").arg("stream").arg(stream).arg("id").arg(&entry.id).arg("data").arg(&body);
            add.query_async::<Value>(&mut self.connection).await.map_err(|error| explain(&error))?;
        }
        let mut ack = cmd("XACK");
        ack.arg(stream).arg(&self.group).arg(&entry.id);
        ack.query_async::<Value>(&mut self.connection).await.map_err(|error| explain(&error))?;
        Ok(())
    }
}
