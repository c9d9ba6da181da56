//! Row 21: clients vanish as behind a cable that was cut: no end of the connection, no reset, no acknowledgement any more. A
//! filter on their sockets drops all that comes, so that neither rights nor other machines are needed.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{SockFilter, SockRef};

use crate::client::{Client, Dial, TEXT, frame};
use crate::figure::{Figure, milliseconds};
use crate::server::{Server, ask};
use crate::{Finding, Setting};

/// In the configuration below.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const VANISHED_TIMEOUT: Duration = Duration::from_secs(5);

/// The return instruction of the packet filter, and how much of a packet to let through.
const RETURN: u16 = 0x06;
const NOTHING: u32 = 0;

const CONFIGURATION: &str = r#"
listen = "127.0.0.1:0"
[limits]
write_timeout = "3s"
vanished_timeout = "5s"
[[endpoint]]
path = "/socket"
idle_timeout = "4s"
[[endpoint]]
path = "/rooms"
protocol = "rooms"
idle_timeout = "4s"
[[endpoint]]
path = "/events"
protocol = "sse"
idle_timeout = "4s"
[[channel]]
topic = "*"
join = "open"
publish = "open"
"#;

/// How each client comes to its topic. Those of a quiet topic get nothing but signs of life.
const CLIENTS: &[(&str, Kind)] = &[
    ("busy:phoenix", Kind::Phoenix),
    ("quiet:phoenix", Kind::Phoenix),
    ("busy:rooms", Kind::Rooms),
    ("quiet:rooms", Kind::Rooms),
    ("busy:sse", Kind::Stream("text/event-stream")),
    ("quiet:sse", Kind::Stream("text/event-stream")),
    ("busy:lines", Kind::Stream("application/x-ndjson")),
    ("quiet:lines", Kind::Stream("application/x-ndjson")),
];

#[derive(Clone, Copy)]
enum Kind {
    Phoenix,
    Rooms,
    /// Over plain HTTP, with this header `accept`.
    Stream(&'static str),
}

pub(super) fn check(setting: &Setting) -> Result<Finding, String> {
    let mut server = Server::start_as(&setting.fanfare, CONFIGURATION, &[])?;
    let connected = CLIENTS.iter().map(|(topic, kind)| {
        let stream = connect(server.address, topic, *kind).map_err(|e| format!("{topic}: {e}"))?;
        Ok((*topic, stream))
    });
    let clients: Vec<(&str, TcpStream)> = connected.collect::<Result<_, String>>()?;
    if !Server::wait(Duration::from_secs(5), || occupied(&server).is_ok_and(|topics| topics.len() == CLIENTS.len())) {
        return Err(format!("not all clients are there: {:?}", occupied(&server)?));
    }
    for (topic, stream) in &clients {
        let vanished = SockRef::from(stream).attach_filter(&[SockFilter::new(RETURN, 0, 0, NOTHING)]);
        vanished.map_err(|e| format!("the client of {topic} cannot vanish: {e}"))?;
    }
    let begun = Instant::now();
    // Signs of life are sent every `idle_timeout`, and so are the kernel's probes; nothing of both is acknowledged.
    let bar = IDLE_TIMEOUT + VANISHED_TIMEOUT * 2;
    let mut last: Vec<(&str, Duration)> = Vec::new();
    while begun.elapsed() < bar * setting.size(2, 10) && last.len() < CLIENTS.len() {
        let there = occupied(&server)?;
        for (topic, _) in CLIENTS {
            if !there.iter().any(|name| name == topic) && !last.iter().any(|(gone, _)| gone == topic) {
                last.push((topic, begun.elapsed()));
            }
        }
        for (topic, _) in CLIENTS.iter().filter(|(topic, _)| topic.starts_with("busy")) {
            let message = json!({ "topic": topic, "event": "m", "payload": { "n": 1 } });
            ask(server.admin(), "POST", "/api/publish", &message.to_string())?;
        }
        thread::sleep(Duration::from_millis(100));
    }
    server.check_alive()?;
    drop(clients);
    let figures = CLIENTS.iter().map(|(topic, _)| {
        let gone = last.iter().find(|(gone, _)| gone == topic).map_or(begun.elapsed(), |(_, after)| *after);
        Figure::at_most(&format!("{topic} gone after"), gone, bar, milliseconds)
    });
    Ok(Finding { size: format!("{} clients", CLIENTS.len()), figures: figures.collect() })
}

/// The topics with somebody in them.
fn occupied(server: &Server) -> Result<Vec<String>, String> {
    let answer = ask(server.admin(), "GET", "/api/topics", "")?;
    let name = |topic: &Value| topic["topic"].as_str().or(topic.as_str()).map(str::to_owned);
    Ok(answer["topics"].as_array().into_iter().flatten().filter_map(name).collect())
}

fn connect(address: SocketAddr, topic: &str, kind: Kind) -> std::io::Result<TcpStream> {
    let dial = Dial { abrupt: true, ..Dial::default() };
    match kind {
        Kind::Phoenix => {
            let mut client = Client::phoenix(address, dial)?;
            client.join(topic)?;
            client.stream().try_clone()
        }
        Kind::Rooms => {
            let mut client = Client::connect(address, "/rooms", dial)?;
            client.send(&frame(TEXT, json!({ "join": topic }).to_string().as_bytes()))?;
            client.stream().try_clone()
        }
        Kind::Stream(accept) => {
            let mut stream = dial.connect(address)?;
            let head = format!("GET /events/{topic} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            stream.read_exact(&mut [0; 16])?;
            Ok(stream)
        }
    }
}
