//! Spans as a collector takes them: OTLP's JSON. Identities are in hexadecimal, numbers of 64 bits are texts.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Attribute, Span};

/// A span that hands something to others, who get it later.
const PRODUCER: u8 = 4;

/// The status of what went wrong.
const ERROR: u8 = 2;

pub(super) fn span(span: &Span, error: Option<&str>, ended: SystemTime) -> Value {
    let error_type = error.map(|error| ("error.type", Attribute::Text(error.to_owned())));
    let attributes: Vec<_> =
        span.attributes.iter().chain(&error_type).map(|(name, value)| attribute(name, value)).collect();
    let mut told = json!({
        "traceId": format!("{:032x}", span.parent.trace),
        "spanId": format!("{:016x}", span.id),
        // Sampled.
        "flags": 1,
        "name": span.name,
        "kind": PRODUCER,
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(ended.max(span.began)),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent.span {
        told["parentSpanId"] = format!("{parent:016x}").into();
    }
    if error.is_some() {
        told["status"] = json!({ "code": ERROR });
    }
    told
}

/// A request with spans of a node.
pub(super) fn request(node: &str, spans: &[Value]) -> Value {
    let text = |name, text: &str| attribute(name, &Attribute::Text(text.to_owned()));
    let version = env!("CARGO_PKG_VERSION");
    let resource =
        [text("service.name", "fanfare"), text("service.version", version), text("service.instance.id", node)];
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "fanfare", "version": version }, "spans": spans }],
    }] })
}

fn attribute(name: &str, value: &Attribute) -> Value {
    let value = match value {
        Attribute::Text(text) => json!({ "stringValue": text }),
        Attribute::Number(number) => json!({ "intValue": number.to_string() }),
        Attribute::Flag(flag) => json!({ "boolValue": flag }),
    };
    json!({ "key": name, "value": value })
}

fn nanos(moment: SystemTime) -> String {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
