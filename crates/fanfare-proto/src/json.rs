//! Where JSON values begin and end (RFC 8259): one pass, no recursion, nothing is built.
//!
//! Payloads travel as the text that they came as, so that all there is to do with them is to make sure that they are JSON,
//! once. What is asked beyond the grammar: a bounded nesting, paired surrogate escapes, and numbers that a double can hold,
//! however roughly, because a reader with a stricter parser than the sender's would fail on others.

use std::borrow::Cow;

/// A number of so many digits, sign and point, with no exponent, is not beyond what a double can hold.
const DIGITS_SAFE: usize = 308;

/// How many lists and objects a JSON text may hold inside one another.
///
/// A text at the limit is carried, but [`JsonText::to`](crate::payload::JsonText::to) follows the recursion limit of serde_json, which is lower for
/// types that nest.
pub const NESTING_MAX: usize = 512;

/// What a text is that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    NotJson,
    NestedTooDeeply,
    UnpairedSurrogate,
    NumberTooLarge,
}

impl Fault {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Fault::NotJson => "not JSON",
            Fault::NestedTooDeeply => "nested too deeply",
            Fault::UnpairedSurrogate => "unpaired surrogate escape",
            Fault::NumberTooLarge => "a number beyond 1.8e308",
        }
    }
}

/// The only value of a text, without the white space around it.
pub(crate) fn document(text: &str) -> Result<&str, Fault> {
    let mut scanner = Scanner::new(text);
    let value = scanner.value()?;
    if scanner.is_at_end() { Ok(value) } else { Err(Fault::NotJson) }
}

/// Hands over the members of the only value of a text, which must be an object: each key, and its value as it stands.
pub(crate) fn members<'a>(text: &'a str, mut member: impl FnMut(&str, &'a str)) -> Result<(), Fault> {
    let mut scanner = Scanner::new(text);
    if !scanner.takes(b'{') {
        return Err(Fault::NotJson);
    }
    if !scanner.takes(b'}') {
        loop {
            let key = string(scanner.value()?).ok_or(Fault::NotJson)?;
            if !scanner.takes(b':') {
                return Err(Fault::NotJson);
            }
            member(&key, scanner.value()?);
            if !scanner.takes(b',') {
                break;
            }
        }
        if !scanner.takes(b'}') {
            return Err(Fault::NotJson);
        }
    }
    if scanner.is_at_end() { Ok(()) } else { Err(Fault::NotJson) }
}

/// The text of a value that the scanner has taken, if it is a string; borrowed if it has no escapes.
pub(crate) fn string(value: &str) -> Option<Cow<'_, str>> {
    let content = value.strip_prefix('"')?.strip_suffix('"')?;
    Some(match content.as_bytes().contains(&b'\\') {
        false => Cow::Borrowed(content),
        true => Cow::Owned(serde_json::from_str(value).expect("what was taken is JSON, and its surrogates are paired")),
    })
}

/// Whether a text is written in a string as it is.
pub(crate) fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks::<8>();
    if words.iter().any(|word| special(word) != 0) {
        return false;
    }
    match (text.last_chunk::<8>(), text.first_chunk::<4>(), text.last_chunk::<4>()) {
        _ if rest.is_empty() => true,
        // Some of these have been looked at.
        (Some(last), ..) => special(last) == 0,
        (None, Some(&[a, b, c, d]), Some(&[e, f, g, h])) => special(&[a, b, c, d, e, f, g, h]) == 0,
        _ => !rest.iter().any(|byte| matches!(byte, b'"' | b'\\' | ..0x20)),
    }
}

/// The highest bit of each byte that does not stand for itself in a string: quotes, backslashes and control characters. Above the
/// first such byte others may be marked too, but only the first counts.
#[inline]
fn special(word: &[u8; 8]) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let word = u64::from_le_bytes(*word);
    // The highest bit of each byte that is zero.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let quotes = zeros(word ^ (ONES * u64::from(b'"')));
    let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
    let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    quotes | backslashes | controls
}

/// Reads a text from its beginning to its end.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Scanner { text, at: 0 }
    }

    /// Whether only white space is left.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Takes this byte, with white space before it, if it is the next.
    pub(crate) fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Takes the next value, and the white space before it.
    pub(crate) fn value(&mut self) -> Result<&'a str, Fault> {
        let first = self.peek();
        let start = self.at;
        match first {
            Some(b'{' | b'[') => self.nested()?,
            first => self.simple(first)?,
        }
        Ok(&self.text[start..self.at])
    }

    /// Takes a value that has no others in it, of which this byte is the first.
    #[inline]
    fn simple(&mut self, first: Option<u8>) -> Result<(), Fault> {
        match first {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(Fault::NotJson),
        }
    }

    /// Takes a list or an object.
    fn nested(&mut self) -> Result<(), Fault> {
        let mut open = Nesting::default();
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    open.push(Kind::Object)?;
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    open.push(Kind::List)?;
                    if self.peek() != Some(b']') {
                        continue;
                    }
                }
                first => self.simple(first)?,
            }
            // A value has ended, and with it perhaps what it is in.
            loop {
                let Some(kind) = open.innermost() else { return Ok(()) };
                match (self.peek(), kind) {
                    (Some(b']'), Kind::List) | (Some(b'}'), Kind::Object) => open.pop(),
                    (Some(b','), _) => {
                        self.at += 1;
                        if kind == Kind::Object {
                            self.key()?;
                        }
                        break;
                    }
                    _ => return Err(Fault::NotJson),
                }
                self.at += 1;
            }
        }
    }

    /// The next byte that is no white space; what is before it is passed.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                byte => return byte,
            }
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn key(&mut self) -> Result<(), Fault> {
        if self.peek() != Some(b'"') {
            return Err(Fault::NotJson);
        }
        self.string()?;
        if self.takes(b':') { Ok(()) } else { Err(Fault::NotJson) }
    }

    fn literal(&mut self, literal: &str) -> Result<(), Fault> {
        let is_next = self.text.as_bytes()[self.at..].starts_with(literal.as_bytes());
        self.at += literal.len();
        if is_next { Ok(()) } else { Err(Fault::NotJson) }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        self.at += usize::from(self.byte() == Some(b'-'));
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        } else if self.at - start <= DIGITS_SAFE {
            return Ok(());
        }
        match self.text[start..self.at].parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(()),
            _ => Err(Fault::NumberTooLarge),
        }
    }

    /// One digit at least.
    fn digits(&mut self) -> Result<(), Fault> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count > 0 { Ok(()) } else { Err(Fault::NotJson) }
    }

    /// Takes a string, of which the opening quote is next.
    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            self.pass_plain();
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                // A control character, or the end of the text.
                _ => return Err(Fault::NotJson),
            }
        }
    }

    /// Goes on to what does not stand for itself in a string, eight bytes at a time.
    fn pass_plain(&mut self) {
        let (words, _) = self.text.as_bytes()[self.at..].as_chunks::<8>();
        for word in words {
            let found = special(word);
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..0x20)).count();
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.text.as_bytes().get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.unit()? {
                0xd800..=0xdbff => match (self.byte(), self.text.as_bytes().get(self.at + 1)) {
                    (Some(b'\\'), Some(b'u')) if (0xdc00..=0xdfff).contains(&self.unit()?) => Ok(()),
                    _ => Err(Fault::UnpairedSurrogate),
                },
                0xdc00..=0xdfff => Err(Fault::UnpairedSurrogate),
                _ => Ok(()),
            },
            _ => Err(Fault::NotJson),
        }
    }

    /// Takes `\uXXXX`, of which the first two characters have been seen.
    fn unit(&mut self) -> Result<u16, Fault> {
        let digits = self.text.as_bytes()[self.at + 2..].first_chunk::<4>().ok_or(Fault::NotJson)?;
        self.at += 6;
        digits.iter().try_fold(0, |unit, &digit| {
            let value = char::from(digit).to_digit(16).ok_or(Fault::NotJson)?;
            Ok(unit << 4 | value as u16)
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Object,
}

/// What a value is inside of: a bit for each level, set for objects.
#[derive(Default)]
struct Nesting {
    depth: usize,
    objects: [u64; NESTING_MAX / 64],
}

impl Nesting {
    fn push(&mut self, kind: Kind) -> Result<(), Fault> {
        let word = self.objects.get_mut(self.depth / 64).ok_or(Fault::NestedTooDeeply)?;
        let bit = 1 << (self.depth % 64);
        match kind {
            Kind::List => *word &= !bit,
            Kind::Object => *word |= bit,
        }
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
    }

    fn innermost(&self) -> Option<Kind> {
        let level = self.depth.checked_sub(1)?;
        Some(if self.objects[level / 64] >> (level % 64) & 1 == 1 { Kind::Object } else { Kind::List })
    }
}

#[cfg(test)]
mod tests;
