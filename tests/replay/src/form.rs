//! What a step of a transcript accepts: the recorded form, equal alternatives, and deliberate improvements.

use crate::pattern::Pattern;
use crate::transcript::Fields;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// What counts where a step has a `better` form, that is, a deliberate improvement on what Phoenix did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Better {
    /// The recorded form and the better one.
    #[default]
    Allow,
    /// Only the better form.
    Require,
    /// Only what Phoenix did.
    Never,
}

/// The forms of one step.
#[derive(Debug, Clone)]
pub(crate) struct Choice<T> {
    recorded: T,
    or: Vec<T>,
    better: Vec<T>,
}

impl<T> Choice<T> {
    /// Reads the step's own form and those in `or` and `better` with `parse`, which gets the step's own fields as well.
    pub(crate) fn parse(step: &Fields, parse: impl Fn(&Fields) -> Result<T, String>) -> Result<Self, String> {
        let others = |key| -> Result<Vec<T>, String> {
            let forms = match step.get(key) {
                None => return Ok(Vec::new()),
                Some(Value::Array(forms)) => forms.as_slice(),
                Some(form) => std::slice::from_ref(form),
            };
            forms.iter().map(|form| parse(&Fields::of(form)?)).collect()
        };
        Ok(Choice { recorded: parse(step)?, or: others("or")?, better: others("better")? })
    }

    /// The forms that count, at least one.
    pub(crate) fn accepted(&self, better: Better) -> Vec<&T> {
        let recorded = std::iter::once(&self.recorded).chain(&self.or);
        match better {
            Better::Require if !self.better.is_empty() => self.better.iter().collect(),
            Better::Allow => recorded.chain(&self.better).collect(),
            Better::Require | Better::Never => recorded.collect(),
        }
    }
}

/// When something must come, counted from the client's last frame or from the start of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Timing {
    earliest: Option<Duration>,
    pub(crate) latest: Option<Duration>,
}

impl Timing {
    fn parse(form: &Fields) -> Result<Timing, String> {
        let mut timing = Timing { earliest: None, latest: form.millis("within_ms")? };
        if let Some(range) = form.get("after_ms") {
            let bound = |i| range.get(i).and_then(Value::as_u64).map(Duration::from_millis);
            let (Some(earliest), Some(latest)) = (bound(0), bound(1)) else {
                return Err(format!("after_ms must be [lo, hi], not {range}"));
            };
            timing = Timing { earliest: Some(earliest), latest: Some(timing.latest.unwrap_or(latest).min(latest)) };
        }
        Ok(timing)
    }

    pub(crate) fn allows(&self, elapsed: Duration) -> bool {
        self.earliest.is_none_or(|earliest| elapsed >= earliest) && self.latest.is_none_or(|latest| elapsed <= latest)
    }
}

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.earliest, self.latest) {
            (Some(earliest), Some(latest)) => write!(f, " after {} to {} ms", earliest.as_millis(), latest.as_millis()),
            (_, Some(latest)) => write!(f, " within {} ms", latest.as_millis()),
            _ => Ok(()),
        }
    }
}

/// An expected JSON value, and the same as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Json {
    pub(crate) pattern: Pattern,
    pub(crate) source: Value,
}

impl Json {
    pub(crate) fn parse(source: &Value) -> Result<Json, String> {
        Ok(Json { pattern: Pattern::parse(source)?, source: source.clone() })
    }
}

/// One acceptable frame.
#[derive(Debug, Clone)]
pub(crate) struct FrameForm {
    pub(crate) shape: Shape,
    pub(crate) timing: Timing,
    /// The connection is over after this form; its later steps are skipped.
    pub(crate) ends: bool,
}

/// What the frame is.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// A text frame with this JSON.
    Json(Json),
    /// A text, binary or pong frame with exactly these bytes.
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// A close frame with this code, or without one.
    Close(Option<u16>),
    /// The end of the TCP connection.
    End,
    /// No frame: it may stay away.
    Nothing,
}

impl FrameForm {
    /// Reads the form of a step or an alternative. `own` is the step itself, whose `op` an alternative may leave out.
    pub(crate) fn parse(form: &Fields, own: &Fields) -> Result<FrameForm, String> {
        let shape = if form.flag("none")?.unwrap_or(false) {
            Shape::Nothing
        } else if let Some(json) = form.get("json") {
            Shape::Json(Json::parse(json)?)
        } else if form.get("op").is_none() && own.str("dir")? == "closed" {
            Shape::End
        } else {
            let op = if form.get("op").is_some() { form.str("op")? } else { own.str("op")? };
            match op {
                "text" => Shape::Text(form.bytes()?),
                "binary" => Shape::Binary(form.bytes()?),
                "pong" => Shape::Pong(form.bytes()?),
                "close" => Shape::Close(form.code()?),
                other => return Err(format!("a server cannot be expected to send {other:?}")),
            }
        };
        Ok(FrameForm { shape, timing: Timing::parse(form)?, ends: form.flag("ends")?.unwrap_or(false) })
    }

    /// A text frame with this JSON, at any time.
    pub(crate) fn of_json(json: &Value) -> Result<FrameForm, String> {
        Ok(FrameForm { shape: Shape::Json(Json::parse(json)?), timing: Timing::default(), ends: false })
    }
}

impl fmt::Display for FrameForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Shape::Json(json) => write!(f, "text {}", shortened(&json.source.to_string()))?,
            Shape::Text(bytes) => write!(f, "text {}", shortened(&String::from_utf8_lossy(bytes)))?,
            Shape::Binary(bytes) => write!(f, "binary {}", shortened(&hex(bytes)))?,
            Shape::Pong(bytes) => write!(f, "pong {}", shortened(&hex(bytes)))?,
            Shape::Close(Some(code)) => write!(f, "close {code}")?,
            Shape::Close(None) => f.write_str("close without a code")?,
            Shape::End => f.write_str("end of connection")?,
            Shape::Nothing => f.write_str("(nothing)")?,
        }
        self.timing.fmt(f)
    }
}

/// One acceptable HTTP response.
#[derive(Debug, Clone)]
pub(crate) struct ResponseForm {
    pub(crate) status: u16,
    /// A header's pattern, or `None` where it must be absent.
    pub(crate) headers: Vec<(String, Option<Json>)>,
    pub(crate) body: Option<ExpectedBody>,
    pub(crate) timing: Timing,
}

/// The body of an acceptable response, where the form says something about it.
#[derive(Debug, Clone)]
pub(crate) enum ExpectedBody {
    Text(String),
    Json(Json),
    /// A long-poll answer with messages, each of which is a JSON text on the wire. They may come in several polls.
    Poll {
        rest: Json,
        messages: Vec<Value>,
    },
}

impl ResponseForm {
    pub(crate) fn parse(form: &Fields) -> Result<ResponseForm, String> {
        let headers = form.headers()?.into_iter().map(|(name, value)| {
            let pattern = value.map(|value| Json::parse(&Value::String(value))).transpose()?;
            Ok((name, pattern))
        });
        let body = match (form.get("json"), form.get("body")) {
            (Some(json), _) => Some(ExpectedBody::parse(json)?),
            (None, Some(_)) => Some(ExpectedBody::Text(form.str("body")?.to_owned())),
            (None, None) => None,
        };
        Ok(ResponseForm {
            status: form.number("status")?,
            headers: headers.collect::<Result<_, String>>()?,
            body,
            timing: Timing::parse(form)?,
        })
    }
}

impl ExpectedBody {
    fn parse(json: &Value) -> Result<ExpectedBody, String> {
        if let Some(messages) = json.get("messages").and_then(Value::as_array).filter(|list| !list.is_empty()) {
            for message in messages {
                Pattern::parse(message)?;
            }
            let mut rest = json.clone();
            rest["messages"] = "$any".into();
            return Ok(ExpectedBody::Poll { rest: Json::parse(&rest)?, messages: messages.clone() });
        }
        Ok(ExpectedBody::Json(Json::parse(json)?))
    }
}

/// `text`, cut where it would no longer fit into a line of a report.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 220;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn better_chooses_the_forms() {
        let accepted = |step: Value, better| -> Vec<u16> {
            let step = Fields::of(&step).unwrap();
            let choice = Choice::parse(&step, ResponseForm::parse).unwrap();
            choice.accepted(better).iter().map(|form| form.status).collect()
        };
        let all = json!({"status": 500, "or": [{"status": 501}], "better": {"status": 400}});
        assert_eq!(accepted(all.clone(), Better::Allow), [500, 501, 400]);
        assert_eq!(accepted(all.clone(), Better::Require), [400]);
        assert_eq!(accepted(all, Better::Never), [500, 501]);
        assert_eq!(accepted(json!({"status": 200}), Better::Require), [200]);
        let several = json!({"status": 500, "better": [{"status": 400}, {"status": 403}]});
        assert_eq!(accepted(several, Better::Require), [400, 403]);
    }

    #[test]
    fn timing_has_two_ends() {
        for (form, elapsed_ms, allowed) in [
            (json!({}), 1_000_000, true),
            (json!({"within_ms": 300}), 300, true),
            (json!({"within_ms": 300}), 301, false),
            (json!({"after_ms": [100, 200]}), 99, false),
            (json!({"after_ms": [100, 200]}), 100, true),
            (json!({"after_ms": [100, 200]}), 200, true),
            (json!({"after_ms": [100, 200]}), 201, false),
            (json!({"after_ms": [100, 200], "within_ms": 150}), 151, false),
        ] {
            let timing = Timing::parse(&Fields::of(&form).unwrap()).unwrap();
            assert_eq!(timing.allows(Duration::from_millis(elapsed_ms)), allowed, "{form} at {elapsed_ms}");
        }
        assert!(Timing::parse(&Fields::of(&json!({"after_ms": [5]})).unwrap()).is_err());
    }

    #[test]
    fn an_alternative_may_leave_out_the_op() {
        let step = json!({"dir": "recv", "op": "close", "code": 1011});
        let own = Fields::of(&step).unwrap();
        for (form, shown) in [
            (step.clone(), "close 1011"),
            (json!({"code": 1000}), "close 1000"),
            (json!({"op": "close", "code": null}), "close without a code"),
            (json!({"json": [1], "within_ms": 5}), "text [1] within 5 ms"),
            (json!({"none": true}), "(nothing)"),
            (json!({"op": "pong", "hex": "00ff"}), "pong 00ff"),
        ] {
            assert_eq!(FrameForm::parse(&Fields::of(&form).unwrap(), &own).unwrap().to_string(), shown);
        }
        assert!(FrameForm::parse(&Fields::of(&json!({"op": "ping"})).unwrap(), &own).is_err());
    }
}
