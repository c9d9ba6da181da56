//! The shards' side of a node: to them it is a store of histories.

use std::future::ready;
use std::pin::Pin;

use fanfare_proto::position::Epoch;

use super::Cluster;
use crate::error::Error;
use crate::history::{Append, Reading, Store, Wanted};

impl Store for Cluster {
    fn append(&self, append: Append) {
        self.append_to_log(append);
    }

    #[cfg(feature = "metrics")]
    fn kind(&self) -> &'static str {
        "broker"
    }

    fn read(&self, topic: &str, wanted: Wanted) -> Reading {
        let replay = self.begin_reading(topic, wanted);
        Box::pin(async {
            replay.await.unwrap_or_else(|_| Err(Error::unavailable("the engine ended before the history was read")))
        })
    }

    fn epoch_at(&self, topic: &str, offset: u64) -> Option<Epoch> {
        self.with(topic, |topics| topics.by_name.get(topic)?.chain.as_ref()?.epochs().at(offset))
    }

    fn flush(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(ready(()))
    }
}
