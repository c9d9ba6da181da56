//! Telling Redis which clients come and go, and what they send: `[bridge]`. Of clients that come and go the nodes of a cluster tell as one.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use fanfare::{Endpoint, Herald, Mount, News, Roll};
use serde_json::json;

use crate::config::bridge::Bridge as Settings;
use crate::connections::Audience;
#[cfg(not(feature = "redis"))]
mod absent;
#[cfg(feature = "redis")]
pub(crate) use crate::source::publisher::RedisPublisher as Publisher;
#[cfg(not(feature = "redis"))]
pub(crate) use absent::Publisher;

/// Hands a Redis what it is to be told. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    pub(crate) publisher: Publisher,
    connected: Arc<str>,
    disconnected: Arc<str>,
    forward: Option<Arc<str>>,
    /// Where nodes tell as one.
    roll: Arc<OnceLock<Roll>>,
}

/// How often a bridge that ends looks whether its roll is empty.
const LOOK: Duration = Duration::from_millis(10);

impl Bridge {
    /// Connects to Redis, now or when it is there.
    ///
    /// # Errors
    /// The address is none of Redis, or the build has no Redis.
    pub(crate) fn start(settings: &Settings) -> Result<Self, String> {
        let url = settings.url.as_ref().map(|url| url.expose()).unwrap_or_default();
        Ok(Self {
            publisher: Publisher::start("redis", url, settings.queue_max.0 as usize)?,
            connected: settings.connected.as_str().into(),
            disconnected: settings.disconnected.as_str().into(),
            forward: settings.forward.as_deref().map(Into::into),
            roll: Arc::default(),
        })
    }

    /// Tells as one with the other nodes, where there are some. To be called before anything happens.
    pub(crate) fn enroll(&self, endpoint: &Endpoint) {
        if let Some(roll) = endpoint.roll("bridge", Duration::ZERO, self.clone()) {
            // It is called once.
            let _ = self.roll.set(roll);
        }
    }

    /// Waits until nothing waits, for so long at most.
    pub(crate) async fn finish(&self, limit: Duration) {
        let is_empty = async {
            while !self.roll.get().is_none_or(Roll::is_empty) {
                tokio::time::sleep(LOOK).await;
            }
        };
        // What is left then is told by other nodes.
        let _ = tokio::time::timeout(limit, is_empty).await;
        self.publisher.finish(limit).await;
    }

    /// Tells it, or has it told by the node that does.
    fn tell(&self, key: &Arc<str>, is_here: bool) {
        match self.roll.get().filter(|_| key.len() <= Roll::NAME_SIZE_MAX) {
            Some(roll) => roll.set(key, is_here, SystemTime::now()),
            None => drop(self.publisher.publish(self.channel(is_here), key.as_bytes().to_vec())),
        }
    }

    fn channel(&self, is_here: bool) -> &Arc<str> {
        if is_here { &self.connected } else { &self.disconnected }
    }

    /// A mount whose clients' texts are forwarded, if that is wanted.
    pub(crate) fn forward_from(&self, mount: Mount) -> Mount {
        let Some(channel) = self.forward.clone() else { return mount };
        let publisher = self.publisher.clone();
        mount.on_text(move |id, text| {
            publisher.publish(&channel, json!({ "key": id, "data": text }).to_string());
        })
    }
}

impl Audience for Bridge {
    fn connected(&self, key: &Arc<str>) {
        self.tell(key, true);
    }

    fn disconnected(&self, key: &Arc<str>) {
        self.tell(key, false);
    }
}

impl Herald for Bridge {
    fn tell(&self, news: News) {
        let (roll, name) = (self.roll.clone(), news.name.clone());
        let told = move || roll.get().into_iter().for_each(|roll| roll.told(&name));
        self.publisher.publish_then(self.channel(news.is_here), news.name.as_bytes().to_vec(), told);
    }
}
