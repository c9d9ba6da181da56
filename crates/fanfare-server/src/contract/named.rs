//! Definitions of schemas, each with a name of its own in a document that has all schemas in it.
//!
//! A schema has definitions where it refers to itself, by `#/$defs/NAME`, or to the whole of itself by `#`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::document::{Channel, camel, free};

/// The whole of a schema, as it refers to itself.
const WHOLE: &str = "#";

/// What references in a schema are called in the document.
pub(super) type Names = BTreeMap<String, String>;

/// The definitions of all schemas of a document.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// By the schema's `$defs`, or by the whole of it where it refers to that, as JSON.
    names: BTreeMap<String, Names>,
    all: Vec<Definition>,
}

/// A definition.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) schema: Value,
    /// What its own references are called.
    pub(super) names: Names,
}

impl Named {
    /// Those of channels, whose names are taken.
    pub(super) fn of(channels: &[Channel], mut taken: BTreeSet<String>) -> Self {
        let mut named = Self::default();
        for channel in channels {
            for schema in [&channel.join].into_iter().chain(channel.push.values()).chain(channel.on.values()) {
                named.add(schema, &mut taken);
            }
        }
        named
    }

    fn add(&mut self, schema: &Value, taken: &mut BTreeSet<String>) {
        let Some(key) = key(schema).filter(|key| !self.names.contains_key(key)) else { return };
        let mut new = Vec::new();
        for (name, definition) in definitions(schema).into_iter().flatten() {
            let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            new.push((format!("#/$defs/{}", pointer(name)), free(&camel(words), taken), definition.clone()));
        }
        if refers_to_whole(schema) {
            let title = schema.get("title").and_then(Value::as_str).unwrap_or("Payload");
            let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
            new.push((WHOLE.to_owned(), free(&camel(words), taken), without_definitions(schema)));
        }
        let names: Names = new.iter().map(|(reference, name, _)| (reference.clone(), name.clone())).collect();
        let made = new.into_iter().map(|(_, name, schema)| Definition { name, schema, names: names.clone() });
        self.all.extend(made);
        self.names.insert(key, names);
    }

    /// What the references of a schema are called.
    pub(super) fn names(&self, schema: &Value) -> Names {
        key(schema).and_then(|key| self.names.get(&key)).cloned().unwrap_or_default()
    }

    pub(super) fn all(&self) -> &[Definition] {
        &self.all
    }
}

/// What a schema's references lead to; `None` where it has none to itself.
fn key(schema: &Value) -> Option<String> {
    if refers_to_whole(schema) {
        return Some(schema.to_string());
    }
    definitions(schema).map(|definitions| Value::from(definitions.clone()).to_string())
}

fn definitions(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("$defs")?.as_object()
}

/// A schema by itself, of which the definitions stand elsewhere.
pub(super) fn without_definitions(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(members) = &mut schema {
        members.remove("$defs");
    }
    schema
}

/// Finds what a reference of a schema leads to.
pub(super) fn lookup<'s>(schema: &'s Value, reference: &str) -> Option<&'s Value> {
    schema.pointer(reference.strip_prefix('#')?)
}

fn refers_to_whole(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => {
            members.get("$ref").is_some_and(|reference| reference == WHOLE) || members.values().any(refers_to_whole)
        }
        Value::Array(items) => items.iter().any(refers_to_whole),
        _ => false,
    }
}

fn pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
