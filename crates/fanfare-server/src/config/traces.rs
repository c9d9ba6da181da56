//! `[traces]`: spans for a collector of OpenTelemetry.

use axum::http::Uri;

use super::problem::{Place, Problems};
use super::section::{Form, section};
use super::url::Url;
use super::value::{Fault, Raw, Setting, refused};

section! {
    /// Spans go to a collector of OpenTelemetry: of connects, joins, what clients send, hooks, and messages on their way. Nothing is traced
    /// without an `endpoint`. See [operations.md](operations.md#traces).
    struct Traces: "traces", Form::Table => Once;
    keys {
        /// The address of the collector, such as `http://127.0.0.1:4318`: spans go to `/v1/traces` below it, by OTLP over HTTP as JSON.
        /// Left out: the environment variable `OTEL_EXPORTER_OTLP_ENDPOINT`.
        endpoint: Option<Url> = "" => Once,
        /// Which part is traced of what nobody has decided about, from 0.0 to 1.0. A request to the HTTP API with the header `traceparent` is
        /// traced if that says so, and else is not.
        ratio: Part = "0.0" => Once,
    }
    later []
}

/// The address of a collector, as other programs take it.
const VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What spans are posted to, below the address of a collector.
const PATH: &str = "/v1/traces";

impl Traces {
    /// Where spans are posted to, if there is a collector.
    ///
    /// # Errors
    /// The collector's address is none.
    pub(crate) fn collector(traces: Option<&Self>) -> Result<Option<Url>, String> {
        if let Some(endpoint) = traces.and_then(|traces| traces.endpoint.as_ref()) {
            return of_spans(endpoint).map(Some).map_err(str::to_owned);
        }
        let Some(text) = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) else { return Ok(None) };
        let endpoint = text.parse().map_err(|_| format!("{VARIABLE} is not a URL such as http://127.0.0.1:4318"))?;
        of_spans(&endpoint).map(Some).map_err(|why| format!("{VARIABLE}: {why}"))
    }

    /// Reports an address that is none, and a part of requests that no collector is told of.
    pub(super) fn check(traces: Option<&Self>, problems: &mut Problems, warnings: &mut Vec<String>) {
        match (Self::collector(traces), traces) {
            (Err(why), Some(traces)) if traces.endpoint.is_some() => traces.places.problem(problems, "endpoint", why),
            (Err(why), _) => problems.add(Place::Nowhere, "traces.endpoint", why),
            (Ok(None), Some(traces)) if traces.ratio.0 > 0.0 => warnings.push(format!(
                "traces.ratio has no effect: neither traces.endpoint nor {VARIABLE} names a collector, so that nothing is traced"
            )),
            (Ok(_), _) => {}
        }
    }
}

/// Where a collector of this address takes spans.
fn of_spans(endpoint: &Url) -> Result<Url, &'static str> {
    if endpoint.0.query().is_some() {
        return Err("the collector's address has a query: leave it out, since /v1/traces is put behind the address");
    }
    let base = endpoint.0.to_string();
    let base = base.trim_end_matches('/');
    if base.ends_with(PATH) {
        return Err("the collector's address ends with /v1/traces: leave that out, since it is put behind the address");
    }
    let url = format!("{base}{PATH}").parse::<Uri>();
    url.map(Url).map_err(|_| "the collector's address is too long")
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
