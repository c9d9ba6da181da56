//! The loop: read what came, make it a frame once, send that to each member of the room.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::ops::ControlFlow;

use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role, Scratch};
use fanfare_proto::websocket::frame::{self, Opcode};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::handshake;
use crate::socket::{Socket, State};

const LISTENER: Token = Token(usize::MAX);

/// How frames are made and sent.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// All messages of one read leave in one send.
    pub(crate) coalesces: bool,
    /// Bytes that each message grows by.
    pub(crate) overhead: usize,
}

pub(crate) struct Server {
    poll: Poll,
    listener: TcpListener,
    address: SocketAddr,
    sockets: Slab<Socket>,
    /// The members of each room by their key, in the order in which they came: the kernel's own structures of sockets that
    /// were made one after the other lie near each other, and walking them in another order costs a sixth.
    rooms: Slab<Vec<u32>>,
    names: HashMap<String, u32>,
    frames: Frames,
    /// Every read goes through it.
    buffer: Vec<u8>,
}

/// What one read asks to be sent; kept to be filled again without allocating.
struct Frames {
    options: Options,
    for_room: Vec<u8>,
    /// Where each frame of `for_room` ends.
    ends: Vec<usize>,
    /// Answers to pings and close frames.
    for_sender: Vec<u8>,
    closed: bool,
    scratch: Scratch,
}

impl Server {
    pub(crate) fn bind(address: SocketAddr, options: Options) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let address = listener.local_addr()?;
        Ok(Self {
            poll,
            listener,
            address,
            sockets: Slab::new(),
            rooms: Slab::new(),
            names: HashMap::new(),
            frames: Frames::new(options),
            buffer: vec![0; 256 * 1024],
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process ends.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                    continue;
                }
                let key = event.token().0;
                if let Some(socket) = self.sockets.get_mut(key).filter(|_| event.is_writable()) {
                    socket.writable();
                }
                if event.is_readable() && self.read(key, event.is_read_closed()).is_break() {
                    self.close(key);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            stream.set_nodelay(true)?;
            let slot = self.sockets.vacant_entry();
            self.poll.registry().register(&mut stream, Token(slot.key()), Interest::READABLE | Interest::WRITABLE)?;
            slot.insert(Socket::new(stream));
        }
    }

    /// Takes what the kernel has of a socket. `to_end` asks for more than what one read gives: no event will say again that
    /// the client has closed.
    fn read(&mut self, key: usize, to_end: bool) -> ControlFlow<()> {
        loop {
            let Some(socket) = self.sockets.get_mut(key) else { return ControlFlow::Continue(()) };
            let len = match socket.stream.read(&mut self.buffer) {
                Ok(0) => return ControlFlow::Break(()),
                Ok(len) => len,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return ControlFlow::Continue(()),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return ControlFlow::Break(()),
            };
            match &mut socket.state {
                State::Opening(request) => {
                    request.extend_from_slice(&self.buffer[..len]);
                    self.open(key)?;
                }
                State::Open { decoder, room, .. } => {
                    let room = *room;
                    self.frames.decode(decoder, &mut self.buffer[..len])?;
                    self.send(key, room)?;
                }
            }
            if len < self.buffer.len() && !to_end {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Lets a socket into its room once its request is complete.
    fn open(&mut self, key: usize) -> ControlFlow<()> {
        let Some(socket) = self.sockets.get_mut(key) else { return ControlFlow::Break(()) };
        let State::Opening(request) = &mut socket.state else { return ControlFlow::Continue(()) };
        let opening = match handshake::parse(request) {
            Ok(Some(opening)) => opening,
            Ok(None) => return ControlFlow::Continue(()),
            Err(_) => return ControlFlow::Break(()),
        };
        let mut early = request.split_off(opening.len);
        let room = *self.names.entry(opening.room).or_insert_with(|| self.rooms.insert(Vec::new()) as u32);
        let members = &mut self.rooms[room as usize];
        let place = members.len() as u32;
        members.push(key as u32);
        let mut decoder = Decoder::new(Role::Server);
        socket.send(opening.answer.as_bytes());
        self.frames.decode(&mut decoder, &mut early)?;
        socket.state = State::Open { decoder, room, place };
        self.send(key, room)
    }

    /// Sends what was decoded: the one loop that matters.
    fn send(&mut self, sender: usize, room: u32) -> ControlFlow<()> {
        let mut start = 0;
        for &end in self.frames.pieces() {
            let bytes = &self.frames.for_room[start..end];
            for &member in &self.rooms[room as usize] {
                self.sockets[member as usize].send(bytes);
            }
            start = end;
        }
        if !self.frames.for_sender.is_empty() {
            self.sockets[sender].send(&self.frames.for_sender);
        }
        if self.frames.closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn close(&mut self, key: usize) {
        let Some(socket) = self.sockets.try_remove(key) else { return };
        let State::Open { room, place, .. } = socket.state else { return };
        let members = &mut self.rooms[room as usize];
        members.swap_remove(place as usize);
        if let Some(&moved) = members.get(place as usize)
            && let State::Open { place: its_place, .. } = &mut self.sockets[moved as usize].state
        {
            *its_place = place;
        }
    }
}

impl Frames {
    fn new(options: Options) -> Self {
        let (for_room, ends, for_sender) = (Vec::new(), Vec::new(), Vec::new());
        Self { options, for_room, ends, for_sender, closed: false, scratch: Scratch::default() }
    }

    /// Takes the messages of one read.
    fn decode(&mut self, decoder: &mut Decoder, input: &mut [u8]) -> ControlFlow<()> {
        self.for_room.clear();
        self.ends.clear();
        self.for_sender.clear();
        self.closed = false;
        let mut scratch = std::mem::take(&mut self.scratch);
        let decoded = decoder.decode(input, &Limits::default(), false, &mut scratch, &mut |item| {
            match item {
                Item::Text(text) => self.add(Opcode::Text, text.as_bytes()),
                Item::Binary(bytes) => self.add(Opcode::Binary, bytes),
                Item::Ping(bytes) => frame::encode(Opcode::Pong, bytes, false, &mut self.for_sender),
                Item::Pong(_) => {}
                Item::Close(code) => {
                    frame::encode_close(code.unwrap_or(1000), "", &mut self.for_sender);
                    self.closed = true;
                }
            }
            ControlFlow::Continue(())
        });
        self.scratch = scratch;
        if decoded.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }

    fn add(&mut self, opcode: Opcode, payload: &[u8]) {
        let len = payload.len() + self.options.overhead;
        self.for_room.extend_from_slice(frame::header(opcode, len, true, false).as_slice());
        self.for_room.extend_from_slice(payload);
        self.for_room.resize(self.for_room.len() + self.options.overhead, b' ');
        self.ends.push(self.for_room.len());
    }

    /// Where each piece that is sent at once ends.
    fn pieces(&self) -> &[usize] {
        if self.options.coalesces { &self.ends[self.ends.len().saturating_sub(1)..] } else { &self.ends }
    }
}
