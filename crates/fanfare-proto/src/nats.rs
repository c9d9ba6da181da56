//! The protocol of NATS as a client reads it: what a server says, and how it is told something.
//!
//! What a server says is a line, behind which a message has its bytes. [`Said::read`] reads the first of a stream where it lies; a line
//! is short, so that looking for its end again when more bytes have come costs nothing to speak of.
//!
//! Why this is our own: a node has a subscription for each of its topics, 100,000 perhaps, and a client library keeps a queue for each.

mod headers;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Write as _;

pub use self::headers::Headers;

/// The longest line but that of `INFO`. A server takes no longer ones either, by default.
pub const LINE_SIZE_MAX: usize = 4_096;

/// The longest `INFO`, which names all servers of a cluster.
pub const INFO_SIZE_MAX: usize = 256 * 1_024;

/// Why a server's bytes are not taken. The connection is of no use then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A line that says nothing a server may say.
    Unknown,
    /// A line that does not end in time.
    Line,
    /// A message whose line is not one: names, or lengths that are no numbers or contradict each other.
    Message,
    /// A message of so many bytes, more than were allowed.
    Size(u64),
    /// A message that does not end where it should.
    Ending,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not NATS: it says something that no NATS server says"),
            Self::Line => f.write_str("not NATS: a line without an end"),
            Self::Message => f.write_str("not NATS: the line of a message makes no sense"),
            Self::Size(size) => write!(f, "a message of {size} bytes is longer than anything that was asked for"),
            Self::Ending => f.write_str("not NATS: a message does not end where it should"),
        }
    }
}

impl std::error::Error for Fault {}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// Who it is, as JSON.
    Info(&'a [u8]),
    /// A message.
    Message(Message<'a>),
    /// It wants to know whether there is somebody: `PONG` is the answer.
    Ping,
    /// All that was sent before the `PING` was handled.
    Pong,
    /// Something was done; only where the client has asked for such answers.
    Ok,
    /// Something was not done, in the server's words.
    Error(&'a str),
}

/// A message for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it was published to.
    pub subject: &'a str,
    /// The number of the subscription.
    pub subscription: u64,
    /// Where an answer is expected.
    pub reply: Option<&'a str>,
    /// What stands before its payload.
    pub headers: Headers<'a>,
    /// What it says.
    pub payload: &'a [u8],
}

impl<'a> Said<'a> {
    /// Reads the first that `bytes` say, with its length; `None` if it is not all there. A message has at most `size_max` bytes,
    /// headers included.
    ///
    /// # Errors
    /// The bytes are not a server's, or beyond a bound.
    pub fn read(bytes: &'a [u8], size_max: usize) -> Result<Option<(Self, usize)>, Fault> {
        // Before it is known what it is, a line has at most so many bytes.
        let line_max = if is_word(bytes, b"INFO") { INFO_SIZE_MAX } else { LINE_SIZE_MAX };
        let within = &bytes[..bytes.len().min(line_max)];
        let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
            return if within.len() == line_max { Err(Fault::Line) } else { starts(bytes) };
        };
        let line = bytes[..end].strip_suffix(b"\r").ok_or(Fault::Unknown)?;
        let (word, rest) = match line.iter().position(|byte| matches!(byte, b' ' | b'\t')) {
            Some(end) => (&line[..end], line[end + 1..].trim_ascii()),
            None => (line, &b""[..]),
        };
        let said = match word.to_ascii_uppercase().as_slice() {
            b"MSG" => return message(rest, false, bytes, end + 1, size_max),
            b"HMSG" => return message(rest, true, bytes, end + 1, size_max),
            b"INFO" => Said::Info(rest),
            b"PING" => Said::Ping,
            b"PONG" => Said::Pong,
            b"+OK" => Said::Ok,
            b"-ERR" => {
                let text = str::from_utf8(rest).map_err(|_| Fault::Unknown)?;
                Said::Error(text.trim_matches('\''))
            }
            _ => return Err(Fault::Unknown),
        };
        Ok(Some((said, end + 1)))
    }
}

/// All words that a line may begin with.
const WORDS: [&[u8]; 7] = [b"MSG", b"HMSG", b"INFO", b"PING", b"PONG", b"+OK", b"-ERR"];

fn is_word(bytes: &[u8], word: &[u8]) -> bool {
    bytes.get(..word.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(word))
}

/// `None` for a line that is not all there, if it begins like one.
fn starts<T>(bytes: &[u8]) -> Result<Option<T>, Fault> {
    let begins = |word: &&[u8]| {
        let size = word.len().min(bytes.len());
        bytes[..size].eq_ignore_ascii_case(&word[..size])
    };
    if WORDS.iter().any(begins) { Ok(None) } else { Err(Fault::Unknown) }
}

/// Reads a message: of its line what stands behind the first word, and its bytes, which begin at `from`.
fn message<'a>(
    line: &'a [u8],
    has_headers: bool,
    bytes: &'a [u8],
    from: usize,
    size_max: usize,
) -> Result<Option<(Said<'a>, usize)>, Fault> {
    let line = str::from_utf8(line).map_err(|_| Fault::Message)?;
    let mut parts = [""; 5];
    let mut count = 0;
    for part in line.split_ascii_whitespace() {
        *parts.get_mut(count).ok_or(Fault::Message)? = part;
        count += 1;
    }
    let sizes = 1 + usize::from(has_headers);
    let reply = match count.checked_sub(2 + sizes) {
        Some(0) => None,
        Some(1) => Some(parts[2]),
        _ => return Err(Fault::Message),
    };
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().map_err(|_| Fault::Message),
        false => Err(Fault::Message),
    };
    let subscription = number(parts[1])?;
    let size = number(parts[count - 1])?;
    let headers_size = if has_headers { number(parts[count - 2])? } else { 0 };
    if size > size_max as u64 {
        return Err(Fault::Size(size));
    }
    if headers_size > size {
        return Err(Fault::Message);
    }
    // Both fit, since the larger one is within the bound.
    let (size, headers_size) = (size as usize, headers_size as usize);
    let Some(content) = bytes.get(from..from + size) else { return Ok(None) };
    match bytes.get(from + size..from + size + 2) {
        None => return Ok(None),
        Some(b"\r\n") => {}
        Some(_) => return Err(Fault::Ending),
    }
    let (headers, payload) = content.split_at(headers_size);
    let headers = Headers::new(headers);
    let message = Message { subject: parts[0], subscription, reply, headers, payload };
    Ok(Some((Said::Message(message), from + size + 2)))
}

/// Appends a command of one line.
pub fn write_line(parts: &[&str], out: &mut Vec<u8>) {
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a message: its subject, where an answer is expected, what stands before its payload, and that. Subjects have no spaces, and
/// names and values of headers no ends of lines.
pub fn write_message(subject: &str, reply: Option<&str>, headers: &[(&str, &str)], payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(if headers.is_empty() { b"PUB " } else { b"HPUB " });
    for part in [Some(subject), reply].into_iter().flatten() {
        out.extend_from_slice(part.as_bytes());
        out.push(b' ');
    }
    let size = if headers.is_empty() { 0 } else { headers::size(headers) };
    if size > 0 {
        write!(out, "{size} ").expect("memory takes all");
    }
    write!(out, "{}\r\n", size + payload.len()).expect("memory takes all");
    if size > 0 {
        headers::write(headers, out);
    }
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}
