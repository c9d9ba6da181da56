//! A socket's bounded queue of outgoing frames: what the kernel would not take at once.
//!
//! It knows bytes and frame boundaries, nothing of topics or sockets. An idle socket has none: the shard lends one when
//! something must wait and takes it back when it is empty.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};

/// At most this many segments leave in one `writev`.
const SEGMENTS_PER_WRITE_MAX: usize = 64;

/// What a socket's outbox may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) bytes_max: usize,
    pub(crate) frames_max: usize,
}

/// The queue. A segment is one or more whole frames; only the first may be partly written.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    segments: VecDeque<Segment>,
    bytes: usize,
    frames: usize,
}

#[derive(Debug)]
struct Segment {
    rest: Bytes,
    frames: u32,
    /// The bytes of `rest` up to the next frame boundary are of a frame whose beginning was written; 0 when none was.
    begun: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Whether this much fits. An empty outbox takes one segment of any size: the frame limit bounds it.
    pub(crate) fn has_room(&self, bytes: usize, frames: usize, bounds: Bounds) -> bool {
        self.is_empty() || (self.bytes + bytes <= bounds.bytes_max && self.frames + frames <= bounds.frames_max)
    }

    /// Queues whole frames.
    pub(crate) fn push(&mut self, bytes: Bytes, frames: usize) {
        self.bytes += bytes.len();
        self.frames += frames;
        self.segments.push_back(Segment { rest: bytes, frames: frames as u32, begun: 0 });
    }

    /// Queues the rest of frames of which `written` bytes have left already.
    pub(crate) fn push_rest(&mut self, mut bytes: Bytes, frames: usize, written: usize) {
        let begun = rest_of_begun_frame(&bytes, written);
        bytes.advance(written);
        self.bytes += bytes.len();
        self.frames += frames;
        self.segments.push_back(Segment { rest: bytes, frames: frames as u32, begun });
    }

    /// Writes as much as the kernel takes. `Ok(true)` when all has left, `Ok(false)` when the kernel took no more.
    pub(crate) fn write_to(&mut self, write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<bool> {
        while !self.segments.is_empty() {
            let mut slices = [IoSlice::new(&[]); SEGMENTS_PER_WRITE_MAX];
            let mut count = 0;
            for (slice, segment) in slices.iter_mut().zip(&self.segments) {
                *slice = IoSlice::new(&segment.rest);
                count += 1;
            }
            match write(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Drops all frames of which nothing was written yet, and returns how many those were: the stream stays well-formed.
    pub(crate) fn cut(&mut self) -> usize {
        let before = self.frames;
        let begun = self.segments.pop_front().filter(|segment| segment.begun > 0);
        self.segments.clear();
        (self.bytes, self.frames) = (0, 0);
        if let Some(segment) = begun {
            self.bytes = segment.begun;
            self.frames = 1;
            self.segments.push_back(Segment { rest: segment.rest.slice(..segment.begun), frames: 1, ..segment });
        }
        before - self.frames
    }

    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.segments.front_mut() {
            if written < first.rest.len() {
                first.begun = match written.checked_sub(first.begun) {
                    None => first.begun - written,
                    Some(past) => rest_of_begun_frame(&first.rest[first.begun..], past),
                };
                first.rest.advance(written);
                return;
            }
            written -= first.rest.len();
            self.frames -= first.frames as usize;
            self.segments.pop_front();
        }
    }
}

/// `frames` begins at a frame boundary: how much of the frame that contains offset `written` is left, 0 at a boundary.
fn rest_of_begun_frame(frames: &[u8], written: usize) -> usize {
    let mut end = 0;
    while end < written {
        end += frame_size(&frames[end..]);
    }
    end - written
}

/// The size of the unmasked frame at the beginning of `bytes`, header included.
fn frame_size(bytes: &[u8]) -> usize {
    match bytes[1] & 127 {
        126 => 4 + usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        127 => 10 + u64::from_be_bytes(bytes[2..10].try_into().expect("ten bytes of header")) as usize,
        short => 2 + usize::from(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of the given payload sizes, one after the other.
    fn frames(sizes: &[usize]) -> Bytes {
        let mut out = Vec::new();
        for &size in sizes {
            fanfare_proto::websocket::frame::encode(
                fanfare_proto::websocket::frame::Opcode::Binary,
                &vec![7; size],
                false,
                &mut out,
            );
        }
        out.into()
    }

    /// Lets `room` bytes leave, then cuts: what stays must complete exactly the frame that was begun.
    #[test]
    fn cut_keeps_the_begun_frame_only() {
        let sizes = [3, 200, 70_000, 0, 5];
        let whole = frames(&sizes);
        for room in 0..whole.len() {
            if room > 300 && room < 70_200 && room % 997 != 0 {
                continue;
            }
            let mut outbox = Outbox::default();
            outbox.push(whole.clone(), sizes.len());
            outbox.push(frames(&[1]), 1);
            let mut left = room;
            let done = outbox
                .write_to(&mut |slices| {
                    let n = left.min(slices[0].len()).min(100);
                    left -= n;
                    if n == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
                })
                .unwrap();
            assert!(!done);
            outbox.cut();
            let mut boundary = 0;
            while boundary < room {
                boundary += frame_size(&whole[boundary..]);
            }
            assert_eq!(outbox.bytes(), boundary - room, "after {room} bytes");
            assert_eq!(outbox.is_empty(), boundary == room);
        }
    }

    #[test]
    fn rest_is_a_boundary_or_a_begun_frame() {
        let two = frames(&[3, 4]);
        for (written, kept) in [(0, 0), (1, 4), (4, 1), (5, 0), (6, 5)] {
            let mut outbox = Outbox::default();
            outbox.push_rest(two.clone(), 2, written);
            outbox.cut();
            assert_eq!(outbox.bytes(), kept, "{written} written");
        }
    }

    #[test]
    fn bounds_hold_but_never_for_the_first() {
        let bounds = Bounds { bytes_max: 10, frames_max: 2 };
        let mut outbox = Outbox::default();
        assert!(outbox.has_room(100, 1, bounds));
        outbox.push(frames(&[3]), 1);
        assert!(outbox.has_room(5, 1, bounds));
        assert!(!outbox.has_room(6, 1, bounds), "bytes");
        assert!(!outbox.has_room(1, 2, bounds), "frames");
    }
}
