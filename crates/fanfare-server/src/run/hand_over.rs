//! A server hands over to the process that comes after it.

use std::os::fd::OwnedFd;
use std::time::Duration;

use fanfare::Endpoint;
use fanfare::serve::Pause;
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::Running;
use crate::inherited::Role;
use crate::signals::Asked;
use crate::upgrade::{Answer, Successor};

/// Connections that were accepted have so long to send their first request before this process lets go: those that come meanwhile wait in
/// the kernel.
const ARRIVAL_MAX: Duration = Duration::from_secs(1);

/// What a server can give on.
#[derive(Default)]
pub(super) struct Doors(Vec<(Role, std::net::TcpListener, Pause)>);

/// Why this process has not been taken over.
enum Failed {
    /// It serves as before.
    Unharmed(String),
    /// Its histories are closed.
    Closed(String),
}

/// Why a process ends.
pub(super) enum Left {
    /// It was told to.
    Stopped,
    /// This process has taken over.
    HandedOver(u32),
    /// It cannot go on, nor has another taken over.
    Broken(String),
}

impl Doors {
    pub(super) fn add(&mut self, role: Role, listener: std::net::TcpListener, pause: Pause) {
        self.0.push((role, listener, pause));
    }

    /// Lets another process serve all who come from now on: its number.
    ///
    /// # Errors
    /// Why none does.
    async fn hand_over(&self, endpoint: &Endpoint) -> Result<u32, Failed> {
        tracing::info!("an upgrade: a new process is started, and prepares");
        let mut successor = self.successor().map_err(Failed::Unharmed)?;
        successor.prepared().await.map_err(Failed::Unharmed)?;
        self.pause().await;
        let is_closed = endpoint.close_history().await;
        match successor.go().await {
            Ok(process) => {
                // One may have been accepted in the moment when it was told to stop.
                self.pause().await;
                Ok(process)
            }
            Err(reason) if is_closed => Err(Failed::Closed(reason)),
            Err(reason) => {
                self.0.iter().for_each(|(.., pause)| pause.end());
                Err(Failed::Unharmed(reason))
            }
        }
    }

    fn successor(&self) -> Result<Successor, String> {
        let given = |(role, listener, _): &(Role, std::net::TcpListener, Pause)| {
            let listener = listener.try_clone().map_err(|error| format!("a listener cannot be given on: {error}"))?;
            Ok((*role, OwnedFd::from(listener)))
        };
        Successor::start(self.0.iter().map(given).collect::<Result<_, String>>()?)
    }

    async fn pause(&self) {
        join_all(self.0.iter().map(|(.., pause)| pause.begin(ARRIVAL_MAX))).await;
    }
}

impl Running {
    /// Does what it is asked until this process is to end.
    pub(super) async fn until_left(&mut self) -> Left {
        let mut requests = self.upgrades.1.take();
        loop {
            let answer = tokio::select! {
                asked = self.signals.next() => match asked {
                    Asked::Stop => return Left::Stopped,
                    Asked::Reload => {
                        let reloader = self.reloader.clone();
                        // It has its own line in the log, and whoever stops the server does not wait for it.
                        tokio::spawn(async move { reloader.reload(false).await });
                        continue;
                    }
                    Asked::Upgrade if requests.is_none() => {
                        tracing::warn!("only what was started by `fanfare serve` can be upgraded");
                        continue;
                    }
                    Asked::Upgrade => None,
                },
                Some(answer) = requested(&mut requests) => Some(answer),
            };
            self.reloader.hold(Some("the server is being upgraded"));
            let outcome = tokio::select! {
                outcome = self.doors.hand_over(&self.endpoint) => outcome,
                () = self.signals.until_stop() => return Left::Stopped,
            };
            match &outcome {
                Ok(process) => tracing::info!(process, "another process has taken over: this one drains and ends"),
                Err(Failed::Unharmed(reason)) => {
                    self.reloader.hold(None);
                    tracing::error!(reason, "the upgrade has failed: this process serves as before");
                }
                Err(Failed::Closed(reason)) => tracing::error!(
                    reason,
                    "the upgrade has failed, and the histories are closed: this process drains, to be started again"
                ),
            }
            let (told, left) = match outcome {
                Ok(process) => (Ok(process), Some(Left::HandedOver(process))),
                Err(Failed::Unharmed(reason)) => (Err(reason), None),
                Err(Failed::Closed(reason)) => (Err(reason.clone()), Some(Left::Broken(reason))),
            };
            // Whoever asked may have gone.
            let _ = answer.map(|answer| answer.send(told));
            if let Some(left) = left {
                return left;
            }
        }
    }
}

async fn requested(requests: &mut Option<mpsc::Receiver<Answer>>) -> Option<Answer> {
    match requests {
        Some(requests) => requests.recv().await,
        None => std::future::pending().await,
    }
}
