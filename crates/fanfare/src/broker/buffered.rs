//! A connection with what is on its way in and out.

use std::io;

use super::wire::{self, Wire, tls_in_words};

/// One read takes at most so many bytes.
const READ_SIZE: usize = 64 * 1024;

/// While so many bytes have not been taken by the system, no commands are to be taken.
const UNSENT_MAX: usize = 1024 * 1024;

/// A connection, and the bytes that wait.
pub(super) struct Buffered {
    pub(super) wire: Wire,
    /// What is to be written.
    pub(super) out: Vec<u8>,
    /// So much of `out` is gone.
    written: usize,
    input: Vec<u8>,
    /// So much of `input` is there.
    filled: usize,
    /// The first byte that came.
    first: Option<u8>,
}

impl Buffered {
    pub(super) fn new(wire: Wire) -> Self {
        Buffered { wire, out: Vec::new(), written: 0, input: vec![0; 2 * READ_SIZE], filled: 0, first: None }
    }

    /// The first byte that came.
    pub(super) fn first(&self) -> Option<u8> {
        self.first
    }

    /// Whether the other side may want TLS.
    pub(super) fn may_want_tls(&self) -> bool {
        !self.wire.is_tls() && wire::may_want_tls(self.first)
    }

    /// Whether the other side is spoken to with TLS and has not said anything.
    pub(super) fn may_have_no_tls(&self) -> bool {
        self.wire.is_tls() && self.first.is_none()
    }

    /// Whether there is room for more to be written.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() - self.written < UNSENT_MAX
    }

    /// Writes what the system takes.
    ///
    /// # Errors
    /// The connection has broken, in words.
    pub(super) fn write(&mut self) -> Result<(), String> {
        loop {
            match self.wire.write(&self.out[self.written..]) {
                Ok(Some(size)) => self.written += size,
                Ok(None) => break,
                Err(error) => return Err(format!("writing: {error}")),
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        } else if self.written > READ_SIZE {
            self.out.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    /// Reads once: whether something came.
    ///
    /// # Errors
    /// The connection has broken or ended, in words.
    pub(super) fn read(&mut self) -> Result<bool, String> {
        if self.input.len() - self.filled < READ_SIZE {
            self.input.resize(self.input.len() * 2, 0);
        }
        match self.wire.read(&mut self.input[self.filled..]) {
            Ok(None) => Ok(false),
            Ok(Some(0)) => Err("it has closed the connection".to_owned()),
            Ok(Some(size)) => {
                self.first.get_or_insert(self.input[self.filled]);
                self.filled += size;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(tls_in_words(&error)),
            Err(error) => Err(format!("reading: {error}")),
        }
    }

    /// Takes what has come, for as long as it is handled, and has back how much of it was.
    pub(super) fn handle(&mut self) -> Incoming {
        Incoming { bytes: std::mem::take(&mut self.input), at: 0, filled: self.filled }
    }

    /// The rest of what has come.
    pub(super) fn handled(&mut self, incoming: Incoming) {
        let Incoming { mut bytes, at, filled } = incoming;
        bytes.copy_within(at..filled, 0);
        self.filled = filled - at;
        self.input = bytes;
    }
}

/// What has come.
pub(super) struct Incoming {
    bytes: Vec<u8>,
    at: usize,
    filled: usize,
}

impl Incoming {
    /// What was not handled yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..self.filled]
    }

    /// So many more bytes were.
    pub(super) fn pass(&mut self, size: usize) {
        self.at += size;
    }
}
