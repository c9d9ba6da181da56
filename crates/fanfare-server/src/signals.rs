//! The signals that end a command, and those that operators send to servers by habit. None of these cuts a client.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them over from now on.
    ///
    /// # Errors
    /// The system refuses it.
    pub(crate) fn new() -> Result<Self, String> {
        Ok(Self { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }

    /// Waits for one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What a signal asks of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To drain and end.
    Stop,
    /// To read its configuration again.
    Reload,
    /// To hand over to a new process.
    Upgrade,
}

/// Signals that ask a server for something, and end a process that does not know them.
pub(crate) struct Requests {
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Requests {
    /// Takes them over from now on. It is the first thing that a server does: who has started it knows its number at once, and may ask. What
    /// is asked before it serves is done then.
    ///
    /// # Errors
    /// The system refuses it.
    pub(crate) fn take() -> Result<Self, String> {
        // The handlers are the process's, and stay.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(|error| format!("cannot wait for signals: {error}"))?;
        let _entered = runtime.enter();
        Ok(Self {
            hangup: take(SignalKind::hangup())?,
            user1: take(SignalKind::user_defined1())?,
            user2: take(SignalKind::user_defined2())?,
        })
    }
}

/// What a server does with signals.
pub(crate) struct ServerSignals {
    ends: Signals,
    quit: Signal,
    requests: Requests,
    /// SIGTERM or SIGINT has come.
    is_ending: bool,
}

impl ServerSignals {
    /// Takes those over from now on that end a server.
    ///
    /// # Errors
    /// The system refuses it.
    pub(crate) fn new(requests: Requests) -> Result<Self, String> {
        Ok(Self { ends: Signals::new()?, quit: take(SignalKind::quit())?, requests, is_ending: false })
    }

    /// Waits for the next thing to do.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            let signal = tokio::select! {
                () = self.ends.next() => {
                    self.is_ending = true;
                    return Asked::Stop;
                }
                _ = self.requests.hangup.recv() => {
                    tracing::info!(signal = "SIGHUP", next = "the configuration is read again", "a signal");
                    return Asked::Reload;
                }
                _ = self.quit.recv() => {
                    tracing::info!(signal = "SIGQUIT", next = "the server drains and ends", "a signal");
                    return Asked::Stop;
                }
                _ = self.requests.user2.recv() => {
                    tracing::info!(signal = "SIGUSR2", next = "the server is upgraded", "a signal");
                    return Asked::Upgrade;
                }
                _ = self.requests.user1.recv() => "SIGUSR1",
            };
            tracing::warn!(signal, next = "nothing: it has no meaning here; SIGTERM stops the server", "a signal");
        }
    }

    /// While the server hands over: waits until it is to stop instead.
    pub(crate) async fn until_stop(&mut self) {
        loop {
            let signal = tokio::select! {
                () = self.ends.next() => {
                    self.is_ending = true;
                    return;
                }
                _ = self.quit.recv() => return,
                _ = self.requests.hangup.recv() => "SIGHUP",
                _ = self.requests.user1.recv() => "SIGUSR1",
                _ = self.requests.user2.recv() => "SIGUSR2",
            };
            tracing::warn!(signal, next = "nothing: the server is being upgraded", "a signal");
        }
    }

    /// While the server drains: waits until its clients are to be cut off.
    pub(crate) async fn until_cut(&mut self) {
        loop {
            let signal = tokio::select! {
                // Where it drains because of another signal, nobody has been impatient yet.
                () = self.ends.next() => match std::mem::replace(&mut self.is_ending, true) {
                    true => return,
                    false => "SIGTERM or SIGINT",
                },
                _ = self.requests.hangup.recv() => "SIGHUP",
                _ = self.quit.recv() => "SIGQUIT",
                _ = self.requests.user1.recv() => "SIGUSR1",
                _ = self.requests.user2.recv() => "SIGUSR2",
            };
            let next =
                "the server goes on draining; SIGTERM or SIGINT after one of them cuts off the clients that are left";
            tracing::warn!(signal, next, "a signal");
        }
    }
}

fn take(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("cannot wait for signals: {error}"))
}
