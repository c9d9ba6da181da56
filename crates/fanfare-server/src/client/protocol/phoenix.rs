//! Phoenix Channels 2.0.0, as phoenix.js speaks it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fanfare_proto::message::Incoming;
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::codec;
use fanfare_proto::phoenix::message::Version;
use serde_json::{Map, Value, json};

use super::{Frame, Protocol, Said, on_one_line};

/// Members of topics.
pub(super) struct Phoenix {
    topics: Vec<Topic>,
    join_payload: Map<String, Value>,
    resumes: bool,
    events: Vec<String>,
    last_ref: u64,
}

struct Topic {
    name: String,
    join_ref: String,
    state: State,
    /// Where the last message stands that was printed, if the topic keeps a history.
    position: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Joining,
    Joined,
    /// It crashed: to be joined again.
    Failed,
    /// The server has ended it.
    Closed,
}

impl Phoenix {
    /// Topics that keep a history are followed without a gap, from a position on if one is given, unless the join's payload
    /// says what is to be resumed.
    pub(super) fn new(topics: &[String], join_payload: &Value, events: &[String], since: Option<&str>) -> Self {
        let topic = |name: &String| Topic {
            name: name.clone(),
            join_ref: String::new(),
            state: State::Failed,
            position: since.map(str::to_owned),
        };
        let join_payload = join_payload.as_object().cloned().unwrap_or_default();
        // A topic that is named twice would be joined twice, and the first join closed by the second.
        let mut names = topics.to_vec();
        names.sort();
        names.dedup();
        Self {
            topics: names.iter().map(topic).collect(),
            resumes: !join_payload.contains_key("resume"),
            join_payload,
            events: events.to_vec(),
            last_ref: 0,
        }
    }

    fn next_ref(&mut self) -> String {
        self.last_ref += 1;
        self.last_ref.to_string()
    }

    fn join(&mut self, wanted: impl Fn(State) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        for at in 0..self.topics.len() {
            if !wanted(self.topics[at].state) {
                continue;
            }
            let join_ref = self.next_ref();
            let head = json!([join_ref, join_ref, self.topics[at].name, "phx_join"]).to_string();
            let mut payload = self.join_payload.clone();
            if self.resumes {
                let position = &self.topics[at].position;
                payload.insert("resume".into(), position.clone().map_or(Value::Bool(true), Value::String));
            }
            frames.push(Frame::Text(format!("{},{}]", head.trim_end_matches(']'), Value::Object(payload))));
            let topic = &mut self.topics[at];
            (topic.join_ref, topic.state) = (join_ref, State::Joining);
        }
        frames
    }

    /// What a message means; `payload` is its JSON.
    fn receive(&mut self, join_ref: &str, msg_ref: &str, topic: &str, event: &str, payload: &str) -> Vec<Said> {
        let Some(at) = self.topics.iter().position(|known| known.name == topic) else { return Vec::new() };
        // What an earlier join of the topic was sent is not for this one.
        if !join_ref.is_empty() && join_ref != self.topics[at].join_ref {
            return Vec::new();
        }
        let mut said = Vec::new();
        // Where a ref would be, a message of a history has its position.
        let position = Some(msg_ref).filter(|position| event != "phx_reply" && position.contains(':'));
        if let Some(position) = position {
            self.topics[at].position = Some(position.to_owned());
        }
        let is_own = matches!(event, "phx_reply" | "phx_close" | "phx_error");
        if self.events.iter().any(|wanted| wanted == event) || (self.events.is_empty() && !is_own) {
            let names = (json!(topic), json!(event));
            let payload = on_one_line(payload);
            let position = position.map_or_else(String::new, |position| format!(",\"position\":{}", json!(position)));
            let line = format!("{{\"topic\":{},\"event\":{},\"payload\":{payload}{position}}}", names.0, names.1);
            said.push(Said::Line(line));
        }
        match event {
            "phx_reply" if msg_ref == self.topics[at].join_ref => said.push(self.joined(at, payload)),
            "phx_error" => {
                self.topics[at].state = State::Failed;
                said.push(Said::Note(format!("{topic} has failed on the server; joining it again")));
            }
            "phx_close" => {
                self.topics[at].state = State::Closed;
                let is_over = self.topics.iter().all(|topic| topic.state == State::Closed);
                let text = format!("{topic} was closed by the server");
                said.push(if is_over { Said::Fatal(text) } else { Said::Note(text) });
            }
            "gap" => said.extend(missing(topic, payload).map(Said::Note)),
            _ => {}
        }
        said
    }

    fn joined(&mut self, at: usize, payload: &str) -> Said {
        let topic = &mut self.topics[at];
        let reply: Value = serde_json::from_str(payload).unwrap_or_default();
        if reply["status"] == "ok" {
            topic.state = State::Joined;
            let resume = &reply["response"]["resume"];
            let was_there = topic.position.is_some();
            if let Some(position) = resume["position"].as_str().filter(|_| self.resumes) {
                topic.position = Some(position.to_owned());
            }
            return Said::Note(match (resume["recovered"].as_bool(), was_there) {
                (Some(false), _) => format!("joined {}; messages are missing: they are kept no more", topic.name),
                (Some(true), true) => format!("joined {} where it was left", topic.name),
                _ => format!("joined {}", topic.name),
            });
        }
        let response = &reply["response"];
        let reason = response["reason"].as_str().map_or_else(|| response.to_string(), str::to_owned);
        Said::Fatal(format!("{}: the join was refused: {reason}", topic.name))
    }
}

/// What the server says it has left out, unless the event is an application's own.
fn missing(topic: &str, payload: &str) -> Option<String> {
    let gap: Value = serde_json::from_str(payload).ok()?;
    Some(match (gap["reason"].as_str()?, gap["dropped"].as_u64()) {
        (reason, Some(dropped)) => {
            format!("{topic}: messages are missing: {dropped} were not taken in time ({reason})")
        }
        // How many is not known then.
        ("broker", None) => format!("{topic}: messages are missing: they were lost between the nodes (broker)"),
        _ => return None,
    })
}

impl Protocol for Phoenix {
    fn open(&mut self) -> Vec<Frame> {
        self.join(|state| state != State::Closed)
    }

    fn heartbeat(&mut self) -> Frame {
        Frame::Text(json!([null, self.next_ref(), "phoenix", "heartbeat", {}]).to_string())
    }

    fn text(&mut self, text: &str) -> Vec<Said> {
        let Ok(Incoming { join_ref, msg_ref, topic, event, payload: Payload::Json(payload) }) =
            codec::decode_text(Version::V2, text)
        else {
            return vec![Said::Fatal("the server sent what is no message of Phoenix; --protocol names another".into())];
        };
        self.receive(&join_ref.text(), &msg_ref.text(), &topic, &event, payload.as_str())
    }

    fn binary(&mut self, data: &[u8]) -> Vec<Said> {
        let Some(Binary { join_ref, msg_ref, topic, event, status, data }) = Binary::read(data) else {
            return vec![Said::Note("a binary frame that is no message of Phoenix was left out".into())];
        };
        let payload = json!({ "binary": STANDARD.encode(data) });
        let payload = status.map_or_else(|| payload.clone(), |status| json!({"status": status, "response": payload}));
        self.receive(join_ref, msg_ref, topic, event, &payload.to_string())
    }

    fn is_joining(&self) -> bool {
        self.topics.iter().any(|topic| topic.state == State::Joining)
    }

    fn rejoin(&mut self) -> Vec<Frame> {
        self.join(|state| state == State::Failed)
    }

    fn has_failed(&self) -> bool {
        self.topics.iter().any(|topic| topic.state == State::Failed)
    }
}

/// A binary frame of a server's.
struct Binary<'a> {
    join_ref: &'a str,
    msg_ref: &'a str,
    topic: &'a str,
    event: &'a str,
    /// Of a reply.
    status: Option<&'a str>,
    data: &'a [u8],
}

impl<'a> Binary<'a> {
    /// Reads one; its layouts are in the codec of the protocol crate, which writes them.
    fn read(frame: &'a [u8]) -> Option<Self> {
        let (kind, sizes) = frame.split_first()?;
        let fields = match kind {
            0 => 3,
            1 => 4,
            2 => 2,
            _ => return None,
        };
        let (sizes, mut rest) = sizes.split_at_checked(fields)?;
        let mut texts = [""; 4];
        for (text, size) in texts.iter_mut().zip(sizes) {
            let (field, after) = rest.split_at_checked((*size).into())?;
            (*text, rest) = (std::str::from_utf8(field).ok()?, after);
        }
        let binary =
            |join_ref, msg_ref, topic, event, status| Self { join_ref, msg_ref, topic, event, status, data: rest };
        Some(match (kind, texts) {
            (0, [join_ref, topic, event, _]) => binary(join_ref, "", topic, event, None),
            (1, [join_ref, msg_ref, topic, status]) => binary(join_ref, msg_ref, topic, "phx_reply", Some(status)),
            (_, [topic, event, ..]) => binary("", "", topic, event, None),
        })
    }
}
