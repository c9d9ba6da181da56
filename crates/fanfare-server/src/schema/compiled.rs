//! A schema, and what a payload lacks of it.

use std::fs;
use std::path::Path;

use fanfare::Payload;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use serde::Serialize;
use serde_json::Value;

use super::expanded::{Expanded, Fault, expanded, registry};
use super::files::{Below, read, uri};

/// This many faults of one payload are told.
const VIOLATIONS_MAX: usize = 5;

/// Names that a client chose are cut there, in characters, and so are values of a schema that is not taken.
const NAME_CHARS_MAX: usize = 64;

/// Paths and messages are cut there.
const TEXT_CHARS_MAX: usize = 200;

/// Stands for what the payload has at a place, which goes into no log.
const MASK: &str = "the value";

/// A schema.
#[derive(Debug)]
pub(crate) struct Schema {
    validator: Validator,
    document: Value,
    /// Whether a payload fits is then found in a time that its size bounds, but not why it does not.
    chooses_itself: bool,
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
    /// Why it is not taken: the file, the place in it as a JSON pointer, and what is wrong there.
    pub(crate) fn open(file: &Path) -> Result<Self, String> {
        let given = file;
        let file =
            &fs::canonicalize(file).map_err(|error| format!("{}: cannot read the schema: {error}", given.display()))?;
        let below = Below(file.parent().unwrap_or(file).to_owned());
        let schema = read(file)?;
        let at = |fault: Fault| {
            let Fault { file: found, pointer, text } = fault;
            let shown = if found == *file { given } else { &found }.display();
            let pointer =
                if pointer.is_empty() { String::new() } else { format!("{}: ", cut(&pointer, TEXT_CHARS_MAX)) };
            format!("{shown}: {pointer}{text}")
        };
        let registry = registry(&schema, file, below).map_err(&at)?;
        // What is too large then must not be compiled either.
        let Expanded { document, chooses_itself } = expanded(&schema, file, &registry).map_err(&at)?;
        let options = jsonschema::options()
            .with_base_uri(uri(file))
            .with_registry(&registry)
            // Patterns are matched in linear time, whatever a client sends.
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(true);
        let validator = options.build(&schema).map_err(|error| at(refused(file, &error)))?;
        Ok(Self { validator, document, chooses_itself })
    }

    /// Whether a payload fits: what is wrong with it, in parts.
    pub(crate) fn check(&self, payload: &Payload) -> Result<(), Vec<Violation>> {
        let Meant { value, or } = meant(payload)?;
        if self.validator.is_valid(&value) || or.is_some_and(|value| self.validator.is_valid(&value)) {
            return Ok(());
        }
        if self.chooses_itself {
            return Err(vec![nowhere()]);
        }
        Err(self.validator.iter_errors(&value).take(VIOLATIONS_MAX).map(|error| violation(&error)).collect())
    }

    /// The same, where to find all that is wrong could cost many times what the payload has: the first fault only.
    pub(crate) fn check_large(&self, payload: &Payload) -> Result<(), Vec<Violation>> {
        let Meant { value, or } = meant(payload)?;
        if or.is_some_and(|value| self.validator.is_valid(&value)) {
            return Ok(());
        }
        if self.chooses_itself {
            return if self.validator.is_valid(&value) { Ok(()) } else { Err(vec![nowhere()]) };
        }
        self.validator.validate(&value).map_err(|error| vec![violation(&error)])
    }

    /// The schema with what it refers to in the places of the references. Where it refers to itself, it has `$defs`.
    pub(crate) fn document(&self) -> &Value {
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
            let value = json.to().map_err(|error| fault(cut(&error.to_string(), TEXT_CHARS_MAX)))?;
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

fn nowhere() -> Violation {
    Violation {
        path: String::new(),
        message: format!("{MASK} fits none of the choices of its schema, which refers to itself in them"),
    }
}

fn violation(error: &ValidationError<'_>) -> Violation {
    let message = match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let named: Vec<_> = unexpected.iter().map(|name| format!("{:?}", cut(name, NAME_CHARS_MAX))).collect();
            format!("members that the schema does not have: {}", named.join(", "))
        }
        _ => error.masked_with(MASK).to_string(),
    };
    Violation { path: cut(&error.instance_path().to_string(), TEXT_CHARS_MAX), message: cut(&message, TEXT_CHARS_MAX) }
}

/// Why a schema is none. Where it refers to another file, the place is that of the reference.
fn refused(file: &Path, error: &ValidationError<'_>) -> Fault {
    let value = cut(&error.instance().to_string(), NAME_CHARS_MAX);
    let mut text = format!("not a JSON Schema: {}", cut(&error.masked_with(value).to_string(), TEXT_CHARS_MAX));
    if let (ValidationErrorKind::Format { format }, Value::String(pattern)) = (error.kind(), error.instance().as_ref())
        && format == "regex"
    {
        text.push_str(&format!(": {}", why_no_pattern(pattern)));
    }
    Fault { file: file.to_owned(), pointer: error.instance_path().to_string(), text }
}

/// What is wrong with a pattern. The library keeps it to itself.
fn why_no_pattern(pattern: &str) -> String {
    match regex::Regex::new(pattern) {
        Err(regex::Error::CompiledTooBig(limit)) => {
            format!("it takes more than {limit} bytes once it is compiled: repeat less in it")
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().last().unwrap_or_default();
            cut(line.trim_start_matches("error: "), TEXT_CHARS_MAX)
        }
        Ok(_) => "it cannot be matched in linear time".to_owned(),
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
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
        let closed = json!({"additionalProperties": false, "properties": {"a": {}}});
        let closed = super::tests::schema(&[("schemas/main.json", closed)]).unwrap();
        let [Violation { message, .. }] = &closed.check(&payload(&json!({"x".repeat(100): 1}))).unwrap_err()[..] else {
            panic!("not one fault")
        };
        assert_eq!(message, &format!("members that the schema does not have: \"{}…\"", "x".repeat(NAME_CHARS_MAX)));
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
        let replies = json!({"items": {"$ref": "#/$defs/comment"}});
        let comment = json!({"type": "object", "properties": {"text": {"type": "string"}, "replies": replies}});
        assert_eq!(schema.document(), &json!({"$ref": "#/$defs/comment", "$defs": {"comment": comment}}));
    }

    #[test]
    fn faulty_schemas_are_refused_with_the_file_and_the_place_in_it() {
        let long = "x".repeat(100);
        let other = |part: Value| json!({"$defs": {"x": part}});
        for (main, b, place) in [
            (json!({"type": "strin"}), json!({}), "main.json: /type: not a JSON Schema: \"strin\""),
            (
                json!({"type": long}),
                json!({}),
                &format!("main.json: /type: not a JSON Schema: \"{}…", &long[1..NAME_CHARS_MAX]),
            ),
            (json!({"properties": {"a": {"pattern": "("}}}), json!({}), "main.json: /properties/a/pattern: "),
            (json!({"pattern": "(a)\\1"}), json!({}), "is not a \"regex\": backreferences are not supported"),
            (json!({"pattern": "(?=a)"}), json!({}), "is not a \"regex\": look-around"),
            (json!({"pattern": "((\\w{100}){100}){100}"}), json!({}), "bytes once it is compiled: repeat less in it"),
            (json!("text"), json!({}), "main.json: not a JSON Schema"),
            (json!({"items": {"$ref": "b.json#/$defs/y"}}), json!({}), "main.json: /items/$ref: "),
            (
                json!({"items": {"$ref": "b.json#/$defs/x"}}),
                other(json!({"$ref": "#/$defs/y"})),
                "b.json: /$defs/x/$ref: ",
            ),
            (json!({"items": {"$ref": "b.json#/$defs/x"}}), other(json!({"type": "strin"})), "main.json: "),
            (json!({"items": {"$ref": "b.json#/$defs/x"}}), other(json!({"pattern": "("})), "main.json: "),
        ] {
            let refused = schema(&[("schemas/main.json", main.clone()), ("schemas/b.json", b)]).unwrap_err();
            assert!(refused.contains(place), "{main}: {refused}");
        }
        assert!(schema(&[]).unwrap_err().contains("cannot read"));
        let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!([inner]));
        let deep = |levels: usize| schema(&[("schemas/main.json", json!({"examples": nested(levels - 1)}))]);
        assert!(deep(127).is_ok());
        for levels in [128, 130] {
            let refused = deep(levels).unwrap_err();
            let told = "main.json: lists and objects stand more than 127 levels deep in one another, at line 1 column ";
            assert!(refused.contains(told) && !refused.contains("not JSON"), "{refused}");
        }
        let large = json!({"$comment": "x".repeat(300_000)});
        assert!(schema(&[("schemas/main.json", large)]).unwrap_err().contains("more than 262144 bytes"));
    }

    /// Two references to the next definition in each: with thirty of them, there are a billion ways through.
    #[test]
    fn what_grows_by_references_is_refused_and_what_does_not_is_taken() {
        let nested = |depth: usize, part: &dyn Fn(Value) -> Value| {
            let next = |level: usize| json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            let mut definitions: serde_json::Map<_, _> =
                (0..depth).map(|level| (format!("d{level}"), part(next(level)))).collect();
            definitions.insert(format!("d{depth}"), json!({"type": "string"}));
            schema(&[("schemas/main.json", json!({"$ref": "#/$defs/d0", "$defs": definitions}))])
        };
        let doubled = |next: Value| json!({"anyOf": [next, next]});
        let refused = nested(30, &doubled).unwrap_err();
        assert!(refused.contains("main.json: /$defs/d") && refused.contains("more than 10000 references"), "{refused}");
        let long = json!({"$comment": "x".repeat(3_000), "anyOf": [{"$ref": "#/$defs/d9"}]});
        let refused = nested(9, &|next| json!({"anyOf": [next, next, next, long]})).unwrap_err();
        assert!(refused.contains("more than 2097152 bytes"), "{refused}");
        let few = nested(8, &doubled).unwrap();
        assert!(few.check(&payload(&json!(1))).is_err());
        let refused = nested(200, &|next| json!({"items": next})).unwrap_err();
        assert!(refused.contains("more than 128 levels"), "{refused}");
        assert!(nested(30, &|next| json!({"items": next})).is_ok());
    }

    /// Where each level could be either of two that go on in the same way, a payload must not cost twice as much with each level.
    #[test]
    fn a_deep_payload_costs_no_more_than_its_size() {
        let either = |op: &str| json!({"required": ["args"], "properties": {"args": {"items": {"$ref": "#"}}, "op": {"const": op}}});
        let schema = schema(&[("schemas/main.json", json!({"anyOf": [either("and"), either("or")]}))]).unwrap();
        let deep = (0..60).fold(json!({"args": [], "op": "none"}), |inner, _| json!({"args": [inner], "op": "or"}));
        for faults in [schema.check(&payload(&deep)).unwrap_err(), schema.check_large(&payload(&deep)).unwrap_err()] {
            assert!(faults.len() == 1 && faults[0].message.contains("none of the choices"), "{faults:?}");
        }
        let fits = json!({"args": [{"args": [], "op": "and"}], "op": "or"});
        assert!(schema.check(&payload(&fits)).is_ok() && schema.check_large(&payload(&fits)).is_ok());
    }
}
