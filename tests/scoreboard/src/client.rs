//! A client that may do everything wrong: bytes of its own making, and none that it does not read.
//!
//! There is no codec of Fanfare's in it, so that a mistake in one of them cannot hide in the other.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// No answer in this time is none at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The server has to take off any mask, so that one is as good as another.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const PING: u8 = 9;

/// A WebSocket.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    next_ref: u64,
}

/// What came.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Text(Vec<u8>),
    Binary,
    Pong,
    Close(Option<u16>),
    /// The server has ended the connection.
    End,
}

/// How a connection is made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Dial {
    /// The local address, for more connections than one has ports.
    pub(crate) from: Option<IpAddr>,
    /// What the kernel takes for a client that does not read, in bytes.
    pub(crate) receive_buffer: Option<usize>,
    /// Ends with a reset, which leaves no connection behind that waits for late packets.
    pub(crate) abrupt: bool,
}

impl Dial {
    /// A TCP connection.
    pub(crate) fn connect(self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if let Some(from) = self.from {
            socket.bind(&SocketAddr::from((from, 0)).into())?;
        }
        if let Some(size) = self.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        if self.abrupt {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        socket.connect_timeout(&address.into(), PATIENCE)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(socket.into())
    }
}

/// The request for an upgrade.
pub(crate) fn upgrade(address: SocketAddr, target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: {address}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: c2NvcmVib2FyZCBvZiBmYQ==\r\n\r\n"
    )
}

/// A masked frame in one piece.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

impl Client {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// A refusal is one too.
    pub(crate) fn connect(address: SocketAddr, target: &str, dial: Dial) -> io::Result<Self> {
        let mut client = Self { stream: BufReader::new(dial.connect(address)?), next_ref: 0 };
        client.send(upgrade(address, target).as_bytes())?;
        let mut status = String::new();
        client.stream.read_line(&mut status)?;
        let mut line = status.clone();
        while !matches!(line.as_str(), "\r\n" | "") {
            line.clear();
            client.stream.read_line(&mut line)?;
        }
        match status.contains(" 101 ") {
            true => Ok(client),
            false => Err(io::Error::other(format!("{target} was answered {:?}", status.trim()))),
        }
    }

    /// A Phoenix client of version 2.0.0.
    pub(crate) fn phoenix(address: SocketAddr, dial: Dial) -> io::Result<Self> {
        Self::connect(address, "/socket/websocket?vsn=2.0.0", dial)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The connection, to do to it what no client would.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Sends no more: the server comes to the end of what was sent.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.stream().shutdown(Shutdown::Write)
    }

    /// Sends a message of version 2.0.0, and gives its ref.
    pub(crate) fn push(&mut self, topic: &str, event: &str, payload: &Value) -> io::Result<String> {
        self.next_ref += 1;
        let msg_ref = self.next_ref.to_string();
        // The ref of a topic's join is the topic: one join of it at a time.
        self.send(&frame(TEXT, json!([topic, msg_ref, topic, event, payload]).to_string().as_bytes()))?;
        Ok(msg_ref)
    }

    /// Joins, and expects to be let in.
    pub(crate) fn join(&mut self, topic: &str) -> io::Result<()> {
        let msg_ref = self.push(topic, "phx_join", &json!({}))?;
        loop {
            let message = self.message()?;
            if message[1] == *msg_ref {
                return match message[4]["status"] == "ok" {
                    true => Ok(()),
                    false => Err(io::Error::other(format!("join of {topic}: {message}"))),
                };
            }
        }
    }

    /// Sends a heartbeat and waits for its reply.
    pub(crate) fn heartbeat(&mut self) -> io::Result<()> {
        self.next_ref += 1;
        let msg_ref = self.next_ref.to_string();
        let message = json!([null, msg_ref, "phoenix", "heartbeat", {}]);
        self.send(&frame(TEXT, message.to_string().as_bytes()))?;
        while self.message()?[1] != *msg_ref {}
        Ok(())
    }

    /// The next message of version 2.0.0.
    pub(crate) fn message(&mut self) -> io::Result<Value> {
        match self.receive()? {
            Received::Text(text) => Ok(serde_json::from_slice(&text)?),
            other => Err(io::Error::other(format!("{other:?} in place of a message"))),
        }
    }

    /// What comes next. A connection that ends without a close frame, or with a reset, ends.
    pub(crate) fn receive(&mut self) -> io::Result<Received> {
        match self.read_frame() {
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
                Ok(Received::End)
            }
            other => other,
        }
    }

    fn read_frame(&mut self) -> io::Result<Received> {
        loop {
            let [first, second] = self.bytes()?;
            let len = match second {
                0..=125 => u64::from(second),
                126 => u16::from_be_bytes(self.bytes()?).into(),
                127 => u64::from_be_bytes(self.bytes()?),
                _ => return Err(io::Error::other("the server has masked a frame")),
            };
            let mut payload = vec![0; usize::try_from(len).map_err(io::Error::other)?];
            self.stream.read_exact(&mut payload)?;
            return Ok(match first {
                0x81 => Received::Text(payload),
                0x82 => Received::Binary,
                0x88 => Received::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
                0x89 => continue,
                0x8a => Received::Pong,
                _ => return Err(io::Error::other(format!("the server has sent a frame that begins with {first:#x}"))),
            });
        }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}
