//! What of the configuration is in force and is asked for while the server runs. It is exchanged as a whole, and taken once a request.

use std::sync::Arc;

use arc_swap::ArcSwap;
use fanfare::{Drain, Endpoint, Pattern};

use crate::config::Config;
use crate::config::secret::Secret;
use crate::health::{Part, State};

/// What is in force.
#[derive(Debug)]
pub(crate) struct Live {
    /// How many configurations have been in force, this one included.
    pub(crate) generation: u64,
    pub(crate) drain: Drain,
    /// Of the HTTP API; without it, all of it but the health report is refused.
    pub(crate) token: Option<Secret>,
    /// Those whose state the health report tells.
    pub(crate) parts: Vec<Arc<dyn Part>>,
    /// The topics that somebody can be in.
    pub(crate) topics: Vec<Pattern>,
}

/// Where it stands for all who ask for it.
pub(crate) type InForce = Arc<ArcSwap<Live>>;

impl Live {
    /// Of a configuration; `token` is the one that counts where it has none.
    pub(crate) fn new(
        generation: u64,
        config: &Config,
        token: Option<&Secret>,
        parts: Vec<Arc<dyn Part>>,
        topics: Vec<Pattern>,
    ) -> Self {
        let drain = &config.drain;
        let given = config.admin.as_ref().and_then(|admin| admin.token.as_ref());
        Self {
            generation,
            drain: Drain { batch: drain.batch.0 as usize, every: drain.every.0, limit: drain.limit.0 },
            token: given.or(token).cloned(),
            parts,
            topics,
        }
    }
}

/// The engine, and the parts that depend on others.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    pub(crate) endpoint: Endpoint,
    pub(crate) live: InForce,
}

impl Health {
    /// Why no clients should be sent here: it drains, or a part without which nothing is kept cannot do its work.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let live = self.live.load();
        let failing = live.parts.iter().filter(|part| part.is_needed() && part.state() == State::Unavailable);
        let failing = failing.map(|part| format!("{}.{} is unavailable", part.kind(), part.name()));
        self.endpoint.is_draining().then(|| "draining".to_owned()).into_iter().chain(failing).collect()
    }
}
