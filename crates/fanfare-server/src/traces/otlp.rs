//! Spans as a collector takes them: OTLP's JSON. Identities are in hexadecimal, numbers of 64 bits are texts.

use std::time::{SystemTime, UNIX_EPOCH};

use fanfare::trace::{Span, SpanKind, SpanValue};
use serde_json::{Value, json};

/// The status of what went wrong.
const ERROR: u8 = 2;

pub(super) fn span(span: &Span) -> Value {
    let error_type = span.error.map(|error| ("error.type", SpanValue::Text(error.to_owned())));
    let attributes: Vec<_> =
        span.attributes.iter().chain(&error_type).map(|(name, value)| attribute(name, value)).collect();
    let mut told = json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.id),
        // Sampled.
        "flags": 1,
        "name": span.name,
        "kind": kind(span.kind),
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(span.ended),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        told["parentSpanId"] = format!("{parent:016x}").into();
    }
    if span.error.is_some() {
        told["status"] = json!({ "code": ERROR });
    }
    told
}

fn kind(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
    }
}

/// A request with spans of a node.
pub(super) fn request(node: &str, spans: &[Value]) -> Value {
    let text = |name, text: &str| attribute(name, &SpanValue::Text(text.to_owned()));
    let version = env!("CARGO_PKG_VERSION");
    let resource =
        [text("service.name", "fanfare"), text("service.version", version), text("service.instance.id", node)];
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "fanfare", "version": version }, "spans": spans }],
    }] })
}

fn attribute(name: &str, value: &SpanValue) -> Value {
    let value = match value {
        SpanValue::Number(number) => json!({ "intValue": number.to_string() }),
        SpanValue::Flag(flag) => json!({ "boolValue": flag }),
        SpanValue::Text(text) => json!({ "stringValue": text }),
        _ => Value::Null,
    };
    json!({ "key": name, "value": value })
}

fn nanos(moment: SystemTime) -> String {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
