//! Telling Redis which clients come and go, and what they send: `[bridge]`.

use std::sync::Arc;

use fanfare::Mount;
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
}

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
        })
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
        self.publisher.publish(&self.connected, key.as_bytes().to_vec());
    }

    fn disconnected(&self, key: &Arc<str>) {
        self.publisher.publish(&self.disconnected, key.as_bytes().to_vec());
    }
}
