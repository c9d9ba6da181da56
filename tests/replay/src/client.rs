//! One WebSocket connection: frames out as they are asked for, and what comes in on a queue with the time of its arrival.

use crate::http::{self, Request, Response};
use crate::run::Incoming;
use crate::script::SentFrame;
use crate::websocket::{self, Received};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A connection after its upgrade, whether the server agreed to it or not.
pub(crate) struct Connection {
    stream: TcpStream,
    /// For whole frames: the reader answers pings while the player sends.
    writer: Arc<Mutex<TcpStream>>,
    arrivals: Receiver<Arrival>,
    returned: Option<Arrival>,
    /// When the client sent its last frame; the upgrade counts as one.
    pub(crate) last_sent: Instant,
    /// Nothing more is to be played on it.
    pub(crate) over: bool,
}

/// What came, and when.
pub(crate) struct Arrival {
    pub(crate) incoming: Incoming,
    pub(crate) at: Instant,
}

impl Connection {
    /// Asks for an upgrade. `headers` replace default ones, or take them away where they have no value. A refusal is no
    /// error but a response.
    pub(crate) fn open(
        port: u16,
        path: &str,
        headers: &[(String, Option<String>)],
    ) -> io::Result<(Connection, Response)> {
        let headers = upgrade_headers(headers);
        let key = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).cloned();
        let stream = http::connect(port)?;
        let request = Request { method: "GET".into(), path: path.into(), headers, body: None };
        (&stream).write_all(&http::encode(port, &request))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let response = http::read_response(&mut reader, false)?;

        let (sender, arrivals) = channel();
        let writer = Arc::new(Mutex::new(stream.try_clone()?));
        let upgraded = response.status == 101;
        if upgraded {
            stream.set_read_timeout(None)?;
            if let Some(fault) = handshake_fault(&response, key.as_ref().map_or("", |(_, key)| key)) {
                let incoming = Incoming::Violation(fault);
                sender.send(Arrival { incoming, at: Instant::now() }).ok();
            }
            let extensions = response.header("sec-websocket-extensions").unwrap_or_default();
            let reader = websocket::Reader::new(reader, &extensions);
            let writer = writer.clone();
            std::thread::spawn(move || read(reader, &writer, &sender));
        }
        let last_sent = Instant::now();
        Ok((Connection { stream, writer, arrivals, returned: None, last_sent, over: !upgraded }, response))
    }

    /// Sends a frame. If the server has closed already, what it sent before tells; so there is no error.
    pub(crate) fn send(&mut self, frame: &SentFrame) {
        write(&self.writer, frame);
        self.last_sent = Instant::now();
    }

    /// The next arrival, if there is one within `patience`.
    pub(crate) fn receive(&mut self, patience: Duration) -> Option<Arrival> {
        self.returned.take().or_else(|| self.arrivals.recv_timeout(patience).ok())
    }

    /// Puts back what was not for the one who received it.
    pub(crate) fn give_back(&mut self, arrival: Arrival) {
        self.returned = Some(arrival);
    }

    /// Drops the connection without a close frame.
    pub(crate) fn abort(&mut self) {
        self.stream.shutdown(Shutdown::Both).ok();
        self.over = true;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The reader holds the socket too, and ends with this.
        self.stream.shutdown(Shutdown::Both).ok();
    }
}

fn upgrade_headers(changes: &[(String, Option<String>)]) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "cmVwbGF5IHRyYW5zY3JpcA=="),
        ("sec-websocket-version", "13"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for (name, value) in changes {
        headers.retain(|(default, _)| !default.eq_ignore_ascii_case(name));
        headers.extend(value.clone().map(|value| (name.clone(), value)));
    }
    headers
}

/// What is wrong with a 101, if anything.
fn handshake_fault(response: &Response, key: &str) -> Option<String> {
    let accept = STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
    let header = |name| response.header(name).unwrap_or_default();
    if header("sec-websocket-accept") != accept {
        return Some(format!("Sec-WebSocket-Accept {:?} instead of {accept:?}", header("sec-websocket-accept")));
    }
    let upgrades = header("upgrade").eq_ignore_ascii_case("websocket")
        && header("connection").split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    (!upgrades).then(|| "101 without the headers Upgrade and Connection".to_owned())
}

fn read(mut reader: websocket::Reader<BufReader<TcpStream>>, writer: &Mutex<TcpStream>, arrivals: &Sender<Arrival>) {
    loop {
        let incoming = match reader.next() {
            Ok(Received::Ping(payload)) => {
                write(writer, &SentFrame { opcode: 10, payload, fin: true, rsv: 0, masked: true });
                continue;
            }
            Ok(Received::Incoming(incoming)) => incoming,
            Err(_) => Incoming::End,
        };
        let last = matches!(incoming, Incoming::End | Incoming::Violation(_));
        if arrivals.send(Arrival { incoming, at: Instant::now() }).is_err() || last {
            return;
        }
    }
}

fn write(writer: &Mutex<TcpStream>, frame: &SentFrame) {
    // A connection that the server closed is noticed by the reader.
    writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&websocket::encode(frame)).ok();
}
