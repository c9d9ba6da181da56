//! `[traces]`: spans for a collector of OpenTelemetry.

use super::section::{Form, section};
use super::url::Url;
use super::value::{Fault, Raw, Setting, refused};

section! {
    /// Spans go to a collector of OpenTelemetry: one for each message that is published over the HTTP API. Nothing is traced without an
    /// `endpoint`.
    struct Traces: "traces", Form::Table;
    keys {
        /// The address of the collector, such as `http://127.0.0.1:4318`: spans go to `/v1/traces` below it, by OTLP over HTTP as JSON.
        /// Left out: the environment variable `OTEL_EXPORTER_OTLP_ENDPOINT`.
        endpoint: Option<Url> = "",
        /// Which part of the requests is traced that say nothing of it themselves, from 0.0 to 1.0. One with the header `traceparent` is
        /// traced if that says so, and else is not.
        ratio: Part = "0.0",
    }
    later []
}

/// A part of all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part(pub(crate) f64);

impl Setting for Part {
    fn accepts() -> String {
        "a number from 0.0 to 1.0".into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let number = raw.get_ref().as_float().map(|float| float.as_str().to_owned());
        let number = number.or_else(|| raw.get_ref().as_integer().map(|integer| integer.as_str().to_owned()));
        let part = number.and_then(|text| text.parse::<f64>().ok()).filter(|part| (0.0..=1.0).contains(part));
        part.map(Self).ok_or_else(|| refused::<Self>(raw))
    }
}
