//! `fanfare upgrade` and SIGUSR2: another process takes over with the listeners of this one, so that nobody who connects is refused.
//!
//! The two talk over the standard input of the new one, a line each. The new one says that it is *prepared* once it has read its
//! configuration and made all that it can make beside the old one; up to then nothing has happened that counts. The old one stops accepting,
//! closes its histories and says *go*. The new one opens them, accepts, and says that it is *serving*; then the old one drains.

mod takeover;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::process::{Child, Command};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::inherited::Role;

pub(crate) use takeover::Takeover;

/// The variable that says which process is to be taken over.
const FROM: &str = "UPGRADES_PID";

/// What the two say.
const PREPARED: &str = "prepared";
const GO: &str = "go";
const SERVING: &str = "serving";
const FAILED: &str = "failed ";

/// A new process may take so long until it is prepared, and as long again to open the histories.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever asks for an upgrade is answered by then: both have passed, and what this process does between them, which is to let clients
/// arrive and to close its histories.
pub(crate) const ANSWER_MAX: Duration = PATIENCE.saturating_mul(2).saturating_add(Duration::from_secs(30));

/// No line is longer.
const LINE_SIZE_MAX: u64 = 64 * 1024;

/// The first descriptor of those that are given on, by the protocol of `LISTEN_FDS`.
const FIRST_FD: i32 = 3;

/// Those who may ask a server for an upgrade.
#[derive(Debug, Clone)]
pub(crate) struct Upgrades(mpsc::Sender<Answer>);

/// Told the number of the process that has taken over, or why none has.
pub(crate) type Answer = oneshot::Sender<Result<u32, String>>;

impl Upgrades {
    /// With what the server hears of it by.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Answer>) {
        let (asks, asked) = mpsc::channel(1);
        (Self(asks), asked)
    }

    /// Asks for one, and waits until it is done.
    ///
    /// # Errors
    /// Why this process goes on.
    pub(crate) async fn ask(&self) -> Result<u32, String> {
        let (answer, answered) = oneshot::channel();
        let is_heard = self.0.try_send(answer).is_ok();
        match (is_heard, answered.await) {
            (true, Ok(outcome)) => outcome,
            _ => Err(
                "this server cannot be upgraded now: it ends, is being upgraded, or was not started by `fanfare serve`"
                    .into(),
            ),
        }
    }
}

/// A process that takes over. It is killed unless it does.
pub(crate) struct Successor {
    child: Option<Child>,
    line: BufReader<UnixStream>,
}

impl Successor {
    /// Starts what the command that has started this process would start now, with its listeners.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(listeners: Vec<(Role, OwnedFd)>) -> Result<Self, String> {
        if std::process::id() == 1 {
            return Err(
                "this is the first process of its container, which ends with it: start another container".into()
            );
        }
        let mut args = std::env::args_os();
        let program = args.next().unwrap_or_else(|| OsString::from("fanfare"));
        let cannot = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
        let (ours, theirs) = Pair::pair().map_err(|error| cannot("talk to a new process", &error))?;
        let line = ours.set_nonblocking(true).and_then(|()| UnixStream::from_std(ours));
        let line = line.map_err(|error| cannot("talk to a new process", &error))?;
        let names: Vec<_> = listeners.iter().map(|(role, _)| role.name()).collect();
        let mut command = Command::new(&program);
        command.args(args).stdin(OwnedFd::from(theirs));
        command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command.env(FROM, std::process::id().to_string());
        // These two are about this process. Without them the new one takes the listeners, and feeds the watchdog.
        command.env_remove("LISTEN_PID").env_remove("WATCHDOG_PID");
        let mapped = (FIRST_FD..).zip(listeners).map(|(child_fd, (_, parent_fd))| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mapped.collect()).map_err(|error| cannot("give listeners on", &error))?;
        let child = command.spawn().map_err(|error| cannot(&format!("start {}", program.display()), &error))?;
        Ok(Self { child: Some(child), line: BufReader::new(line) })
    }

    /// Waits until it is prepared.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) async fn prepared(&mut self) -> Result<(), String> {
        self.hear(PREPARED).await
    }

    /// Lets it go, and waits until it serves: the number of its process.
    ///
    /// # Errors
    /// Why it does not.
    pub(crate) async fn go(mut self) -> Result<u32, String> {
        let told = self.line.write_all(format!("{GO}\n").as_bytes()).await;
        told.map_err(|_| self.ended())?;
        self.hear(SERVING).await?;
        Ok(self.child.take().map_or(0, |child| child.id()))
    }

    async fn hear(&mut self, expected: &str) -> Result<(), String> {
        let mut said = String::new();
        let mut line = (&mut self.line).take(LINE_SIZE_MAX);
        match tokio::time::timeout(PATIENCE, line.read_line(&mut said)).await {
            Err(_) => return Err(format!("the new process was not {expected} within {PATIENCE:?}")),
            Ok(Err(_) | Ok(0)) => return Err(self.ended()),
            Ok(Ok(_)) => {}
        }
        match (said.trim_end(), said.strip_prefix(FAILED)) {
            (said, _) if said == expected => Ok(()),
            (_, Some(why)) => Err(format!("the new process does not start: {}", why.trim_end())),
            _ => Err("the new process is not one of `fanfare serve`".into()),
        }
    }

    /// What to say of one that is gone, or says nothing any more.
    fn ended(&mut self) -> String {
        let ended = self.child.take().map(kill);
        let status = ended.and_then(Result::ok).map_or_else(String::new, |status| format!(" ({status})"));
        format!("the new process has ended{status}; its output says why")
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // Nobody is left to be told that it could not be ended.
        let _ = self.child.take().map(kill);
    }
}

fn kill(mut child: Child) -> std::io::Result<std::process::ExitStatus> {
    // It has no effect on one that has ended.
    child.kill()?;
    child.wait()
}
