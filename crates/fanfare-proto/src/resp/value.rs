//! The values of a frame that is all there, read where they lie.

use super::{Fault, LINE_SIZE_MAX};

/// One value. Which of several kinds of strings and numbers it was makes no difference to any reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A string of any kind, and a big number or a double as it is written.
    Text(&'a [u8]),
    /// An error, with its code in front: `NOSCRIPT No matching script`.
    Error(&'a [u8]),
    /// A number.
    Number(i64),
    /// A truth value.
    Boolean(bool),
    /// Nothing.
    Null,
    /// A list, or a set.
    List(Items<'a>),
    /// Keys and values by turns.
    Map(Items<'a>),
    /// A list that nobody asked for: a message, or a confirmation of a subscription.
    Push(Items<'a>),
}

impl<'a> Value<'a> {
    /// The value of a frame that [`Scanner`](super::Scanner) has seen the end of. Anything else is read as [`Value::Null`].
    pub fn read(frame: &'a [u8]) -> Self {
        Items { left: frame, count: 1 }.next().unwrap_or(Value::Null)
    }

    /// The text, where it is one.
    pub fn text(self) -> Option<&'a [u8]> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// The number, where it is one or a text that is one.
    pub fn number(self) -> Option<i64> {
        match self {
            Value::Number(number) => Some(number),
            Value::Text(text) => str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    /// The items, where it has some.
    pub fn items(self) -> Option<Items<'a>> {
        if let Value::List(items) | Value::Map(items) | Value::Push(items) = self { Some(items) } else { None }
    }
}

/// The values of a list, of a push, or the keys and values of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Items<'a> {
    left: &'a [u8],
    count: u64,
}

impl Items<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        self.count = self.count.checked_sub(1)?;
        let mut left = self.left;
        let value = take(&mut left);
        self.left = left;
        value
    }
}

/// Takes a value; `None` where the bytes are not those of a frame.
fn take<'a>(left: &mut &'a [u8]) -> Option<Value<'a>> {
    loop {
        let (header, size) = header(left).ok()??;
        let (line, rest) = left.split_at_checked(size)?;
        let kind = *line.first()?;
        let line = &line[1..size - 2];
        *left = rest;
        return Some(match header {
            Header::Line => match kind {
                b'+' | b',' | b'(' => Value::Text(line),
                b'-' => Value::Error(line),
                b':' => Value::Number(number(line)?),
                b'#' => Value::Boolean(line == b"t"),
                _ => Value::Null,
            },
            Header::String(length) => {
                let (text, rest) = rest.split_at_checked(length as usize)?;
                *left = rest.get(2..)?;
                match kind {
                    b'!' => Value::Error(text),
                    // Its first four bytes say what it is written in.
                    b'=' => Value::Text(text.get(4..).unwrap_or(text)),
                    _ => Value::Text(text),
                }
            }
            Header::Attributes(count) => {
                skip(left, count)?;
                continue;
            }
            Header::Values(count) => {
                let items = Items { left: rest, count };
                skip(left, count)?;
                match kind {
                    b'>' => Value::Push(items),
                    b'%' => Value::Map(items),
                    _ => Value::List(items),
                }
            }
        });
    }
}

/// Passes over values with all that is in them.
fn skip(left: &mut &[u8], mut count: u64) -> Option<()> {
    while count > 0 {
        let (header, size) = header(left).ok()??;
        let (size, more) = match header {
            Header::Line => (size, 0),
            Header::String(length) => (size + length as usize + 2, 0),
            Header::Values(count) => (size, count),
            Header::Attributes(count) => (size, count + 1),
        };
        *left = left.get(size..)?;
        count = count + more - 1;
    }
    Some(())
}

/// What the first line of a value says of the rest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Header {
    /// The line is all of it.
    Line,
    /// So many bytes follow, and an end of line.
    String(u64),
    /// So many values follow.
    Values(u64),
    /// So many values follow, and then the value that they say something about.
    Attributes(u64),
}

/// What the first line says, and its length with its end; `None` if it is not all there.
pub(super) fn header(bytes: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    let Some((kind, line)) = bytes.split_first() else { return Ok(None) };
    let header = match kind {
        b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
            let searched = &line[..line.len().min(LINE_SIZE_MAX)];
            let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
                return if line.len() > LINE_SIZE_MAX { Err(Fault::Line) } else { Ok(None) };
            };
            let Some((b'\r', line)) = searched[..end].split_last() else { return Err(Fault::Ending) };
            if *kind == b':' && number(line).is_none() {
                return Err(Fault::Number);
            }
            return Ok(Some((Header::Line, end + 2)));
        }
        b'$' | b'!' | b'=' => Header::String,
        b'*' | b'~' | b'>' => Header::Values,
        b'%' => |pairs: u64| Header::Values(pairs.saturating_mul(2)),
        b'|' => |pairs: u64| Header::Attributes(pairs.saturating_mul(2)),
        kind => return Err(Fault::Type(*kind)),
    };
    // The commonest by far, and so without a search for the end of the line.
    let mut length = 0_u64;
    for (place, byte) in line.iter().enumerate() {
        match byte {
            b'0'..=b'9' if place < DIGITS_MAX => length = length * 10 + u64::from(byte - b'0'),
            b'\r' if place > 0 => match line.get(place + 1) {
                Some(b'\n') => return Ok(Some((header(length), place + 3))),
                Some(_) => return Err(Fault::Number),
                None => return Ok(None),
            },
            // As older versions write what is not there.
            b'-' if place == 0 => match line.get(..4) {
                Some(b"-1\r\n") => return Ok(Some((Header::Line, 5))),
                Some(_) => return Err(Fault::Number),
                None if b"-1\r\n".starts_with(line) => return Ok(None),
                None => return Err(Fault::Number),
            },
            _ => return Err(Fault::Number),
        }
    }
    Ok(None)
}

/// A length with more digits is beyond every bound.
const DIGITS_MAX: usize = 12;

fn number(digits: &[u8]) -> Option<i64> {
    str::from_utf8(digits).ok()?.parse().ok()
}
