//! The steps of a transcript, unrolled and grouped the way they are played.
//!
//! A transcript lists frames in the order in which they were read, but frames of different connections, and of
//! different topics on one, have no order among themselves. So everything that one connection may receive before the
//! client does something else becomes one [`Action::Expect`].

use crate::form::{Choice, FrameForm, ResponseForm};
use crate::transcript::{Fields, assemble};
use serde_json::Value;
use std::time::Duration;

/// One thing to do.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// The number of the step in the file, from 1; inside a repetition its number there and the round as well.
    pub(crate) label: String,
    /// The label of the connection, or of the request.
    pub(crate) connection: String,
    /// A pause before it.
    pub(crate) wait: Duration,
    pub(crate) action: Action,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Opens a WebSocket connection. A header without a value takes a default one away.
    Upgrade { path: String, headers: Vec<(String, Option<String>)> },
    /// Starts a request.
    Request { method: String, path: String, headers: Vec<(String, Option<String>)>, body: Option<Vec<u8>> },
    /// Waits for the response, for which the recording had to wait `took`.
    Response { forms: Choice<ResponseForm>, took: Duration },
    /// Sends a frame.
    Send(SentFrame),
    /// Drops the connection.
    Abort,
    /// All these frames must come, and then nothing for as long as `silence`.
    Expect { frames: Vec<ExpectedFrame>, silence: Option<Duration> },
    /// A new connection must be refused.
    Refused { path: String },
    /// The server's process gets this signal (`TERM`).
    Signal(String),
}

/// A frame as the client sends it, valid or not.
#[derive(Debug, Clone)]
pub(crate) struct SentFrame {
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
    pub(crate) fin: bool,
    /// The three reserved bits, 0 to 7.
    pub(crate) rsv: u8,
    pub(crate) masked: bool,
}

/// A frame, or the end of the connection, that must come.
#[derive(Debug, Clone)]
pub(crate) struct ExpectedFrame {
    pub(crate) label: String,
    pub(crate) forms: Choice<FrameForm>,
    /// Frames with the same lane keep their order; those with a lane keep none with others.
    pub(crate) lane: Option<String>,
}

/// Reads the steps of a transcript.
pub(crate) fn parse(steps: &[Value]) -> Result<Vec<Step>, String> {
    let mut unrolled = Vec::new();
    unroll(steps, "", "", &mut unrolled)?;
    let mut parsed = Vec::new();
    for (label, step) in &unrolled {
        parsed.push(parse_step(label, step).map_err(|e| format!("step {label}: {e}"))?);
    }
    Ok(group(parsed))
}

/// Repeats what `repeat` steps say, with the number of the round put in.
fn unroll(steps: &[Value], prefix: &str, suffix: &str, into: &mut Vec<(String, Value)>) -> Result<(), String> {
    for (i, step) in steps.iter().enumerate() {
        let label = format!("{prefix}{}{suffix}", i + 1);
        if step["dir"] != "repeat" {
            into.push((label, step.clone()));
            continue;
        }
        let fields = Fields::of(step)?;
        let parts = || {
            fields.only(&["dir", "var", "from", "to", "steps"])?;
            Ok((fields.str("var")?, fields.number::<u64>("from")?, fields.number::<u64>("to")?, fields.list("steps")?))
        };
        let (var, from, to, inner) = parts().map_err(|e: String| format!("step {label}: {e}"))?;
        for round in from..=to {
            let mut inner = inner.to_vec();
            inner.iter_mut().for_each(|step| substitute(step, &format!("{{{var}}}"), &round.to_string()));
            unroll(&inner, &format!("{prefix}{}.", i + 1), &format!(" ({var}={round}){suffix}"), into)?;
        }
    }
    Ok(())
}

fn substitute(value: &mut Value, name: &str, round: &str) {
    match value {
        Value::String(text) => *text = text.replace(name, round),
        Value::Array(items) => items.iter_mut().for_each(|item| substitute(item, name, round)),
        Value::Object(fields) => fields.values_mut().for_each(|field| substitute(field, name, round)),
        _ => {}
    }
}

fn parse_step(label: &str, step: &Value) -> Result<Step, String> {
    let step = Fields::of(step)?;
    let dir = step.str("dir")?;
    let action = match dir {
        "http_request" => parse_request(&step)?,
        "http_response" => {
            const FORM: [&str; 6] = ["status", "headers", "json", "body", "after_ms", "within_ms"];
            const STEP: [&str; 5] = ["dir", "conn", "or", "better", "took_ms"];
            let took = step.millis("took_ms")?.unwrap_or_default();
            Action::Response { forms: choice(&step, &FORM, &STEP, ResponseForm::parse)?, took }
        }
        "send" => Action::Send(SentFrame::parse(&step)?),
        "recv" | "closed" => {
            const FORM: [&str; 10] =
                ["op", "json", "hex", "data", "parts", "code", "none", "ends", "after_ms", "within_ms"];
            // `deflated` is information: whether a small frame is worth compressing is the server's choice.
            const STEP: [&str; 7] = ["dir", "conn", "or", "better", "lane", "note", "deflated"];
            let forms = choice(&step, &FORM, &STEP, |form| FrameForm::parse(form, &step))?;
            let lane = step.opt_str("lane")?.map(str::to_owned);
            let frame = ExpectedFrame { label: label.to_owned(), forms, lane };
            Action::Expect { frames: vec![frame], silence: None }
        }
        "silence" => {
            step.only(&["dir", "conn", "ms", "note"])?;
            Action::Expect { frames: Vec::new(), silence: Some(Duration::from_millis(step.number("ms")?)) }
        }
        "abort" => {
            step.only(&["dir", "conn", "wait_ms", "note"])?;
            Action::Abort
        }
        "refused" => {
            step.only(&["dir", "conn", "path", "wait_ms", "note"])?;
            Action::Refused { path: step.str("path")?.to_owned() }
        }
        "signal" => {
            step.only(&["dir", "sig", "wait_ms", "note"])?;
            Action::Signal(step.str("sig")?.to_owned())
        }
        other => return Err(format!("unknown dir {other:?}")),
    };
    Ok(Step {
        label: label.to_owned(),
        connection: step.opt_str("conn")?.unwrap_or("http").to_owned(),
        wait: step.millis("wait_ms")?.unwrap_or_default(),
        action,
    })
}

fn choice<T>(
    step: &Fields,
    form: &[&str],
    own: &[&str],
    parse: impl Fn(&Fields) -> Result<T, String>,
) -> Result<Choice<T>, String> {
    let is_step = |fields: &Fields| fields.get("dir").is_some();
    let own = [form, own].concat();
    Choice::parse(step, |fields| {
        fields.only(if is_step(fields) { &own } else { form })?;
        parse(fields)
    })
}

fn parse_request(step: &Fields) -> Result<Action, String> {
    step.only(&["dir", "conn", "method", "path", "headers", "body", "body_parts", "ws", "wait_ms", "note"])?;
    let (path, headers) = (step.str("path")?.to_owned(), step.headers()?);
    if step.flag("ws")?.unwrap_or(false) {
        return match step.str("method")? {
            "GET" => Ok(Action::Upgrade { path, headers }),
            other => Err(format!("an upgrade by {other} cannot be played; leave out ws")),
        };
    }
    let body = match step.get("body_parts") {
        Some(_) => Some(assemble(step.list("body_parts")?, false)?),
        None => step.opt_str("body")?.map(|body| body.as_bytes().to_vec()),
    };
    Ok(Action::Request { method: step.str("method")?.to_owned(), path, headers, body })
}

impl SentFrame {
    fn parse(step: &Fields) -> Result<SentFrame, String> {
        step.only(&[
            "dir", "conn", "wait_ms", "note", "op", "data", "hex", "parts", "latin1", "code", "reason", "fin", "rsv",
            "masked",
        ])?;
        let opcode = match step.get("op").and_then(Value::as_u64) {
            Some(_) => step.number("op")?,
            None => match step.str("op")? {
                "cont" => 0,
                "text" => 1,
                "binary" => 2,
                "close" => 8,
                "ping" => 9,
                "pong" => 10,
                other => return Err(format!("unknown op {other:?}")),
            },
        };
        let payload = if step.get("code").is_some() {
            let code: u16 = step.number("code")?;
            [&code.to_be_bytes(), step.opt_str("reason")?.unwrap_or_default().as_bytes()].concat()
        } else {
            step.bytes()?
        };
        Ok(SentFrame {
            opcode,
            payload,
            fin: step.flag("fin")?.unwrap_or(true),
            rsv: step.opt_number("rsv")?.unwrap_or(0),
            masked: step.flag("masked")?.unwrap_or(true),
        })
    }
}

/// Joins what each connection may receive before the client goes on. Frames of several connections may be interleaved;
/// a silence ends the group of its own connection, and ends the search for more of any other.
fn group(steps: Vec<Step>) -> Vec<Step> {
    let mut grouped: Vec<Step> = Vec::new();
    // Where the groups that may still grow stand in `grouped`.
    let mut open: Vec<usize> = Vec::new();
    for step in steps {
        let Action::Expect { frames, silence } = &step.action else {
            open.clear();
            grouped.push(step);
            continue;
        };
        let group = open.iter().find(|i| grouped[**i].connection == step.connection).copied();
        match group {
            Some(i) => {
                if let Action::Expect { frames: earlier, silence: quiet } = &mut grouped[i].action {
                    earlier.extend(frames.iter().cloned());
                    *quiet = *silence;
                }
                if silence.is_some() {
                    open.clear();
                }
            }
            None if silence.is_some() => {
                open.clear();
                grouped.push(step);
            }
            None => {
                open.push(grouped.len());
                grouped.push(step);
            }
        }
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What the steps come to: for each its label, connection, and the labels of its frames or what else it is.
    fn outline(steps: Value) -> Vec<String> {
        let show = |step: &Step| match &step.action {
            Action::Expect { frames, silence } => {
                let labels: Vec<&str> = frames.iter().map(|frame| frame.label.as_str()).collect();
                let quiet = silence.map_or(String::new(), |s| format!(" then {} ms", s.as_millis()));
                format!("{} gets {}{quiet}", step.connection, labels.join(","))
            }
            _ => format!("{} acts at {}", step.connection, step.label),
        };
        parse(steps.as_array().unwrap()).unwrap().iter().map(show).collect()
    }

    #[test]
    fn what_a_connection_receives_is_one_step() {
        let recv = |conn: &str| json!({"dir": "recv", "conn": conn, "op": "close", "code": 1000});
        let send = json!({"dir": "send", "conn": "A", "op": "text", "data": ""});
        let silence = |conn: &str| json!({"dir": "silence", "conn": conn, "ms": 7});
        let closed = json!({"dir": "closed", "conn": "A"});
        for (steps, expected) in [
            (json!([recv("A"), recv("A"), closed, send]), vec!["A gets 1,2,3", "A acts at 4"]),
            (json!([recv("A"), send, recv("A")]), vec!["A gets 1", "A acts at 2", "A gets 3"]),
            (json!([recv("A"), recv("B"), recv("A"), silence("A")]), vec!["A gets 1,3 then 7 ms", "B gets 2"]),
            (json!([recv("A"), silence("B"), recv("A")]), vec!["A gets 1", "B gets  then 7 ms", "A gets 3"]),
            (json!([silence("A"), recv("A")]), vec!["A gets  then 7 ms", "A gets 2"]),
        ] {
            assert_eq!(outline(steps.clone()), expected, "{steps}");
        }
    }

    #[test]
    fn repetitions_are_unrolled() {
        let steps = json!([{"dir": "repeat", "var": "i", "from": 2, "to": 3, "steps": [
            {"dir": "send", "conn": "c{i}", "op": "text", "data": "{i}"},
            {"dir": "recv", "conn": "A", "op": "text", "json": ["{i}"]}
        ]}]);
        let expected = ["c2 acts at 1.1 (i=2)", "A gets 1.2 (i=2)", "c3 acts at 1.1 (i=3)", "A gets 1.2 (i=3)"];
        assert_eq!(outline(steps.clone()), expected);
        let parsed = parse(steps.as_array().unwrap()).unwrap();
        assert!(matches!(&parsed[2].action, Action::Send(frame) if frame.payload == b"3"));
    }

    #[test]
    fn frames_may_be_odd() {
        let frame = |step: Value| {
            let SentFrame { opcode, payload, fin, rsv, masked } =
                SentFrame::parse(&Fields::of(&step).unwrap()).unwrap();
            (opcode, payload, fin, rsv, masked)
        };
        assert_eq!(frame(json!({"op": "text", "data": "x"})), (1, b"x".to_vec(), true, 0, true));
        assert_eq!(
            frame(json!({"op": 11, "hex": "", "fin": false, "rsv": 4, "masked": false})),
            (11, vec![], false, 4, false)
        );
        assert_eq!(frame(json!({"op": "close", "code": 1000, "reason": "bye"})).1, b"\x03\xe8bye");
        assert_eq!(frame(json!({"op": "close", "hex": "03"})).1, b"\x03");
    }
}
