//! What a back end answers.

use std::fmt;
use std::time::{Duration, SystemTime};

use fanfare::{JsonText, Payload};
use fanfare_proto::event::{EVENT_SIZE_MAX, Reserved};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The longest reason that clients are told, in bytes.
const REASON_SIZE_MAX: usize = 1_000;

/// What was asked, so that what the answer says fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Join,
    Message,
}

/// A back end's word. `Debug` shows neither claims nor payloads.
#[derive(Clone, PartialEq)]
pub(crate) enum Answer {
    /// Yes, with what the question lets it add.
    Yes {
        /// Of a connect: who it is.
        claims: Map<String, Value>,
        /// Of a connect: until when.
        expires_at: Option<SystemTime>,
        /// Of a join: what the client gets as the response.
        reply: Option<Payload>,
        /// Of a message: what is published instead.
        payload: Option<Payload>,
        event: Option<String>,
    },
    /// No, with a reason for the client.
    No {
        /// Left out: what the configuration says.
        reason: Option<String>,
    },
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes { .. } => f.debug_struct("Yes").finish_non_exhaustive(),
            Self::No { .. } => f.debug_struct("No").finish_non_exhaustive(),
        }
    }
}

/// Names that are not known are for later versions, and no error.
#[derive(Deserialize)]
struct Body<'a> {
    allow: bool,
    reason: Option<String>,
    sub: Option<String>,
    claims: Option<Map<String, Value>>,
    expires_in: Option<u64>,
    #[serde(borrow)]
    reply: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    event: Option<String>,
}

impl Answer {
    /// Reads a body that has come at a time.
    ///
    /// # Errors
    /// What is wrong with it, without any of it.
    pub(super) fn parse(body: &[u8], kind: Kind, now: SystemTime) -> Result<Self, &'static str> {
        let body: Body<'_> = serde_json::from_slice(body)
            .map_err(|_| "the answer is not a JSON object of the documented form with `allow` in it")?;
        if !body.allow {
            if body.reason.as_ref().is_some_and(|reason| reason.len() > REASON_SIZE_MAX) {
                return Err("the answer has a `reason` of more than 1000 bytes");
            }
            return Ok(Self::No { reason: body.reason });
        }
        let of_connect = body.sub.is_some() || body.claims.is_some() || body.expires_in.is_some();
        let of_message = body.payload.is_some() || body.event.is_some();
        if (of_connect && kind != Kind::Connect)
            || (body.reply.is_some() && kind != Kind::Join)
            || (of_message && kind != Kind::Message)
        {
            // Somebody believes that it has an effect.
            return Err("the answer has something in it that belongs to another kind of question");
        }
        let mut claims = body.claims.unwrap_or_default();
        claims.extend(body.sub.map(|sub| ("sub".to_owned(), sub.into())));
        Ok(Self::Yes {
            claims,
            expires_at: body.expires_in.map(|seconds| end(now, seconds)).transpose()?,
            reply: body.reply.map(payload).transpose()?,
            payload: body.payload.map(pushable).transpose()?,
            event: body.event.map(event).transpose()?,
        })
    }

    pub(crate) fn is_yes(&self) -> bool {
        matches!(self, Self::Yes { .. })
    }

    /// Whether it may count again. A reply tells how things are when somebody joins.
    pub(super) fn may_be_kept(&self) -> bool {
        !matches!(self, Self::Yes { reply: Some(_), .. })
    }

    /// When it has said itself that it counts no more.
    pub(super) fn expires_at(&self) -> Option<SystemTime> {
        match self {
            Self::Yes { expires_at, .. } => *expires_at,
            Self::No { .. } => None,
        }
    }
}

fn end(now: SystemTime, seconds: u64) -> Result<SystemTime, &'static str> {
    let end = now.checked_add(Duration::from_secs(seconds)).filter(|_| seconds > 0);
    end.ok_or("the answer has an `expires_in` that is 0 or beyond all time")
}

fn payload(raw: &RawValue) -> Result<Payload, &'static str> {
    let json =
        JsonText::parse(raw.get().to_owned()).map_err(|_| "the answer has JSON in it that clients could not read")?;
    Ok(json.into())
}

fn pushable(raw: &RawValue) -> Result<Payload, &'static str> {
    let payload = payload(raw)?;
    if payload.is_pushable() { Ok(payload) } else { Err("the answer has a `payload` that is no object") }
}

fn event(event: String) -> Result<String, &'static str> {
    match event.len() {
        1..=EVENT_SIZE_MAX if Reserved::of(&event).is_some_and(Reserved::concerns_clients) => {
            Err("the answer has an `event` that is the protocol's own")
        }
        1..=EVENT_SIZE_MAX => Ok(event),
        _ => Err("the answer has an `event` of no or more than 255 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &str, kind: Kind) -> Result<Answer, &'static str> {
        Answer::parse(body.as_bytes(), kind, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn yes_and_no() {
        for kind in [Kind::Connect, Kind::Join, Kind::Message] {
            let plain = Answer::Yes { claims: Map::new(), expires_at: None, reply: None, payload: None, event: None };
            assert_eq!(read(r#"{"allow":true,"later":1}"#, kind), Ok(plain));
            let no = |reason: Option<&str>| Ok(Answer::No { reason: reason.map(str::to_owned) });
            assert_eq!(read(r#"{"allow":false}"#, kind), no(None));
            assert_eq!(read(r#"{"allow":false,"reason":"full","sub":"7"}"#, kind), no(Some("full")));
        }
        let yes = read(r#"{"allow":true,"sub":"7","claims":{"sub":"8","role":["x"]},"expires_in":60}"#, Kind::Connect);
        let Ok(Answer::Yes { claims, expires_at, .. }) = yes else { panic!("{yes:?}") };
        assert_eq!(Value::Object(claims), json!({"sub": "7", "role": ["x"]}));
        assert_eq!(expires_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(60)));
        let yes = read(r#"{"allow":true,"event":"e","payload":{"n":1.10}}"#, Kind::Message);
        let Ok(Answer::Yes { payload: Some(Payload::Json(json)), event: Some(event), .. }) = yes else {
            panic!("{yes:?}")
        };
        assert_eq!((json.as_str(), event.as_str()), (r#"{"n":1.10}"#, "e"));
        assert!(!read(r#"{"allow":true,"reply":[1]}"#, Kind::Join).unwrap().may_be_kept());
    }

    #[test]
    fn anything_else_is_no_answer() {
        #[track_caller]
        fn check(body: &str, kind: Kind, part: &str) {
            let error = read(body, kind).unwrap_err();
            assert!(error.contains(part), "{body}: {error}");
        }
        let forms = ["", "yes", "true", "[]", "{}", r#"{"alow":true}"#, r#"{"allow":"true"}"#, r#"{"allow":1}"#];
        for body in forms.iter().chain(&[r#"{"allow":false,"allow":true}"#, r#"{"allow":true}x"#, r#"{"allow":null}"#])
        {
            check(body, Kind::Join, "documented form");
        }
        check(r#"{"allow":true,"sub":7}"#, Kind::Connect, "documented form");
        check(r#"{"allow":true,"claims":[]}"#, Kind::Connect, "documented form");
        check(r#"{"allow":true,"expires_in":-1}"#, Kind::Connect, "documented form");
        check(r#"{"allow":true,"expires_in":0}"#, Kind::Connect, "expires_in");
        check(r#"{"allow":true,"expires_in":18446744073709551615}"#, Kind::Connect, "expires_in");
        check(r#"{"allow":true,"sub":"7"}"#, Kind::Join, "another kind");
        check(r#"{"allow":true,"reply":{}}"#, Kind::Message, "another kind");
        check(r#"{"allow":true,"payload":{}}"#, Kind::Join, "another kind");
        check(r#"{"allow":true,"payload":[1]}"#, Kind::Message, "no object");
        check(r#"{"allow":true,"payload":{"a":"\ud800"}}"#, Kind::Message, "could not read");
        check(r#"{"allow":true,"event":"phx_close"}"#, Kind::Message, "protocol's own");
        check(r#"{"allow":true,"event":""}"#, Kind::Message, "255 bytes");
        check(&format!(r#"{{"allow":false,"reason":"{}"}}"#, "x".repeat(1001)), Kind::Join, "1000 bytes");
    }
}
