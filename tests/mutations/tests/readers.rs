//! Everything that reads what strangers send, given what was right and is broken. Beside not falling over, each keeps what it promises of
//! all inputs.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use fanfare::Tokens;
use fanfare_mutations::broken;
use fanfare_proto::message::Incoming;
use fanfare_proto::origin::{OriginPattern, OriginPolicy, RequestOrigin, is_host_and_port};
use fanfare_proto::params::{Params, decode_path_segment};
use fanfare_proto::payload::{JsonText, Payload};
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::phoenix::token::Content;
use fanfare_proto::phoenix::{auth_token, codec, longpoll, term};
use fanfare_proto::position::Since;
use fanfare_proto::supabase::{Change, JoinConfig, Wanted};
use fanfare_proto::topic::{Pattern, check_topic};
use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role, Scratch};
use fanfare_proto::websocket::deflate::Deflater;
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use fanfare_proto::{bullet, rooms, supabase};
use serde_json::json;

/// A message has no more in it than its frame had.
fn assert_within(message: &Incoming<'_>, frame: usize) {
    let parts = message.topic.len() + message.event.len() + message.payload.size();
    assert!(parts <= frame.max(2), "{message:?} of {frame} bytes");
}

/// Frames of WebSockets: what they mean does not depend on how they are cut.
#[test]
fn frames() {
    let frame = |opcode, payload: &[u8], fin, compressed| {
        let mut out = Vec::new();
        encode_masked(opcode, payload, [1, 2, 3, 4], fin, compressed, &mut out);
        out
    };
    let mut deflated = Vec::new();
    Deflater::default().compress(b"a text that is long enough, a text that is long enough", &mut deflated);
    let right = [
        frame(Opcode::Text, "h\u{e9}llo".as_bytes(), true, false),
        [
            frame(Opcode::Text, b"in ", false, false),
            frame(Opcode::Ping, b"p", true, false),
            frame(Opcode::Continuation, b"two", true, false),
        ]
        .concat(),
        frame(Opcode::Binary, &[7; 300], true, false),
        frame(Opcode::Text, &deflated, true, true),
        frame(Opcode::Close, &[3, 232, b'b', b'y', b'e'], true, false),
        frame(Opcode::Binary, &[0; 70_000], true, false)[..200].to_vec(),
    ];
    let right: Vec<&[u8]> = right.iter().map(Vec::as_slice).collect();
    let limits = Limits { message_size_max: 100_000, ..Limits::default() };
    let read = |bytes: &[u8], chunk: usize| {
        let (mut decoder, mut scratch) = (Decoder::new(Role::Server), Scratch::default());
        let (mut items, mut end) = (Vec::new(), None);
        let mut bytes = bytes.to_vec();
        for chunk in bytes.chunks_mut(chunk) {
            let mut sink = |item: Item<'_>| {
                items.push(format!("{item:?}"));
                ControlFlow::Continue(())
            };
            if let Err(violation) = decoder.decode(chunk, &limits, true, &mut scratch, &mut sink) {
                end = Some(violation.code);
                break;
            }
        }
        (items, end)
    };
    broken(&right, |bytes| {
        let whole = read(bytes, bytes.len().max(1));
        assert_eq!(whole, read(bytes, 1));
        assert_eq!(whole, read(bytes, 7));
    });
}

const TEXTS_1: [&[u8]; 3] = [
    br#"{"topic":"room:1","event":"phx_join","payload":{"a":[1,{"b":null}]},"ref":"1"}"#,
    br#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":2,"join_ref":null}"#,
    br#"{"ref":"3","payload":{"x":"\u00e9\ud83d\ude00"},"event":"e","topic":"t","join_ref":"1"}"#,
];

const TEXTS_2: [&[u8]; 3] = [
    br#"["1","1","room:1","phx_join",{"token":"x","n":-1.5e3}]"#,
    br#"[null,"2","phoenix","heartbeat",{}]"#,
    br#"["1", null, "room:1", "say", {"text":"\"\\\n\u0000","deep":[[[[[[{}]]]]]]}]"#,
];

const BINARY_2: [&[u8]; 2] = [b"\x00\x01\x01\x06\x0311room:1sayany bytes", b"\x00\x00\x02\x07\x0912phoenixheartbeat"];

#[test]
fn messages_of_version_1() {
    broken(&TEXTS_1, |bytes| {
        if let Ok(Ok(message)) = str::from_utf8(bytes).map(|text| codec::decode_text(Version::V1, text)) {
            assert_within(&message, bytes.len());
        }
    });
}

#[test]
fn messages_of_version_2() {
    broken(&TEXTS_2, |bytes| {
        if let Ok(Ok(message)) = str::from_utf8(bytes).map(|text| codec::decode_text(Version::V2, text)) {
            assert_within(&message, bytes.len());
        }
    });
}

#[test]
fn binary_messages_of_version_2() {
    broken(&BINARY_2, |bytes| {
        if let Ok(message) = codec::decode_binary(Version::V2, bytes) {
            assert_within(&message, bytes.len());
        }
    });
}

#[test]
fn bodies_of_long_polls() {
    let lines = TEXTS_2.join(&b'\n');
    let right: [&[u8]; 4] = [&lines, TEXTS_2[0], TEXTS_1[0], b"[\"1\",\"1\",\"room:1\",\"say\",{}]\r\n\r\n"];
    broken(&right, |bytes| {
        for version in [Version::V1, Version::V2] {
            for content_type in [None, Some("application/x-ndjson"), Some("application/octet-stream")] {
                if let Ok(messages) = longpoll::decode_body(version, content_type, bytes, 10) {
                    assert!(messages.len() <= 10);
                    messages.iter().for_each(|message| assert_within(message, bytes.len()));
                }
            }
        }
    });
}

#[test]
fn frames_of_rooms_and_supabase() {
    let rooms: [&[u8]; 4] = [
        br#"{"join":"lobby"}"#,
        br#"{"leave":"lobby"}"#,
        br#"{"say":{"a":1},"to":"lobby"}"#,
        br#"{"join":"a","since":"e:7"}"#,
    ];
    broken(&rooms, |bytes| {
        if let Ok(message) = rooms::decode(bytes, "message") {
            assert!(message.topic.len() <= bytes.len());
        }
    });
    let kind_3 = b"\x03\x01\x01\x0a\x01\x00\x0111realtime:ae{}";
    let frames: Vec<&[u8]> = TEXTS_2.iter().chain(&TEXTS_1).copied().chain([&kind_3[..]]).collect();
    broken(&frames, |bytes| {
        for version in [Version::V1, Version::V2] {
            for is_text in [true, false] {
                let _ = supabase::decode(version, is_text, bytes);
            }
        }
    });
}

/// What a join of a Supabase client wants: whether it is private is read before the rest, and to the same effect. Filters are read, and then have a row.
#[test]
fn joins_and_filters_of_supabase() {
    let joins: [&[u8]; 2] = [
        br#"{"config":{"broadcast":{"ack":"true","replay":{"since":5,"limit":3}},"presence":{"key":"k"},"private":true},"access_token":"t"}"#,
        br#"{"config":{"postgres_changes":[{"event":"*","schema":"s"}],"private":"no"},"user_token":null}"#,
    ];
    broken(&joins, |bytes| {
        let Ok(json) = JsonText::parse(bytes.to_vec()) else { return };
        let payload = Payload::from(json);
        let config = JoinConfig::of(&payload);
        assert_eq!(config.private, JoinConfig::is_private(&payload));
        let _ = config.reply();
    });
    let filters: [&[u8]; 4] = [
        br#"id=eq.1,name=not.in.(a,"b,\"c")"#,
        br"name=ilike.%a_b\%,id=gte.0",
        b"ok=is.null,at=lt.2026",
        br"name=imatch.^[x-z]{2,3}a\y|\d+$",
    ];
    let row = json!({"id": 1, "name": "xaxb%", "ok": null, "at": "2025"});
    let change = json!({"schema": "public", "table": "t", "type": "INSERT", "record": row});
    let change = Change::of(&change.into()).unwrap();
    broken(&filters, |bytes| {
        let Ok(filter) = str::from_utf8(bytes) else { return };
        let binding = json!({"event": "*", "schema": "public", "table": "t", "filter": filter});
        let wanted = Wanted::all(&[binding.as_object().unwrap().clone()]);
        let wanted: Vec<Wanted> = wanted.into_iter().filter_map(Result::ok).collect();
        assert!(change.told(&wanted, false).len() <= wanted.len());
    });
}

/// A topic and a pattern are what they are called, and nothing is matched that does not begin so.
#[test]
fn topics() {
    let right: [&[u8]; 5] = [b"room:1", b"room:*", b"*", "h\u{e9}:\u{1f600}".as_bytes(), b"hub:a%2Fb/c"];
    broken(&right, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let is_topic = check_topic(text).is_ok();
        assert!(!is_topic || (1..=255).contains(&text.len()) && !text.chars().any(char::is_control), "{text:?}");
        if let Ok(pattern) = Pattern::parse(text) {
            for topic in ["room:1", "room:", text] {
                let prefix = text.strip_suffix('*');
                let expected = prefix.map_or(topic == text, |prefix| topic.starts_with(prefix));
                assert_eq!(pattern.matches(topic), expected, "{text:?} {topic:?}");
            }
        }
    });
}

/// `Last-Event-ID`, and positions wherever they come.
#[test]
fn ids_of_streams() {
    let right: [&[u8]; 5] =
        [b"5e1f:42", b"0:0", b"ffffffffffffffff:18446744073709551615", b"a=5e1f:1,b=5e1f:2", b"news=0:1"];
    broken(&right, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        if let Ok(Since::Position(position)) = text.parse::<Since>() {
            let again = position.to_string().parse::<Since>();
            assert_eq!(again.ok(), Some(Since::Position(position)), "{text:?}");
        }
        let topics = ["a", "news", "5e1f"].map(Arc::<str>::from);
        let positions = bullet::Positions::new(topics.into_iter(), Some(text));
        let _ = (positions.since("a"), positions.since("news"));
    });
}

#[test]
fn queries_paths_origins_and_hosts() {
    let right: [&[u8]; 6] = [
        b"vsn=2.0.0&token=a%20b+c&a[b][c]=1&a[]=2",
        b"a%2Fb",
        b"https://chat.example.com:8443",
        b"//*.example.com",
        b"[::1]:4000",
        b"null",
    ];
    broken(&right, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let _ = (Params::parse(text), decode_path_segment(text), is_host_and_port(text), bullet::key_of(text));
        let request = RequestOrigin { scheme: "https", host_and_port: text };
        let _ = OriginPolicy::SameAsRequest.allows(Some("https://chat.example.com"), request);
        if let Ok(pattern) = OriginPattern::parse(text) {
            let _ = OriginPolicy::List(vec![pattern]).allows(Some(text), request);
        }
    });
}

/// A token that was changed is none; and what it is made of is read by whoever has the key only.
#[test]
fn tokens() {
    let tokens = Tokens::new("a secret of more than thirty-two bytes, which nobody guesses", "user");
    let token = tokens.sign("7").unwrap();
    let (data, signature) = token.rsplit_once('.').unwrap();
    let right = [token.as_bytes(), data.as_bytes(), signature.as_bytes()];
    broken(&right, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let verified = tokens.verify::<String>(text);
        assert_eq!(verified.is_ok(), text == token, "{text:?}");
        let _ = auth_token::extract([text, "phoenix"].into_iter());
    });
    let data = term::Term::from_json(serde_json::json!({ "id": [7, -1.5, "text", null, true], "big": u32::MAX }));
    let content = Content { data, signed_ms: 1_700_000_000_000, max_age: Some(Duration::from_secs(60)) }.write();
    broken(&[&content], |bytes| {
        if let Ok(decoded) = term::decode(bytes) {
            assert_eq!(term::decode(&term::encode(&decoded)).as_ref(), Ok(&decoded));
        }
        let _ = Content::read(bytes);
    });
}
