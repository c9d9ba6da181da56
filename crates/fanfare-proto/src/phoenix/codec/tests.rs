//! The codecs against the wire description, and against each other.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::frame::CHANNEL_CRASH;
use crate::json::NESTING_MAX;
use crate::payload::JsonText;

/// A decoded message in one line: join_ref, ref, topic, event, payload.
fn show(message: Result<Incoming<'_>, Undecodable>) -> String {
    let Ok(Incoming { join_ref, msg_ref, topic, event, payload }) = message else {
        return "undecodable".into();
    };
    let payload = match payload {
        Payload::Json(json) => json.as_str().to_owned(),
        Payload::Text(text) => unreachable!("no frame is decoded to a {text:?}"),
        Payload::Binary(data) => format!("binary {}", hex(&data)),
    };
    format!("{} {} {topic} {event} {payload}", join_ref.as_json(), msg_ref.as_json())
}

fn hex(data: &[u8]) -> String {
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

#[test]
fn text_of_version_2() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(show(decode_text(Version::V2, text)), expected, "{text}");
    }
    check(r#"["1","2","room:lobby","echo",{"a": 1}]"#, r#""1" "2" room:lobby echo {"a": 1}"#);
    check(r#"[null,"1","phoenix","heartbeat",{}]"#, r#"null "1" phoenix heartbeat {}"#);
    check(r#"[null,null,"a","b",{}]"#, "null null a b {}");
    check(r#"[3,4.5,"a","b",{}]"#, "3 4.5 a b {}");
    check(r#"["3",4,"a","b",{}]"#, r#""3" 4 a b {}"#);
    check(r#"["","","","",""]"#, r#""" ""   """#);
    check(" \t\r\n[ null , \"1\" , \"a\" , \"b\" , { } ] \n", r#"null "1" a b { }"#);
    check(r#"[null,"1","a","b",{},"extra"]"#, r#"null "1" a b {}"#);
    check(r#"[null,"1","a","b",{},{"x":[1]},null]"#, r#"null "1" a b {}"#);
    check(r#"["1","1","a","phx_join","str"]"#, r#""1" "1" a phx_join "str""#);
    check(r#"["1","1","a","phx_join",[1]]"#, r#""1" "1" a phx_join [1]"#);
    check(r#"["1","1","a","phx_join",null]"#, r#""1" "1" a phx_join null"#);
    check(r#"["1","1","a","b",123456789012345678901234567890]"#, r#""1" "1" a b 123456789012345678901234567890"#);
    check(r#"["1","1","a","b",{"b":1e300,"a":-0.0,"b":2}]"#, r#""1" "1" a b {"b":1e300,"a":-0.0,"b":2}"#);
    check(r#"["\u0031","1","r\u00f6\/om","e\"v",{}]"#, r#""1" "1" rö/om e"v {}"#);
    check(r#"["1","1","\ud83d\ude00","b",{"x":"\ud83d\ude00"}]"#, r#""1" "1" 😀 b {"x":"\ud83d\ude00"}"#);

    check("", "undecodable");
    check(" ", "undecodable");
    check("hello", "undecodable");
    check("1", "undecodable");
    check("null", "undecodable");
    check(r#""x""#, "undecodable");
    check("[]", "undecodable");
    check("{}", "undecodable");
    check(r#"[null,"1","phoenix","heartbeat"]"#, "undecodable");
    check(r#"{"topic":"a","event":"b","payload":{},"ref":"1"}"#, "undecodable");
    check("\u{feff}[null,\"1\",\"a\",\"b\",{}]", "undecodable");
    check(r#"[null,"1","a","b",{}]x"#, "undecodable");
    check(r#"[null,"1","a","b",{}]["#, "undecodable");
    check(r#"[null,"1","a","b",{}][null,"1","a","b",{}]"#, "undecodable");
    check(r#"[null,"1","a","b",{},]"#, "undecodable");
    check(r#"[null,"1","a","b",{},nonsense]"#, "undecodable");
    check(r#"[null,"1","a","b",{"a":}]"#, "undecodable");
    check(r#"[null,"1","a","b",{}"#, "undecodable");
    check("[null,\"1\",\"a\nb\",\"b\",{}]", "undecodable");
    check(r#"[null,"1",5,"b",{}]"#, "undecodable");
    check(r#"[null,"1",null,"b",{}]"#, "undecodable");
    check(r#"[null,"1","a",7,{}]"#, "undecodable");
    check(r#"[null,"1","a",null,{}]"#, "undecodable");
    check(r#"[null,"1",["a"],"b",{}]"#, "undecodable");
    check(r#"[null,{"a":1},"a","b",{}]"#, "undecodable");
    check(r#"[null,[1],"a","b",{}]"#, "undecodable");
    check(r#"[null,true,"a","b",{}]"#, "undecodable");
    check(r#"[false,"1","a","b",{}]"#, "undecodable");
    check(r#"["\ud800","1","a","b",{}]"#, "undecodable");
    check(r#"["1","1","\ud800","b",{}]"#, "undecodable");
    check(r#"["1","1","a","\udc00",{}]"#, "undecodable");
    check(r#"["1","1","a","b",{"x":"\ud800"}]"#, "undecodable");
    check(r#"["1","1","a","b",{"x":1e400}]"#, "undecodable");
    check(r#"[1e400,"1","a","b",{}]"#, "undecodable");
}

#[test]
fn text_of_version_1() {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(show(decode_text(Version::V1, text)), expected, "{text}");
        assert_eq!(show(decode_binary(Version::V1, text.as_bytes())), expected, "{text}");
    }
    check(r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#, r#"null "1" phoenix heartbeat {}"#);
    check(r#"{"ref":0,"join_ref":7,"payload":[1, 2],"event":"e","topic":"t"}"#, "7 0 t e [1, 2]");
    check(r#"{"topic":"t","event":"e","payload":null,"ref":null,"join_ref":null}"#, "null null t e null");
    check(r#"{"topic":"t","event":"e","payload":{},"ref":"1","x":{"topic":1}}"#, r#"null "1" t e {}"#);
    check(r#"{"t\u006fpic":"t","event":"\u0065","payload":{},"ref":"1"}"#, r#"null "1" t e {}"#);
    check(r#"{"topic":"t","topic":"u","event":"e","payload":1,"payload":2,"ref":"1"}"#, r#"null "1" u e 2"#);
    check(" \n{\"topic\":\"t\",\"event\":\"e\",\"payload\":{},\"ref\":1} ", "null 1 t e {}");

    check(r#"[null,"1","phoenix","heartbeat",{}]"#, "undecodable");
    check(r#"["t","e",{},"1",null]"#, "undecodable");
    check(r#"{"event":"e","payload":{},"ref":"1"}"#, "undecodable");
    check(r#"{"topic":"t","payload":{},"ref":"1"}"#, "undecodable");
    check(r#"{"topic":"t","event":"e","ref":"1"}"#, "undecodable");
    check(r#"{"topic":"t","event":"e","payload":{}}"#, "undecodable");
    check(r#"{"topic":1,"event":"e","payload":{},"ref":"1"}"#, "undecodable");
    check(r#"{"topic":"t","event":null,"payload":{},"ref":"1"}"#, "undecodable");
    check(r#"{"topic":"t","event":"e","payload":{},"ref":{}}"#, "undecodable");
    check(r#"{"topic":"t","event":"e","payload":{},"ref":"1","join_ref":true}"#, "undecodable");
    check(r#"{"topic":"t","event":"e","payload":{},"ref":"1"}x"#, "undecodable");
    check(r#"{"topic":"t","event":"e","payload":{},"ref":"1""#, "undecodable");
    check("", "undecodable");
    check("{}", "undecodable");
    check("1", "undecodable");
}

#[test]
fn version_1_has_no_binary_layout() {
    assert_eq!(show(decode_binary(Version::V1, &unhex("0001010108 31 32 74 6563686f"))), "undecodable");
    assert_eq!(show(decode_binary(Version::V1, b"{\"topic\":\"\xff\"}")), "undecodable");
}

#[test]
fn binary_of_version_2() {
    #[track_caller]
    fn check(frame: &str, expected: &str) {
        assert_eq!(show(decode_binary(Version::V2, &unhex(frame))), expected, "{frame}");
    }
    check(
        "00 01 01 08 04 31 32 726f6f6d3a62696e 6563686f 0001feff62696e",
        r#""1" "2" room:bin echo binary 0001feff62696e"#,
    );
    check("00 00 02 07 09 3133 70686f656e6978 686561727462656174", r#""" "13" phoenix heartbeat binary "#);
    check("00 01 00 01 01 31 74 65 ff", r#""1" "" t e binary ff"#);
    check("00 00 00 00 00", r#""" ""   binary "#);
    check("00 01 01 01 01 22 5c 74 65", r#""\"" "\\" t e binary "#);

    check("", "undecodable");
    check("00", "undecodable");
    check("00 00 00 00", "undecodable");
    check("00 01 00 00 00", "undecodable");
    check("00 00 00 01 01 74", "undecodable");
    check("00 ff ff ff ff 31", "undecodable");
    check("01 01 01 01 01 31 32 74 65", "undecodable");
    check("02 01 01 01 01 31 32 74 65", "undecodable");
    check("03 01 01 01 01 31 32 74 65", "undecodable");
    check("ff 01 01 01 01 31 32 74 65", "undecodable");
    check("00 00 00 01 01 ff 65", "undecodable");
    check("00 00 00 01 01 74 ff", "undecodable");
    check("00 01 00 01 01 ff 74 65", "undecodable");
    // JSON text is a kind of its own by its first byte.
    check(&hex(br#"["1","2","t","e",{}]"#), "undecodable");
}

#[test]
fn what_has_no_escapes_is_borrowed() {
    let message = decode_text(Version::V2, r#"["1","2","room:7","new\u005fmsg",{}]"#).unwrap();
    assert!(matches!(message.topic, Cow::Borrowed("room:7")));
    assert!(matches!(message.event, Cow::Owned(_)));
    let frame = unhex("00 01 00 01 01 31 74 65");
    assert!(matches!(decode_binary(Version::V2, &frame).unwrap().topic, Cow::Borrowed("t")));
}

#[test]
fn deep_nesting_ends_in_an_error_not_a_crash() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let frame = |depth| format!(r#"["1","2","t","e",{}]"#, nested(depth));
    assert!(decode_text(Version::V2, &frame(NESTING_MAX)).is_ok());
    assert!(decode_text(Version::V2, &frame(NESTING_MAX + 1)).is_err());
    assert!(decode_text(Version::V2, &frame(1_000_000)).is_err());
    assert!(decode_text(Version::V2, &"[".repeat(1_000_000)).is_err());
}

/// Runs an encoder and shows what it wrote: text as it is, binary as hex, or the refused field.
fn written(encode: impl FnOnce(&mut Vec<u8>) -> Result<Kind, FieldTooLong>) -> String {
    let mut out = b"before".to_vec();
    let kind = encode(&mut out);
    let new = out.strip_prefix(b"before").expect("encoders append");
    match kind {
        Ok(Kind::Text) => String::from_utf8(new.to_vec()).unwrap(),
        Ok(Kind::Binary) => hex(new),
        Err(refusal) => {
            assert!(new.is_empty(), "nothing is written beside an error");
            refusal.to_string()
        }
    }
}

fn binary(data: &'static [u8]) -> Payload {
    Payload::Binary(Bytes::from_static(data))
}

#[test]
fn replies() {
    #[track_caller]
    fn check(format: Format, join_ref: &Ref, msg_ref: &Ref, response: impl Into<Payload>, expected: &str) {
        let response = response.into();
        assert_eq!(written(|out| reply(format, join_ref, msg_ref, "room:bin", "ok", &response, out)), expected);
    }
    let (one, two) = (Ref::string("1"), Ref::string("2"));
    let number = Ref::of_token("12").unwrap();
    let v2_object = r#"["1","2","room:bin","phx_reply",{"status":"ok","response":{"a":1}}]"#;
    check(Format::V2, &one, &two, json!({"a": 1}), v2_object);
    check(Format::V2Text, &one, &two, json!({"a": 1}), v2_object);
    let v2_null = r#"[null,12,"room:bin","phx_reply",{"status":"ok","response":null}]"#;
    check(Format::V2, &Ref::NULL, &number, JsonText::null(), v2_null);
    let v2_list = r#"["1","2","room:bin","phx_reply",{"status":"ok","response":[1,"x"]}]"#;
    check(Format::V2, &one, &two, json!([1, "x"]), v2_list);
    let v1_default = r#"{"topic":"room:bin","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}"#;
    check(Format::V1, &one, &two, Payload::default(), v1_default);
    let v1_null = r#"{"topic":"room:bin","event":"phx_reply","payload":{"status":"ok","response":null},"ref":null}"#;
    check(Format::V1, &one, &Ref::NULL, JsonText::null(), v1_null);

    let data = binary(&[0x00, 0x01, 0xfe, 0xff, 0x62, 0x69, 0x6e]);
    check(Format::V2, &one, &two, data.clone(), "01010108023132726f6f6d3a62696e6f6b0001feff62696e");
    check(Format::V2, &one, &Ref::string(""), data.clone(), "010100080231726f6f6d3a62696e6f6b0001feff62696e");
    check(Format::V2, &Ref::NULL, &number, binary(b"{\"a\":1}"), "01000208023132726f6f6d3a62696e6f6b7b2261223a317d");
    check(Format::V2, &Ref::string("\"\n"), &Ref::NULL, binary(b""), "0102000802220a726f6f6d3a62696e6f6b");
    let as_text = r#"["1","2","room:bin","phx_reply",{"status":"ok","response":{"binary":"AP9iaW4="}}]"#;
    check(Format::V2Text, &one, &two, binary(b"\0\xffbin"), as_text);
    let as_v1 =
        r#"{"topic":"room:bin","event":"phx_reply","payload":{"status":"ok","response":{"binary":""}},"ref":"2"}"#;
    check(Format::V1, &one, &two, binary(b""), as_v1);
}

#[test]
fn pushes_and_broadcasts() {
    #[track_caller]
    fn check(format: Format, join_ref: Option<&Ref>, payload: impl Into<Payload>, expected: &str) {
        let payload = payload.into();
        let written = written(|out| match join_ref {
            Some(join_ref) => push(format, join_ref, "room:bin", "ev", &payload, out),
            None => broadcast(format, "room:bin", "ev", &payload, out),
        });
        assert_eq!(written, expected);
    }
    let one = Ref::string("1");
    check(Format::V2, Some(&one), json!({}), r#"["1",null,"room:bin","ev",{}]"#);
    check(Format::V2Text, Some(&one), json!({}), r#"["1",null,"room:bin","ev",{}]"#);
    check(Format::V1, Some(&one), json!({}), r#"{"topic":"room:bin","event":"ev","payload":{},"ref":null}"#);
    check(Format::V1, Some(&one), json!([1]), r#"{"topic":"room:bin","event":"ev","payload":[1],"ref":null}"#);
    check(Format::V2, None, json!({"a": 1}), r#"[null,null,"room:bin","ev",{"a":1}]"#);
    check(Format::V1, None, json!({"a": 1}), r#"{"topic":"room:bin","event":"ev","payload":{"a":1},"ref":null}"#);

    let data = || binary(&[0x00, 0x01, 0xfe, 0xff]);
    check(Format::V2, Some(&one), data(), "0001080231726f6f6d3a62696e65760001feff");
    check(Format::V2, Some(&Ref::NULL), data(), "00000802726f6f6d3a62696e65760001feff");
    check(Format::V2, None, data(), "020802726f6f6d3a62696e65760001feff");
    check(Format::V2Text, Some(&one), data(), r#"["1",null,"room:bin","ev",{"binary":"AAH+/w=="}]"#);
    check(Format::V2Text, None, data(), r#"[null,null,"room:bin","ev",{"binary":"AAH+/w=="}]"#);
    let v1 = r#"{"topic":"room:bin","event":"ev","payload":{"binary":"AAH+/w=="},"ref":null}"#;
    check(Format::V1, Some(&one), data(), v1);
    check(Format::V1, None, data(), v1);
}

#[test]
fn ends_of_channels() {
    #[track_caller]
    fn check(format: Format, join_ref: &Ref, closed: &str, failed: &str) {
        let run = |encode: fn(Format, &Ref, &str, &mut Vec<u8>)| {
            let mut out = Vec::new();
            encode(format, join_ref, "t", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(run(close), closed);
        assert_eq!(run(|format, join_ref, topic, out| error(format, join_ref, topic, CHANNEL_CRASH, out)), failed);
    }
    let v2 = (r#"["1","1","t","phx_close",{}]"#, r#"["1","1","t","phx_error",{"reason":"channel_crash"}]"#);
    check(Format::V2, &Ref::string("1"), v2.0, v2.1);
    check(Format::V2Text, &Ref::string("1"), v2.0, v2.1);
    check(
        Format::V2,
        &Ref::NULL,
        r#"[null,null,"t","phx_close",{}]"#,
        r#"[null,null,"t","phx_error",{"reason":"channel_crash"}]"#,
    );
    check(
        Format::V1,
        &Ref::of_token("7").unwrap(),
        r#"{"topic":"t","event":"phx_close","payload":{},"ref":7}"#,
        r#"{"topic":"t","event":"phx_error","payload":{"reason":"channel_crash"},"ref":7}"#,
    );
}

#[test]
fn binary_fields_have_255_bytes_at_most() {
    let fits = "x".repeat(255);
    let long = "ä".repeat(128);
    #[track_caller]
    fn check(expected: &str, encode: impl FnOnce(&mut Vec<u8>) -> Result<Kind, FieldTooLong>) {
        let shown = written(encode);
        assert!(shown.starts_with(expected), "{shown}");
    }
    let (one, data) = (Ref::string("1"), binary(b"d"));
    let (fitting_ref, long_ref) = (Ref::string(&fits), Ref::string(&long));
    check("01ffffffff", |out| reply(Format::V2, &fitting_ref, &fitting_ref, &fits, &fits, &data, out));
    check("the join_ref has 256 bytes", |out| reply(Format::V2, &long_ref, &one, "t", "ok", &data, out));
    check("the ref has 256 bytes", |out| reply(Format::V2, &one, &long_ref, "t", "ok", &data, out));
    check("the topic has 256 bytes", |out| reply(Format::V2, &one, &one, &long, "ok", &data, out));
    check("the status has 256 bytes", |out| reply(Format::V2, &one, &one, "t", &long, &data, out));
    check("the join_ref has 256 bytes", |out| push(Format::V2, &long_ref, "t", "e", &data, out));
    check("the event has 256 bytes", |out| push(Format::V2, &one, "t", &long, &data, out));
    check("the topic has 256 bytes", |out| broadcast(Format::V2, &long, "e", &data, out));
    check("the event has 256 bytes", |out| broadcast(Format::V2, "t", &long, &data, out));
    // Text has no such limit.
    check("[", |out| broadcast(Format::V2Text, &long, &long, &data, out));
    check("{", |out| broadcast(Format::V1, &long, &long, &data, out));
    check("[", |out| broadcast(Format::V2, &long, &long, &Payload::default(), out));
}

#[test]
fn strings_are_escaped() {
    let mut out = Vec::new();
    let strange = "a\"b\\c\n\u{1}😀";
    reply(Format::V1, &Ref::NULL, &Ref::string(strange), strange, strange, &Payload::default(), &mut out).unwrap();
    let expected =
        json!({"topic": strange, "event": "phx_reply", "payload": {"status": strange, "response": {}}, "ref": strange});
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
}

fn any_ref() -> impl Strategy<Value = Ref> {
    prop_oneof![
        Just(Ref::NULL),
        any::<String>().prop_map(|text| Ref::string(&text)),
        any::<u32>().prop_map(|number| Ref::of_token(&number.to_string()).unwrap()),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_frame_is_read_or_refused(data: Vec<u8>) {
        for version in [Version::V1, Version::V2] {
            let _ = decode_binary(version, &data);
            if let Ok(text) = std::str::from_utf8(&data) {
                let _ = decode_text(version, text);
            }
        }
    }

    #[test]
    fn any_text_like_a_message_is_read_or_refused(text in "[\\[\\]{}\",:\\\\udn8c0-1a ]{0,60}") {
        let _ = decode_text(Version::V2, &text);
        let _ = decode_text(Version::V2, &format!("[null,null,\"\",\"\",{text}]"));
        let _ = decode_text(Version::V1, &format!("{{\"topic\":\"\",\"event\":\"\",\"ref\":null,\"payload\":{text}}}"));
    }

    #[test]
    fn a_push_read_back_is_the_same(join_ref in any_ref(), topic: String, event: String, value in any_json()) {
        let payload = Payload::from(value);
        let mut out = Vec::new();
        push(Format::V2, &join_ref, &topic, &event, &payload, &mut out).unwrap();
        let read = decode_text(Version::V2, std::str::from_utf8(&out).unwrap()).unwrap();
        let expected = Incoming { join_ref, msg_ref: Ref::NULL, topic: topic.into(), event: event.into(), payload };
        prop_assert_eq!(&read, &expected);
        prop_assert_eq!(&read.clone().into_owned(), &expected);
    }

    #[test]
    fn a_broadcast_of_version_1_read_back_is_the_same(topic: String, event: String, value in any_json()) {
        let payload = Payload::from(value);
        let mut out = Vec::new();
        broadcast(Format::V1, &topic, &event, &payload, &mut out).unwrap();
        let read = decode_text(Version::V1, std::str::from_utf8(&out).unwrap()).unwrap();
        let expected =
            Incoming { join_ref: Ref::NULL, msg_ref: Ref::NULL, topic: topic.into(), event: event.into(), payload };
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn binary_survives_as_base64(data: Vec<u8>) {
        let mut out = Vec::new();
        broadcast(Format::V2Text, "t", "e", &Payload::Binary(data.clone().into()), &mut out).unwrap();
        let read: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(STANDARD.decode(read[4]["binary"].as_str().unwrap()).unwrap(), data);
    }

    #[test]
    fn a_client_frame_is_read_whole(join_ref: String, msg_ref: String, topic: String, event: String, data: Vec<u8>) {
        let fields = [&join_ref, &msg_ref, &topic, &event];
        prop_assume!(fields.iter().all(|field| field.len() <= 255));
        let mut frame = vec![0];
        frame.extend(fields.iter().map(|field| u8::try_from(field.len()).unwrap()));
        fields.iter().for_each(|field| frame.extend_from_slice(field.as_bytes()));
        frame.extend_from_slice(&data);
        let read = decode_binary(Version::V2, &frame).unwrap();
        prop_assert_eq!(read.join_ref.text(), join_ref);
        prop_assert_eq!(read.msg_ref.text(), msg_ref);
        prop_assert_eq!(read.topic, topic);
        prop_assert_eq!(read.event, event);
        prop_assert_eq!(read.payload, Payload::Binary(data.into()));
    }
}
