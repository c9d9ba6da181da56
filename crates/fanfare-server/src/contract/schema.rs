//! One JSON Schema, from a file: compiled for checks, and as a document with all that it refers to in it.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use fanfare::Payload;
use jsonschema::{PatternOptions, Retrieve, Uri, ValidationError, Validator};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde_json::Value;

/// The largest file of a schema, in bytes.
const FILE_SIZE_MAX: u64 = 262_144;

/// The largest schema together with all that it refers to, in bytes of JSON.
const DOCUMENT_SIZE_MAX: usize = 2_097_152;

/// So many faults of one payload are told.
const VIOLATIONS_MAX: usize = 5;

/// Paths and messages are cut there, in characters: they can have names that a client chose.
const TEXT_CHARS_MAX: usize = 200;

/// Stands for what the payload has at a place, which goes into no log.
const MASK: &str = "the value";

/// A schema.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    document: Value,
}

/// What is wrong with a payload, and where.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    /// A JSON pointer into the payload.
    pub(crate) path: String,
    pub(crate) message: String,
}

impl Schema {
    /// Reads a file, and those below its folder that it refers to. Nothing is asked of a network.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(super) fn open(file: &Path) -> Result<Self, String> {
        let file = fs::canonicalize(file).map_err(|error| format!("cannot read the schema: {error}"))?;
        let folder = file.parent().unwrap_or(&file).to_owned();
        let schema = read(&file).map_err(|error| error.to_string())?;
        let options = jsonschema::options()
            .with_base_uri(uri(&file))
            .with_retriever(Below(folder))
            // Patterns are matched in linear time, whatever a client sends.
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true);
        let validator = options.build(&schema).map_err(|error| format!("not a JSON Schema: {error}"))?;
        let document = options.dereference(&schema).map_err(|error| error.to_string())?;
        let size = document.to_string().len();
        if size > DOCUMENT_SIZE_MAX {
            return Err(format!(
                "with all that it refers to it has {size} bytes; a schema has {DOCUMENT_SIZE_MAX} at most"
            ));
        }
        Ok(Self { validator, document: without_definitions(document) })
    }

    /// Whether a payload fits: what is wrong with it, in parts.
    pub(super) fn check(&self, payload: &Payload) -> Result<(), Vec<Violation>> {
        let Meant { value, or } = meant(payload)?;
        if self.validator.is_valid(&value) || or.is_some_and(|value| self.validator.is_valid(&value)) {
            return Ok(());
        }
        Err(self.validator.iter_errors(&value).take(VIOLATIONS_MAX).map(|error| violation(&error)).collect())
    }

    /// The same, where to find all that is wrong could cost many times what the payload has: the first fault only.
    pub(super) fn check_large(&self, payload: &Payload) -> Result<(), Vec<Violation>> {
        let Meant { value, or } = meant(payload)?;
        if or.is_some_and(|value| self.validator.is_valid(&value)) {
            return Ok(());
        }
        self.validator.validate(&value).map_err(|error| vec![violation(&error)])
    }

    /// The schema with what it refers to in the places of the references. Where it refers to itself, anything is allowed.
    pub(super) fn document(&self) -> &Value {
        &self.document
    }
}

/// What a payload is as JSON.
struct Meant {
    value: Value,
    /// Or this, if it fits.
    or: Option<Value>,
}

/// Of a text it is not known whether its JSON was said, or a string that looks like that: members of rooms get both alike.
fn meant(payload: &Payload) -> Result<Meant, Vec<Violation>> {
    let fault = |message: String| vec![Violation { path: String::new(), message }];
    match payload {
        Payload::Json(json) => {
            let value = json.to().map_err(|error| fault(cut(&error.to_string())))?;
            Ok(Meant { value, or: None })
        }
        Payload::Text(text) => {
            let string = Value::from(text.as_str());
            Ok(match serde_json::from_str(text.as_str()) {
                Ok(value) => Meant { value, or: Some(string) },
                Err(_) => Meant { value: string, or: None },
            })
        }
        Payload::Binary(_) => Err(fault("it must be JSON".into())),
    }
}

fn violation(error: &ValidationError<'_>) -> Violation {
    let message = error.masked_with(MASK).to_string();
    Violation { path: cut(&error.instance_path().to_string()), message: cut(&message) }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn read(file: &Path) -> Result<Value, Box<dyn Error + Send + Sync>> {
    let shown = file.display();
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(|error| format!("cannot read the schema {shown}: {error}"))?;
    let size = opened.take(FILE_SIZE_MAX + 1).read_to_string(&mut text);
    let size = size.map_err(|error| format!("cannot read the schema {shown}: {error}"))?;
    if size as u64 > FILE_SIZE_MAX {
        return Err(
            format!("{shown} has more than {FILE_SIZE_MAX} bytes, the most that the file of a schema has").into()
        );
    }
    serde_json::from_str(&text).map_err(|error| format!("{shown} is not JSON: {error}").into())
}

/// What stays as it is in the path of a URI.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn uri(file: &Path) -> String {
    format!("file://{}", utf8_percent_encode(&file.to_string_lossy(), IN_PATHS))
}

fn path_of(uri: &Uri<String>) -> Option<PathBuf> {
    let path = uri.as_str().strip_prefix("file://")?;
    percent_decode_str(path).decode_utf8().ok().map(|path| PathBuf::from(&*path))
}

/// Finds what a schema refers to: files below a folder.
struct Below(PathBuf);

impl Retrieve for Below {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let folder = self.0.display();
        let refused = || format!("it refers to {uri}: a schema can refer only to files in the folder {folder}");
        let file = path_of(uri).ok_or_else(refused)?;
        let file = fs::canonicalize(&file).map_err(|error| format!("it refers to {}: {error}", file.display()))?;
        if !file.starts_with(&self.0) {
            return Err(refused().into());
        }
        read(&file)
    }
}

/// The definitions were put where they are used; what still refers to one is a part of it.
fn without_definitions(mut document: Value) -> Value {
    if let Value::Object(members) = &mut document {
        for key in ["$defs", "definitions", "$schema", "$id"] {
            members.remove(key);
        }
    }
    open_circles(&mut document);
    document
}

fn open_circles(value: &mut Value) {
    match value {
        Value::Object(members) if members.get("$ref").is_some_and(Value::is_string) => {
            *value = serde_json::json!({ "$comment": "the schema refers to itself here" });
        }
        Value::Object(members) => members.values_mut().for_each(open_circles),
        Value::Array(items) => items.iter_mut().for_each(open_circles),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use fanfare::JsonText;
    use serde_json::json;

    use super::*;

    fn schema(files: &[(&str, Value)]) -> Result<Schema, String> {
        let folder = std::env::temp_dir().join(format!("fanfare-schema-{:016x}", getrandom::u64().unwrap()));
        fs::create_dir_all(folder.join("schemas")).unwrap();
        for (name, content) in files {
            fs::write(folder.join(name), content.to_string()).unwrap();
        }
        let opened = Schema::open(&folder.join("schemas/main.json"));
        fs::remove_dir_all(folder).unwrap();
        opened
    }

    fn payload(value: &Value) -> Payload {
        JsonText::of(value).unwrap().into()
    }

    #[test]
    fn what_does_not_fit_is_named_without_its_value() {
        let main = json!({
            "type": "object",
            "required": ["body"],
            "properties": {"body": {"type": "string", "maxLength": 5}, "n": {"type": "integer"}},
        });
        let schema = schema(&[("schemas/main.json", main)]).unwrap();
        let of = |value: Value| schema.check(&payload(&value)).err().unwrap_or_default();
        assert_eq!(of(json!({"body": "short", "n": 1})), []);
        for (value, path, part) in [
            (json!({"body": "secret text"}), "/body", "5 characters"),
            (json!({"body": 17}), "/body", "string"),
            (json!({}), "", "\"body\" is a required property"),
            (json!([1]), "", "object"),
        ] {
            let [Violation { path: at, message }] = &of(value)[..] else { panic!("not one fault") };
            assert!(at == path && message.contains(part), "{at}: {message}");
            assert!(!message.contains("secret") && !message.contains("17"), "{message}");
        }
        assert_eq!(of(json!({"body": 1, "n": "x"})).len(), 2);
        let large = json!({"body": 1, "n": "x"});
        assert_eq!(schema.check_large(&payload(&large)).unwrap_err().len(), 1);
        assert!(schema.check(&Payload::Binary(vec![1].into())).is_err());
    }

    #[test]
    fn references_stay_below_the_folder() {
        let to = |target: &str| json!({"properties": {"a": {"$ref": target}}});
        let string = json!({"type": "string"});
        let with = |target: &str| {
            schema(&[
                ("schemas/main.json", to(target)),
                ("schemas/a b.json", json!({"$defs": {"x": string}})),
                ("outside.json", string.clone()),
            ])
        };
        let taken = with("a%20b.json#/$defs/x").unwrap();
        assert!(taken.check(&payload(&json!({"a": 1}))).is_err());
        assert_eq!(taken.document(), &json!({"properties": {"a": {"type": "string"}}}));
        for target in ["../outside.json", "https://example.com/x.json", "file:///etc/hostname"] {
            let refused = with(target).unwrap_err();
            assert!(refused.contains("only to files in the folder"), "{target}: {refused}");
        }
        assert!(with("missing.json").unwrap_err().contains("missing.json"));
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_checked_to_the_bottom() {
        let main = json!({
            "$ref": "#/$defs/comment",
            "$defs": {"comment": {
                "type": "object",
                "properties": {"text": {"type": "string"}, "replies": {"items": {"$ref": "#/$defs/comment"}}},
            }},
        });
        let schema = schema(&[("schemas/main.json", main)]).unwrap();
        let faulty = json!({"replies": [{"replies": [{"text": 1}]}]});
        assert_eq!(schema.check(&payload(&faulty)).unwrap_err()[0].path, "/replies/0/replies/0/text");
        assert!(!schema.document().to_string().contains("$ref"), "{}", schema.document());
    }

    #[test]
    fn faulty_schemas_are_refused() {
        for (main, part) in [
            (json!({"type": "strin"}), "not a JSON Schema"),
            (json!({"pattern": "("}), "not a JSON Schema"),
            (json!({"pattern": "(a)\\1"}), "not a JSON Schema"),
            (json!("text"), "not a JSON Schema"),
        ] {
            let refused = schema(&[("schemas/main.json", main.clone())]).unwrap_err();
            assert!(refused.contains(part), "{main}: {refused}");
        }
        assert!(schema(&[]).unwrap_err().contains("cannot read"));
        let large = json!({"$comment": "x".repeat(300_000)});
        assert!(schema(&[("schemas/main.json", large)]).unwrap_err().contains("more than 262144 bytes"));
    }
}
