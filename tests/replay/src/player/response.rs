//! Compares an HTTP response with what a step accepts. There is no socket here.

use crate::envelope::Joins;
use crate::form::{ExpectedBody, Json, ResponseForm, shortened};
use crate::http::Response;
use crate::pattern::Bindings;
use crate::run::{Incoming, Offer, Run};
use serde_json::Value;
use std::time::Duration;

/// A response, together with the messages of the polls before it that belong to the same step.
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) took: Duration,
    pub(super) earlier: Vec<Value>,
}

/// How an answer differs from a form.
#[derive(Debug)]
pub(super) struct ResponseDifference {
    pub(super) what: String,
    /// All is well but that messages are missing, and some came: another poll may bring them.
    pub(super) more_may_come: bool,
}

impl From<String> for ResponseDifference {
    fn from(what: String) -> Self {
        ResponseDifference { what, more_may_come: false }
    }
}

impl Answer {
    /// Whether the answer has this form; binds its placeholders.
    pub(super) fn check(
        &self,
        form: &ResponseForm,
        joins: &Joins,
        bindings: &mut Bindings,
    ) -> Result<(), ResponseDifference> {
        let text = self.response.text();
        if self.response.status != form.status {
            let (expected, status) = (form.status, self.response.status);
            return Err(format!("expected HTTP {expected}; got {status} {}", shortened(&text)).into());
        }
        for (name, expected) in &form.headers {
            self.check_header(name, expected.as_ref(), bindings)?;
        }
        if !form.timing.allows(self.took) {
            return Err(format!("expected a response{}; got it after {} ms", form.timing, self.took.as_millis()).into());
        }
        match &form.body {
            None => Ok(()),
            Some(ExpectedBody::Text(expected)) if *expected == text => Ok(()),
            Some(ExpectedBody::Text(expected)) => {
                Err(format!("expected body {:?}; got {:?}", shortened(expected), shortened(&text)).into())
            }
            Some(ExpectedBody::Json(expected)) => {
                self.check_json(expected, bindings)?;
                Ok(())
            }
            Some(ExpectedBody::Poll { rest, messages }) => {
                self.check_json(rest, bindings)?;
                self.check_messages(messages, joins, bindings)
            }
        }
    }

    fn check_header(&self, name: &str, expected: Option<&Json>, bindings: &mut Bindings) -> Result<(), String> {
        let actual = self.response.header(name);
        let (expected, mut actual) = match (expected, actual) {
            (None, None) => return Ok(()),
            (None, Some(actual)) => return Err(format!("unexpected header {name}: {actual}")),
            (Some(expected), None) => return Err(format!("header {name}: expected {}; it is absent", expected.source)),
            (Some(expected), Some(actual)) => (expected, actual),
        };
        if name.eq_ignore_ascii_case("content-type") {
            // Parameters, the charset mostly, are the server's choice.
            actual.truncate(actual.find(';').unwrap_or(actual.len()));
        }
        let plain = |text: &str| text.split_whitespace().collect::<String>().to_lowercase();
        let same = expected.source.as_str().is_some_and(|expected| plain(expected) == plain(&actual));
        if same || expected.pattern.matches(&Value::String(actual.clone()), bindings) {
            return Ok(());
        }
        Err(format!("header {name}: expected {}; got {actual:?}", expected.source))
    }

    fn check_json(&self, expected: &Json, bindings: &mut Bindings) -> Result<(), String> {
        let text = self.response.text();
        match serde_json::from_str(&text) {
            Ok(actual) if expected.pattern.matches(&actual, bindings) => Ok(()),
            _ => Err(format!("expected {}; got {}", shortened(&expected.source.to_string()), shortened(&text))),
        }
    }

    fn check_messages(
        &self,
        expected: &[Value],
        joins: &Joins,
        bindings: &mut Bindings,
    ) -> Result<(), ResponseDifference> {
        let mut run = Run::of_messages(expected, joins)?;
        let missing =
            |run: &Run| run.next().map_or("no more messages".to_owned(), |(label, form)| format!("{label}, {form}"));
        let came_now = self.messages().len() > self.earlier.len();
        for message in self.messages() {
            let Value::String(text) = message else {
                return Err(
                    format!("a message of a poll must be a string, not {}", shortened(&message.to_string())).into()
                );
            };
            let incoming = Incoming::Text(text.into_bytes());
            if run.offer(&incoming, Duration::ZERO, bindings) == Offer::Unexpected {
                return Err(format!("expected {}; got {incoming}", missing(&run)).into());
            }
        }
        if run.is_complete() {
            return Ok(());
        }
        let what = format!("expected {}; it did not come", missing(&run));
        Err(ResponseDifference { what, more_may_come: came_now })
    }

    /// The messages of all polls up to this one.
    pub(super) fn messages(&self) -> Vec<Value> {
        let json: Value = serde_json::from_slice(&self.response.body).unwrap_or_default();
        let mut messages = self.earlier.clone();
        messages.extend(json["messages"].as_array().into_iter().flatten().cloned());
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::read_response;
    use crate::transcript::Fields;
    use serde_json::json;

    /// Checks a response with `headers` and `body` that came after 100 ms; `Err` holds whether more may come.
    fn check(form: Value, headers: &str, body: &str) -> Result<(), bool> {
        let text = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        let response = read_response(&mut text.as_bytes(), false).unwrap();
        let answer = Answer { response, took: Duration::from_millis(100), earlier: Vec::new() };
        let form = ResponseForm::parse(&Fields::of(&form).unwrap()).unwrap();
        let outcome = answer.check(&form, &Joins::default(), &mut Bindings::default());
        outcome.map_err(|difference| difference.more_may_come)
    }

    #[test]
    fn each_part_is_compared() {
        for (form, headers, body, same) in [
            (json!({"status": 200}), "", "anything", true),
            (json!({"status": 201}), "", "", false),
            (json!({"status": 200, "body": "a"}), "", "a", true),
            (json!({"status": 200, "body": "a"}), "", "b", false),
            (json!({"status": 200, "json": {"a": 1}}), "", r#"{"a": 1}"#, true),
            (json!({"status": 200, "json": {"a": 1}}), "", r#"{"a": 2}"#, false),
            (json!({"status": 200, "json": {"a": 1}}), "", "no JSON", false),
            (json!({"status": 200, "headers": [["x-a", "1"]]}), "X-A: 1\r\n", "", true),
            (json!({"status": 200, "headers": [["x-a", "b, C"]]}), "X-A: B,c\r\n", "", true),
            (json!({"status": 200, "headers": [["x-a", "1"]]}), "X-A: 2\r\n", "", false),
            (json!({"status": 200, "headers": [["x-a", "1"]]}), "", "", false),
            (json!({"status": 200, "headers": [["x-a", "$re:^1"]]}), "X-A: 12\r\n", "", true),
            (json!({"status": 200, "headers": [["x-a", "$re:^1"]]}), "X-A: 21\r\n", "", false),
            (json!({"status": 200, "headers": [["x-a", null]]}), "", "", true),
            (json!({"status": 200, "headers": [["x-a", null]]}), "X-A: 1\r\n", "", false),
            (
                json!({"status": 200, "headers": [["content-type", "text/html"]]}),
                "content-type: text/html; charset=utf-8\r\n",
                "",
                true,
            ),
            (json!({"status": 200, "within_ms": 100}), "", "", true),
            (json!({"status": 200, "within_ms": 99}), "", "", false),
            (json!({"status": 200, "after_ms": [101, 200]}), "", "", false),
        ] {
            assert_eq!(check(form.clone(), headers, body).is_ok(), same, "{form} against {headers:?} {body:?}");
        }
    }

    #[test]
    fn a_poll_may_be_one_of_several() {
        let form = json!({"status": 200, "json": {"status": 200, "token": "$T1", "messages": [["a"], ["b"]]}});
        let poll =
            |status: u16, messages: &[Value]| json!({"status": status, "token": "t", "messages": messages}).to_string();
        let (a, b) = (json!(r#"["a"]"#), json!(r#"["b"]"#));
        for (status, messages, outcome) in [
            (200, vec![a.clone(), b.clone()], Ok(())),
            (200, vec![a.clone()], Err(true)),
            (200, vec![], Err(false)),
            (204, vec![], Err(false)),
            (200, vec![b.clone(), a.clone()], Err(false)),
            (200, vec![a.clone(), b.clone(), b.clone()], Err(false)),
            (200, vec![json!(["a"]), json!(["b"])], Err(false)),
            (410, vec![a.clone(), b.clone()], Err(false)),
        ] {
            assert_eq!(check(form.clone(), "", &poll(status, &messages)), outcome, "{status} {messages:?}");
        }
    }
}
