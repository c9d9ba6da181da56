//! Connections whose first request has not been read: a shard reads it, so that a WebSocket is answered where it will live, and is
//! registered there once.
//!
//! One read is all that is tried, mostly before the connection is registered at all: in a storm the request is there by then. What it
//! does not show to be a whole upgrade is not for the shard, and goes back to the [`Host`](crate::mailbox::newcomer::Host) with the bytes. So nothing is kept of a
//! newcomer but the connection itself, for as long as it is silent and its host is patient; the host has a place for each, and so
//! bounds how many there are.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::mailbox::newcomer::{FIRST_READ_SIZE_MAX, Heard, Newcomer, Upgraded};
use crate::mailbox::{AdmittedSocket, ShardHandle};

/// Set in the tokens of newcomers. No shard has as many sockets.
const MARK: usize = 1 << (usize::BITS - 2);

/// So many newcomers are looked at in a turn, and none after so long; others wait for the next, and delay nobody.
pub(super) const LOOKS_PER_TURN_MAX: usize = 64;
pub(super) const LOOKS_PER_TURN_US_MAX: u64 = 2_000;

/// It is looked this often at most whether a silent newcomer's time is up.
const EXPIRY_PAUSE_MS: u64 = 100;

/// A shard's newcomers.
#[derive(Default)]
pub(super) struct Newcomers {
    /// Not looked at yet, nor registered.
    fresh: VecDeque<Newcomer>,
    /// Registered, and silent so far.
    silent: Slab<Silent>,
    /// Those of the silent that are to be looked at.
    noticed: VecDeque<usize>,
    /// When it is looked whose time is up.
    expiry_ms: Option<u64>,
}

struct Silent {
    newcomer: Newcomer,
    due_ms: u64,
    is_given_up: bool,
}

/// What a shard lends for a look at newcomers.
pub(super) struct Lent<'s> {
    pub(super) registry: &'s Registry,
    pub(super) buffer: &'s mut [u8],
    pub(super) shard: &'s ShardHandle,
    pub(super) now_ms: u64,
}

/// One that is to be a socket.
pub(super) struct Beginning {
    pub(super) connection: Unanswered,
    pub(super) admitted: AdmittedSocket,
    pub(super) window_bits: Option<u8>,
    /// What the client has sent behind its request.
    pub(super) received: Vec<u8>,
}

/// A connection whose request is to be answered.
pub(super) struct Unanswered {
    pub(super) stream: TcpStream,
    answer: Vec<u8>,
    is_registered: bool,
    /// Whether the first read may have left something.
    pub(super) may_have_more: bool,
}

impl Newcomers {
    pub(super) fn came(&mut self, newcomer: Newcomer) {
        self.fresh.push_back(newcomer);
    }

    /// Whether the kernel reports a newcomer with this token, who is looked at then.
    #[inline]
    pub(super) fn notice(&mut self, token: Token) -> bool {
        let is_newcomer = token.0 & MARK != 0;
        if is_newcomer {
            self.noticed.push_back(token.0 & !MARK);
        }
        is_newcomer
    }

    pub(super) fn has_work(&self) -> bool {
        !self.fresh.is_empty() || !self.noticed.is_empty()
    }

    pub(super) fn expiry_ms(&self) -> Option<u64> {
        self.expiry_ms
    }

    /// Gives up those whose time is up.
    pub(super) fn expire(&mut self, now_ms: u64) {
        if self.expiry_ms.is_none_or(|expiry_ms| now_ms < expiry_ms) {
            return;
        }
        self.give_up(|silent| silent.due_ms <= now_ms);
        let due = self.silent.iter().filter(|(_, silent)| !silent.is_given_up).map(|(_, silent)| silent.due_ms).min();
        self.expiry_ms = due.map(|due_ms| due_ms.max(now_ms + EXPIRY_PAUSE_MS));
    }

    fn give_up(&mut self, is_meant: impl Fn(&Silent) -> bool) {
        for (index, silent) in &mut self.silent {
            if !silent.is_given_up && is_meant(silent) {
                silent.is_given_up = true;
                self.noticed.push_back(index);
            }
        }
    }

    /// Gives up those of servers that end.
    pub(super) fn dismiss(&mut self) {
        self.give_up(|silent| silent.newcomer.host.is_ending());
    }

    /// The next one that is to be a socket, if `left` more may be looked at.
    pub(super) fn next(&mut self, left: &mut usize, lent: &mut Lent<'_>) -> Option<Beginning> {
        loop {
            *left = left.checked_sub(1)?;
            let (newcomer, is_registered, read) = match self.noticed.pop_front() {
                None => {
                    let mut newcomer = self.fresh.pop_front()?;
                    let read = lent.first_read(&mut newcomer.stream);
                    if is_silent(&read) {
                        self.wait_for(newcomer, lent);
                        continue;
                    }
                    (newcomer, false, read)
                }
                Some(index) => {
                    let Some(silent) = self.silent.get_mut(index) else { continue };
                    let read = lent.first_read(&mut silent.newcomer.stream);
                    match is_silent(&read) {
                        true if silent.is_given_up => {
                            let Newcomer { stream, host } = self.silent.remove(index).newcomer;
                            host.give_up(lent.unregistered(stream));
                            continue;
                        }
                        true => continue,
                        false => (self.silent.remove(index).newcomer, true, read),
                    }
                }
            };
            let Newcomer { stream, host } = newcomer;
            let first = match read {
                // It has nothing to say, or is gone before it said anything, as the probes of load balancers are.
                Ok(0) | Err(_) => continue,
                Ok(size) => &lent.buffer[..size],
            };
            match host.hear(first, lent.shard) {
                Heard::Upgraded(upgraded) => {
                    let Upgraded { admitted, window_bits, answer, head_size } = *upgraded;
                    let (received, may_have_more) = (first[head_size..].to_vec(), first.len() == FIRST_READ_SIZE_MAX);
                    let connection = Unanswered { stream, answer, is_registered, may_have_more };
                    return Some(Beginning { connection, admitted, window_bits, received });
                }
                Heard::Other(go_on) => go_on(if is_registered { lent.unregistered(stream) } else { stream }),
            }
        }
    }

    /// The kernel will tell when it says something.
    fn wait_for(&mut self, mut newcomer: Newcomer, lent: &Lent<'_>) {
        if newcomer.host.is_ending() {
            return newcomer.host.give_up(newcomer.stream);
        }
        let entry = self.silent.vacant_entry();
        match lent.registry.register(&mut newcomer.stream, Token(MARK | entry.key()), Interest::READABLE) {
            Ok(()) => {
                let due_ms = lent.now_ms + newcomer.host.patience().as_millis() as u64;
                self.expiry_ms = Some(self.expiry_ms.map_or(due_ms, |expiry_ms| expiry_ms.min(due_ms)));
                entry.insert(Silent { newcomer, due_ms, is_given_up: false });
            }
            Err(error) => newcomer.host.lost(&error),
        }
    }
}

impl Unanswered {
    /// Answers the request, and registers the connection as the socket with this index. Whether it is still there.
    pub(super) fn answer(&mut self, index: usize, registry: &Registry) -> bool {
        let (stream, token, interest) = (&mut self.stream, Token(index), Interest::READABLE | Interest::WRITABLE);
        let result = match stream.write(&self.answer) {
            Ok(written) if written < self.answer.len() => Err(io::ErrorKind::WriteZero.into()),
            Ok(_) if self.is_registered => registry.reregister(stream, token, interest),
            Ok(_) => registry.register(stream, token, interest),
            Err(error) => Err(error),
        };
        result.inspect_err(|error| tracing::debug!(%error, "an upgraded connection was lost")).is_ok()
    }
}

impl Lent<'_> {
    fn first_read(&mut self, stream: &mut TcpStream) -> io::Result<usize> {
        loop {
            match stream.read(&mut self.buffer[..FIRST_READ_SIZE_MAX]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// The stream for somebody else.
    fn unregistered(&self, mut stream: TcpStream) -> TcpStream {
        // Where this fails nobody is told of the stream any more, which is what matters.
        let _ = self.registry.deregister(&mut stream);
        stream
    }
}

fn is_silent(read: &io::Result<usize>) -> bool {
    read.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
