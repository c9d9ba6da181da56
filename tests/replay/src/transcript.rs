//! Reading transcript files. Unknown fields are errors: a check that is misspelt would otherwise never be made.

use crate::script::{self, Step};
use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One recorded scenario.
#[derive(Debug, Clone)]
pub struct Transcript {
    /// Unique among the transcripts; also the file's name.
    pub name: String,
    /// How long the scenario takes by its nature, where that is 10 s and more.
    pub slow: Option<Duration>,
    /// The scenario sends signals to the server's process, and with that ends it.
    pub needs_pid: bool,
    /// The recorded pauses must not be scaled.
    pub(crate) fixed: bool,
    pub(crate) steps: Vec<Step>,
}

impl Transcript {
    /// Reads one transcript from JSON.
    ///
    /// # Errors
    /// Says which step is not understood, and why.
    pub fn parse(json: &str) -> Result<Transcript, LoadError> {
        Self::from_json(json).map_err(LoadError)
    }

    fn from_json(json: &str) -> Result<Transcript, String> {
        let value: Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let fields = Fields::of(&value)?;
        fields.only(&["name", "vsn", "transport", "recorded", "notes", "slow", "needs", "fixed", "steps"])?;
        let needs_pid = match fields.get("needs") {
            None => false,
            Some(needs) if needs == "pid" => true,
            Some(needs) => return Err(format!("needs: only \"pid\" is known, not {needs}")),
        };
        Ok(Transcript {
            name: fields.str("name")?.to_owned(),
            slow: fields.opt_number("slow")?.map(Duration::from_secs),
            needs_pid,
            fixed: fields.flag("fixed")?.unwrap_or(false),
            steps: script::parse(fields.list("steps")?)?,
        })
    }
}

/// Loads a file, or all `.json` files of a directory in the order of their names.
///
/// # Errors
/// Names the file that cannot be read or understood.
pub fn load(path: &Path) -> Result<Vec<Transcript>, LoadError> {
    let in_file = |path: &Path, e: &dyn fmt::Display| LoadError(format!("{}: {e}", path.display()));
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = path.read_dir().map_err(|e| in_file(path, &e))?;
        let entries: Result<Vec<PathBuf>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        files = entries.map_err(|e| in_file(path, &e))?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        files.sort();
    }
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).map_err(|e| in_file(file, &e))?;
        Transcript::parse(&text).map_err(|e| in_file(file, &e))
    };
    files.iter().map(read).collect()
}

/// Why a transcript cannot be played at all. The transcript is wrong then, not the server.
#[derive(Debug)]
pub struct LoadError(String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// The fields of a JSON object, read by name and type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(crate) fn of(value: &'a Value) -> Result<Self, String> {
        value.as_object().map(Fields).ok_or_else(|| format!("an object was expected, not {value}"))
    }

    /// An error if there is any other field than these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("unknown field {key:?}; known here: {}", known.join(", "))),
            None => Ok(()),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key)
    }

    pub(crate) fn str(&self, key: &str) -> Result<&'a str, String> {
        self.typed(key, "a string", Value::as_str)?.ok_or_else(|| format!("{key} is missing"))
    }

    pub(crate) fn opt_str(&self, key: &str) -> Result<Option<&'a str>, String> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn list(&self, key: &str) -> Result<&'a [Value], String> {
        let list = self.typed(key, "a list", |value| value.as_array())?;
        list.map(Vec::as_slice).ok_or_else(|| format!("{key} is missing"))
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn number<N: TryFrom<u64>>(&self, key: &str) -> Result<N, String> {
        self.opt_number(key)?.ok_or_else(|| format!("{key} is missing"))
    }

    pub(crate) fn opt_number<N: TryFrom<u64>>(&self, key: &str) -> Result<Option<N>, String> {
        self.typed(key, "a number in range", |value| value.as_u64().and_then(|n| N::try_from(n).ok()))
    }

    pub(crate) fn millis(&self, key: &str) -> Result<Option<Duration>, String> {
        Ok(self.opt_number(key)?.map(Duration::from_millis))
    }

    /// A close code: `None` where it is null, for a close frame without one.
    pub(crate) fn code(&self) -> Result<Option<u16>, String> {
        match self.get("code") {
            Some(Value::Null) => Ok(None),
            _ => self.number("code").map(Some),
        }
    }

    /// Name and value of each header; a null value is `None`.
    pub(crate) fn headers(&self) -> Result<Vec<(String, Option<String>)>, String> {
        if self.get("headers").is_none() {
            return Ok(Vec::new());
        }
        let header = |pair: &Value| match (pair.get(0), pair.get(1)) {
            (Some(Value::String(name)), Some(Value::String(value))) => Ok((name.clone(), Some(value.clone()))),
            (Some(Value::String(name)), Some(Value::Null)) => Ok((name.clone(), None)),
            _ => Err(format!("a header must be [name, value or null], not {pair}")),
        };
        self.list("headers")?.iter().map(header).collect()
    }

    /// The bytes that `data`, `hex` or `parts` stand for.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, String> {
        if let Some(data) = self.opt_str("data")? {
            Ok(data.as_bytes().to_vec())
        } else if let Some(hex) = self.opt_str("hex")? {
            decode_hex(hex).ok_or_else(|| format!("{hex:?} is not hexadecimal"))
        } else if self.get("parts").is_some() {
            assemble(self.list("parts")?, self.flag("latin1")?.unwrap_or(false))
        } else {
            Err("one of data, hex and parts is needed".to_owned())
        }
    }

    fn typed<T>(&self, key: &str, wanted: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| format!("{key} must be {wanted}, not {value}"))
    }
}

/// Joins strings and `[char, count]` runs. With `latin1` every character is one byte, otherwise it is UTF-8.
pub(crate) fn assemble(parts: &[Value], latin1: bool) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for part in parts {
        let (text, count) = match (part, part.get(0), part.get(1)) {
            (Value::String(text), _, _) => (text, 1),
            (_, Some(Value::String(text)), Some(count)) => (text, count.as_u64().ok_or("a count must be a number")?),
            _ => return Err(format!("a part must be a string or [char, count], not {part}")),
        };
        let once = if latin1 {
            let byte = |c: char| u8::try_from(c).map_err(|_| format!("{c:?} is not in Latin-1"));
            text.chars().map(byte).collect::<Result<Vec<u8>, String>>()?
        } else {
            text.as_bytes().to_vec()
        };
        for _ in 0..count {
            bytes.extend_from_slice(&once);
        }
    }
    Ok(bytes)
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_in_all_spellings() {
        for (fields, expected) in [
            (json!({"data": "aü"}), Some("aü".as_bytes().to_vec())),
            (json!({"hex": "00fF"}), Some(vec![0, 255])),
            (json!({"hex": ""}), Some(vec![])),
            (json!({"hex": "0"}), None),
            (json!({"hex": "zz"}), None),
            (json!({"parts": ["<", ["ab", 3], ">"]}), Some(b"<ababab>".to_vec())),
            (json!({"parts": ["\u{ff}"], "latin1": true}), Some(vec![255])),
            (json!({"parts": ["→"], "latin1": true}), None),
            (json!({"parts": [5]}), None),
            (json!({}), None),
        ] {
            assert_eq!(Fields::of(&fields).unwrap().bytes().ok(), expected, "{fields}");
        }
    }

    #[test]
    fn mistakes_are_errors_of_loading() {
        let step = r#"{"dir":"silence","conn":"A","ms":5}"#;
        let with = |fields: &str, step: &str| Transcript::parse(&format!(r#"{{"name":"x"{fields},"steps":[{step}]}}"#));
        assert!(with("", step).is_ok());
        for (fields, step) in [
            (r#","typo":1"#, step),
            (r#","needs":"money""#, step),
            (r#","slow":"long""#, step),
            ("", r#"{"dir":"silence","conn":"A","ms":5,"typo":1}"#),
            ("", r#"{"dir":"silence","conn":"A"}"#),
            ("", r#"{"dir":"dance","conn":"A"}"#),
            ("", r#"{"dir":"recv","conn":"A","op":"text","json":["$typo"]}"#),
            ("", r#"{"dir":"recv","conn":"A","op":"text","json":[],"or":[{"jsn":[]}]}"#),
            ("", r#"{"dir":"send","conn":"A","op":"txt","data":""}"#),
        ] {
            assert!(with(fields, step).is_err(), "{fields} {step}");
        }
    }
}
