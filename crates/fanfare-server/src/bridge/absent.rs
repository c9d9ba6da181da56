//! A build without Redis has no publisher, and whoever asks for a bridge is told so.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::health::Part;

/// Never made.
#[derive(Debug, Clone)]
pub(crate) struct Publisher(Infallible);

impl Publisher {
    pub(crate) fn start(_: &str, _: &str, _: usize) -> Result<Self, String> {
        Err("[bridge]: this build has no Redis: build it with the cargo feature `redis`".into())
    }

    pub(crate) fn part(&self) -> Arc<dyn Part> {
        match self.0 {}
    }

    pub(crate) fn publish(&self, _: &Arc<str>, _: impl Into<Bytes>) -> bool {
        match self.0 {}
    }

    pub(crate) fn publish_then(&self, _: &Arc<str>, _: impl Into<Bytes>, _: impl FnOnce() + Send + 'static) {
        match self.0 {}
    }

    pub(crate) async fn finish(&self, _: Duration) {
        match self.0 {}
    }
}
