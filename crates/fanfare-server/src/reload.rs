//! The configuration is read again while the server runs: whole, or not at all.
//!
//! What is new is read, checked and built before anything of it counts. A key that cannot change without a restart refuses all.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare::Proxies;
use fanfare::serve::Admits;
use tokio::sync::Mutex;

use crate::config::change::{Change, Imprint};
use crate::config::secret::Secret;
use crate::config::section::Reload;
use crate::config::{Config, Report};
use crate::engine::{Equipment, Seen, Unbuilt};
use crate::live::{InForce, Live, shares};
use crate::log::Filter;
use crate::terminal::Given;
use crate::tls::Certificates;
use crate::traces::{Prepared, Traces};

/// What was done.
#[derive(Debug)]
pub(crate) struct Done {
    /// How many configurations have been in force.
    pub(crate) generation: u64,
    /// The keys that are others now, or would be.
    pub(crate) changed: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What is wrong with the configuration.
    Wrong(Report),
    /// These keys have changed.
    RestartNeeded(Vec<String>),
    /// What it asks for cannot be had.
    Impossible(String),
    /// Nothing is read now: the server is about to end, or hands over.
    Held(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(report) => write!(f, "{report}"),
            Self::RestartNeeded(keys) => {
                let needs = if keys.len() == 1 { "needs" } else { "need" };
                write!(f, "{} {needs} a restart; nothing was changed", keys.join(", "))
            }
            Self::Impossible(reason) => write!(f, "{reason}; nothing was changed"),
            Self::Held(reason) => write!(f, "{reason}; nothing was changed"),
        }
    }
}

impl From<Unbuilt> for Failure {
    fn from(unbuilt: Unbuilt) -> Self {
        match unbuilt {
            Unbuilt::RestartNeeded(key) => Self::RestartNeeded(vec![key]),
            Unbuilt::Impossible(reason) => Self::Impossible(reason),
        }
    }
}

/// How often the configuration was read again, and how that went.
#[derive(Debug)]
pub(crate) struct Reloads {
    pub(crate) done: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) was_done: AtomicBool,
    /// In seconds since 1970: when what is in force was read.
    pub(crate) done_at_s: AtomicU64,
}

impl Reloads {
    fn none_yet() -> Arc<Self> {
        let (none, now) = (AtomicU64::default, AtomicU64::new(now_s()));
        Arc::new(Self { done: none(), refused: none(), was_done: AtomicBool::new(true), done_at_s: now })
    }

    fn ended(&self, is_done: bool) {
        let counter = if is_done { &self.done } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        self.was_done.store(is_done, Ordering::Relaxed);
        if is_done {
            self.done_at_s.store(now_s(), Ordering::Relaxed);
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is exchanged.
pub(crate) struct Exchanged {
    pub(crate) live: InForce,
    pub(crate) equipment: Equipment,
    pub(crate) filter: Filter,
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// In front of all listeners.
    pub(crate) proxies: Proxies,
    /// The API's token where the configuration has none.
    pub(crate) token: Option<Secret>,
    pub(crate) traces: Arc<Traces>,
}

/// Reads the configuration again.
pub(crate) struct Reloader {
    given: Option<Given>,
    live: InForce,
    filter: Filter,
    certificates: Option<Arc<Certificates>>,
    proxies: Proxies,
    /// How many clients may connect, once they can.
    admits: OnceLock<Admits>,
    token: Option<Secret>,
    traces: Arc<Traces>,
    reloads: Arc<Reloads>,
    /// Why nothing is read now, if nothing is.
    held: std::sync::Mutex<Option<&'static str>>,
    /// One after the other.
    running: Mutex<Running>,
}

/// The configuration in force.
struct Running {
    imprint: Imprint,
    equipment: Equipment,
}

impl Reloader {
    /// `imprint` is that of the configuration that the server was started with.
    pub(crate) fn new(given: Option<Given>, imprint: Imprint, exchanged: Exchanged) -> Arc<Self> {
        let Exchanged { live, equipment, filter, certificates, proxies, token, traces } = exchanged;
        let (reloads, held, running) =
            (Reloads::none_yet(), Default::default(), Mutex::new(Running { imprint, equipment }));
        let admits = OnceLock::new();
        Arc::new(Self { given, live, filter, certificates, proxies, admits, token, traces, reloads, held, running })
    }

    /// The listener of clients, which admits as many as is configured.
    pub(crate) fn admits(&self, admits: Admits) {
        // There is one.
        let _ = self.admits.set(admits);
    }

    /// How that went so far.
    pub(crate) fn reloads(&self) -> &Arc<Reloads> {
        &self.reloads
    }

    /// From now on nothing is put in force, for this reason, or with `None` again whatever is asked for.
    pub(crate) fn hold(&self, reason: Option<&'static str>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Puts what is configured now in force, or only says what that would change.
    ///
    /// # Errors
    /// Why everything stays as it is.
    pub(crate) async fn reload(&self, only_checks: bool) -> Result<Done, Failure> {
        let held = *self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = held.filter(|_| !only_checks) {
            tracing::warn!(reason, "the configuration is not read again");
            return Err(Failure::Held(reason));
        }
        let result = self.run(only_checks).await;
        if !only_checks {
            self.reloads.ended(result.is_ok());
        }
        match &result {
            _ if only_checks => {}
            Ok(Done { generation, changed }) => {
                tracing::info!(generation, changed = changed.join(", "), "the configuration was read again");
            }
            Err(reason) => {
                tracing::error!(%reason, "the configuration was read again and refused: the old one stays in force");
            }
        }
        result
    }

    async fn run(&self, only_checks: bool) -> Result<Done, Failure> {
        let mut running = self.running.lock().await;
        let Some(given) = self.given.clone() else {
            return Err(Failure::Impossible(
                "this server was started with no configuration that could be read again".into(),
            ));
        };
        // It opens files, and a file system may stall.
        let read = tokio::task::spawn_blocking(move || given.read()).await;
        let mut config: Config =
            read.map_err(|error| Failure::Impossible(error.to_string()))?.map_err(Failure::Wrong)?;
        let imprint = config.imprint();
        let changes = running.imprint.changes(&imprint);
        let restarts = changes.iter().filter(|change| change.reload == Reload::Restart);
        let restarts: Vec<String> = restarts.map(|change| change.key.clone()).collect();
        if !restarts.is_empty() {
            return Err(Failure::RestartNeeded(restarts));
        }
        let certificates = Certificates::read(&config).map_err(Failure::Impossible)?;
        let traces = Prepared::new(config.traces.as_ref()).map_err(Failure::Impossible)?;
        let is_same = |label: &str| running.imprint.is_same(&imprint, label);
        let prepared = running.equipment.prepare(&mut config, &is_same).await?;
        let changed: Vec<String> = changes.into_iter().map(|Change { key, .. }| key).collect();
        let old = self.live.load_full();
        if only_checks {
            return Ok(Done { generation: old.generation, changed });
        }
        if changed.is_empty() {
            // What somebody has asked for meanwhile is over all the same.
            self.filter.set(&config.log.level);
            return Ok(Done { generation: old.generation, changed });
        }
        // Only the first of these can fail.
        let Seen { parts, topics } = running.equipment.put_in_force(prepared)?;
        if let (Some(certificates), Some(new)) = (&self.certificates, certificates) {
            certificates.replace(new, running.equipment.endpoint());
        }
        self.traces.put_in_force(traces, &config.cluster.name());
        self.proxies.trust(config.server.trusted());
        if let Some(admits) = self.admits.get() {
            admits.replace(&config.limits.of_clients(shares(&config).clients));
        }
        let of_certificates = self.certificates.as_ref().and_then(|certificates| certificates.part());
        let parts = parts.into_iter().chain(of_certificates).collect();
        self.filter.set(&config.log.level);
        let generation = old.generation + 1;
        self.live.store(Arc::new(Live::new(generation, &old.tokens, &config, self.token.as_ref(), parts, topics)));
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        running.imprint = imprint;
        Ok(Done { generation, changed })
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}
