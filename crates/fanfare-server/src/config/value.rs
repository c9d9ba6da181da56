//! The kinds of values that settings take: how each is read from TOML, and what is said of it in errors and in the
//! documentation.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

/// A value of a configuration file, with its place in it.
pub(crate) type Raw<'a> = Spanned<DeValue<'a>>;

/// What is wrong with a value, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: Range<usize>,
    pub(crate) text: String,
}

impl Fault {
    fn of(raw: &Raw<'_>, text: impl Into<String>) -> Vec<Self> {
        vec![Self { at: raw.span(), text: text.into() }]
    }
}

/// A kind of value.
pub(crate) trait Setting: Sized {
    /// What is accepted, as it follows "takes": `a duration such as "30s"`.
    fn accepts() -> String;

    /// Reads a value.
    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>>;

    /// The value for whoever may see the configuration. What may be a secret is not in it.
    fn shown(raw: &Raw<'_>) -> Value {
        as_json(raw.get_ref())
    }

    /// What counts where a flag or the environment says one thing and the file another.
    fn over(stronger: Self, _weaker: Self) -> Self {
        stronger
    }

    /// The value of a setting that is not given and has no default; `None` where it must be given.
    fn absent() -> Option<Self> {
        None
    }
}

/// A kind of value that is written as a string, and read by `FromStr`; the error says what is wrong beyond
/// "takes `accepts()`", and may be empty.
pub(crate) trait Text: FromStr<Err = String> {
    /// See [`Setting::accepts`].
    fn accepts() -> String;

    /// See [`Setting::shown`].
    fn shown(text: &str) -> String {
        text.to_owned()
    }
}

impl<T: Text> Setting for T {
    fn accepts() -> String {
        <T as Text>::accepts()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let text = raw.get_ref().as_str().ok_or_else(|| refused::<Self>(raw))?;
        text.parse().map_err(|reason: String| match reason.as_str() {
            "" => refused::<Self>(raw),
            reason => Fault::of(raw, format!("{} is not accepted: {reason}", show(raw))),
        })
    }

    fn shown(raw: &Raw<'_>) -> Value {
        raw.get_ref().as_str().map(<T as Text>::shown).into()
    }
}

impl<T: Setting> Setting for Option<T> {
    fn over(stronger: Self, weaker: Self) -> Self {
        match (stronger, weaker) {
            (Some(stronger), Some(weaker)) => Some(T::over(stronger, weaker)),
            (stronger, _) => stronger,
        }
    }

    fn accepts() -> String {
        T::accepts()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        T::read(raw).map(Some)
    }

    fn shown(raw: &Raw<'_>) -> Value {
        T::shown(raw)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl Setting for bool {
    fn accepts() -> String {
        "`true` or `false`".into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        raw.get_ref().as_bool().ok_or_else(|| refused::<Self>(raw))
    }
}

impl Setting for String {
    fn accepts() -> String {
        "a string".into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        match raw.get_ref().as_str() {
            Some("") => Err(Fault::of(raw, "an empty string is not accepted: leave the key out instead")),
            Some(text) => Ok(text.to_owned()),
            None => Err(refused::<Self>(raw)),
        }
    }
}

impl Setting for PathBuf {
    fn accepts() -> String {
        "the path of a file, relative to the working directory".into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        match raw.get_ref().as_str() {
            Some(text) if !text.is_empty() => Ok(text.into()),
            _ => Err(refused::<Self>(raw)),
        }
    }
}

/// The path of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory(pub(crate) PathBuf);

impl Setting for Directory {
    fn accepts() -> String {
        "the path of a directory, relative to the working directory".into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        match raw.get_ref().as_str() {
            Some(text) if !text.is_empty() => Ok(Self(text.into())),
            _ => Err(refused::<Self>(raw)),
        }
    }
}

/// One value or a list of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OneOrMore<T>(pub(crate) Vec<T>);

impl<T: Setting> Setting for OneOrMore<T> {
    fn accepts() -> String {
        format!("{}, or a list of such", T::accepts())
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        match raw.get_ref().as_array() {
            Some(list) if list.is_empty() => Err(refused::<Self>(raw)),
            Some(_) => <Vec<T>>::read(raw).map(Self),
            None => T::read(raw).map(|one| Self(vec![one])),
        }
    }

    fn shown(raw: &Raw<'_>) -> Value {
        if raw.get_ref().is_array() { <Vec<T>>::shown(raw) } else { T::shown(raw) }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn accepts() -> String {
        format!("a list, each {}", T::accepts())
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let list = raw.get_ref().as_array().ok_or_else(|| refused::<Self>(raw))?;
        let (mut values, mut faults) = (Vec::new(), Vec::new());
        for item in list.iter() {
            match T::read(item) {
                Ok(value) => values.push(value),
                Err(mut more) => faults.append(&mut more),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(faults) }
    }

    fn shown(raw: &Raw<'_>) -> Value {
        raw.get_ref().as_array().into_iter().flat_map(|list| list.iter()).map(T::shown).collect()
    }
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Setting for Count<MIN, MAX> {
    fn accepts() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        integer(raw).filter(|n| (MIN..=MAX).contains(n)).map(Self).ok_or_else(|| refused::<Self>(raw))
    }
}

/// A number of bytes within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Setting for Size<MIN, MAX> {
    fn accepts() -> String {
        format!(
            "a size from {} to {}: a number of bytes, or a string with a unit (B, KB, MB, GB, KiB, MiB, GiB)",
            show_size(MIN),
            show_size(MAX)
        )
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let units = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("KB", 1000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("B", 1),
        ];
        let bytes = match raw.get_ref().as_str() {
            Some(text) => with_unit(text, &units),
            None => integer(raw),
        };
        bytes.filter(|n| (MIN..=MAX).contains(n)).map(Self).ok_or_else(|| refused::<Self>(raw))
    }
}

/// A length of time within bounds, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span<const MIN_MS: u64, const MAX_MS: u64>(pub(crate) Duration);

impl<const MIN_MS: u64, const MAX_MS: u64> Setting for Span<MIN_MS, MAX_MS> {
    fn accepts() -> String {
        format!(
            "a duration from {} to {}: a string with a unit (ms, s, m, h)",
            show_duration(MIN_MS),
            show_duration(MAX_MS)
        )
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
        let ms = raw.get_ref().as_str().and_then(|text| with_unit(text, &units));
        match ms.filter(|n| (MIN_MS..=MAX_MS).contains(n)) {
            Some(ms) => Ok(Self(Duration::from_millis(ms))),
            None => Err(refused::<Self>(raw)),
        }
    }
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl Text for Address {
    fn accepts() -> String {
        let examples = r#""127.0.0.1:4000", "0.0.0.0:4000" for every interface, or "[::1]:4000""#;
        format!("an IP address and a port such as {examples}; port 0 is any free one")
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
            return Ok(Self((Ipv4Addr::LOCALHOST, port).into()));
        }
        text.parse().map(Self).map_err(|_| match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            Ok(port) => {
                format!(r#"it has no IP address; write "127.0.0.1:{port}", or "0.0.0.0:{port}" for every interface"#)
            }
            Err(_) => String::new(),
        })
    }
}

/// Declares an enum of the words that a setting takes, and of those that later versions will take.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ } later [$($later:literal),*]
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The word.
            #[allow(dead_code, reason = "not every choice is told")]
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl $crate::config::value::Text for $name {
            fn accepts() -> String {
                $crate::config::value::any_of(&[$($word),+])
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let later: &[&str] = &[$($later),*];
                match text {
                    $($word => Ok(Self::$variant),)+
                    text if later.contains(&text) => {
                        let accepts = <Self as $crate::config::value::Text>::accepts();
                        Err(format!("it is not supported in this version, which takes {accepts}"))
                    }
                    _ => Err(String::new()),
                }
            }
        }
    };
}
pub(crate) use choice;

/// `"a", "b" or "c"`.
pub(crate) fn any_of(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

pub(super) fn refused<T: Setting>(raw: &Raw<'_>) -> Vec<Fault> {
    Fault::of(raw, format!("{} is not accepted: it takes {}", show(raw), T::accepts()))
}

/// What a value says.
pub(super) fn as_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.into(),
            Err(_) => number.to_string().into(),
        },
        DeValue::Boolean(is_true) => (*is_true).into(),
        DeValue::Array(items) => items.iter().map(|item| as_json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(name, value)| (name.get_ref().to_string(), as_json(value.get_ref()))).collect()
        }
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Float(number) => number.as_str().into(),
        DeValue::Datetime(time) => time.to_string().into(),
    }
}

/// A value as it stands in an error message, on one short line.
fn show(raw: &Raw<'_>) -> String {
    match raw.get_ref() {
        DeValue::String(text) => show_text(text),
        DeValue::Integer(n) => n.to_string(),
        DeValue::Float(n) => n.to_string(),
        DeValue::Boolean(b) => b.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) if list.is_empty() => "an empty list".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// An address without its user and password.
fn show_text(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let login = text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1)));
    let text = login.map_or(Cow::Borrowed(text), |(scheme, host)| format!("{scheme}://…@{host}").into());
    if text.chars().count() > SHOWN_MAX {
        return format!("{:?}", text.chars().take(SHOWN_MAX).chain(['…']).collect::<String>());
    }
    format!("{text:?}")
}

fn integer(raw: &Raw<'_>) -> Option<u64> {
    let n = raw.get_ref().as_integer()?;
    u64::from_str_radix(n.as_str(), n.radix()).ok()
}

/// A whole number and one of these units.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show_size(bytes: u64) -> String {
    match bytes {
        n if n > 0 && n % 1_000_000_000 == 0 => format!("{}GB", n / 1_000_000_000),
        n if n > 0 && n % 1_000_000 == 0 => format!("{}MB", n / 1_000_000),
        n if n > 0 && n % 1000 == 0 => format!("{}KB", n / 1000),
        n => format!("{n}B"),
    }
}

fn show_duration(ms: u64) -> String {
    match ms {
        n if n > 0 && n % 3_600_000 == 0 => format!("{}h", n / 3_600_000),
        n if n > 0 && n % 60_000 == 0 => format!("{}m", n / 60_000),
        n if n % 1000 == 0 => format!("{}s", n / 1000),
        n => format!("{n}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        T::read(&DeValue::parse(text).unwrap()).map_err(|faults| faults[0].text.clone())
    }

    #[test]
    fn numbers_sizes_and_durations() {
        assert_eq!(read::<Count<1, 100>>("0x10").unwrap().0, 16);
        assert_eq!(
            read::<Count<1, 100>>("101").unwrap_err(),
            "101 is not accepted: it takes a whole number from 1 to 100"
        );
        assert!(read::<Count<1, 100>>("-1").is_err());
        assert!(read::<Count<1, 100>>("1.5").is_err());
        assert!(read::<Count<1, 100>>("\"5\"").is_err());
        #[track_caller]
        fn size(text: &str, expected: Option<u64>) {
            assert_eq!(read::<Size<1, 10_000_000_000>>(text).ok().map(|size| size.0), expected, "{text}");
        }
        size("8000", Some(8000));
        size("\"8MB\"", Some(8_000_000));
        size("\"8 MiB\"", Some(8 << 20));
        size("\"12B\"", Some(12));
        size("\"8mb\"", None);
        size("\"8\"", None);
        size("0", None);
        size("\"99999999999GB\"", None);
        #[track_caller]
        fn span(text: &str, expected_ms: Option<u64>) {
            let expected = expected_ms.map(Duration::from_millis);
            assert_eq!(read::<Span<10, 3_600_000>>(text).ok().map(|span| span.0), expected, "{text}");
        }
        span("\"30s\"", Some(30_000));
        span("\"500ms\"", Some(500));
        span("\"2m\"", Some(120_000));
        span("\"1h\"", Some(3_600_000));
        span("\"2h\"", None);
        span("\"9ms\"", None);
        span("30", None);
        span("\"-1s\"", None);
        span("\"s\"", None);
        assert!(Span::<10, 3_600_000>::accepts().starts_with("a duration from 10ms to 1h"));
    }

    #[test]
    fn addresses() {
        assert_eq!(read::<Address>("\"localhost:4000\"").unwrap().0, "127.0.0.1:4000".parse().unwrap());
        assert_eq!(read::<Address>("\"[::1]:1\"").unwrap().0, "[::1]:1".parse().unwrap());
        let error = read::<Address>("\":4000\"").unwrap_err();
        assert!(error.contains("0.0.0.0:4000"), "{error}");
        let error = read::<Address>("\"example.com\"").unwrap_err();
        assert!(error.starts_with("\"example.com\" is not accepted: it takes an IP address"), "{error}");
    }

    #[test]
    fn every_bad_item_of_a_list_is_named() {
        let raw = DeValue::parse("[1, 'x', 2, 300]").unwrap();
        let faults = <Vec<Count<1, 100>>>::read(&raw).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.at.clone()).collect::<Vec<_>>(), [4..7, 12..15]);
        assert_eq!(read::<OneOrMore<String>>("'a'").unwrap().0, ["a"]);
        assert_eq!(read::<OneOrMore<String>>("['a', 'b']").unwrap().0, ["a", "b"]);
        assert!(read::<OneOrMore<String>>("[]").is_err());
    }

    #[test]
    fn choices_tell_unknown_from_later() {
        choice! {
            enum Colour { Red = "red", Blue = "blue", } later ["green"]
        }
        assert_eq!(read::<Colour>("'blue'").unwrap(), Colour::Blue);
        assert_eq!(read::<Colour>("'x'").unwrap_err(), r#""x" is not accepted: it takes "red" or "blue""#);
        assert!(read::<Colour>("'green'").unwrap_err().contains("not supported in this version"));
        assert_eq!(read::<Colour>("'red'").unwrap(), Colour::Red);
    }
}
