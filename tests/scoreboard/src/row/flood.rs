//! Row 18: publishers send as fast as they can to members who read nothing, by HTTP and by a socket. What the server cannot
//! do at once has to wait with the publishers, and nobody else waits with them.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Client, Dial, Received, TEXT, frame};
use crate::figure::{Figure, mebibytes, milliseconds};
use crate::others::{Others, is_quiet, undisturbed};
use crate::probe::{Answers, Probe};
use crate::server::{Server, request};
use crate::{Finding, Setting};

const TOPIC: &str = "room:flood";

/// One request of a publisher, and how many such publishers there are.
const MESSAGES: usize = 1_000;
const PUBLISHERS: usize = 2;

/// What the whole process may have, with the members' outboxes full. The flood is ended where it takes four times as much, so
/// that the machine of the check lives on.
const MEMORY_MAX: u64 = 150 << 20;

/// How long everybody else goes on after the flood: what was let in may still be waiting.
const AFTER: Duration = Duration::from_secs(2);

const LOOK: Duration = Duration::from_millis(20);

/// What a member's kernel takes.
const RECEIVE_BUFFER: usize = 4096;

/// The members' outboxes are small, so that the messages that wait elsewhere are what is measured.
const CONFIGURATION: &str = r#"
listen = "127.0.0.1:0"
shards = 2
[limits]
outbox_frames_max = 1000
outbox_bytes_max = "100KB"
write_timeout = "600s"
ping_rate = 1000
[[endpoint]]
path = "/socket"
idle_timeout = "5s"
[[channel]]
topic = "room:*"
join = "open"
publish = "open"
reply = false
slow = "drop_oldest"
"#;

pub(super) fn check(setting: &Setting) -> Result<Finding, String> {
    let members = setting.size(50, 200);
    let time = setting.size(Duration::from_secs(2), Duration::from_secs(10));
    let (mut figures, mut busy) = (Vec::new(), 0);
    for (name, publish) in [("by HTTP", by_http as Publish), ("by a socket", by_socket)] {
        let flooded = || flood(setting, name, publish, members, time);
        let flood = undisturbed(setting.size(1, 3), flooded, |flood| flood.others)?;
        busy += usize::from(!is_quiet(flood.others));
        figures.extend(flood.figures);
    }
    let size =
        format!("{members} members who do not read, {time:?} of each flood, {busy} of 2 beside busy other programs");
    Ok(Finding { size, figures })
}

/// What came of one flood, and what other programs kept busy meanwhile, in cores.
struct Flood {
    figures: Vec<Figure>,
    others: f64,
}

/// Starts publishers; each goes on until it is told to stop.
type Publish = fn(&Server, &Arc<AtomicBool>) -> Result<Vec<JoinHandle<()>>, String>;

fn flood(setting: &Setting, name: &str, publish: Publish, members: usize, time: Duration) -> Result<Flood, String> {
    let mut server = Server::start_as(&setting.fanfare, CONFIGURATION, &[])?;
    let silent = silent_members(server.address, members)?;
    // One on each shard.
    let healthy = [heartbeats(server.address)?, heartbeats(server.address)?];
    let admin = server.admin();
    let topics = Probe::start(move || {
        request(admin, "GET", "/api/topics", "", Duration::from_secs(30)).is_ok_and(|(status, _)| status == 200)
    });
    let look = || Others::look(&[server.pid()]);
    let before = look()?;
    let stop = Arc::new(AtomicBool::new(false));
    let publishers = publish(&server, &stop)?;
    let memory = watch(&server, time, &stop);
    for publisher in publishers {
        publisher.join().map_err(|_| "a publisher panicked")?;
    }
    let others = before.until(&look()?);
    let [one, other] = healthy.map(Probe::stop);
    let (healthy, topics) = (one?.and(other?), topics.stop()?);
    server.check_alive()?;
    drop(silent);
    // Busy neighbours of the check take the machine for longer than the server does.
    let wait_max = setting.size(Duration::from_millis(500), Duration::from_millis(100));
    let waits = |who: &str, answers: &Answers| {
        [
            Figure::at_most(&format!("{who} waited"), answers.worst, wait_max, milliseconds),
            Figure::exactly("failed", answers.failed, 0),
        ]
    };
    let mut figures = vec![Figure::at_most(&format!("{name} memory"), memory, MEMORY_MAX, mebibytes)];
    figures.extend(waits("heartbeats of two clients", &healthy));
    figures.extend(waits("requests to the API", &topics));
    Ok(Flood { figures, others })
}

/// The most memory that the server has, during the flood and for some time after it.
fn watch(server: &Server, time: Duration, stop: &AtomicBool) -> u64 {
    let mut most = 0;
    let begun = Instant::now();
    while begun.elapsed() < time + AFTER {
        most = most.max(server.memory());
        if begun.elapsed() > time || most > MEMORY_MAX * 4 {
            stop.store(true, Ordering::Relaxed);
        }
        thread::sleep(LOOK);
    }
    stop.store(true, Ordering::Relaxed);
    most
}

fn member(address: SocketAddr, dial: Dial) -> Result<Client, String> {
    let joined = Client::phoenix(address, dial).and_then(|mut client| client.join(TOPIC).map(|()| client));
    joined.map_err(|e| format!("cannot join {TOPIC}: {e}"))
}

/// Members that read nothing, all on one shard: every other client is none.
fn silent_members(address: SocketAddr, count: usize) -> Result<Vec<Client>, String> {
    let dial = Dial { receive_buffer: Some(RECEIVE_BUFFER), abrupt: true, ..Dial::default() };
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::phoenix(address, dial).map_err(|e| format!("cannot connect: {e}"))?);
        clients.push(member(address, dial)?);
    }
    Ok(clients)
}

/// A client of another topic, which does all that it should.
fn heartbeats(address: SocketAddr) -> Result<Probe, String> {
    let joined =
        Client::phoenix(address, Dial::default()).and_then(|mut client| client.join("room:calm").map(|()| client));
    let mut client = joined.map_err(|e| format!("cannot join another topic: {e}"))?;
    Ok(Probe::start(move || client.heartbeat().is_ok()))
}

fn by_http(server: &Server, stop: &Arc<AtomicBool>) -> Result<Vec<JoinHandle<()>>, String> {
    let message = json!({ "topic": TOPIC, "event": "flood", "payload": { "body": "x".repeat(100) } });
    let body = json!({ "messages": vec![message; MESSAGES] }).to_string();
    let publisher = |_| {
        let (admin, body, stop) = (server.admin(), body.clone(), stop.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // Refused or not, it goes on.
                let _ = request(admin, "POST", "/api/publish", &body, Duration::from_secs(60));
            }
        })
    };
    Ok((0..PUBLISHERS).map(publisher).collect())
}

/// Members that push, and read what comes of it: one on each shard.
fn by_socket(server: &Server, stop: &Arc<AtomicBool>) -> Result<Vec<JoinHandle<()>>, String> {
    let mut threads = Vec::new();
    for _ in 0..PUBLISHERS {
        let client = member(server.address, Dial::default())?;
        let stream = client.stream().try_clone().map_err(|e| format!("cannot share a connection: {e}"))?;
        let stop = stop.clone();
        threads.push(thread::spawn(move || push(stream, &stop)));
        threads.push(thread::spawn(move || {
            let mut client = client;
            while !matches!(client.receive(), Ok(Received::End) | Err(_)) {}
        }));
    }
    Ok(threads)
}

/// Pushes what the connection takes, and ends it at last.
fn push(mut stream: TcpStream, stop: &AtomicBool) {
    let push = json!([TOPIC, null, TOPIC, "flood", { "body": "x".repeat(60) }]).to_string();
    let pushes = frame(TEXT, push.as_bytes()).repeat(MESSAGES / 2);
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        match stream.write(&pushes[at..]) {
            Ok(written) => at = (at + written) % pushes.len(),
            // It waits as it should.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}
