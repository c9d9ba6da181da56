//! One client: its stream, what of it is incomplete, and what the kernel has not taken yet.

use std::io::{self, Write};

use fanfare_proto::websocket::decoder::Decoder;
use mio::net::TcpStream;

pub(crate) struct Socket {
    pub(crate) stream: TcpStream,
    pub(crate) state: State,
    /// What the kernel did not take. Without bound: nothing here is meant for clients that do not read.
    backlog: Option<Vec<u8>>,
}

pub(crate) enum State {
    /// The bytes of the request so far.
    Opening(Vec<u8>),
    /// In a room, at this place among its members.
    Open { decoder: Decoder, room: u32, place: u32 },
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, state: State::Opening(Vec::new()), backlog: None }
    }

    /// One `send`; what it leaves waits for the socket to be writable. A broken connection is noticed when it is read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Some(backlog) = &mut self.backlog {
            backlog.extend_from_slice(bytes);
            return;
        }
        let taken = taken(self.stream.write(bytes));
        if taken < bytes.len() {
            self.backlog = Some(bytes[taken..].to_vec());
        }
    }

    pub(crate) fn writable(&mut self) {
        if let Some(backlog) = &mut self.backlog {
            let taken = taken(self.stream.write(backlog));
            backlog.drain(..taken);
            if backlog.is_empty() {
                self.backlog = None;
            }
        }
    }
}

fn taken(written: io::Result<usize>) -> usize {
    written.unwrap_or(0)
}
