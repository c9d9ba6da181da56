//! permessage-deflate (RFC 7692): what is agreed on, and the two halves that do the work.
//!
//! No connection keeps a compression context, in either direction: every message stands alone. A compressed message is
//! therefore the same for everybody with the same window, and [`Inflater`] and [`Deflater`] belong to a thread, never to
//! a connection.

mod compress;
mod negotiation;

use flate2::{Decompress, FlushDecompress, Status};

pub use compress::Deflater;
pub use negotiation::{Agreement, WINDOW_BITS_MAX, WINDOW_BITS_MIN, negotiate};

/// How every flushed deflate stream ends; it is left out on the wire (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// What an [`Inflater`] keeps of its buffer between messages, in bytes.
const BUFFER_KEPT: usize = 64 * 1024;

/// Deflate streams in one message. A sender may end a stream in the middle of a message, e.g. at each of its own
/// flushes; starting the next one costs far more than the two bytes that ask for it, hence a bound.
const STREAMS_MAX: u32 = 256;

/// Why a message was not inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflateError {
    /// It is not a deflate stream.
    Invalid,
    /// It inflates beyond `size_max` bytes.
    TooLarge,
}

/// Inflates messages, one at a time. It holds about 50 KB, and up to 64 KiB of buffer between messages.
pub struct Inflater {
    stream: Decompress,
    buffer: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater { stream: Decompress::new(false), buffer: Vec::new() }
    }
}

impl Inflater {
    /// Inflates the payload of a whole message, which may be as repetitive as it likes as long as what comes out is within the
    /// permitted size. The result lives in the inflater's buffer, which never grows far beyond that size; call
    /// [`Inflater::shrink`] when done with it.
    ///
    /// # Errors
    /// See [`InflateError`]; the inflater is as good as new afterwards.
    pub fn inflate(&mut self, payload: &[u8], size_max: usize) -> Result<&[u8], InflateError> {
        self.stream.reset(false);
        let mut streams_left = STREAMS_MAX;
        let mut written = 0;
        for (mut rest, is_tail) in [(payload, false), (&TAIL[..], true)] {
            loop {
                // One byte beyond the limit tells "exactly the limit" from "more".
                if written > size_max {
                    return Err(InflateError::TooLarge);
                }
                let len_max = size_max.saturating_add(1);
                self.make_room(written, len_max);
                let end = self.buffer.len().min(len_max);
                let (in_before, out_before) = (self.stream.total_in(), self.stream.total_out());
                let status = self
                    .stream
                    .decompress(rest, &mut self.buffer[written..end], FlushDecompress::None)
                    .map_err(|_| InflateError::Invalid)?;
                rest = &rest[(self.stream.total_in() - in_before) as usize..];
                written += (self.stream.total_out() - out_before) as usize;
                match status {
                    Status::StreamEnd => {
                        if is_tail {
                            // Only what the payload left unfinished can have made a final block of the tail.
                            return Err(InflateError::Invalid);
                        }
                        streams_left -= 1;
                        if streams_left == 0 {
                            return Err(InflateError::Invalid);
                        }
                        self.stream.reset(false);
                        if rest.is_empty() {
                            break;
                        }
                    }
                    // All taken, and room left over: there is nothing more to come out.
                    _ if rest.is_empty() && written < end => break,
                    _ => {}
                }
            }
        }
        Ok(&self.buffer[..written])
    }

    /// Gives back what a large message took.
    pub fn shrink(&mut self) {
        if self.buffer.len() > BUFFER_KEPT {
            self.buffer.truncate(BUFFER_KEPT);
            self.buffer.shrink_to_fit();
        }
    }

    /// Makes the buffer longer than `written`, doubling it up to `len_max`, which is more than `written`.
    fn make_room(&mut self, written: usize, len_max: usize) {
        if written == self.buffer.len() {
            let len = (written * 2).max(BUFFER_KEPT).min(len_max.max(BUFFER_KEPT));
            self.buffer.reserve_exact(len - written);
            self.buffer.resize(len, 0);
        }
    }
}

#[cfg(test)]
mod tests;
