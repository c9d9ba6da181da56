//! Row 19: strangers send bodies, large and never whole. What the server cannot know to be anybody's, it does not keep.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Dial;
use crate::figure::{Figure, count, mebibytes};
use crate::server::Server;
use crate::{Finding, Setting};

/// The length that is declared, just what `limits.body_size_max` allows, and what is sent of it.
const DECLARED: usize = 8_000_000;
const SENT: usize = 7_900_000;

/// No server takes such a body.
const ENDLESS: u64 = 1_000_000_000_000_000_000;

const GROWTH_MAX: u64 = 16 << 20;

/// All are answered in this time.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

const CONFIGURATION: &str = r#"
listen = "127.0.0.1:0"
[auth.tokens]
kind = "jwt"
secret = "a secret of the scoreboard's, long enough for every algorithm there is: 64 bytes"
[[endpoint]]
path = "/socket"
auth = "tokens"
[[endpoint]]
path = "/bullet"
protocol = "bullet"
auth = "tokens"
[[channel]]
topic = "*"
join = "open"
publish = "open"
"#;

pub(super) fn check(setting: &Setting) -> Result<Finding, String> {
    let connections = setting.size(20, 60);
    let targets = [
        ((|server| server.address) as fn(&Server) -> SocketAddr, "/socket/longpoll?vsn=2.0.0"),
        (|server| server.address, "/bullet?a-stranger"),
        (Server::admin, "/api/publish"),
    ];
    let mut figures = Vec::new();
    for (address, path) in targets {
        // One each, as memory that an allocator keeps is had again.
        let mut server = Server::start_as(&setting.fanfare, CONFIGURATION, &[])?;
        let address = address(&server);
        let base = server.memory();
        let (mut most, mut strangers) = (0, Vec::new());
        for _ in 0..connections {
            strangers.push(Stranger::begin(address, path, DECLARED as u64, SENT)?);
        }
        let deadline = Instant::now() + ANSWERED_WITHIN;
        while Instant::now() < deadline && strangers.iter().any(|stranger| stranger.is_waiting) {
            strangers.iter_mut().for_each(Stranger::go_on);
            most = most.max(server.memory());
            thread::sleep(Duration::from_millis(1));
        }
        let unanswered = strangers.iter().filter(|stranger| !stranger.is_refused()).count() as u64;
        figures.push(Figure::at_most(&format!("{path} grew by"), most.saturating_sub(base), GROWTH_MAX, mebibytes));
        figures.push(Figure::exactly("not refused in 15 s", unanswered, 0));
        let mut greedy = Stranger::begin(address, path, ENDLESS, 0)?;
        Server::wait(Duration::from_secs(2), || {
            greedy.go_on();
            !greedy.is_waiting
        });
        figures.push(Figure::exactly(
            "a length beyond the limit not refused in 2 s",
            u64::from(!greedy.is_refused()),
            0,
        ));
        server.check_alive()?;
    }
    let size = format!("{connections} bodies of {} bytes to each of three addresses", count(SENT as u64));
    Ok(Finding { size, figures })
}

/// A connection with one request without credentials.
struct Stranger {
    stream: TcpStream,
    /// What it has yet to send.
    left: usize,
    answer: Vec<u8>,
    /// For the answer, or for the end of the connection.
    is_waiting: bool,
}

impl Stranger {
    fn begin(address: SocketAddr, path: &str, declared: u64, left: usize) -> Result<Self, String> {
        let begin = || {
            let mut stream = Dial { abrupt: true, ..Dial::default() }.connect(address)?;
            let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {declared}\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            stream.set_nonblocking(true)?;
            Ok(Self { stream, left, answer: Vec::new(), is_waiting: true })
        };
        begin().map_err(|e: std::io::Error| format!("cannot send a body to {path}: {e}"))
    }

    /// Sends what the kernel takes, and reads what there is.
    fn go_on(&mut self) {
        static PIECE: [u8; 64 << 10] = [b'x'; 64 << 10];
        while self.left > 0 {
            match self.stream.write(&PIECE[..self.left.min(PIECE.len())]) {
                Ok(written) => self.left -= written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The answer may have come all the same.
                Err(_) => self.left = 0,
            }
        }
        let mut read = [0; 4096];
        while self.is_waiting {
            match self.stream.read(&mut read) {
                Ok(0) => self.is_waiting = false,
                Ok(count) => {
                    self.answer.extend_from_slice(&read[..count]);
                    self.is_waiting = !self.is_refused();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_waiting = false,
            }
        }
    }

    /// Long-polling has its own status in a body: 403, or 410 where there is no session.
    fn is_refused(&self) -> bool {
        let answer = String::from_utf8_lossy(&self.answer);
        let status = answer.split(' ').nth(1).unwrap_or_default();
        match status {
            "200" => ["\"status\":403", "\"status\":410"].iter().any(|status| answer.contains(status)),
            _ => ["401", "403", "408", "413"].contains(&status),
        }
    }
}
