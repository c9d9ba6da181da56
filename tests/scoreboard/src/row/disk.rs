//! Row 22: the disk below the histories is full, for publishers of the HTTP API and for a source. Nothing is acknowledged that
//! was not published, and all goes on as soon as there is room.
//!
//! The disk is one in memory, of a namespace of mounts that only the server has.

mod stream;

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::figure::{Figure, count, milliseconds};
use crate::server::{Server, ask, request};
use crate::{Finding, Setting};
use stream::Stream;

/// The size of the disk, and what is taken off it at first and given back at last.
const DISK: &str = "4m";
const RESERVE: usize = 2 << 20;

/// Of the messages that fill the disk: the first ones, and smaller ones for the last bytes.
const LARGE: usize = 20_000;
const SMALL: usize = 100;

/// What the source's stream gets meanwhile.
const ENTRIES: usize = 5;

/// All goes on so soon.
const GOES_ON_WITHIN: Duration = Duration::from_secs(15);

/// Makes a disk at `$1`, reserves a part of it, and becomes the server.
const PREPARE: &str =
    "mount -t tmpfs -o size=$0 disk \"$1\" && head -c \"$2\" /dev/zero >\"$1/reserve\" && shift 2 && exec \"$@\"";

pub(super) fn check(setting: &Setting) -> Result<Finding, String> {
    let place = Place::new()?;
    let private = ["unshare", "--user", "--map-root-user", "--mount"];
    if let Some(why) = refused(&private) {
        return Ok(Finding {
            size: format!("NOT RUN: this system gives no namespace with mounts of its own: {why}"),
            figures: Vec::new(),
        });
    }
    let stream = Stream::start()?;
    let (folder, reserve) = (place.0.display().to_string(), RESERVE.to_string());
    let command = [&private[..], &["sh", "-c", PREPARE, DISK, &folder, &reserve]].concat();
    let mut server = Server::start_through(&command, &setting.fanfare, &configuration(&folder, &stream), &[])?;
    stream.add(0);
    let works = || history(&server, "streamed").is_ok_and(|numbers| numbers == [0]);
    if !Server::wait(GOES_ON_WITHIN, works) {
        return Err(format!("the source does not work: {:?}", stream.state()));
    }

    let mut publisher = Publisher::default();
    while publisher.publish(&server, LARGE)? {}
    while publisher.publish(&server, SMALL)? {}
    for number in 1..=ENTRIES {
        stream.add(number);
    }
    for _ in 0..setting.size(50, 500) {
        publisher.publish(&server, SMALL)?;
    }
    thread::sleep(Duration::from_secs(setting.size(2, 10)));
    let kept = history(&server, "streamed")?.len();
    let (acknowledged, parked) = stream.state();
    let health = ask(server.admin(), "GET", "/api/health", "")?;
    let says_ok = u64::from(health["status"] == "ok");

    let room = format!("/proc/{}/root{folder}/reserve", server.pid());
    std::fs::remove_file(&room).map_err(|e| format!("cannot make room on the disk, {room}: {e}"))?;
    let begun = Instant::now();
    let all: Vec<usize> = (0..=ENTRIES).collect();
    let goes_on = |publisher: &mut Publisher| -> Result<bool, String> {
        Ok(publisher.publish(&server, SMALL)? && history(&server, "streamed")? == all)
    };
    while begun.elapsed() < GOES_ON_WITHIN * 2 && !goes_on(&mut publisher)? {
        thread::sleep(Duration::from_millis(100));
    }
    let again = begun.elapsed();
    let there = history(&server, "kept")?;
    server.check_alive()?;
    let lost = publisher.acknowledged.iter().filter(|number| !there.contains(number)).count();
    let refused = there.iter().filter(|number| !publisher.acknowledged.contains(number)).count();
    Ok(Finding {
        size: format!(
            "{} messages acknowledged and {} refused, {ENTRIES} entries of a stream",
            count(publisher.acknowledged.len() as u64),
            count(publisher.refused)
        ),
        figures: vec![
            Figure::exactly("acknowledged and lost", lost as u64, 0),
            Figure::exactly("refused and published", refused as u64, 0),
            Figure::exactly("refused otherwise than with 503", publisher.wrongly_refused, 0),
            Figure::exactly(
                "entries acknowledged to the stream and not published",
                acknowledged.saturating_sub(kept) as u64,
                0,
            ),
            Figure::exactly("parked", parked as u64, 0),
            Figure::exactly("health reports that said all is well", says_ok, 0),
            Figure::at_most("all went on after", again, GOES_ON_WITHIN, milliseconds),
        ],
    })
}

/// Why this system does not let a command run so.
fn refused(command: &[&str]) -> Option<String> {
    match Command::new(command[0]).args(&command[1..]).args(["sh", "-c", "mount -t tmpfs none /mnt"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn configuration(folder: &str, stream: &Stream) -> String {
    format!(
        "listen = '127.0.0.1:0'\n[[endpoint]]\n[[channel]]\ntopic = '*'\njoin = 'open'\n\
         history = {{ messages = 100000, bytes = '64MiB' }}\n[history]\ndir = '{folder}/history'\nsync = 'always'\n\
         [source.stream]\nkind = 'redis_stream'\nurl = 'redis://{}'\nchannels = 'events'\ngroup = 'fanfare'\n\
         claim_after = '1s'\npark = 'parked'\n",
        stream.address
    )
}

/// What somebody publishes by the HTTP API.
#[derive(Default)]
struct Publisher {
    next: usize,
    acknowledged: Vec<usize>,
    refused: u64,
    wrongly_refused: u64,
}

impl Publisher {
    /// Whether the next number was acknowledged.
    fn publish(&mut self, server: &Server, size: usize) -> Result<bool, String> {
        let number = self.next;
        self.next += 1;
        let payload = json!({ "n": number, "pad": "p".repeat(size) });
        let body = json!({ "topic": "kept", "event": "m", "payload": payload }).to_string();
        let answer = request(server.admin(), "POST", "/api/publish", &body, GOES_ON_WITHIN);
        let (status, _) = answer.map_err(|e| format!("no answer to message {number}: {e}"))?;
        match status {
            200 => self.acknowledged.push(number),
            _ => {
                self.refused += 1;
                self.wrongly_refused += u64::from(status != 503);
            }
        }
        Ok(status == 200)
    }
}

/// The numbers that a topic has kept.
fn history(server: &Server, topic: &str) -> Result<Vec<usize>, String> {
    let (mut numbers, mut since) = (Vec::new(), "0:0".to_owned());
    loop {
        let page = ask(server.admin(), "GET", &format!("/api/history/{topic}?since={since}&limit=1000"), "")?;
        let Some(messages) = page["messages"].as_array().filter(|messages| !messages.is_empty()) else {
            return Ok(numbers);
        };
        numbers.extend(messages.iter().filter_map(|message| message["payload"]["n"].as_u64()).map(|n| n as usize));
        let Some(last) = messages.last().and_then(|message: &Value| message["position"].as_str()) else {
            return Err(format!("a message without a position: {page}"));
        };
        since = last.to_owned();
    }
}

/// Where the disk is mounted.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("fanfare-scoreboard-{}-disk", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| format!("cannot make {}: {e}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
