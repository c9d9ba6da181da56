//! `fanfare pub`: one message from the command line, or many from the standard input.

use std::io::{self, BufRead, BufReader, Read};

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::api::Api;
use super::{escape, print_json};
use crate::cli::client::Pub;

/// As many as the API takes in one request.
const BATCH_MESSAGES_MAX: usize = 1_000;

/// The longest line; the API takes bodies of eight times that.
const LINE_SIZE_MAX: u64 = 1_000_000;

/// Lines that have come in are published together as long as they fit in here.
const BUFFER_SIZE: usize = 64 * 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Message {
    topic: String,
    event: String,
    payload: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<String>,
    /// Where it stood in the history that it was read from, if it was: it gets a place of its own.
    #[serde(default, rename = "position", skip_serializing)]
    _position: IgnoredAny,
}

/// A request. Payloads go into it as they were given, numbers with all their digits.
#[derive(Serialize)]
struct Body<'a> {
    messages: &'a [Message],
    allow_reserved: bool,
}

/// What a line of the input is.
#[derive(Debug, Clone)]
enum Form {
    /// `{"topic", "event", "payload"}`.
    Whole,
    /// The payload of a message to this topic with this event.
    Payload { topic: String, event: String },
}

pub(super) async fn run(asked: &Pub) -> Result<(), String> {
    let form = match (asked.topic.as_str(), &asked.event) {
        ("-", None) => Form::Whole,
        (topic, Some(event)) => Form::Payload { topic: topic.to_owned(), event: event.clone() },
        (topic, None) => {
            return Err(format!("{topic}: the event is missing; usage: fanfare pub TOPIC EVENT [PAYLOAD]"));
        }
    };
    let api = Api::new(&asked.api)?;
    let answer = match (&form, asked.payload.as_deref()) {
        (Form::Whole, _) | (_, Some("-")) if asked.key.is_some() || asked.expect.is_some() => {
            return Err(
                "--key and --expect are for one message; lines have idempotency_key and expect of their own".into()
            );
        }
        (Form::Whole, _) | (_, Some("-")) => json!({ "published": stream(&api, form, asked.allow_reserved).await? }),
        (_, payload) => {
            let message = form.read(payload.unwrap_or("{}").as_bytes())?;
            let (key, expect) = (asked.key.clone(), asked.expect.clone());
            let message = Message { idempotency_key: key, expect, ..message };
            let mut answer = send(&api, &[message], asked.allow_reserved).await?;
            for hint in answer["hints"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                eprintln!("{}", escape::plain(hint));
            }
            let mut told = json!({ "published": answer["published"] });
            if let Some(position) = answer.pointer_mut("/messages/0/position").filter(|position| !position.is_null()) {
                told["position"] = position.take();
            }
            told
        }
    };
    print_json(&answer.to_string())
}

impl Form {
    fn read(&self, line: &[u8]) -> Result<Message, String> {
        match self {
            Self::Whole => serde_json::from_slice(line).map_err(|error| {
                format!(r#"not a message such as {{"topic": "room:lobby", "event": "new_msg"}}: {error}"#)
            }),
            Self::Payload { topic, event } => {
                let wrong = |why: &str| format!(r#"the payload is not a JSON object such as {{"body": "hello"}}{why}"#);
                let payload: Box<RawValue> =
                    serde_json::from_slice(line).map_err(|error| wrong(&format!(": {error}")))?;
                match payload.get().starts_with('{') {
                    true => {
                        let (topic, event) = (topic.clone(), event.clone());
                        Ok(Message { topic, event, payload: Some(payload), ..Message::default() })
                    }
                    false => Err(wrong("")),
                }
            }
        }
    }
}

/// Publishes all of them, and returns what the API says of it.
async fn send(api: &Api, messages: &[Message], allow_reserved: bool) -> Result<Value, String> {
    let body = serde_json::to_string(&Body { messages, allow_reserved })
        .map_err(|error| format!("cannot encode the messages: {error}"))?;
    api.post("/api/publish", body, "published").await
}

/// Publishes the standard input as it comes: how many messages that were.
async fn stream(api: &Api, form: Form, allow_reserved: bool) -> Result<u64, String> {
    let mut lines = Lines { input: BufReader::with_capacity(BUFFER_SIZE, io::stdin()), form, count: 0 };
    let mut published = 0;
    loop {
        let first = lines.count + 1;
        // In a thread of its own, so that the connection is looked after meanwhile.
        let read = tokio::task::spawn_blocking(move || {
            let batch = lines.next();
            (lines, batch)
        });
        let (back, batch) = read.await.map_err(|error| format!("cannot read the standard input: {error}"))?;
        lines = back;
        let told = |error: String| format!("{error}\nmessages published before: {published}");
        if !batch.messages.is_empty() {
            let sent = send(api, &batch.messages, allow_reserved).await;
            let sent = sent.map_err(|error| told(format!("lines {first} to {}: {error}", lines.count)))?;
            published += sent["published"].as_u64().unwrap_or_default();
        }
        match batch.end {
            None => {}
            Some(Ok(())) => return Ok(published),
            Some(Err(error)) => return Err(format!("{error}\nmessages published before: {published}")),
        }
    }
}

struct Lines<R> {
    input: BufReader<R>,
    form: Form,
    count: u64,
}

#[derive(Debug, Default)]
struct Batch {
    messages: Vec<Message>,
    /// Whether this was the last, and if so whether for a good reason.
    end: Option<Result<(), String>>,
}

impl<R: Read> Lines<R> {
    /// Waits for a line, and takes those behind it that are there already: a lone one is not delayed, and many cost few
    /// requests.
    fn next(&mut self) -> Batch {
        let mut batch = Batch::default();
        while batch.end.is_none() {
            match self.read_line() {
                Ok(Some(message)) => batch.messages.extend(message),
                Ok(None) => batch.end = Some(Ok(())),
                Err(error) => batch.end = Some(Err(error)),
            }
            if batch.messages.len() == BATCH_MESSAGES_MAX || !self.input.buffer().contains(&b'\n') {
                break;
            }
        }
        batch
    }

    /// The message of a line, or none of an empty one; `None` at the end.
    fn read_line(&mut self) -> Result<Option<Option<Message>>, String> {
        let mut line = Vec::new();
        let read = self.input.by_ref().take(LINE_SIZE_MAX + 1).read_until(b'\n', &mut line);
        let size = read.map_err(|error| format!("cannot read the standard input: {error}"))?;
        if size == 0 {
            return Ok(None);
        }
        self.count += 1;
        let told = |error: String| format!("line {}: {error}", self.count);
        if size as u64 > LINE_SIZE_MAX {
            return Err(told(format!("the line has more than {LINE_SIZE_MAX} bytes; each line is one message")));
        }
        match line.trim_ascii() {
            [] => Ok(Some(None)),
            line => self.form.read(line).map(|message| Some(Some(message))).map_err(told),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_messages() {
        /// Payloads by topic, then how it ended.
        #[track_caller]
        fn check(form: Form, input: &str, expected: &[&str], end: &str) {
            let mut lines = Lines { input: BufReader::new(input.as_bytes()), form, count: 0 };
            let mut found = Vec::new();
            let ended = loop {
                let batch = lines.next();
                assert!(batch.messages.len() <= BATCH_MESSAGES_MAX);
                found.extend(batch.messages.iter().map(|message| serde_json::to_string(message).unwrap()));
                if let Some(end) = batch.end {
                    break end;
                }
            };
            assert_eq!(found, expected);
            let ended = ended.map_or_else(|error| error, |()| String::new());
            assert!(ended.contains(end) && ended.is_empty() == end.is_empty(), "{ended}");
        }
        let payloads = || Form::Payload { topic: "t".into(), event: "e".into() };
        let (one, two) =
            (r#"{"topic":"t","event":"e","payload":{"n":1}}"#, r#"{"topic":"t","event":"e","payload":{}}"#);
        check(payloads(), "", &[], "");
        check(payloads(), "{\"n\":1}\n\n {}\r\n", &[one, two], "");
        check(payloads(), "{\"n\":1}\n{}", &[one, two], "");
        check(payloads(), "{\"n\":1}\n5\n{}", &[one], "line 2: the payload is not a JSON object");
        check(payloads(), "{\"n\":1}\n\n{", &[one], "line 3: the payload is not a JSON object");
        check(payloads(), &"x".repeat(LINE_SIZE_MAX as usize + 1), &[], "line 1: the line has more than 1000000 bytes");
        check(Form::Whole, &format!("{one}\n{two}\n"), &[one, two], "");
        check(Form::Whole, "{\"topic\":\"t\"}\n", &[], "missing field `event`");
        let many = "{}\n".repeat(BATCH_MESSAGES_MAX * 2 + 1);
        check(payloads(), &many, &vec![two; BATCH_MESSAGES_MAX * 2 + 1], "");
    }
}
