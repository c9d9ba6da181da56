//! What JetStream is asked and answers, as JSON and names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_proto::nats::{Headers, Message};
use serde_json::{Value, json};

use crate::broker::Undone;

/// The header by which a node knows its own messages again.
pub(super) const OF: &str = "Ff-Of";

/// The header of a key.
pub(super) const KEY: &str = "Nats-Msg-Id";

/// The header of what is expected.
pub(super) const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

/// What a message for a log has in its headers, at most: each of the three with its name, and the line before them. Servers count it
/// as a part of the message.
pub(super) const HEADERS_SIZE_MAX: usize = 256;

/// An error that means: what was expected is not so.
const WRONG_LAST: u64 = 10_071;
/// There is no JetStream, or not for this account.
const NOT_ENABLED: u64 = 10_076;
const NOT_ENABLED_FOR_ACCOUNT: u64 = 10_039;
/// There is no such message.
const NO_MESSAGE: u64 = 10_037;
/// The message is larger than the stream allows.
const TOO_LARGE: u64 = 10_054;
/// There is another stream with these subjects.
pub(super) const OVERLAP: u64 = 10_065;

/// How a server has refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u64,
    pub(super) text: String,
}

/// Reads an answer.
///
/// # Errors
/// It refuses, or nobody is there to answer.
pub(super) fn answer(message: &Message<'_>) -> Result<Value, Refusal> {
    if message.headers.status() == Some(503) {
        let text = "nobody answers: start nats-server with -js, or give no topic a history";
        return Err(Refusal { code: 503, text: format!("it has no JetStream, {text}") });
    }
    let answer: Value = serde_json::from_slice(message.payload)
        .map_err(|_| Refusal { code: 0, text: "the answer of its JetStream makes no sense".to_owned() })?;
    if answer["error"].is_null() {
        return Ok(answer);
    }
    let text = answer["error"]["description"].as_str().unwrap_or("?");
    let code = answer["error"]["err_code"].as_u64().unwrap_or_default();
    let next = match code {
        NOT_ENABLED | NOT_ENABLED_FOR_ACCOUNT => {
            "; enable JetStream for the account of the node, or give no topic a history"
        }
        TOO_LARGE => "; send less, or raise max_msg_size of the stream",
        10_023 | 10_047 | 10_028 | 10_026 | 10_027 => "; give its JetStream more room",
        _ => "",
    };
    Err(Refusal { code, text: format!("its JetStream says {text:?}{next}") })
}

impl Refusal {
    /// What it is to the one who asked.
    pub(super) fn undone(&self, server: &str) -> Undone {
        let why = format!("{server}: {}", self.text).into();
        match self.code {
            TOO_LARGE => Undone::Impossible(why),
            NOT_ENABLED | NOT_ENABLED_FOR_ACCOUNT => Undone::Denied(why),
            _ => Undone::Refused(why),
        }
    }

    pub(super) fn is_wrong_last(&self) -> bool {
        self.code == WRONG_LAST
    }

    pub(super) fn is_no_message(&self) -> bool {
        self.code == NO_MESSAGE
    }
}

/// What was kept, by the answer to a message.
pub(super) struct Kept {
    pub(super) stream: String,
    pub(super) sequence: u64,
    pub(super) is_double: bool,
}

/// Reads the answer to a message.
pub(super) fn kept(answer: &Value) -> Option<Kept> {
    Some(Kept {
        stream: answer["stream"].as_str()?.to_owned(),
        sequence: answer["seq"].as_u64()?,
        is_double: answer["duplicate"].as_bool().unwrap_or_default(),
    })
}

/// The last message of a subject: its number, and whether it has no content.
pub(super) fn last(answer: &Value) -> Option<(u64, bool)> {
    last_content(answer).map(|(sequence, content)| (sequence, content.is_empty()))
}

/// The same with its content.
pub(super) fn last_content(answer: &Value) -> Option<(u64, Vec<u8>)> {
    let message = &answer["message"];
    let data = message["data"].as_str().map_or(Some(Vec::new()), |data| STANDARD.decode(data).ok())?;
    Some((message["seq"].as_u64()?, data))
}

/// Where a message was kept that is handed on: the stream, its number, and that of the subject's message before it.
pub(super) fn place<'a>(headers: Headers<'a>) -> Option<(&'a str, u64, u64)> {
    Some((headers.get("Nats-Stream")?, headers.number("Nats-Sequence")?, headers.number("Nats-Last-Sequence")?))
}

/// A reader of a subject from a number on.
pub(super) fn reader(stream: &str, name: &str, subject: &str, from: u64, until_s: u64) -> (String, Value) {
    let body = json!({
        "stream_name": stream,
        "config": {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": from.max(1),
            "filter_subject": subject,
            "ack_policy": "none",
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": until_s * 1_000_000_000,
        },
    });
    (format!("$JS.API.CONSUMER.CREATE.{stream}.{name}.{subject}"), body)
}

/// What a new reader says: how many messages there are for it, and what time it is there, in milliseconds since 1970.
pub(super) fn reading(answer: &Value) -> Option<(u64, u64)> {
    Some((answer["num_pending"].as_u64()?, milliseconds(answer["created"].as_str()?)?))
}

/// A message that a reader has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brought<'a> {
    /// The reader's name.
    pub(super) reader: &'a str,
    pub(super) sequence: u64,
    pub(super) time_ms: u64,
}

/// Reads where an answer to a message of a reader would go, which says what it is.
pub(super) fn brought(reply: &str) -> Option<Brought<'_>> {
    let parts: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    // Stream, reader, how often, number, number for the reader, time, how many more; newer servers have a domain and an account before that.
    let from = match parts.len() {
        7 => 0,
        9.. => 2,
        _ => return None,
    };
    let nanoseconds: u64 = parts[from + 5].parse().ok()?;
    Some(Brought { reader: parts[from + 1], sequence: parts[from + 3].parse().ok()?, time_ms: nanoseconds / 1_000_000 })
}

/// Reads a time as servers write it, in UTC.
fn milliseconds(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let number = |text: &str| text.parse::<i64>().ok();
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.splitn(3, ':').map(number);
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Days since 1970 in the calendar that begins its years in March.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let millis = format!("{:0<3}", fraction.get(..fraction.len().min(3))?).parse::<i64>().ok()?;
    u64::try_from(seconds * 1_000 + millis).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-30T04:39:11.20232286Z", Some(1_796_013_551_202)),
            ("2024-02-29T23:59:59.9Z", Some(1_709_251_199_900)),
            ("2000-03-01T00:00:00.000000001Z", Some(951_868_800_000)),
            ("2026-11-30T04:39:11+01:00", None),
            ("2026-11-30", None),
            ("T.Z", None),
        ] {
            assert_eq!(milliseconds(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_reader_brings() {
        let expected = Some(Brought { reader: "r-7-9", sequence: 12, time_ms: 1_796_013_551_201 });
        assert_eq!(brought("$JS.ACK.s.r-7-9.1.12.2.1796013551201058944.3"), expected);
        assert_eq!(brought("$JS.ACK._.hash.s.r-7-9.1.12.2.1796013551201058944.3.token"), expected);
        for reply in ["", "$JS.ACK.s.r", "$JS.ACK.s.r.1.x.2.3.4", "ff.a.1"] {
            assert_eq!(brought(reply), None, "{reply}");
        }
    }
}
