//! Phoenix Channels 2.0.0, as phoenix.js speaks it. To publish is to push an event that the server broadcasts.

use std::borrow::Cow;
use std::io::Write as _;

use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::codec;
use fanfare_proto::phoenix::message::Version;
use memchr::memmem;
use serde_json::{Map, Value};

use super::{Meaning, Outgoing, Protocol, Role};
use crate::args::Common;
use crate::stamp::{SIZE, Stamp};
use crate::target::Target;

/// The ref of the join, of its leave and of heartbeats; pushes have others.
const JOIN_REF: &str = "\"1\"";
const LEAVE_REF: &str = "\"2\"";

pub(super) struct Phoenix {
    path: String,
    event: String,
    join: String,
    /// Whether the answer to a push counts, and not a broadcast: the push's ref is the stamp then.
    echo: bool,
}

impl Phoenix {
    pub(super) fn new(common: &Common, target: &Target, echo: bool) -> Result<Self, String> {
        serde_json::from_str::<Value>(&common.join)
            .map_err(|error| format!("--join {}: not JSON: {error}", common.join))?;
        let params: Map<String, Value> = serde_json::from_str(&common.params)
            .map_err(|error| format!("--params {}: not a JSON object: {error}", common.params))?;
        Ok(Self {
            path: path(&target.path, &params),
            event: json_string(&common.event),
            join: common.join.clone(),
            echo,
        })
    }
}

/// The path that phoenix.js makes of an endpoint and its parameters.
fn path(endpoint: &str, params: &Map<String, Value>) -> String {
    let (path, query) = endpoint.split_once('?').unwrap_or((endpoint, ""));
    let mut pairs: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
    for (name, value) in params {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        pairs.push(format!("{}={}", encoded(name), encoded(&value)));
    }
    if !pairs.iter().any(|pair| pair.starts_with("vsn=")) {
        pairs.push("vsn=2.0.0".into());
    }
    format!("{}/websocket?{}", path.trim_end_matches('/').trim_end_matches("/websocket"), pairs.join("&"))
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn json_string(text: &str) -> String {
    Value::from(text).to_string()
}

impl Protocol for Phoenix {
    fn path(&self, _: Role, _: &str) -> String {
        self.path.clone()
    }

    fn enter(&self, _: Role, topic: &str, client: u32, out: &mut Outgoing) -> bool {
        let params = match self.join.contains("{client}") {
            true => Cow::Owned(self.join.replace("{client}", &client.to_string())),
            false => Cow::Borrowed(&self.join),
        };
        out.text(|message| {
            let _ = write!(message, "[{JOIN_REF},{JOIN_REF},\"{topic}\",\"phx_join\",{params}]");
        });
        false
    }

    fn publish(&self, topic: &str, stamp: Stamp, size: usize, out: &mut Outgoing) {
        out.text(|message| {
            message.extend_from_slice(b"[\"1\",\"");
            match self.echo {
                true => stamp.write(SIZE, message),
                false => message.push(b'p'),
            }
            let _ = write!(message, "\",\"{topic}\",{},{{\"body\":\"", self.event);
            match self.echo {
                true => message.resize(message.len() + size, b'x'),
                false => stamp.write(size, message),
            }
            message.extend_from_slice(b"\"}]");
        });
    }

    fn receive(&self, topic: &str, message: &[u8], _: &mut Outgoing) -> Meaning {
        // What is said to all, and replies to pushes as long as all is well.
        let is_reply_to_push = message.starts_with(b"[\"1\",\"p\"");
        if message.starts_with(b"[null,null,")
            || (is_reply_to_push && memmem::find(message, b"\"status\":\"ok\"").is_some())
        {
            return Meaning::Nothing;
        }
        let Ok(Ok(message)) = std::str::from_utf8(message).map(|text| codec::decode_text(Version::V2, text)) else {
            return Meaning::Failed("the server sent something that is no Phoenix message".into());
        };
        let payload = match &message.payload {
            Payload::Json(json) => serde_json::from_str(json.as_str()).unwrap_or(Value::Null),
            Payload::Text(_) | Payload::Binary(_) => Value::Null,
        };
        let is_ok = payload["status"] == "ok";
        let response = &payload["response"];
        match (message.event.as_ref(), message.msg_ref.as_json()) {
            ("phx_reply", JOIN_REF) if is_ok => Meaning::Entered,
            ("phx_reply", JOIN_REF) => Meaning::Refused(format!("the server refused to join {topic}: {response}")),
            ("phx_reply", LEAVE_REF) => Meaning::Left,
            ("phx_reply", _) if !is_ok => {
                Meaning::Failed(format!("the server answered a push with an error: {response}"))
            }
            ("phx_error", _) => Meaning::Failed(format!("the join of {topic} crashed (phx_error)")),
            _ => Meaning::Nothing,
        }
    }

    fn heartbeat(&self, out: &mut Outgoing) {
        out.text(|message| message.extend_from_slice(b"[null,\"h\",\"phoenix\",\"heartbeat\",{}]"));
    }

    fn leave(&self, topic: &str, out: &mut Outgoing) -> bool {
        out.text(|message| {
            let _ = write!(message, "[{JOIN_REF},{LEAVE_REF},\"{topic}\",\"phx_leave\",{{}}]");
        });
        true
    }
}
