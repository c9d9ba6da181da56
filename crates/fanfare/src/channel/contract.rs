//! What may be said on the topics of a channel, in types: JSON Schemas are made of them, for documents and for types of clients. That a
//! payload fits is seen where it is read: serde is the check.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::endpoint::Endpoint;

/// The version of the form in which `fanfare contract` reads and writes it.
const VERSION: u64 = 1;

/// What clients may send to the topics of a channel, and what they get.
#[derive(Clone, Default)]
pub struct Contract {
    join: Option<Value>,
    push: BTreeMap<String, Value>,
    on: BTreeMap<String, Value>,
}

impl Contract {
    /// Nothing in particular.
    pub fn new() -> Self {
        Contract::default()
    }

    /// The payload of a join.
    pub fn join<P: JsonSchema>(mut self) -> Self {
        self.join = Some(taken::<P>());
        self
    }

    /// An event that clients push, with its payload. It is to be answered.
    pub fn push<P: JsonSchema>(mut self, event: &str) -> Self {
        self.push.insert(event.to_owned(), taken::<P>());
        self
    }

    /// An event that clients get, with its payload.
    pub fn event<P: JsonSchema>(mut self, event: &str) -> Self {
        self.on.insert(event.to_owned(), given::<P>());
        self
    }

    fn json(self) -> Value {
        let map = |schemas: BTreeMap<String, Value>| -> Map<String, Value> { schemas.into_iter().collect() };
        let join = self.join.unwrap_or_else(|| json!({ "type": "object" }));
        json!({ "join": join, "push": map(self.push), "on": map(self.on), "replies": true })
    }
}

impl fmt::Debug for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = (self.push.keys(), self.on.keys());
        f.debug_struct("Contract").field("push", &names.0).field("on", &names.1).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// What the channels of all mounts say in their [contracts](crate::Channel::contract), by their patterns. `fanfare contract --from FILE`
    /// reads it, as JSON, and makes types and documents of it.
    pub fn contract(&self) -> Value {
        let mut channels = Map::new();
        for (_, mount) in self.gate().mounts().iter() {
            for (pattern, contract) in mount.contracts() {
                channels.entry(pattern).or_insert_with(|| contract.json());
            }
        }
        json!({ "fanfare_contract": VERSION, "channels": channels })
    }
}

/// The schema of what is read.
fn taken<P: JsonSchema>() -> Value {
    schema::<P>(settings().for_deserialize())
}

/// The schema of what is written.
fn given<P: JsonSchema>() -> Value {
    schema::<P>(settings().for_serialize())
}

fn settings() -> SchemaSettings {
    let mut settings = SchemaSettings::draft2020_12();
    // Readers find everything at its place.
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings
}

fn schema<P: JsonSchema>(settings: SchemaSettings) -> Value {
    settings.into_generator().into_root_schema_for::<P>().to_value()
}
