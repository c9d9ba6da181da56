//! What stands before the payload of a message: a version, perhaps a status, and names with values.

/// The first line.
const VERSION: &str = "NATS/1.0";

/// Headers, read where they lie. Those that are none have no status and no names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a>(&'a [u8]);

impl<'a> Headers<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Headers(bytes)
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The status of an answer without a payload, such as 503: nobody is there.
    pub fn status(self) -> Option<u16> {
        let rest = self.first().trim_ascii_start();
        let digits = rest.split(|byte| *byte == b' ').next()?;
        if digits.len() != 3 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        str::from_utf8(digits).ok()?.parse().ok()
    }

    /// What the status means, in the server's words.
    pub fn description(self) -> &'a str {
        let rest = self.first().trim_ascii_start();
        let text = rest.get(3..).filter(|_| self.status().is_some()).unwrap_or_default();
        str::from_utf8(text.trim_ascii()).unwrap_or_default()
    }

    /// The first value with this name.
    pub fn get(self, name: &str) -> Option<&'a str> {
        let mut lines = self.0.split(|byte| *byte == b'\n').skip(1);
        let value = lines.find_map(|line| {
            let (head, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":").filter(|_| head.eq_ignore_ascii_case(name.as_bytes()))?;
            Some(value.trim_ascii())
        })?;
        str::from_utf8(value).ok()
    }

    /// A number with this name.
    pub fn number(self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// The first line behind the version.
    fn first(self) -> &'a [u8] {
        let line = self.0.split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.strip_suffix(b"\r").unwrap_or(line).strip_prefix(VERSION.as_bytes()).unwrap_or_default()
    }
}

/// How many bytes these take.
pub(super) fn size(headers: &[(&str, &str)]) -> usize {
    let lines: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    VERSION.len() + 2 + lines + 2
}

/// Appends them.
pub(super) fn write(headers: &[(&str, &str)], out: &mut Vec<u8>) {
    out.extend_from_slice(VERSION.as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in headers {
        debug_assert!(!value.contains(['\r', '\n']) && !name.contains([':', '\r', '\n']));
        for part in [name, ": ", value, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}
