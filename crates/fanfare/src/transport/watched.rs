//! A connection whose incoming bytes are watched for requests with a length beside chunks, and which gives itself up to a shard that
//! writes the rest of an answer (see `handover`).
//!
//! Such a request can be understood in two ways, and does not show once it was read: the library takes the chunks and drops the
//! length.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handover::Handover;
use super::stream::IntoStream;

/// What is seen of a connection's requests; shared by who watches and who serves.
#[derive(Debug, Clone)]
pub(crate) struct Seen(Arc<State>);

#[derive(Debug)]
struct State {
    /// The number of the first request whose body has two lengths.
    first_ambiguous: AtomicUsize,
    /// All requests that have begun are there as a whole.
    is_between: AtomicBool,
}

impl Seen {
    fn nothing() -> Self {
        Seen(Arc::new(State { first_ambiguous: AtomicUsize::new(usize::MAX), is_between: AtomicBool::new(true) }))
    }

    /// Whether it is the first request with two lengths, or one that comes behind it and cannot be trusted either.
    pub(crate) fn is_ambiguous(&self, number: usize) -> bool {
        self.0.first_ambiguous.load(Ordering::Relaxed) <= number
    }

    /// Whether no request is there in part: a client that goes now, or says nothing more, leaves nothing undone.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.0.is_between.load(Ordering::Relaxed)
    }
}

/// A stream whose incoming bytes are watched.
#[derive(Debug)]
pub(crate) struct Watched<IO> {
    /// `None` once it is given up.
    io: Option<IO>,
    /// What somebody has read of it before, and is still to be read here.
    before: Bytes,
    watch: Watch,
    seen: Seen,
    handover: Handover,
}

impl<IO> Watched<IO> {
    /// The stream, of which these bytes were read already and which is given up as the handover says, and what is to be asked about
    /// each of its requests.
    pub(crate) fn new(io: IO, before: Bytes, handover: Handover) -> (Self, Seen) {
        let seen = Seen::nothing();
        let watched = Watched { io: Some(io), before, watch: Watch::default(), seen: seen.clone(), handover };
        (watched, seen)
    }

    /// The stream and what is still unread of the bytes before, unless it is given up.
    pub(crate) fn into_inner(self) -> Option<(IO, Bytes)> {
        Some((self.io?, self.before))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        // What is given up is another's: the library is let go before long.
        let Some(io) = &mut this.io else { return Poll::Pending };
        match this.before.len().min(buffer.remaining()) {
            0 => ready!(Pin::new(io).poll_read(cx, buffer))?,
            count => buffer.put_slice(&this.before.split_to(count)),
        }
        if let Some(number) = this.watch.take(&buffer.filled()[before..]) {
            this.seen.0.first_ambiguous.store(number, Ordering::Relaxed);
        }
        this.seen.0.is_between.store(this.watch.is_between_requests(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + IntoStream + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let Some(io) = &mut this.io else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let written = match slices {
            [one] => ready!(Pin::new(io).poll_write(cx, one)),
            many => ready!(Pin::new(io).poll_write_vectored(cx, many)),
        }?;
        let mut left = written;
        for slice in slices {
            let part = &slice[..slice.len().min(left)];
            this.handover.wrote(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(io) = &mut this.io else { return Poll::Ready(Ok(())) };
        ready!(Pin::new(io).poll_flush(cx))?;
        this.handover.flushed(&mut this.io);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// The beginning of a line that is kept: the longest name that matters, its colon, and the digits of any length or size.
const LINE_KEPT_MAX: usize = 48;

/// As many bytes has the value of a length that a client has no reason to write otherwise: its digits, and a blank.
const LENGTH_SIZE_MAX: usize = 21;

/// Follows the requests of a connection by their framing, and only that: what else is wrong with one is found by the library, which
/// then ends the connection.
#[derive(Debug, Default)]
struct Watch {
    /// How many heads have ended.
    heads: usize,
    part: Part,
    /// The beginning of the current line.
    line: Vec<u8>,
    /// Whether a head has begun: empty lines before it are passed over, as the library does.
    has_begun: bool,
    /// What the current head says so far.
    length: Option<u64>,
    is_chunked: bool,
    is_ambiguous: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Lines of a head.
    #[default]
    Head,
    /// So many bytes more of a body with a length.
    Body(u64),
    /// The line with the size of a chunk.
    Size,
    /// So many bytes more of a chunk.
    Chunk(u64),
    /// The rest of a chunk's last line.
    ChunkEnd,
    /// Lines behind the last chunk.
    Trailers,
    /// Something that cannot be followed, or a request with two lengths: nothing comes behind it.
    End,
}

impl Watch {
    /// Goes on with these bytes; the number of the first request with two lengths, if its head has ended in them.
    fn take(&mut self, mut bytes: &[u8]) -> Option<usize> {
        while !bytes.is_empty() {
            match &mut self.part {
                Part::End => return None,
                Part::Body(left) | Part::Chunk(left) if *left > 0 => {
                    let count = (*left).min(bytes.len() as u64);
                    *left -= count;
                    bytes = &bytes[count as usize..];
                }
                Part::Body(_) => self.part = Part::Head,
                Part::Chunk(_) => self.part = Part::ChunkEnd,
                _ => {
                    let end = bytes.iter().position(|&byte| byte == b'\n');
                    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    let room = LINE_KEPT_MAX - self.line.len();
                    self.line.extend_from_slice(&line[..line.len().min(room)]);
                    bytes = rest.get(1..).unwrap_or_default();
                    if end.is_some() && self.end_line() {
                        return Some(self.heads - 1);
                    }
                }
            }
        }
        None
    }

    /// Empty lines before a head belong to none.
    fn is_between_requests(&self) -> bool {
        match self.part {
            Part::Head => !self.has_begun && matches!(&self.line[..], b"" | b"\r"),
            Part::Body(left) => left == 0,
            _ => false,
        }
    }

    /// Whether a head with two lengths has ended with this line.
    fn end_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        match self.part {
            Part::Head if !line.is_empty() => self.header(line),
            Part::Head if self.has_begun => return self.end_head(),
            Part::Head => {}
            Part::Size => {
                let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
                self.part = match number(digits, 16) {
                    Some(0) => Part::Trailers,
                    Some(size) => Part::Chunk(size),
                    None => Part::End,
                };
            }
            Part::ChunkEnd => self.part = Part::Size,
            Part::Trailers if line.is_empty() => self.part = Part::Head,
            Part::Trailers | Part::Body(_) | Part::Chunk(_) | Part::End => {}
        }
        false
    }

    fn header(&mut self, line: &[u8]) {
        self.has_begun = true;
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length = number(value.trim_ascii(), 10).filter(|_| value.len() <= LENGTH_SIZE_MAX);
            // Written in a way that nobody needs: it might be understood otherwise.
            self.is_ambiguous |= self.length.is_none();
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = true;
        }
    }

    fn end_head(&mut self) -> bool {
        self.part = match (self.length, self.is_chunked) {
            _ if self.is_ambiguous => Part::End,
            (Some(_), true) => Part::End,
            (Some(length), false) => Part::Body(length),
            (None, true) => Part::Size,
            (None, false) => Part::Head,
        };
        let (heads, part) = (self.heads + 1, self.part);
        *self = Watch { heads, part, ..Watch::default() };
        part == Part::End
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    // A sign would be taken as well.
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_there_in_part_until_its_last_byte() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nab";
        let chunks = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        let mut watch = Watch::default();
        assert!(watch.is_between_requests());
        for request in [get, post, chunks, "\r\n", get] {
            for (index, byte) in request.bytes().enumerate() {
                watch.take(&[byte]);
                let is_whole = index + 1 == request.len() || request == "\r\n";
                assert_eq!(watch.is_between_requests(), is_whole, "{request:?} {index}");
            }
        }
    }

    #[test]
    fn the_watch_finds_two_lengths_in_whatever_pieces_they_come() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\ncontent-length: 37\r\n\r\ncontent-length: 1\r\ntransfer-encoding:";
        let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1b;x=y\r\n\r\nContent-Length: 1\r\nx: y\r\n\r\n0\r\na: b\r\n\r\n";
        let both = "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let reversed = "POST / HTTP/1.1\ntransfer-encoding:chunked\nCONTENT-LENGTH:3\n\n";
        let signed = "POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\nabc";
        let odd = format!("POST / HTTP/1.1\r\nContent-Length: {}3\r\n\r\n", "0".repeat(60));
        for (stream, expected) in [
            (vec![get, get], None),
            (vec![post, get], None),
            (vec![chunks, chunks, get], None),
            (vec![both], Some(0)),
            (vec![reversed], Some(0)),
            (vec![&odd], Some(0)),
            (vec![signed], Some(0)),
            (vec![get, "\r\n", post, chunks, both, both], Some(3)),
            (vec![chunks, reversed], Some(1)),
        ] {
            let bytes = stream.concat().into_bytes();
            for size in [1, 2, 3, 7, 64, 10_000] {
                let mut watch = Watch::default();
                let found: Vec<usize> = bytes.chunks(size).filter_map(|piece| watch.take(piece)).collect();
                assert_eq!(found, Vec::from_iter(expected), "{size}: {stream:?}");
            }
        }
    }
}
