//! What the service manager is told (systemd, `Type=notify`): that clients can connect, that the server is alive, and that it ends.

use std::time::Duration;

use fanfare::Endpoint;
use sd_notify::NotifyState;
use tokio::task::JoinHandle;

use crate::admin::STUCK_AFTER;

/// How often the state is told.
const STATUS_EVERY: Duration = Duration::from_secs(60);

/// Tells it while the server runs. Without a service manager it does nothing.
pub(crate) struct Notifier(Option<JoinHandle<()>>);

impl Notifier {
    /// Clients can connect.
    pub(crate) fn ready(endpoint: &Endpoint) -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self(None);
        }
        tell(&[NotifyState::Ready]);
        Self(Some(tokio::spawn(repeat(endpoint.clone()))))
    }

    /// Another process is the server now, and tells the rest. This one drains, which the service manager takes for no end.
    pub(crate) fn handed_over(self, process: u32) {
        if let Some(repeating) = self.0 {
            repeating.abort();
            tell(&[NotifyState::MainPid(process)]);
        }
    }

    /// It drains, and ends then.
    pub(crate) fn stopping(self) {
        if self.0.is_some() {
            tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
        }
    }
}

/// The watchdog is fed only while all shards answer: whoever stops feeding it is restarted.
async fn repeat(endpoint: Endpoint) {
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(STATUS_EVERY, |limit| (limit / 2).min(STATUS_EVERY));
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        let is_alive = endpoint.is_alive(STUCK_AFTER.min(every)).await;
        if watchdog.is_some() && is_alive {
            tell(&[NotifyState::Watchdog]);
        }
        // Once it drains, that is its state.
        if !endpoint.is_draining() {
            let status = format!("{} sockets{}", endpoint.sockets(), if is_alive { "" } else { ", a shard is stuck" });
            tell(&[NotifyState::Status(&status)]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
