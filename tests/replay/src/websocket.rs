//! WebSocket frames from the client's side: whatever a transcript wants sent, and a strict reading of what comes.

use crate::run::Incoming;
use crate::script::SentFrame;
use flate2::{Decompress, FlushDecompress, Status};
use std::io::{self, Read};

/// The longest message that is accepted from a server, in bytes, also after inflating.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A frame as bytes, however odd.
pub(crate) fn encode(frame: &SentFrame) -> Vec<u8> {
    // Any mask is as good as another for a test, and a fixed one makes runs alike.
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let length = frame.payload.len();
    let mut bytes = Vec::with_capacity(length + 14);
    bytes.push(u8::from(frame.fin) << 7 | frame.rsv << 4 | frame.opcode);
    let mask_bit = u8::from(frame.masked) << 7;
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => bytes.push(mask_bit | short),
        (_, Ok(medium)) => {
            bytes.push(mask_bit | 126);
            bytes.extend(medium.to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if frame.masked {
        bytes.extend(MASK);
        bytes.extend(frame.payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend(&frame.payload);
    }
    bytes
}

/// What the reader found.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Incoming(Incoming),
    /// To be answered, and otherwise of no interest.
    Ping(Vec<u8>),
}

/// Reads the server's frames and puts messages together.
pub(crate) struct Reader<R> {
    stream: R,
    deflate: Option<Inflater>,
    /// The message whose frames are coming in.
    message: Option<Message>,
}

struct Message {
    text: bool,
    compressed: bool,
    bytes: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// `extensions` is what the server answered in `Sec-WebSocket-Extensions`.
    pub(crate) fn new(stream: R, extensions: &str) -> Reader<R> {
        let deflate = extensions.contains("permessage-deflate").then(|| Inflater {
            state: Decompress::new(false),
            keeps_context: !extensions.contains("server_no_context_takeover"),
        });
        Reader { stream, deflate, message: None }
    }

    /// The next message or control frame; an error is the end of the connection. After a violation there is nothing
    /// left worth reading.
    pub(crate) fn next(&mut self) -> io::Result<Received> {
        loop {
            let [first, second] = self.read_array()?;
            let length = match second & 0x7f {
                126 => u64::from(u16::from_be_bytes(self.read_array()?)),
                127 => u64::from_be_bytes(self.read_array()?),
                short => u64::from(short),
            };
            let (fin, rsv, opcode) = (first & 0x80 != 0, first >> 4 & 7, first & 0xf);
            let violation = |what: &str| Ok(Received::Incoming(Incoming::Violation(what.to_owned())));
            if second & 0x80 != 0 {
                return violation("masked frame");
            }
            let before = self.message.as_ref().map_or(0, |message| message.bytes.len());
            let Some(length) = usize::try_from(length).ok().filter(|n| before + n <= MESSAGE_BYTES_MAX) else {
                return violation("frame longer than anything expected");
            };
            if opcode >= 8 && (!fin || length > 125) {
                return violation("fragmented or long control frame");
            }
            let may_be_compressed = self.deflate.is_some() && matches!(opcode, 1 | 2);
            if rsv != 0 && !(rsv == 4 && may_be_compressed) {
                return violation("reserved bit without an extension that uses it");
            }
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload)?;
            match (opcode, self.message.is_some()) {
                (1 | 2, false) => {
                    self.message = Some(Message { text: opcode == 1, compressed: rsv == 4, bytes: payload });
                }
                (0, true) => self.message.iter_mut().for_each(|message| message.bytes.append(&mut payload)),
                (8, _) => return Ok(Received::Incoming(close(&payload))),
                (9, _) => return Ok(Received::Ping(payload)),
                (10, _) => return Ok(Received::Incoming(Incoming::Pong(payload))),
                _ => return violation(&format!("opcode {opcode} out of place")),
            }
            if let Some(message) = self.message.take_if(|_| fin && opcode < 8) {
                return Ok(Received::Incoming(self.whole(message)));
            }
        }
    }

    fn whole(&mut self, message: Message) -> Incoming {
        let bytes = match &mut self.deflate {
            Some(inflater) if message.compressed => match inflater.inflate(message.bytes) {
                Some(bytes) => bytes,
                None => return Incoming::Violation("message that cannot be inflated".to_owned()),
            },
            _ => message.bytes,
        };
        match message.text {
            true if std::str::from_utf8(&bytes).is_err() => Incoming::Violation("text that is not UTF-8".to_owned()),
            true => Incoming::Text(bytes),
            false => Incoming::Binary(bytes),
        }
    }

    fn read_array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn close(payload: &[u8]) -> Incoming {
    match payload {
        [] => Incoming::Close { code: None, reason: String::new() },
        [_] => Incoming::Violation("close frame of one byte".to_owned()),
        [high, low, reason @ ..] => Incoming::Close {
            code: Some(u16::from_be_bytes([*high, *low])),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
    }
}

struct Inflater {
    state: Decompress,
    keeps_context: bool,
}

impl Inflater {
    fn inflate(&mut self, mut compressed: Vec<u8>) -> Option<Vec<u8>> {
        // The end of a flushed block, which the sender takes off every message.
        compressed.extend([0, 0, 0xff, 0xff]);
        let mut bytes = Vec::new();
        let mut rest = compressed.as_slice();
        loop {
            bytes.reserve(rest.len().max(1 << 10) * 4);
            let (consumed, produced) = (self.state.total_in(), bytes.len());
            let status = self.state.decompress_vec(rest, &mut bytes, FlushDecompress::Sync).ok()?;
            rest = &rest[usize::try_from(self.state.total_in() - consumed).ok()?..];
            let full = bytes.len() == bytes.capacity();
            if bytes.len() > MESSAGE_BYTES_MAX {
                return None;
            }
            if status == Status::StreamEnd || (rest.is_empty() && !full) {
                break;
            }
            if rest.len() == compressed.len() && bytes.len() == produced {
                return None;
            }
        }
        if !self.keeps_context {
            self.state.reset(false);
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    fn read_all(bytes: &[u8], extensions: &str) -> Vec<Received> {
        let mut reader = Reader::new(bytes, extensions);
        std::iter::from_fn(|| reader.next().ok()).collect()
    }

    fn frame(opcode: u8, payload: &[u8], fin: bool, rsv: u8) -> Vec<u8> {
        encode(&SentFrame { opcode, payload: payload.to_vec(), fin, rsv, masked: false })
    }

    fn text(text: &str) -> Received {
        Received::Incoming(Incoming::Text(text.as_bytes().to_vec()))
    }

    #[test]
    fn frames_of_all_lengths_and_bits() {
        let head = |length: usize, fin, rsv, masked| {
            let bytes = encode(&SentFrame { opcode: 1, payload: vec![0; length], fin, rsv, masked });
            let header = bytes.len() - length;
            bytes[..header].to_vec()
        };
        assert_eq!(head(0, true, 0, false), [0x81, 0]);
        assert_eq!(head(125, false, 4, false), [0x41, 125]);
        assert_eq!(head(126, true, 0, false), [0x81, 126, 0, 126]);
        assert_eq!(head(65535, true, 0, false), [0x81, 126, 255, 255]);
        assert_eq!(head(65536, true, 0, false), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(head(1, true, 0, true)[..2], [0x81, 0x81]);
        let masked = encode(&SentFrame { opcode: 1, payload: b"abcde".to_vec(), fin: true, rsv: 0, masked: true });
        let unmasked: Vec<u8> = masked[6..].iter().zip(masked[2..6].iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(unmasked, b"abcde");
    }

    #[test]
    fn messages_are_put_together() {
        let long = "x".repeat(70_000);
        let bytes = [
            frame(1, b"a", false, 0),
            frame(9, b"ping", true, 0),
            frame(0, b"b", true, 0),
            frame(1, long.as_bytes(), true, 0),
            frame(2, b"\xff", true, 0),
            frame(10, b"p", true, 0),
            frame(8, b"\x03\xe8bye", true, 0),
            frame(8, b"", true, 0),
        ]
        .concat();
        let expected = [
            Received::Ping(b"ping".to_vec()),
            text("ab"),
            text(&long),
            Received::Incoming(Incoming::Binary(vec![255])),
            Received::Incoming(Incoming::Pong(b"p".to_vec())),
            Received::Incoming(Incoming::Close { code: Some(1000), reason: "bye".into() }),
            Received::Incoming(Incoming::Close { code: None, reason: String::new() }),
        ];
        assert_eq!(read_all(&bytes, ""), expected);
    }

    #[test]
    fn violations_are_seen() {
        let masked = encode(&SentFrame { opcode: 1, payload: b"x".to_vec(), fin: true, rsv: 0, masked: true });
        let deflate = "permessage-deflate";
        for (bytes, extensions) in [
            (masked, ""),
            (frame(1, b"x", true, 4), ""),
            (frame(1, b"x", true, 2), deflate),
            (frame(9, b"x", true, 4), deflate),
            (frame(1, b"\xff\xff", true, 4), deflate),
            (frame(1, b"\xff", true, 0), ""),
            (frame(0, b"x", true, 0), ""),
            ([frame(1, b"x", false, 0), frame(1, b"x", true, 0)].concat(), ""),
            (frame(3, b"x", true, 0), ""),
            (frame(9, b"x", false, 0), ""),
            (frame(9, &[0; 126], true, 0), ""),
            (frame(8, b"x", true, 0), ""),
            (vec![0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255], ""),
        ] {
            let first = Reader::new(bytes.as_slice(), extensions).next();
            assert!(matches!(first, Ok(Received::Incoming(Incoming::Violation(_)))), "{bytes:?} gave {first:?}");
        }
    }

    #[test]
    fn compressed_messages_with_and_without_context() {
        let messages = ["hello hello hello".to_owned(), "hello hello hello".to_owned(), "z".repeat(300_000)];
        for keeps_context in [true, false] {
            let mut deflater = Compress::new(Compression::fast(), false);
            let mut bytes = Vec::new();
            for message in &messages {
                let mut compressed = Vec::with_capacity(1 << 20);
                deflater.compress_vec(message.as_bytes(), &mut compressed, FlushCompress::Sync).unwrap();
                compressed.truncate(compressed.len() - 4);
                let (start, end) = compressed.split_at(compressed.len() / 2);
                bytes.extend([frame(1, start, false, 4), frame(0, end, true, 0)].concat());
                if !keeps_context {
                    deflater.reset();
                }
            }
            bytes.extend(frame(1, b"plain", true, 0));
            let extensions = match keeps_context {
                true => "permessage-deflate",
                false => "permessage-deflate; server_no_context_takeover",
            };
            let received = read_all(&bytes, extensions);
            assert_eq!(received, [text(&messages[0]), text(&messages[1]), text(&messages[2]), text("plain")]);
        }
    }
}
