//! A Redis that knows one stream and one consumer group: it tells what was acknowledged to it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::json;

/// Of the stream's messages, as the source hands them on.
const TOPIC: &str = "streamed";

pub(super) struct Stream {
    pub(super) address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Entry>,
    parked: usize,
}

struct Entry {
    number: usize,
    is_delivered: bool,
    is_acknowledged: bool,
}

impl Stream {
    pub(super) fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (address, listener) = listener.map_err(|e| format!("cannot listen for the source: {e}"))?;
        let log = Arc::new(Mutex::new(Log::default()));
        let served = log.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = served.clone();
                // A connection ends with whoever made it.
                thread::spawn(move || serve(stream, &log));
            }
        });
        Ok(Self { address, log })
    }

    /// Adds an entry with this number.
    pub(super) fn add(&self, number: usize) {
        lock(&self.log).entries.push(Entry { number, is_delivered: false, is_acknowledged: false });
    }

    /// How many entries were acknowledged, and how many parked.
    pub(super) fn state(&self) -> (usize, usize) {
        let log = lock(&self.log);
        (log.entries.iter().filter(|entry| entry.is_acknowledged).count(), log.parked)
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().expect("nothing panics with the lock held")
}

fn serve(stream: TcpStream, log: &Mutex<Log>) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let command = read_command(&mut reader)?;
        writer.write_all(answer(&command, log).as_bytes())?;
    }
}

/// A list of strings, which is what every command is.
fn read_command(reader: &mut impl BufRead) -> io::Result<Vec<String>> {
    let words = read_number(reader, '*')?;
    let mut command = Vec::new();
    for _ in 0..words {
        let mut word = vec![0; read_number(reader, '$')? + 2];
        reader.read_exact(&mut word)?;
        word.truncate(word.len() - 2);
        command.push(String::from_utf8_lossy(&word).into_owned());
    }
    Ok(command)
}

fn read_number(reader: &mut impl BufRead, kind: char) -> io::Result<usize> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let number = line.trim_end().strip_prefix(kind).and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("{line:?} in a command")))
}

fn answer(command: &[String], log: &Mutex<Log>) -> String {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let is_new = |entry: &Entry| !entry.is_delivered;
    let is_pending = |entry: &Entry| entry.is_delivered && !entry.is_acknowledged;
    match words.as_slice() {
        ["XINFO", ..] => "*0\r\n".to_owned(),
        ["XREADGROUP", .., from] => {
            let entries = if *from == ">" { deliver(log, is_new) } else { deliver(log, is_pending) };
            match entries.as_str() {
                "*0\r\n" if *from == ">" => {
                    thread::sleep(Duration::from_millis(100));
                    "*-1\r\n".to_owned()
                }
                entries => format!("*1\r\n*2\r\n{}{entries}", bulk("events")),
            }
        }
        ["XAUTOCLAIM", ..] => format!("*3\r\n{}{}*0\r\n", bulk("0-0"), deliver(log, is_pending)),
        ["XACK", _, _, ids @ ..] => {
            let mut log = lock(log);
            for entry in &mut log.entries {
                entry.is_acknowledged |= ids.contains(&id(entry).as_str());
            }
            format!(":{}\r\n", ids.len())
        }
        ["XADD", ..] => {
            lock(log).parked += 1;
            bulk("1-0")
        }
        ["PING", ..] => "+PONG\r\n".to_owned(),
        _ => "+OK\r\n".to_owned(),
    }
}

/// Those entries, which are the consumer's from now on.
fn deliver(log: &Mutex<Log>, which: impl Fn(&Entry) -> bool) -> String {
    let mut log = lock(log);
    let chosen: Vec<String> = log
        .entries
        .iter_mut()
        .filter(|entry| which(entry))
        .map(|entry| {
            entry.is_delivered = true;
            let data =
                json!({ "topic": TOPIC, "event": "m", "payload": { "n": entry.number, "pad": "p".repeat(20_000) } });
            format!("*2\r\n{}*2\r\n{}{}", bulk(&id(entry)), bulk("data"), bulk(&data.to_string()))
        })
        .collect();
    format!("*{}\r\n{}", chosen.len(), chosen.concat())
}

fn id(entry: &Entry) -> String {
    format!("{}-0", entry.number + 1)
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}
