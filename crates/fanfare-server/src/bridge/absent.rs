//! The bridge of a build without Redis: there is none.

use std::convert::Infallible;
use std::sync::Arc;

use fanfare::{Mount, Observer};

use crate::config::bridge::Bridge as Settings;
use crate::health::Part;

/// Never made.
pub(crate) struct Bridge(Infallible);

impl Bridge {
    /// # Errors
    /// Always.
    pub(crate) fn start(_: &Settings) -> Result<Self, String> {
        Err("[bridge]: this build has no Redis: build it with the cargo feature `redis`".into())
    }

    pub(crate) fn part(&self) -> Arc<dyn Part> {
        match self.0 {}
    }

    pub(crate) fn forward_from(&self, _: Mount) -> Mount {
        match self.0 {}
    }
}

impl Observer for Bridge {}
