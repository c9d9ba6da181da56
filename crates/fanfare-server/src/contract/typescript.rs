//! Contracts as TypeScript: types for the npm client `phoenix`, which is used as it is.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::document::{Channel, Document, names_taken, type_names};
use super::named::{Definition, Named, Names};

/// What a client with types is, beside the types of the channels.
const CLIENT: &str = r#"/** A topic that a pattern fits, and what is said on it. */
export interface Contract {
  topic: string;
  join: object;
  push: object;
  on: object;
}

/** The answer to a push that was refused. */
export interface Refusal {
  reason: string;
  errors?: { path: string; message: string }[];
  [member: string]: unknown;
}

/** A channel of the stock client that knows its contract. */
export interface TypedChannel<C extends Contract> {
  readonly topic: string;
  join(timeout?: number): Push;
  leave(timeout?: number): Push;
  push<E extends keyof C["push"] & string>(event: E, payload: C["push"][E], timeout?: number): Push;
  on<E extends keyof C["on"] & string>(event: E, callback: (payload: C["on"][E]) => void): number;
  off(event: keyof C["on"] & string, ref?: number): void;
  onClose(callback: (payload: unknown, ref: unknown, joinRef: unknown) => void): void;
  onError(callback: (reason?: unknown) => void): void;
}

/** The same channel: only the compiler sees it otherwise. */
export const typed = <C extends Contract>(channel: PhoenixChannel): TypedChannel<C> =>
  channel as unknown as TypedChannel<C>;

/** `socket.channel` with topic and payload of the join checked too. */
export const channel = <C extends Contract>(socket: Socket, topic: C["topic"], params: C["join"]): TypedChannel<C> =>
  typed<C>(socket.channel(topic, params));
"#;

/// Nesting beyond it is written as `unknown`.
const DEPTH_MAX: usize = 32;

/// The module.
pub(super) fn module(document: &Document) -> String {
    let mut text = String::from("// Made by `fanfare contract --format typescript`: change the schemas instead.\n");
    text.push_str("import type { Channel as PhoenixChannel, Push, Socket } from \"phoenix\";\n\n");
    let names = type_names(&document.channels);
    let named = Named::of(&document.channels, names_taken(&names));
    for definition in named.all() {
        define(&mut text, definition, named.all());
    }
    for (channel, name) in document.channels.iter().zip(&names) {
        declare(&mut text, name, channel, &named);
    }
    text.push_str(CLIENT);
    text
}

/// A type of its own, which others refer to and which may contain itself.
fn define(text: &mut String, definition: &Definition, all: &[Definition]) {
    let Definition { name, schema, names } = definition;
    // Nothing but itself would be in it, which TypeScript refuses.
    let is_empty = leads_to(definition, name, all, &mut Vec::new());
    let of = if is_empty { "unknown".to_owned() } else { Types { names }.of(schema, 0, 0) };
    if let Some(about) = schema.get("description").and_then(Value::as_str) {
        let _ = writeln!(text, "/** {} */", comment(about));
    }
    let _ = write!(text, "export type {name} = {of};\n\n");
}

/// Whether a definition is another one, or one of several that the other is among, before anything else.
fn leads_to<'d>(from: &'d Definition, name: &str, all: &'d [Definition], seen: &mut Vec<&'d str>) -> bool {
    let mut first = Vec::new();
    first_of(&from.schema, &mut first);
    let called = first.iter().filter_map(|reference| from.names.get(*reference));
    called.into_iter().any(|called| {
        if called == name {
            return true;
        }
        let Some(next) = all.iter().find(|each| each.name == *called) else { return false };
        if seen.contains(&&*next.name) {
            return false;
        }
        seen.push(&next.name);
        leads_to(next, name, all, seen)
    })
}

/// The references that a schema is, or chooses from.
fn first_of<'s>(schema: &'s Value, found: &mut Vec<&'s str>) {
    found.extend(schema.get("$ref").and_then(Value::as_str));
    for key in ["anyOf", "oneOf", "allOf"] {
        for part in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
            first_of(part, found);
        }
    }
}

fn declare(text: &mut String, name: &str, channel: &Channel, named: &Named) {
    let topic = match channel.pattern.strip_suffix('*') {
        Some("") => "string".to_owned(),
        Some(prefix) => {
            format!("`{}${{string}}`", prefix.replace('\\', "\\\\").replace('`', "\\`").replace("${", "\\${"))
        }
        None => literal(&channel.pattern),
    };
    let join = Types { names: &named.names(&channel.join) }.of(&channel.join, 1, 0);
    // What is written to a string cannot fail.
    let _ = write!(text, "/** {} */\nexport interface {name} {{\n", comment(&channel.pattern));
    let _ = write!(text, "  topic: {topic};\n  join: {join};\n");
    let _ = write!(text, "  push: {};\n  on: {};\n}}\n\n", events(&channel.push, named), events(&channel.on, named));
}

fn events(schemas: &BTreeMap<String, Value>, named: &Named) -> String {
    if schemas.is_empty() {
        return "{}".into();
    }
    let event = |(name, schema): (&String, &Value)| {
        format!("    {}: {};\n", key(name), Types { names: &named.names(schema) }.of(schema, 2, 0))
    };
    format!("{{\n{}  }}", schemas.iter().map(event).collect::<String>())
}

/// The types of one schema.
struct Types<'n> {
    /// What its references are called.
    names: &'n Names,
}

impl Types<'_> {
    /// The type of what fits a schema; wider than it where TypeScript has no word for what it says.
    fn of(&self, schema: &Value, indent: usize, depth: usize) -> String {
        let Value::Object(schema) = schema else {
            return if schema == &Value::Bool(false) { "never" } else { "unknown" }.into();
        };
        if depth > DEPTH_MAX {
            return "unknown".into();
        }
        let inner = |schema: &Value| self.of(schema, indent, depth + 1);
        if let Some(called) = schema.get("$ref").and_then(Value::as_str).and_then(|reference| self.names.get(reference))
        {
            return called.clone();
        }
        if let Some(value) = schema.get("const") {
            return value_type(value);
        }
        if let Some(Value::Array(values)) = schema.get("enum") {
            return union(values.iter().map(value_type));
        }
        let mut parts = Vec::new();
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(schemas)) = schema.get(key) {
                parts.push(union(schemas.iter().map(inner)));
            }
        }
        if let Some(Value::Array(schemas)) = schema.get("allOf") {
            parts.extend(schemas.iter().map(inner));
        }
        let own = match schema.get("type") {
            Some(Value::String(name)) => Some(self.of_kind(name, schema, indent, depth)),
            Some(Value::Array(names)) => {
                let names = names.iter().filter_map(Value::as_str);
                Some(union(names.map(|name| self.of_kind(name, schema, indent, depth))))
            }
            _ if schema.contains_key("properties") => Some(self.object(schema, indent, depth)),
            _ => None,
        };
        parts.extend(own);
        parts.retain(|part| part != "unknown");
        match parts.len() {
            0 => "unknown".into(),
            1 => parts.remove(0),
            _ => parts.iter().map(|part| bracketed(part)).collect::<Vec<_>>().join(" & "),
        }
    }

    fn of_kind(&self, kind: &str, schema: &Map<String, Value>, indent: usize, depth: usize) -> String {
        match kind {
            "string" => "string".into(),
            "number" | "integer" => "number".into(),
            "boolean" => "boolean".into(),
            "null" => "null".into(),
            "array" => self.array(schema, indent, depth),
            "object" => self.object(schema, indent, depth),
            _ => "unknown".into(),
        }
    }

    fn array(&self, schema: &Map<String, Value>, indent: usize, depth: usize) -> String {
        let items = match schema.get("items") {
            Some(items) => self.of(items, indent, depth + 1),
            None => "unknown".into(),
        };
        match schema.get("prefixItems") {
            Some(Value::Array(first)) => {
                // Fewer items than there are places fit a schema as well.
                let first = first.iter().map(|item| bracketed(&self.of(item, indent, depth + 1)) + "?");
                let rest = (items != "never").then(|| format!("...{}[]", bracketed(&items)));
                format!("[{}]", first.chain(rest).collect::<Vec<_>>().join(", "))
            }
            _ => format!("{}[]", bracketed(&items)),
        }
    }

    fn object(&self, schema: &Map<String, Value>, indent: usize, depth: usize) -> String {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let has_patterns =
            schema.get("patternProperties").and_then(Value::as_object).is_some_and(|each| !each.is_empty());
        let others = match schema.get("additionalProperties") {
            // TypeScript has no word for names that fit a pattern.
            _ if has_patterns => Some("unknown".to_owned()),
            // Left out, it allows others too; but who writes them has most likely mistyped one that is named.
            None if !properties.is_empty() => None,
            None | Some(Value::Bool(true)) => Some("unknown".to_owned()),
            Some(Value::Bool(false)) => None,
            // With named ones beside them, these have to be of their types too.
            Some(_) if !properties.is_empty() => Some("unknown".to_owned()),
            Some(other) => Some(self.of(other, indent + 1, depth + 1)),
        };
        let unnamed = required.iter().filter(|name| !properties.contains_key(**name));
        if properties.is_empty() && unnamed.clone().next().is_none() {
            return match others {
                None => "Record<string, never>".into(),
                // A type that contains itself cannot be an argument of one that is declared elsewhere.
                Some(other) if self.names.values().any(|name| other.contains(name.as_str())) => {
                    format!("{{ [member: string]: {other} }}")
                }
                Some(other) => format!("Record<string, {other}>"),
            };
        }
        let pad = "  ".repeat(indent + 1);
        let mut text = String::from("{\n");
        for (name, property) in properties {
            if let Some(about) = property.get("description").and_then(Value::as_str) {
                let _ = writeln!(text, "{pad}/** {} */", comment(about));
            }
            let mark = if required.contains(&name.as_str()) { "" } else { "?" };
            let _ = writeln!(text, "{pad}{}{mark}: {};", key(name), self.of(property, indent + 1, depth + 1));
        }
        for name in unnamed {
            let _ = writeln!(text, "{pad}{}: unknown;", key(name));
        }
        if let Some(other) = others {
            let _ = writeln!(text, "{pad}[member: string]: {other};");
        }
        text + &"  ".repeat(indent) + "}"
    }
}

fn union(types: impl Iterator<Item = String>) -> String {
    let mut types: Vec<_> = types.map(|one| bracketed(&one)).collect();
    types.dedup();
    match types.len() {
        0 => "never".into(),
        _ => types.join(" | "),
    }
}

/// Safe before `[]` and beside `|` and `&`.
fn bracketed(text: &str) -> String {
    let (mut depth, mut in_string, mut is_escaped) = (0_u32, false, false);
    for c in text.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' | '(' | '[' | '<' => depth += 1,
            '}' | ')' | ']' | '>' => depth = depth.saturating_sub(1),
            '|' | '&' if depth == 0 => return format!("({text})"),
            _ => {}
        }
    }
    text.to_owned()
}

fn value_type(value: &Value) -> String {
    match value {
        Value::String(text) => literal(text),
        Value::Array(items) => format!("[{}]", items.iter().map(value_type).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{}: {}", key(name), value_type(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join("; "))
        }
        other => other.to_string(),
    }
}

/// A string in JSON is one in TypeScript.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

fn key(name: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match name.chars().all(is_word) && name.starts_with(|c: char| !c.is_ascii_digit()) {
        true => name.to_owned(),
        false => literal(name),
    }
}

/// Cannot end the comment that it stands in.
fn comment(text: &str) -> String {
    text.replace("*/", "*\u{200b}/").replace(['\r', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_become_types() {
        for (schema, wanted) in [
            (json!({"type": "string"}), "string"),
            (json!({"type": ["integer", "null"]}), "number | null"),
            (json!({"enum": ["a", 1, null]}), r#""a" | 1 | null"#),
            (json!({"const": {"a": [true]}}), "{ a: [true] }"),
            (json!({"type": "array", "items": {"type": ["string", "null"]}}), "(string | null)[]"),
            (json!({"type": "array", "prefixItems": [{"type": "number"}], "items": false}), "[number?]"),
            (json!({"type": "object"}), "Record<string, unknown>"),
            (json!({"type": "object", "additionalProperties": {"type": "number"}}), "Record<string, number>"),
            (json!({"type": "object", "additionalProperties": false}), "Record<string, never>"),
            (
                json!({"type": "object", "additionalProperties": false, "patternProperties": {"^x": {"type": "string"}}}),
                "Record<string, unknown>",
            ),
            (
                json!({"type": "object", "required": ["a", "x-y"], "properties": {"a": {"type": "string"}, "b": true}}),
                "{\n  a: string;\n  b?: unknown;\n  \"x-y\": unknown;\n}",
            ),
            (json!({"anyOf": [{"type": "string"}, {"type": "number"}], "description": "x"}), "string | number"),
            (
                json!({"allOf": [{"properties": {"a": true}}, {"anyOf": [{"type": "null"}, {"type": "string"}]}]}),
                "{\n  a?: unknown;\n} & (null | string)",
            ),
            (json!({"not": {}}), "unknown"),
            (json!(false), "never"),
        ] {
            assert_eq!(Types { names: &Names::new() }.of(&schema, 0, 0), wanted, "{schema}");
        }
    }

    #[test]
    fn what_contains_itself_has_a_name() {
        let comment = json!({"type": "object", "required": ["text"], "properties": {
            "text": {"type": "string"}, "replies": {"type": "array", "items": {"$ref": "#/$defs/comment"}},
        }});
        let tree = json!({"anyOf": [
            {"type": "string"}, {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}},
        ]});
        let itself = json!({"anyOf": [{"$ref": "#/$defs/other"}]});
        let defs = json!({"comment": comment, "tree": tree, "itself": itself, "other": {"$ref": "#/$defs/itself"}});
        let channel = Channel {
            pattern: "room:*".to_owned(),
            join: json!({"$ref": "#/$defs/comment", "$defs": defs}),
            push: BTreeMap::from([(
                "a".to_owned(),
                json!({"items": {"$ref": "#/$defs/tree"}, "type": "array", "$defs": defs}),
            )]),
            on: BTreeMap::from([("b".to_owned(), json!({"title": "a list", "properties": {"next": {"$ref": "#"}}}))]),
            replies: true,
        };
        let text = module(&Document { channels: vec![channel], server: None });
        for part in [
            "export type Comment = {\n  replies?: Comment[];\n  text: string;\n};",
            "export type Tree = string | { [member: string]: Tree };",
            "export type Itself = unknown;",
            "export type Other = unknown;",
            "export type AList = {\n  next?: AList;\n};",
            "  join: Comment;",
            "    a: Tree[];",
            "    b: {\n      next?: AList;\n    };",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("export type Comment").count(), 1, "{text}");
    }

    #[test]
    fn names_of_others_stay_names() {
        assert_eq!(bracketed("{ a: 1 | 2 } & b"), "({ a: 1 | 2 } & b)");
        assert_eq!(bracketed(r#""a | \" b""#), r#""a | \" b""#);
        assert_eq!(key("new_msg"), "new_msg");
        assert_eq!(key("1"), "\"1\"");
        assert_eq!(key("a\"; evil"), r#""a\"; evil""#);
        assert_eq!(comment("a */ b\nc"), "a *\u{200b}/ b c");
    }
}
