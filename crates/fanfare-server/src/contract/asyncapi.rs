//! Contracts as an AsyncAPI 3.0 document, for its generators and viewers. <https://www.asyncapi.com/docs/reference/specification/v3.0.0>

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::document::{Address, Channel, Document, names_taken, type_names};
use super::named::{Named, Names, without_definitions};

/// The last part of a topic whose pattern ends in a star.
const SUFFIX: &str = "suffix";

/// The frames of Phoenix Channels that a payload stands in.
const TRAIT: &str = "phoenix";

/// The document.
pub(super) fn document(contracts: &Document) -> Value {
    let names = type_names(&contracts.channels);
    let named = Named::of(&contracts.channels, names_taken(&names));
    let (mut channels, mut operations) = (Map::new(), Map::new());
    for (channel, name) in contracts.channels.iter().zip(&names) {
        channels.insert(name.clone(), described(channel, &named));
        operate(&mut operations, channel, name);
    }
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fanfare",
            "version": "1.0.0",
            "description": "What clients send to the topics of this server, and what they get. Made of its configuration by `fanfare contract`.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messageTraits": { TRAIT: {
            "description": "Sent as the JSON array [join_ref, ref, topic, event, payload].",
            "bindings": { "ws": {} },
        } } },
    });
    if !named.all().is_empty() {
        let schemas = named.all().iter().map(|each| (each.name.clone(), relocated(&each.schema, &each.names)));
        document["components"]["schemas"] = schemas.collect::<Map<_, _>>().into();
    }
    if let Some(Address { host, protocol }) = &contracts.server {
        document["servers"] = json!({ "socket": {
            "host": host, "protocol": protocol, "description": "Phoenix Channels 2.0.0 over WebSocket",
        } });
    }
    document
}

fn described(channel: &Channel, named: &Named) -> Value {
    let mut messages = Map::new();
    let mut add = |name: String, event: &str, payload: &Value| {
        let traits = json!([{ "$ref": format!("#/components/messageTraits/{TRAIT}") }]);
        let payload = relocated(&without_definitions(payload), &named.names(payload));
        messages.insert(name, json!({ "name": event, "payload": payload, "traits": traits }));
    };
    add("join".into(), "phx_join", &channel.join);
    for (event, payload) in &channel.push {
        add(message("push", event), event, payload);
    }
    for (event, payload) in &channel.on {
        add(message("on", event), event, payload);
    }
    add("reply".into(), "phx_reply", &reply());
    let mut described = json!({ "messages": messages });
    described["address"] = match channel.pattern.strip_suffix('*') {
        Some(prefix) => format!("{prefix}{{{SUFFIX}}}").into(),
        None => channel.pattern.as_str().into(),
    };
    if channel.pattern.ends_with('*') {
        described["parameters"] = json!({ SUFFIX: { "description": "The rest of the topic" } });
    }
    described
}

/// Seen from the server, as the specification wants it.
fn operate(operations: &mut Map<String, Value>, channel: &Channel, name: &str) {
    let of = |message: &str| json!({ "$ref": format!("#/channels/{name}/messages/{}", pointer(message)) });
    let whole = json!({ "$ref": format!("#/channels/{name}") });
    let answered = json!({ "channel": whole, "messages": [of("reply")] });
    let receive = |message: &str, is_answered: bool| {
        let mut operation = json!({ "action": "receive", "channel": whole, "messages": [of(message)] });
        if is_answered {
            operation["reply"] = answered.clone();
        }
        operation
    };
    operations.insert(format!("{name}.join"), receive("join", true));
    for event in channel.push.keys() {
        operations.insert(format!("{name}.push.{event}"), receive(&message("push", event), channel.replies));
    }
    for event in channel.on.keys() {
        let operation = json!({ "action": "send", "channel": whole, "messages": [of(&message("on", event))] });
        operations.insert(format!("{name}.on.{event}"), operation);
    }
}

/// A schema whose references lead to the components of the document.
fn relocated(schema: &Value, names: &Names) -> Value {
    match schema {
        Value::Object(members) => {
            let each = |(key, value): (&String, &Value)| match (key.as_str(), value) {
                ("$ref", Value::String(reference)) if names.contains_key(reference) => {
                    (key.clone(), format!("#/components/schemas/{}", names[reference]).into())
                }
                _ => (key.clone(), relocated(value, names)),
            };
            Value::Object(members.iter().map(each).collect())
        }
        Value::Array(items) => items.iter().map(|item| relocated(item, names)).collect(),
        other => other.clone(),
    }
}

fn message(direction: &str, event: &str) -> String {
    format!("{direction}.{event}")
}

/// What stays as it is in a name within a fragment of a URI.
const IN_POINTERS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name as a part of a JSON pointer in a URI.
fn pointer(name: &str) -> String {
    let name = name.replace('~', "~0").replace('/', "~1");
    utf8_percent_encode(&name, IN_POINTERS).to_string()
}

fn reply() -> Value {
    json!({
        "type": "object",
        "required": ["status", "response"],
        "properties": { "status": { "type": "string", "enum": ["ok", "error"] }, "response": { "type": "object" } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_pointers() {
        for (name, wanted) in [("push.new_msg", "push.new_msg"), ("a~b/c", "a~0b~1c"), ("é \"", "%C3%A9%20%22")] {
            assert_eq!(pointer(name), wanted);
        }
    }
}
