//! `fanfare serve` beside a check: how it is, and what it has said.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long the server may take to start, and to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long an answer may take where its time is not what is checked.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);

const TOKEN: &str = "a token for the scoreboard";

const COMMON: &str = r#"
[admin]
listen = "127.0.0.1:0"
token = "a token for the scoreboard"
[log]
format = "json"
"#;

/// All protocols, any topic, and clients that err and join as often as they like.
const CONFIGURATION: &str = r#"
[limits]
join_rate = 1000000
join_burst = 10000000
error_rate = 1000000
error_burst = 10000000
ping_rate = 1000000
ping_burst = 10000000
[[channel]]
topic = "room:*"
join = "open"
publish = "open"
presence = true
[[channel]]
topic = "*"
join = "open"
publish = "open"
[[endpoint]]
path = "/socket"
idle_timeout = "{idle_timeout}"
[[endpoint]]
path = "/rooms"
protocol = "rooms"
acks = true
idle_timeout = "{idle_timeout}"
[[endpoint]]
path = "/hub"
protocol = "hub"
auth = "none"
wait_for_topic = true
grace = "{idle_timeout}"
idle_timeout = "{idle_timeout}"
[[endpoint]]
path = "/bullet"
protocol = "bullet"
auth = "none"
idle_timeout = "{idle_timeout}"
"#;

/// A running server. Killed when dropped: none of its clients is told, and nothing is waited for.
pub(crate) struct Server {
    child: Child,
    file: PathBuf,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    said: Arc<Mutex<Vec<Said>>>,
}

/// A line of its log that a check may ask for.
struct Said {
    at: Instant,
    line: Value,
}

/// A socket that was closed because it did not read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowReader {
    pub(crate) at: Instant,
    /// What waited for it, in bytes.
    pub(crate) queued: u64,
}

impl Server {
    /// Starts a server with all protocols at `/socket`, `/rooms`, `/hub` and `/bullet`, defaults for everything else, and
    /// waits until it listens.
    pub(crate) fn start(fanfare: &Path) -> Result<Self, String> {
        Self::start_with(fanfare, "60s", &[])
    }

    /// The same, with another `idle_timeout` than the default, in TOML, and variables of the environment.
    pub(crate) fn start_with(fanfare: &Path, idle_timeout: &str, environment: &[(&str, &str)]) -> Result<Self, String> {
        let rest = CONFIGURATION.replace("{idle_timeout}", idle_timeout);
        Self::start_as(fanfare, &format!("listen = \"127.0.0.1:0\"\n{rest}"), environment)
    }

    /// The same with a configuration of its own, apart from the HTTP API and the log.
    pub(crate) fn start_as(fanfare: &Path, configuration: &str, environment: &[(&str, &str)]) -> Result<Self, String> {
        Self::start_through(&[], fanfare, configuration, environment)
    }

    /// The same through a command that prepares something and then becomes what its further arguments name.
    pub(crate) fn start_through(
        command: &[&str],
        fanfare: &Path,
        configuration: &str,
        environment: &[(&str, &str)],
    ) -> Result<Self, String> {
        let file = std::env::temp_dir().join(format!("fanfare-scoreboard-{}.toml", std::process::id()));
        std::fs::write(&file, format!("{configuration}{COMMON}"))
            .map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        let words = command.iter().map(OsStr::new).chain([fanfare.as_os_str(), OsStr::new("serve")]);
        let words: Vec<&OsStr> = words.collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("--config").arg(&file).envs(environment.iter().copied());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.map_err(|e| format!("cannot start {}: {e}", fanfare.display()))?;
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let said = Arc::new(Mutex::new(Vec::new()));
        listen(stdout, said.clone());
        listen(stderr, said.clone());
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { child, file, address: nowhere, admin: nowhere, said };
        let deadline = Instant::now() + PATIENCE;
        while server.address == nowhere || server.admin == nowhere {
            server.address = server.address_after("serve: listening on http://").unwrap_or(nowhere);
            server.admin = server.address_after("the HTTP API listens on http://").unwrap_or(nowhere);
            server.check_alive()?;
            if Instant::now() > deadline {
                return Err(format!("{} says no address in {PATIENCE:?}", fanfare.display()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    fn address_after(&self, words: &str) -> Option<SocketAddr> {
        let said = self.said.lock().expect("nothing panics with the lock held");
        said.iter().find_map(|said| said.line["message"].as_str()?.split_once(words)?.1.parse().ok())
    }

    /// It has not ended.
    ///
    /// # Errors
    /// Says how it has, and what it said last.
    pub(crate) fn check_alive(&mut self) -> Result<(), String> {
        let ended = self.child.try_wait().map_err(|e| format!("cannot tell whether the server runs: {e}"))?;
        let Some(status) = ended else { return Ok(()) };
        let last =
            self.said.lock().expect("nothing panics with the lock held").last().map(|said| said.line.to_string());
        Err(format!("the server has ended with {status}; its last words: {}", last.unwrap_or_default()))
    }

    /// How many lines it has written.
    pub(crate) fn lines(&self) -> u64 {
        self.said.lock().expect("nothing panics with the lock held").len() as u64
    }

    /// How often it has said of itself that it panicked.
    pub(crate) fn panics(&self) -> u64 {
        let said = self.said.lock().expect("nothing panics with the lock held");
        said.iter().filter(|said| said.line.to_string().contains("panicked")).count() as u64
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has counted since its start.
    pub(crate) fn counter(&self, name: &str, reason: &str) -> Result<u64, String> {
        let answer = ask(self.admin, "GET", "/api/counters", "")?;
        let mut counters = answer["counters"].as_array().into_iter().flatten();
        let counter = counters.find(|counter| counter["name"] == name && counter["reason"] == reason);
        let value = counter.and_then(|counter| counter["value"].as_u64());
        value.ok_or_else(|| format!("there is no counter {name} {reason}: {answer}"))
    }

    /// The CPU time that it has taken.
    pub(crate) fn cpu(&self) -> Result<Duration, String> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.pid() as i32)).and_then(ClockId::now);
        clock.map(Duration::from).map_err(|e| format!("cannot tell the server's CPU time: {e}"))
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// How many files and sockets it has open.
    pub(crate) fn descriptors(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, |entries| entries.count() as u64)
    }

    /// Waits until something is so, and says whether it was in time.
    pub(crate) fn wait(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        while !is_so() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        true
    }

    /// The sockets that it has closed because they did not read, up to now.
    pub(crate) fn slow_readers(&self) -> Vec<SlowReader> {
        let said = self.said.lock().expect("nothing panics with the lock held");
        let slow = said.iter().filter(|said| said.line["event"] == "closed" && said.line["reason"] == "slow_consumer");
        // The detail begins with what waited: "8000123 bytes in 1000 frames waited for the client …".
        let queued = |line: &Value| line["detail"].as_str()?.split(' ').next()?.parse().ok();
        slow.map(|said| SlowReader { at: said.at, queued: queued(&said.line).unwrap_or(u64::MAX) }).collect()
    }

    /// Publishes a message of so many bytes.
    pub(crate) fn publish(&self, topic: &str, size: usize) -> Result<(), String> {
        let message = json!({ "topic": topic, "event": "fill", "payload": { "body": "x".repeat(size) } });
        match ask(self.admin, "POST", "/api/publish", &message.to_string())?["published"] == 1 {
            true => Ok(()),
            false => Err("the server has not published".into()),
        }
    }

    /// Where its HTTP API is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Lets it end as an operator would.
    ///
    /// # Errors
    /// It ends otherwise, or not in time.
    pub(crate) fn terminate(mut self) -> Result<(), String> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)
            .map_err(|e| format!("cannot tell it to end: {e}"))?;
        let mut status = None;
        Self::wait(PATIENCE, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the server has ended with {status}")),
            None => Err(format!("the server has not ended in {PATIENCE:?}")),
        }
    }
}

/// A request to the HTTP API of a server.
pub(crate) fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> Result<Value, String> {
    let answer =
        request(admin, method, path, body, ANSWER_PATIENCE).and_then(|(_, body)| Ok(serde_json::from_str(&body)?));
    answer.map_err(|e| format!("{method} {path} of the server: {e}"))
}

/// The same for whoever wants to see the status, and has less time.
pub(crate) fn request(
    admin: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\nconnection: close");
    stream.write_all(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}

impl Drop for Server {
    fn drop(&mut self) {
        // The id of one that has ended, and was waited for, may be another process's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
            let _ = self.child.wait();
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Keeps every line: those that clients can cause at will are limited by the server. Lines that are no JSON become a message.
fn listen(output: impl Read + Send + 'static, said: Arc<Mutex<Vec<Said>>>) {
    thread::spawn(move || {
        for text in BufReader::new(output).lines().map_while(Result::ok) {
            let line = serde_json::from_str(&text).unwrap_or_else(|_| json!({ "message": text }));
            said.lock().expect("nothing panics with the lock held").push(Said { at: Instant::now(), line });
        }
    });
}
