//! What a back end is asked: the bodies of requests.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fanfare::{Params, Payload};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A question, with `type` saying which.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Question<'a> {
    /// May this client connect, and who is it?
    Connect {
        /// The path of the endpoint.
        endpoint: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
        params: Map<String, Value>,
        /// Those that the configuration lists and the request has.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<&'a str, &'a str>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        cookies: BTreeMap<&'a str, &'a str>,
        /// Without the port, which is another one each time.
        peer: Option<IpAddr>,
    },
    /// May this socket join a topic?
    Join {
        topic: &'a str,
        claims: Option<&'a Map<String, Value>>,
        #[serde(flatten)]
        payload: Carried<'a>,
    },
    /// May this member publish a message?
    Message {
        topic: &'a str,
        event: &'a str,
        claims: Option<&'a Map<String, Value>>,
        #[serde(flatten)]
        payload: Carried<'a>,
    },
}

/// A payload: JSON as it came, or bytes in base64.
#[derive(Serialize)]
pub(crate) struct Carried<'a> {
    payload: Cow<'a, RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl<'a> Carried<'a> {
    pub(crate) fn new(payload: &'a Payload) -> Self {
        let nothing = || Cow::Borrowed(RawValue::NULL);
        match payload {
            Payload::Json(json) => {
                let raw = serde_json::from_slice::<&RawValue>(json.as_bytes());
                Self { payload: raw.map_or_else(|_| nothing(), Cow::Borrowed), payload_base64: None }
            }
            Payload::Text(text) => {
                let raw = serde_json::value::to_raw_value(text.as_str());
                Self { payload: raw.map_or_else(|_| nothing(), Cow::Owned), payload_base64: None }
            }
            Payload::Binary(data) => Self { payload: nothing(), payload_base64: Some(STANDARD.encode(data)) },
        }
    }
}

/// The parameters of a connection but the one with the token.
pub(crate) fn params_without(params: &Params, token: &str) -> Map<String, Value> {
    params.iter().filter(|(name, _)| *name != token).map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

impl Question<'_> {
    pub(super) fn body(&self) -> Result<Bytes, String> {
        serde_json::to_vec(self).map(Bytes::from).map_err(|error| format!("the question is no JSON: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies() {
        #[track_caller]
        fn check(question: &Question<'_>, expected: &str) {
            assert_eq!(question.body().unwrap(), expected);
        }
        let params = Params::parse("vsn=2.0.0&token=x&room[id]=7").unwrap();
        check(
            &Question::Connect {
                endpoint: "/socket",
                token: Some("x"),
                params: params_without(&params, "token"),
                headers: BTreeMap::from([("x-tenant", "a")]),
                cookies: BTreeMap::from([("session", "s")]),
                peer: Some("::1".parse().unwrap()),
            },
            r#"{"type":"connect","endpoint":"/socket","token":"x","params":{"room":{"id":"7"},"vsn":"2.0.0"},"headers":{"x-tenant":"a"},"cookies":{"session":"s"},"peer":"::1"}"#,
        );
        let empty = Question::Connect {
            endpoint: "/s",
            token: None,
            params: Map::new(),
            headers: BTreeMap::new(),
            cookies: BTreeMap::new(),
            peer: None,
        };
        check(&empty, r#"{"type":"connect","endpoint":"/s","params":{},"peer":null}"#);
        let claims = Map::from_iter([("sub".to_owned(), json!("7"))]);
        let payload =
            Payload::from(fanfare::JsonText::parse(r#"{"n":123456789012345678901234567890,"e":1.10}"#).unwrap());
        check(
            &Question::Message {
                topic: "room:1",
                event: "new_msg",
                claims: Some(&claims),
                payload: Carried::new(&payload),
            },
            r#"{"type":"message","topic":"room:1","event":"new_msg","claims":{"sub":"7"},"payload":{"n":123456789012345678901234567890,"e":1.10}}"#,
        );
        let bytes = Payload::Binary(Bytes::from_static(b"\x00\xff"));
        check(
            &Question::Join { topic: "a", claims: None, payload: Carried::new(&bytes) },
            r#"{"type":"join","topic":"a","claims":null,"payload":null,"payload_base64":"AP8="}"#,
        );
    }
}
