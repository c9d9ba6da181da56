//! The new process of an upgrade: what it says to the old one.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::sync::Arc;

use super::{FAILED, FROM, GO, LINE_SIZE_MAX, PREPARED, SERVING};

/// The process that this one is to take over.
#[derive(Debug, Clone)]
pub(crate) struct Takeover(Arc<UnixStream>);

impl Takeover {
    /// The one that has started this process, if it was for that.
    ///
    /// # Errors
    /// Its line is none.
    pub(crate) fn begin() -> Result<Option<Self>, String> {
        let from = std::env::var(FROM).ok().and_then(|from| from.parse().ok());
        // The variable is inherited by what such a process starts itself.
        if from != Some(parent_id()) {
            return Ok(None);
        }
        let line = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
        let line = line.and_then(|line| line.set_nonblocking(false).map(|()| line));
        line.map(|line| Some(Self(Arc::new(line)))).map_err(|error| format!("no word from the process before: {error}"))
    }

    /// Says that all is made that can be made beside the old process, and waits until that one has let go of the rest.
    ///
    /// # Errors
    /// It goes on by itself.
    pub(crate) async fn wait_for_go(&self) -> Result<(), String> {
        let this = self.clone();
        let heard = tokio::task::spawn_blocking(move || {
            this.say(PREPARED)?;
            let mut said = String::new();
            BufReader::new((&*this.0).take(LINE_SIZE_MAX)).read_line(&mut said)?;
            Ok::<_, std::io::Error>(said)
        });
        match heard.await {
            Ok(Ok(said)) if said.trim_end() == GO => Ok(()),
            _ => Err("the process that was to be taken over goes on by itself".into()),
        }
    }

    /// Says that clients are served. A process that has ended meanwhile need not know.
    pub(crate) fn serving(&self) {
        let _ = self.say(SERVING);
    }

    /// Says why this process ends.
    pub(crate) fn failed(&self, why: &str) {
        let _ = self.say(&format!("{FAILED}{}", why.replace('\n', "; ")));
    }

    fn say(&self, what: &str) -> std::io::Result<()> {
        (&*self.0).write_all(format!("{what}\n").as_bytes())
    }
}
