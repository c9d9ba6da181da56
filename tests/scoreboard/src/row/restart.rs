//! Rows 5 and 14: the server restarts under many clients, which come back as phoenix.js does and resume. A publisher
//! goes on all the while, and repeats what was not answered; each client must see every number of its topic once and in
//! order.
//!
//! Row 5 drains the server; row 14 kills it, so that all clients come back at once. They come with API keys of a
//! database, which the new server has to look up.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::client::{TEXT, frame, upgrade};
use crate::figure::{Figure, count, milliseconds};
use crate::server::{Server, ask};
use crate::{Finding, Setting};

pub(super) const TOPICS: u64 = 100;

/// Clients share them.
const KEYS: u64 = 10;

/// Between two numbers of a topic.
const PAUSE: Duration = Duration::from_millis(250);

/// How long it goes on before the restart, and after all are back.
const CALM: Duration = Duration::from_secs(2);

/// How long a drain may take, in the configuration and for the check.
const DRAIN: Duration = Duration::from_secs(3);

/// All are to be back so soon after the server has begun to listen.
const ALL_BACK: Duration = Duration::from_secs(5);

/// Nothing takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// phoenix.js waits for so long before it connects again, and then for 5 s each time.
const BACKOFF_MS: [u64; 9] = [10, 50, 100, 150, 200, 250, 500, 1_000, 2_000];

pub(super) fn drained(setting: &Setting) -> Result<Finding, String> {
    let outcome = run(setting, true)?;
    let mut figures = vec![
        Figure::exactly("closed with 1012", outcome.closed_1012, outcome.clients),
        Figure::at_most("drained in", outcome.down, DRAIN, milliseconds),
    ];
    figures.extend(outcome.deliveries());
    Ok(Finding { size: outcome.size(), figures })
}

pub(super) fn storm(setting: &Setting) -> Result<Finding, String> {
    let outcome = run(setting, false)?;
    // Each key is looked up once, and all are checked together, at the start and every other second.
    let queries_max = KEYS + 1 + outcome.back.as_secs() / 2;
    let mut figures = vec![
        Figure::at_most("all back in", outcome.back, ALL_BACK, milliseconds),
        Figure::at_most(&format!("database reads for clients with {KEYS} keys"), outcome.queries, queries_max, count),
    ];
    figures.extend(outcome.deliveries());
    Ok(Finding { size: outcome.size(), figures })
}

struct Outcome {
    clients: u64,
    published: u64,
    closed_1012: u64,
    down: Duration,
    back: Duration,
    /// Of the database, while they came back.
    queries: u64,
    tally: Arc<Tally>,
}

impl Outcome {
    fn size(&self) -> String {
        format!("{} clients on {TOPICS} topics, {} messages to each", count(self.clients), count(self.published))
    }

    fn deliveries(&self) -> [Figure; 3] {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            Figure::exactly("messages lost", number(&self.tally.lost), 0),
            Figure::exactly("doubled", number(&self.tally.doubled), 0),
            Figure::exactly("clients told of a gap", number(&self.tally.gaps), 0),
        ]
    }
}

/// What the clients have seen.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) joined: AtomicU64,
    closed_1012: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) doubled: AtomicU64,
    pub(super) gaps: AtomicU64,
    /// Clients that have the last number.
    pub(super) done: AtomicU64,
    /// The last number, once it is known; 0 before.
    pub(super) last: AtomicU64,
}

fn run(setting: &Setting, drains: bool) -> Result<Outcome, String> {
    let clients = setting.size(1_000, 10_000);
    let folder = Folder::new("restart");
    let configuration = |listen: SocketAddr| {
        format!(
            "listen = '{listen}'\ndrain = '{}ms'\n[history]\ndir = {:?}\n[keys.clients]\nstore = 'sqlite'\npath = {:?}\n\
             [auth.keys]\nkind = 'apikeys'\nkeys = 'clients'\n[[endpoint]]\nauth = 'keys'\n\
             [[channel]]\ntopic = 'n:*'\njoin = 'open'\nhistory = {{ messages = 1000 }}\n",
            DRAIN.as_millis(),
            folder.0.join("history"),
            folder.0.join("keys.db")
        )
    };
    let keys = make_keys(setting, &folder.0, &configuration(SocketAddr::from(([127, 0, 0, 1], 0))))?;
    let server = Server::start_as(&setting.fanfare, &configuration(SocketAddr::from(([127, 0, 0, 1], 0))), &[])?;
    let (address, admin) = (server.address, Arc::new(Mutex::new(server.admin())));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    let tally = Arc::new(Tally::default());
    for number in 0..clients {
        let (topic, key) = (format!("n:{}", number % TOPICS), keys[(number % KEYS) as usize].clone());
        let client = Client { address, key, topic, tally: tally.clone(), seen: 0 };
        runtime.spawn(client.live());
    }
    let all_in = |more: u64| tally.joined.load(Ordering::Relaxed) >= clients * more;
    if !Server::wait(PATIENCE, || all_in(1)) {
        return Err(format!("{} of {clients} clients have joined", tally.joined.load(Ordering::Relaxed)));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = publish(admin.clone(), stop.clone());
    thread::sleep(CALM);

    let begun = Instant::now();
    if drains {
        server.terminate()?
    } else {
        drop(server)
    }
    let down = begun.elapsed();
    let server = Server::start_as(&setting.fanfare, &configuration(address), &[])?;
    let started = Instant::now();
    *admin.lock().expect("nothing panics with the lock held") = server.admin();
    if !Server::wait(PATIENCE, || all_in(2)) {
        return Err(format!("{} clients of {clients} came back", tally.joined.load(Ordering::Relaxed) - clients));
    }
    let back = started.elapsed();
    let queries = server.counter("stores.clients", "queries")?;
    thread::sleep(CALM);
    stop.store(true, Ordering::Relaxed);
    let last = publisher.join().map_err(|_| "the publisher panicked")? + 1;
    tally.last.store(last, Ordering::Relaxed);
    publish_number(server.admin(), last);
    // Who is waiting for a number that was lost waits in vain, and is counted below.
    Server::wait(CALM * 5, || tally.done.load(Ordering::Relaxed) == clients);
    let missing = clients - tally.done.load(Ordering::Relaxed);
    tally.lost.fetch_add(missing, Ordering::Relaxed);
    runtime.shutdown_background();
    let closed_1012 = tally.closed_1012.load(Ordering::Relaxed);
    Ok(Outcome { clients, published: last, closed_1012, down, back, queries, tally })
}

/// Makes the keys by which clients are let in.
fn make_keys(setting: &Setting, folder: &Path, configuration: &str) -> Result<Vec<String>, String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let file = folder.join("fanfare.toml");
    std::fs::write(&file, configuration).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
    let apikey = |what: &str| {
        let output = Command::new(&setting.fanfare).args(["apikey", what, "--config"]).arg(&file).output();
        let output = output.map_err(|e| format!("cannot run fanfare apikey {what}: {e}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(format!("fanfare apikey {what}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        }
    };
    apikey("migrate")?;
    (0..KEYS).map(|_| apikey("add")).collect()
}

/// Publishes numbers to all topics until it is told to stop, each until it is acknowledged: the last number.
pub(super) fn publish(admin: Arc<Mutex<SocketAddr>>, stop: Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            n += 1;
            while !publish_number(*admin.lock().expect("nothing panics with the lock held"), n) {
                thread::sleep(Duration::from_millis(50));
            }
            thread::sleep(PAUSE);
        }
        n
    })
}

/// Whether all topics were given a number, or had it.
pub(super) fn publish_number(admin: SocketAddr, n: u64) -> bool {
    let (payload, key) = (json!({ "n": n }), n.to_string());
    let message =
        |topic: u64| json!({ "topic": format!("n:{topic}"), "event": "n", "payload": payload, "idempotency_key": key });
    let messages: Vec<Value> = (0..TOPICS).map(message).collect();
    let answer = ask(admin, "POST", "/api/publish", &json!({ "messages": messages }).to_string());
    answer.is_ok_and(|answer| answer["error"].is_null() && answer["published"].is_u64())
}

pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) key: String,
    pub(super) topic: String,
    pub(super) tally: Arc<Tally>,
    /// The last number.
    pub(super) seen: u64,
}

impl Client {
    /// Connects for ever.
    pub(super) async fn live(mut self) {
        let (mut attempts, mut position) = (0, json!(true));
        loop {
            if let Ok(mut stream) = self.connect().await {
                attempts = 0;
                // However it ends, it is opened again.
                let _ = self.follow(&mut stream, &mut position).await;
            }
            let pause_ms = BACKOFF_MS.get(attempts).copied().unwrap_or(5_000);
            attempts += 1;
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    async fn connect(&self) -> std::io::Result<BufReader<TcpStream>> {
        let mut stream = BufReader::with_capacity(1_024, TcpStream::connect(self.address).await?);
        let target = format!("/socket/websocket?vsn=2.0.0&token={}", self.key);
        stream.write_all(upgrade(self.address, &target).as_bytes()).await?;
        let (mut line, mut is_first) = (String::new(), true);
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line).await? == 0 || (is_first && !line.contains(" 101 ")) {
                return Err(std::io::Error::other("not upgraded"));
            }
            is_first = false;
        }
        Ok(stream)
    }

    async fn follow(&mut self, stream: &mut BufReader<TcpStream>, position: &mut Value) -> std::io::Result<()> {
        let join = json!(["1", "1", self.topic, "phx_join", { "resume": position }]);
        stream.write_all(&frame(TEXT, join.to_string().as_bytes())).await?;
        loop {
            let (opcode, payload) = read(stream).await?;
            match opcode {
                1 => self.hear(&serde_json::from_slice(&payload)?, position),
                8 => {
                    let is_drain = payload.get(..2) == Some(&1012_u16.to_be_bytes());
                    self.tally.closed_1012.fetch_add(u64::from(is_drain), Ordering::Relaxed);
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, message: &Value, position: &mut Value) {
        match message[3].as_str() {
            Some("phx_reply") => {
                let resume = &message[4]["response"]["resume"];
                self.tally.gaps.fetch_add(u64::from(resume["recovered"] != true), Ordering::Relaxed);
                *position = resume["position"].clone();
                self.tally.joined.fetch_add(1, Ordering::Relaxed);
            }
            Some("n") => {
                let n = message[4]["n"].as_u64().unwrap_or_default();
                *position = message[1].clone();
                match n.checked_sub(self.seen + 1) {
                    Some(missing) => {
                        self.tally.lost.fetch_add(missing, Ordering::Relaxed);
                        self.seen = n;
                    }
                    None => _ = self.tally.doubled.fetch_add(1, Ordering::Relaxed),
                }
            }
            _ => {}
        }
        if message[4]["n"].as_u64() == Some(self.tally.last.load(Ordering::Relaxed)) {
            self.tally.done.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A frame of a server's: its opcode and payload.
async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await?;
    let len = match head[1] {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        len => u64::from(len),
    };
    let mut payload = vec![0; len as usize];
    stream.read_exact(&mut payload).await?;
    Ok((head[0] & 15, payload))
}

/// Where the server keeps its history and its keys.
pub(super) struct Folder(pub(super) std::path::PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fanfare-scoreboard-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
