//! One table a behaviour: frames in, messages out, and the other way round.

use proptest::prelude::*;

use super::*;
use crate::position::Epoch;

fn frame(
    join_ref: &str,
    msg_ref: &str,
    topic: &[u8],
    event: &[u8],
    meta: &str,
    encoding: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = vec![3];
    frame.extend([join_ref.len(), msg_ref.len(), topic.len(), event.len(), meta.len()].map(|size| size as u8));
    frame.push(encoding);
    for part in [join_ref.as_bytes(), msg_ref.as_bytes(), topic, event, meta.as_bytes(), payload] {
        frame.extend_from_slice(part);
    }
    frame
}

fn show(heard: Result<Heard<'_>, Undecodable>) -> String {
    let (message, reason) = match heard {
        Err(_) => return "undecodable".into(),
        Ok(Heard::Ignored) => return "ignored".into(),
        Ok(Heard::Message(message)) => (message, ""),
        Ok(Heard::Unfit(message, reason)) => (message, reason),
    };
    let Incoming { join_ref, msg_ref, topic, event, payload } = message;
    let payload = match payload {
        Payload::Json(json) => json.as_str().to_owned(),
        Payload::Text(text) => format!("text {}", text.as_str()),
        Payload::Binary(data) => format!("bytes {:?}", &data[..]),
    };
    let unfit = if reason.is_empty() { "" } else { "unfit " };
    format!("{unfit}{} {} {topic} {event} {payload}", join_ref.as_json(), msg_ref.as_json())
}

#[test]
fn supabase_10_user_broadcast_push() {
    #[track_caller]
    fn check(frame: &[u8], expected: &str) {
        assert_eq!(show(decode(Version::V2, false, frame)), expected);
    }
    let topic = b"realtime:room-1";
    check(
        b"\x03\x01\x01\x0f\x03\x00\x0167realtime:room-1msg{\"hi\":1}",
        r#""6" "7" realtime:room-1 broadcast/msg {"hi":1}"#,
    );
    check(
        &frame("1", "2", topic, b"e", "{\"persist\":true}", 1, b" [1] "),
        r#""1" "2" realtime:room-1 broadcast/e text [1]"#,
    );
    check(&frame("1", "2", topic, b"e", "", 0, b"\xff\0"), r#""1" "2" realtime:room-1 broadcast/e bytes [255, 0]"#);
    check(&frame("", "", topic, b"", "", 1, b"{}"), "null null realtime:room-1 broadcast/ {}");
    let escaped = "broadcast/broadcast:0:presence_diff";
    check(
        &frame("1", "2", topic, b"presence_diff", "", 1, b"{}"),
        &format!(r#""1" "2" realtime:room-1 {escaped} {{}}"#),
    );
    check(&frame("1", "2", topic, b"presence", "", 1, b"{}"), r#""1" "2" realtime:room-1 broadcast/presence {}"#);
    // Payloads that are none.
    for (encoding, payload) in [(1, &b"{"[..]), (1, b"\xff"), (1, b""), (2, b"{}")] {
        check(&frame("1", "2", topic, b"e", "", encoding, payload), r#"unfit "1" "2" realtime:room-1 broadcast {}"#);
    }
}

#[test]
fn supabase_14_header_strings_of_one_byte_a_character() {
    let heard = frame("1", "2", b"realtime:r\xf6m", b"e", "", 1, b"{}");
    assert_eq!(show(decode(Version::V2, false, &heard)), r#"unfit "1" "2" realtime:röm broadcast {}"#);
    let heard = frame("1", "2", b"realtime:rom", b"\xe9", "", 1, b"{}");
    assert_eq!(show(decode(Version::V2, false, &heard)), r#"unfit "1" "2" realtime:rom broadcast {}"#);
}

#[test]
fn supabase_15_malformed_frames() {
    let whole = frame("1", "2", b"realtime:a", b"e", "", 1, b"");
    for size in 0..whole.len() {
        assert_eq!(show(decode(Version::V2, false, &whole[..size])), "undecodable", "{size} bytes");
    }
    for kind in [0, 1, 2, 4, 255] {
        let mut other = whole.clone();
        other[0] = kind;
        assert_eq!(show(decode(Version::V2, false, &other)), "undecodable");
    }
    for text in ["", "{", "[]", "[null,null,\"t\",\"e\"]", "\u{0}"] {
        assert_eq!(show(decode(Version::V2, true, text.as_bytes())), "undecodable", "{text}");
        assert_eq!(show(decode(Version::V1, true, text.as_bytes())), "undecodable", "{text}");
    }
}

#[test]
fn supabase_26_text_broadcasts() {
    #[track_caller]
    fn check(payload: &str, expected: &str) {
        let text = format!(r#"["1","2","realtime:a","broadcast",{payload}]"#);
        assert_eq!(show(decode(Version::V2, true, text.as_bytes())), expected, "{payload}");
        let text =
            format!(r#"{{"topic":"realtime:a","event":"broadcast","payload":{payload},"ref":"2","join_ref":"1"}}"#);
        assert_eq!(show(decode(Version::V1, true, text.as_bytes())), expected, "{payload}");
    }
    let said = |rest: &str| format!(r#""1" "2" realtime:a broadcast/{rest}"#);
    check(r#"{"type":"broadcast","event":"e","payload":{"b": 1}}"#, &said(r#"e {"b": 1}"#));
    check(r#"{"event":"e"}"#, &said("e {}"));
    check(r#"{"event":"e","payload":null,"meta":{"id":"forged"}}"#, &said("e text null"));
    check(r#"{"event":"broadcast:0:x","payload":1e2}"#, &said("broadcast:0:broadcast:0:x text 1e2"));
    let unfit = |payload: &str| format!(r#"unfit "1" "2" realtime:a broadcast {payload}"#);
    for payload in [r#"{"payload":{}}"#, r#"{"event":5}"#, "[]", "null"] {
        check(payload, &unfit(payload));
    }
}

#[test]
fn supabase_29_other_events_mean_nothing() {
    for (event, expected) in [
        ("shout", "ignored"),
        ("broadcast/x", "ignored"),
        ("phx_close", "ignored"),
        ("presence_diff", "ignored"),
        ("presence", r#"null "2" realtime:a presence {}"#),
        ("access_token", r#"null "2" realtime:a access_token {}"#),
    ] {
        let text = format!(r#"[null,"2","realtime:a","{event}",{{}}]"#);
        assert_eq!(show(decode(Version::V2, true, text.as_bytes())), expected);
    }
}

fn written(encode: impl FnOnce(&mut Vec<u8>) -> Result<Option<Kind>, FieldTooLong>) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = encode(&mut out).unwrap();
    assert_eq!(kind.is_none(), out.is_empty());
    assert_eq!(kind == Some(Kind::Binary), out.first() == Some(&4));
    out
}

#[test]
fn supabase_11_and_12_user_broadcasts() {
    #[track_caller]
    fn check(event: &str, payload: impl Into<Payload>, position: bool, v2: &[u8], v1: &str) {
        let payload = payload.into();
        let position = position.then_some(Position { epoch: Epoch::new(10).unwrap(), offset: 3 });
        for topic in ["realtime:a", "private-realtime:a"] {
            let out = written(|out| broadcast(Version::V2, topic, event, &payload, position, out));
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(v2));
            let out = written(|out| broadcast(Version::V1, topic, event, &payload, position, out));
            assert_eq!(String::from_utf8(out).unwrap(), v1);
        }
    }
    let v1 =
        |envelope: &str| format!(r#"{{"topic":"realtime:a","event":"broadcast","payload":{envelope},"ref":null}}"#);
    let object = || JsonText::parse(r#"{"b": 1,"a":2}"#).unwrap();
    check(
        "msg",
        object(),
        false,
        b"\x04\x0a\x03\x00\x01realtime:amsg{\"b\": 1,\"a\":2}",
        &v1(r#"{"type":"broadcast","event":"msg","payload":{"b": 1,"a":2}}"#),
    );
    check(
        "msg",
        Text::copy("[1]"),
        true,
        b"\x04\x0a\x03\x0c\x01realtime:amsg{\"id\":\"a:3\"}[1]",
        &v1(r#"{"type":"broadcast","event":"msg","payload":[1],"meta":{"id":"a:3"}}"#),
    );
    check(
        "broadcast:1:xmsg",
        Text::copy("h\"i"),
        true,
        b"\x04\x0a\x03\x0a\x01realtime:amsg{\"id\":\"x\"}\"h\\\"i\"",
        &v1(r#"{"type":"broadcast","event":"msg","payload":"h\"i","meta":{"id":"x"}}"#),
    );
    check("msg", Payload::Binary(b"\x01\xff"[..].into()), false, b"\x04\x0a\x03\x00\x00realtime:amsg\x01\xff", "");
    // The protocol's own goes as text, one too long for a length byte as well.
    let diff = r#"{"topic":"realtime:a","event":"presence_diff","payload":{},"ref":null}"#;
    check("presence_diff", Payload::default(), false, br#"[null,null,"realtime:a","presence_diff",{}]"#, diff);
    let long = "e".repeat(256);
    let envelope = format!(r#"{{"type":"broadcast","event":"{long}","payload":{{}}}}"#);
    let v2 = format!(r#"[null,null,"realtime:a","broadcast",{envelope}]"#);
    check(&long, Payload::default(), false, v2.as_bytes(), &v1(&envelope));
}

#[test]
fn supabase_30_kept_messages_say_so() {
    let position = Some(Position { epoch: Epoch::new(10).unwrap(), offset: 3 });
    let payload = Payload::default();
    let (join_ref, topic, event, payload) = (&Ref::NULL, "private-realtime:a", "msg", &payload);
    let push = Outgoing::Push { join_ref, topic, event, payload, position };
    let out = written(|out| encode(Version::V2, push, out));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\x04\x0a\x03\x1c\x01realtime:amsg{\"id\":\"a:3\",\"replayed\":true}{}"
    );
}

#[test]
fn supabase_8_and_9_frames_of_one_socket() {
    #[track_caller]
    fn check(frame: Outgoing<'_>, v2: &str, v1: &str) {
        let text = |version| String::from_utf8(written(|out| encode(version, frame, out))).unwrap();
        assert_eq!((&*text(Version::V2), &*text(Version::V1)), (v2, v1));
    }
    let (join_ref, msg_ref) = (&Ref::string("1"), &Ref::string("2"));
    let topic = "private-realtime:a";
    check(
        Outgoing::Reply { join_ref, msg_ref, topic, status: "ok", response: &Payload::default() },
        r#"["1","2","realtime:a","phx_reply",{"status":"ok","response":{}}]"#,
        r#"{"topic":"realtime:a","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}"#,
    );
    check(
        Outgoing::Close { join_ref, topic },
        r#"["1","1","realtime:a","phx_close",{}]"#,
        r#"{"topic":"realtime:a","event":"phx_close","payload":{},"ref":"1"}"#,
    );
    let system = &super::super::system("system", false, "m", "a");
    check(
        Outgoing::Push { join_ref, topic, event: "system", payload: system, position: None },
        r#"["1",null,"realtime:a","system",{"channel":"a","extension":"system","message":"m","status":"error"}]"#,
        r#"{"topic":"realtime:a","event":"system","payload":{"channel":"a","extension":"system","message":"m","status":"error"},"ref":null}"#,
    );
}

proptest! {
    /// Whatever a client sends, what its members get is a frame whose lengths are right.
    #[test]
    fn every_frame_that_is_taken_comes_out_whole(bytes in prop::collection::vec(any::<u8>(), 0..80), sizes in prop::array::uniform5(0_u8..12)) {
        let mut sent = vec![3];
        sent.extend(sizes);
        sent.push(bytes.len() as u8 % 3);
        sent.extend(&bytes);
        if let Ok(Heard::Message(message)) = decode(Version::V2, false, &sent) {
            let event = message.event.strip_prefix(BROADCAST).unwrap();
            let out = written(|out| broadcast(Version::V2, "realtime:a", event, &message.payload, None, out));
            let parts: usize = out[1..4].iter().map(|&size| usize::from(size)).sum();
            let payload = &out[5 + parts..];
            match out[4] {
                0 => prop_assert!(matches!(&message.payload, Payload::Binary(data) if data == payload)),
                _ => prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok()),
            }
        }
    }
}
