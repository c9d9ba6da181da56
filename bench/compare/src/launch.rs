//! A server that runs beside the generator, in a folder and on ports of its own.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::place::Place;
use crate::scenario::Scenario;
use crate::server::Server;

/// How long a server may take until it accepts, and how long to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(20);

/// Stopped when dropped.
pub(crate) struct Running {
    child: Child,
    dir: PathBuf,
    pub(crate) port: u16,
}

impl Running {
    /// Starts a server and waits until it accepts connections.
    pub(crate) fn start(server: &Server, scenario: &Scenario, place: &Place) -> Result<Self, String> {
        let dir = place.target.join("compare").join(&*server.name);
        empty(&dir).map_err(|e| format!("cannot make the folder {}: {e}", dir.display()))?;
        let (port, port2) = free_ports().map_err(|e| format!("no free port: {e}"))?;
        let fill = |text: &str| {
            place
                .fill(text)
                .replace("{port}", &port.to_string())
                .replace("{port2}", &port2.to_string())
                .replace("{dir}", &dir.to_string_lossy())
                .replace("{batch}", if scenario.coalesces { "0" } else { "1" })
        };
        write_files(server, &dir, fill).map_err(|e| format!("cannot write to {}: {e}", dir.display()))?;

        let log = File::create(dir.join("log")).map_err(|e| format!("cannot write to {}: {e}", dir.display()))?;
        let error_log = log.try_clone().map_err(|e| format!("cannot write to {}: {e}", dir.display()))?;
        let mut words = server.command.iter().map(|word| fill(word));
        let program = words.next().unwrap_or_default();
        let child = Command::new(&program).args(words).stdin(Stdio::null()).stdout(log).stderr(error_log).spawn();
        let child = child.map_err(|e| format!("cannot start {program}: {e}"))?;
        let mut running = Self { child, dir, port };
        running.wait_until_it_accepts()?;
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The last line that the server has written, for the message of a failure.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it has written nothing").to_owned()
    }

    fn wait_until_it_accepts(&mut self) -> Result<(), String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended with {status}: {}", self.last_words()));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "the server does not accept on {address} after {PATIENCE:?}: {}",
                    self.last_words()
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Running {
    /// How it ends is its own affair: nats-server has another status than the others.
    fn drop(&mut self) {
        // The id of one that has ended, and was waited for, may be another process's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn empty(dir: &Path) -> std::io::Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir)
}

/// The server's own file, and a certificate for whoever asks for one.
fn write_files(server: &Server, dir: &Path, fill: impl Fn(&str) -> String) -> std::io::Result<()> {
    let Some((name, text)) = server.file else { return Ok(()) };
    std::fs::write(dir.join(name), fill(text))?;
    if text.contains("cert.pem") {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).map_err(std::io::Error::other)?;
        std::fs::write(dir.join("cert.pem"), made.cert.pem())?;
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem())?;
    }
    Ok(())
}

/// Two ports that were free a moment ago.
fn free_ports() -> std::io::Result<(u16, u16)> {
    let (one, other) = (TcpListener::bind(("127.0.0.1", 0))?, TcpListener::bind(("127.0.0.1", 0))?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}
