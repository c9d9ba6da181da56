//! Bad input: a clear outcome for the client, a counter by reason, and no effect on anybody else.

use std::time::Duration;

use fanfare::Mount;
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use serde_json::{Value, json};

use crate::support::client::{Client, Received};
use crate::support::http::request;
use crate::support::{Served, serve_mount, stage};

/// What a message comes to.
#[derive(Debug)]
enum Outcome {
    /// Closed with this code.
    Closed(u16),
    /// Answered with this status and reason; the socket goes on.
    Answered(&'static str, &'static str),
    /// Dropped in silence; the socket goes on.
    Nothing,
}
use Outcome::{Answered, Closed, Nothing};

/// Bytes of a client, by the way they are put into frames.
enum Sent {
    Text(String),
    Binary(Vec<u8>),
    Bytes(Vec<u8>),
}

fn text(text: impl Into<String>) -> Sent {
    Sent::Text(text.into())
}

/// A masked frame by its first byte, with a payload of `x`.
fn frame(first: u8, len: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_masked(Opcode::Text, &vec![b'x'; len], [7; 4], true, false, &mut frame);
    frame[0] = first;
    frame
}

/// Each case on a socket of its own, beside one that must not notice.
async fn check(served: &Served, name: &str, sent: Sent, outcome: Outcome, counter: (&str, &str)) {
    let mut witness = served.client().await;
    witness.join("room:witness").await;
    let mut client = served.client().await;
    client.join("room:joined").await;
    let before = served.counter(counter.0, counter.1);
    match sent {
        Sent::Text(text) => client.send_text(&text).await,
        Sent::Binary(data) => client.send(Opcode::Binary, &data, true).await,
        Sent::Bytes(bytes) => client.send_bytes(&bytes).await,
    }
    match outcome {
        Closed(code) => {
            assert_eq!(client.receive().await, Received::Closed(code), "{name}");
            assert_eq!(client.receive().await, Received::Ended, "{name}");
        }
        Answered(status, reason) => {
            let answer = client.frame().await;
            assert_eq!(answer[3], "phx_reply", "{name}: {answer}");
            assert_eq!(answer[4]["status"], status, "{name}: {answer}");
            let said = answer[4]["response"]["reason"].as_str().unwrap_or_default();
            assert!(said.contains(reason), "{name}: {answer}");
            client.call("room:joined", "echo", json!({}), "ok").await;
        }
        Nothing => {
            client.call("room:joined", "echo", json!({}), "ok").await;
        }
    }
    assert_eq!(served.counter(counter.0, counter.1), before + 1, "{name} is counted as {counter:?}");
    witness.call("room:witness", "echo", json!({}), "ok").await;
}

const UNDECODABLE: (&str, &str) = ("closes", "undecodable");
const PROTOCOL_ERROR: (&str, &str) = ("closes", "protocol_error");
const TOO_LARGE: (&str, &str) = ("closes", "too_large");

#[tokio::test]
async fn undecodable_messages_close_1011() {
    let served = serve_mount(stage()).await;
    let messages = [
        "",
        " ",
        "null",
        "42",
        "\"x\"",
        "hello",
        "{",
        "[",
        "[]",
        "{}",
        "[null]",
        "[1,2,3,4]",
        r#"["1","1","room:1","phx_join"]"#,
        r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#,
        r#"["1","1","room:1","phx_join",{}"#,
        r#"["1","1","room:1","phx_join",{}]x"#,
        r#"["1","1","room:1","phx_join",{}] ["1","2","room:1","echo",{}]"#,
        "\u{feff}[\"1\",\"1\",\"room:1\",\"phx_join\",{}]",
        r#"["1","1","room:1","phx_join",{'a':1}]"#,
        r#"["1","1","room:1","phx_join",{"a":NaN}]"#,
        r#"["1","1","room:1","phx_join",{"a":"\ud800"}]"#,
    ];
    for message in messages {
        check(&served, message, text(message), Closed(1011), UNDECODABLE).await;
    }
    let binary: [&[u8]; 6] = [
        b"",
        b"\x00",
        b"\x00\x01\x01\x06\x04",
        b"\x00\xff\xff\xff\xffshort",
        b"\x01\x01\x01\x06\x041",          // a kind that only servers send
        b"\x00\x01\x01\x01\x0111\xff\xff", // fields that are not UTF-8
    ];
    for data in binary {
        check(&served, &format!("{data:?}"), Sent::Binary(data.into()), Closed(1011), UNDECODABLE).await;
    }
}

#[tokio::test]
async fn wrong_json_types_in_every_slot() {
    let served = serve_mount(stage()).await;
    let values = ["null", "true", "1", "-1.5e3", "\"x\"", "[]", "[1]", "{}", r#"{"a":1}"#];
    let is_ref = |value: &str| !matches!(value, "true" | "[]" | "[1]" | "{}" | r#"{"a":1}"#);
    for value in values {
        // Refs are null, strings or numbers; topics and events are strings; payloads are anything.
        let join_ref = format!(r#"[{value},"1","room:joined","echo",{{}}]"#);
        let outcome = match value {
            "null" => Answered("ok", ""),
            value if is_ref(value) => Nothing,
            _ => Closed(1011),
        };
        let counted = match &outcome {
            Answered(..) => ("connections", "accepted"),
            Nothing => ("drops", "stale_join_ref"),
            Closed(_) => UNDECODABLE,
        };
        if counted.1 != "accepted" {
            check(&served, &join_ref, text(&join_ref), outcome, counted).await;
        }
        if !is_ref(value) {
            let msg_ref = format!(r#"["room:joined",{value},"room:joined","echo",{{}}]"#);
            check(&served, &msg_ref, text(&msg_ref), Closed(1011), UNDECODABLE).await;
        }
        if value != "\"x\"" {
            for message in
                [format!(r#"["1","1",{value},"echo",{{}}]"#), format!(r#"["1","1","room:joined",{value},{{}}]"#)]
            {
                check(&served, &message, text(&message), Closed(1011), UNDECODABLE).await;
            }
        }
    }
    let mut client = served.client().await;
    client.join("room:joined").await;
    for value in values {
        let payload: Value = serde_json::from_str(value).unwrap();
        assert_eq!(client.call("room:joined", "echo", payload.clone(), "ok").await, payload);
        // As params of a join.
        assert_eq!(client.try_join(&format!("room:{value}"), payload).await["status"], "ok");
    }
    for (msg_ref, echoed) in [("null", json!(null)), ("3", json!(3)), ("\"3\"", json!("3")), ("1e5", json!(1e5))] {
        client.send_text(&format!(r#"["room:joined",{msg_ref},"room:joined","echo",{{}}]"#)).await;
        assert_eq!(client.frame().await[1], echoed);
    }
}

#[tokio::test]
async fn objects_of_version_1_need_their_keys() {
    let served = serve_mount(stage()).await;
    let whole = json!({"topic": "room:1", "event": "phx_join", "payload": {}, "ref": null});
    for key in ["topic", "event", "payload", "ref"] {
        let mut frame = whole.clone();
        frame.as_object_mut().unwrap().remove(key);
        let mut client = served.client_at("/socket?vsn=1.0.0").await;
        client.send_json(&frame).await;
        client.assert_closed(1011).await;
    }
    let mut client = served.client_at("/socket?vsn=1.0.0").await;
    client.send_json(&json!(["1", "1", "room:1", "phx_join", {}])).await;
    client.assert_closed(1011).await;
    assert_eq!(served.counter("closes", "undecodable"), 5);
}

#[tokio::test]
async fn security_33_unknown_topics_and_events_and_pushes_before_join_are_answered() {
    let served = serve_mount(stage()).await;
    let unmatched = || Answered("error", "unmatched topic");
    let drop = ("drops", "unmatched_topic");
    let cases = [
        r#"["1","1","hall","phx_join",{}]"#,
        r#"["1","1","room","phx_join",{}]"#,
        r#"["1","1","phoenix","phx_join",{}]"#,
        r#"["1","1","phoenix","shout",{}]"#,
        r#"["1","1","room:2","echo",{}]"#,
        r#"[null,"1","room:2","phx_close",{}]"#,
        r#"["1","1","room:2","phx_reply",{}]"#,
        r#"["1","1","room:2","",{}]"#,
    ];
    for message in cases {
        check(&served, message, text(message), unmatched(), drop).await;
    }
    // An event that the channel does not know is an error of the channel, which ends this join and nothing else.
    for event in ["no such event", "", "phx_close", "phx_error", "phx_reply", "heartbeat"] {
        let mut client = served.client().await;
        client.join("room:joined").await;
        client.join("room:other").await;
        client.push("room:joined", "room:joined", event, json!({})).await;
        assert_eq!(client.frame().await[3], "phx_error", "{event:?}");
        client.call("room:other", "echo", json!({}), "ok").await;
    }
    assert_eq!(served.counter("channels", "crashed"), 6);
}

#[tokio::test]
async fn security_31_names_are_bounded() {
    let served = serve_mount(Mount::new().channel("*", crate::support::stage::Stage::default())).await;
    let bad = ("joins", "bad_topic");
    let join = |topic: &str| text(json!(["1", "1", topic, "phx_join", {}]).to_string());
    check(&served, "256 bytes", join(&"x".repeat(256)), Answered("error", "256 bytes"), bad).await;
    check(&served, "256 bytes of é", join(&"é".repeat(128)), Answered("error", "256 bytes"), bad).await;
    check(&served, "100,000 bytes", join(&"x".repeat(100_000)), Answered("error", "100000 bytes"), bad).await;
    check(&served, "no bytes", join(""), Answered("error", "empty"), bad).await;
    for control in ["\u{0}", "a\nb", "a\tb", "\u{7f}", "\u{85}", "\u{1b}[0m"] {
        check(&served, control, join(control), Answered("error", "control character"), bad).await;
    }
    let mut client = served.client().await;
    client.join(&"x".repeat(255)).await;
    client.join("room:ok").await;
    // Refs are kept, so they are bounded as well.
    let long = "7".repeat(5_000);
    let message = json!([long, "1", "room:1", "phx_join", {}]).to_string();
    check(&served, "a ref of 5,000 bytes", text(message), Closed(1011), UNDECODABLE).await;
    // A long event is the channel's business, which does not know it.
    client.push("room:ok", "room:ok", &"e".repeat(300), json!({})).await;
    assert_eq!(client.frame().await[3], "phx_error");
}

#[tokio::test]
async fn oversized_and_fragmented_floods_close_1009() {
    let served = serve_mount(stage().message_size_max(10_000)).await;
    let large = json!(["1", "1", "room:joined", "echo", {"x": "x".repeat(10_000)}]).to_string();
    check(&served, "one large frame", text(large), Closed(1009), TOO_LARGE).await;
    // The length alone is enough: nothing of the payload need come.
    for claimed in [70_000_u64, 1 << 32, i64::MAX as u64] {
        let mut head = vec![0x81, 0x80 | 127];
        head.extend_from_slice(&claimed.to_be_bytes());
        head.extend_from_slice(&[1, 2, 3, 4]);
        check(&served, "a claimed length", Sent::Bytes(head), Closed(1009), TOO_LARGE).await;
    }
    let mut fragments = frame(0x01, 4_000);
    fragments.extend(frame(0x00, 4_000));
    fragments.extend(frame(0x80, 4_000));
    check(&served, "fragments that add up", Sent::Bytes(fragments), Closed(1009), TOO_LARGE).await;
    let mut empty = frame(0x01, 0);
    (0..20_000).for_each(|_| empty.extend(frame(0x00, 0)));
    check(&served, "endless empty fragments", Sent::Bytes(empty), Closed(1009), TOO_LARGE).await;
}

#[tokio::test]
async fn violations_of_the_websocket_protocol_close_1002() {
    let served = serve_mount(stage()).await;
    let mut unmasked = frame(0x81, 2);
    unmasked[1] &= 0x7f;
    let cases: [(&str, Vec<u8>); 12] = [
        ("an unmasked frame", unmasked),
        ("a reserved bit", frame(0x81 | 0x40, 2)),
        ("another reserved bit", frame(0x81 | 0x10, 2)),
        ("an unknown opcode", frame(0x83, 2)),
        ("an unknown control opcode", frame(0x8b, 0)),
        ("a continuation of nothing", frame(0x80, 2)),
        ("a message inside a message", [frame(0x01, 2), frame(0x81, 2)].concat()),
        ("a fragmented ping", frame(0x09, 2)),
        ("a ping of 126 bytes", frame(0x89, 126)),
        ("a close of 1 byte", frame(0x88, 1)),
        ("a close with a code of nobody's", close_frame(999)),
        ("a close with 1005", close_frame(1005)),
    ];
    for (name, bytes) in cases {
        check(&served, name, Sent::Bytes(bytes), Closed(1002), PROTOCOL_ERROR).await;
    }
    let mut not_utf8 = frame(0x81, 2);
    let end = not_utf8.len() - 1;
    not_utf8[end] ^= 0x80;
    check(&served, "text that is not UTF-8", Sent::Bytes(not_utf8), Closed(1007), PROTOCOL_ERROR).await;
}

fn close_frame(code: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_masked(Opcode::Close, &code.to_be_bytes(), [9; 4], true, false, &mut frame);
    frame
}

#[tokio::test]
async fn deep_nesting_closes_1011() {
    let served = serve_mount(stage()).await;
    let deep = |depth: usize| format!(r#"["1","1","room:1","phx_join",{}{}]"#, "[".repeat(depth), "]".repeat(depth));
    check(&served, "100,000 lists", text(deep(100_000)), Closed(1011), UNDECODABLE).await;
    let mut client = served.client().await;
    client.send_text(&deep(100)).await;
    assert_eq!(client.frame().await[4]["status"], "ok");
}

type Headers<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn long_poll_bodies_and_tokens() {
    let served = serve_mount(stage().body_size_max(10_000).body_lines_max(5)).await;
    let mut witness = served.client().await;
    let address = served.address;
    let base = "/socket/longpoll?vsn=2.0.0";
    let line = json!(["1", "1", "room:1", "phx_join", {}]).to_string();
    let ndjson = [("content-type", "application/x-ndjson")];
    let good = async || {
        let begun = request(address, "GET", base, &[], b"").await.json();
        format!("{base}&token={}", begun["token"].as_str().unwrap())
    };
    let many = vec![line.clone(); 6].join("\n");
    let cases: [(&str, Headers<'_>, Vec<u8>, u16, Value); 9] = [
        ("no JSON", &[], b"hello".to_vec(), 200, json!(400)),
        ("nothing", &[], Vec::new(), 200, json!(400)),
        ("not UTF-8", &[], b"[\"\xff\"]".to_vec(), 200, json!(400)),
        ("two texts in one", &[], format!("{line}\n{line}").into_bytes(), 200, json!(400)),
        ("a bad line among good ones", &ndjson, format!("{line}\n[]\n{line}").into_bytes(), 200, json!(400)),
        ("bad base64", &ndjson, b"!!!".to_vec(), 200, json!(400)),
        ("an object", &ndjson, b"{}".to_vec(), 200, json!(400)),
        ("too many lines", &ndjson, many.into_bytes(), 413, json!(null)),
        ("too many bytes", &[], vec![b'x'; 20_000], 413, json!(null)),
    ];
    let (mut sessionless, mut refused) = (0, 0);
    for (name, headers, body, status, logical) in cases {
        let target = good().await;
        let undecodable = served.counter("closes", "undecodable");
        let answer = request(address, "POST", &target, headers, &body).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        if status == 200 {
            assert_eq!(answer.json()["status"], logical, "{name}");
            // It is answered where it is read, and closed where the session lives.
            let is_closed = async || served.counter("closes", "undecodable") == undecodable + 1;
            crate::support::eventually(name, is_closed).await;
            let ended = request(address, "POST", &target, &[], line.as_bytes()).await.json();
            assert_eq!(ended, json!({"status": 410}), "{name}: the session has ended");
            sessionless += 1;
        } else {
            let goes_on = request(address, "POST", &target, &[], line.as_bytes()).await.json();
            assert_eq!(goes_on, json!({"status": 200}), "{name}: nothing was handed over, the session goes on");
            refused += 1;
        }
        witness.assert_untouched().await;
    }
    let whole = good().await;
    let token = whole.rsplit('=').next().unwrap().to_owned();
    let flipped = |at: usize| {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    for bad in [
        String::new(),
        "x".into(),
        "%00".into(),
        "x".repeat(4_000),
        token[1..].into(),
        flipped(3),
        flipped(token.len() - 5),
    ] {
        let target = format!("{base}&token={bad}");
        assert_eq!(
            request(address, "POST", &target, &[], line.as_bytes()).await.json(),
            json!({"status": 410}),
            "{bad}"
        );
        let fresh = request(address, "GET", &target, &[], b"").await.json();
        assert_eq!((&fresh["status"], fresh["token"].is_string()), (&json!(410), true), "{bad}: a session of its own");
        assert_ne!(fresh["token"], token);
        sessionless += 1;
    }
    assert_eq!(served.counter("drops", "no_session"), sessionless);
    assert_eq!(served.counter("connections", "refused_request"), refused);
    assert_eq!(request(address, "POST", &whole, &[], line.as_bytes()).await.json(), json!({"status": 200}));
}

#[tokio::test]
async fn requests_that_are_no_connect() {
    let served = serve_mount(stage()).await;
    let upgrade = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let without = |name: &str| -> Vec<_> { upgrade.into_iter().filter(|header| header.0 != name).collect() };
    let with = |name: &'static str, value: &'static str| [without(name), vec![(name, value)]].concat();
    let target = "/socket/websocket?vsn=2.0.0";
    let cases = [
        ("POST", target, upgrade.to_vec(), &[400, 405][..]),
        ("HEAD", target, upgrade.to_vec(), &[400, 405]),
        ("GET", target, Vec::new(), &[400, 426]),
        ("GET", target, without("upgrade"), &[400, 426]),
        ("GET", target, without("sec-websocket-key"), &[400]),
        ("GET", target, with("sec-websocket-version", "12"), &[400, 426]),
        ("GET", "/socket/websocket?vsn=9", upgrade.to_vec(), &[403]),
        ("GET", "/socket/websocket?vsn=2.0.0&a=%ff", upgrade.to_vec(), &[400]),
        ("GET", "/elsewhere", upgrade.to_vec(), &[404]),
    ];
    for (method, target, headers, statuses) in cases {
        let headers: Vec<(&str, &str)> = headers;
        let answer = request(served.address, method, target, &headers, b"").await;
        assert!(statuses.contains(&answer.status), "{method} {target} {headers:?}: {answer:?}");
    }
    assert_eq!(served.counter("connections", "accepted"), 0);
    assert_eq!(served.counter("connections", "refused_vsn"), 1);
    assert_eq!(served.counter("connections", "refused_handshake"), 7);
}

/// A peer that sends garbage as fast as it can, and reconnects, does not stop others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bad_clients_leaves_others_alone() {
    let served = serve_mount(stage()).await;
    let mut witness = served.client().await;
    witness.join("room:1").await;
    let address = served.address;
    let flood = tokio::spawn(async move {
        for n in 0..150_u32 {
            let mut client = Client::connect(address, "/socket?vsn=2.0.0", &[]).await.unwrap();
            client.send_bytes(&n.to_le_bytes().repeat(500)).await;
        }
    });
    let mut slowest = Duration::ZERO;
    for n in 0..100 {
        let asked = std::time::Instant::now();
        witness.call("room:1", "echo", json!({ "n": n }), "ok").await;
        slowest = slowest.max(asked.elapsed());
    }
    flood.await.unwrap();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    crate::support::eventually("all are gone", async || served.endpoint.sockets() == 1).await;
}
