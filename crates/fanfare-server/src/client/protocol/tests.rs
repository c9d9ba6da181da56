//! Frames in, lines out.

use fanfare_proto::message::Ref;
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::codec;
use fanfare_proto::phoenix::message::Format;

use super::*;

fn line(text: &str) -> Said {
    Said::Line(text.into())
}

fn note(text: &str) -> Said {
    Said::Note(text.into())
}

fn fatal(text: &str) -> Said {
    Said::Fatal(text.into())
}

fn phoenix(topics: &[&str], events: &[&str]) -> phoenix::Phoenix {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    phoenix::Phoenix::new(&owned(topics), &json!({ "a": [1], "resume": null }), &owned(events), None)
}

#[test]
fn phoenix_joins_and_reads() {
    let mut client = phoenix(&["a", "b", "a"], &[]);
    let joins =
        [r#"["1","1","a","phx_join",{"a":[1],"resume":null}]"#, r#"["2","2","b","phx_join",{"a":[1],"resume":null}]"#];
    assert_eq!(client.open(), joins.map(|join| Frame::Text(join.into())));
    assert!(client.is_joining());
    let mut check = |frame: &str, expected: &[Said]| assert_eq!(client.text(frame), expected, "{frame}");
    check(r#"["1","1","a","phx_reply",{"status":"ok","response":{}}]"#, &[note("joined a")]);
    check(r#"["2","2","b","phx_reply",{"status":"ok","response":{}}]"#, &[note("joined b")]);
    check(
        "[null,null,\"a\",\"new\",{\"n\":1.50,\n\"t\":\"x\\n\"}]",
        &[line(r#"{"topic":"a","event":"new","payload":{"n":1.50, "t":"x\n"}}"#)],
    );
    check(r#"["2",null,"b","x",{}]"#, &[line(r#"{"topic":"b","event":"x","payload":{}}"#)]);
    check(r#"["7",null,"b","x",{}]"#, &[]);
    check(r#"[null,null,"c","x",{}]"#, &[]);
    check(r#"[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]"#, &[]);
    check(r#"["2","2","b","phx_close",{}]"#, &[note("b was closed by the server")]);
    check(r#"["1","1","a","phx_error",{}]"#, &[note("a has failed on the server; joining it again")]);
    check("{}", &[fatal("the server sent what is no message of Phoenix; --protocol names another")]);
    assert!(client.has_failed() && !client.is_joining());
    assert_eq!(client.rejoin(), [Frame::Text(r#"["3","3","a","phx_join",{"a":[1],"resume":null}]"#.into())]);
    assert!(!client.has_failed() && client.is_joining());
    assert_eq!(client.text(r#"["3","3","a","phx_close",{}]"#), [fatal("a was closed by the server")]);
    assert_eq!(client.heartbeat(), Frame::Text(r#"[null,"4","phoenix","heartbeat",{}]"#.into()));
}

#[test]
fn phoenix_refusals_say_why() {
    for (response, reason) in [(r#"{"reason":"no"}"#, "no"), ("[1]", "[1]")] {
        let mut client = phoenix(&["a"], &[]);
        client.open();
        let reply = format!(r#"["1","1","a","phx_reply",{{"status":"error","response":{response}}}]"#);
        assert_eq!(client.text(&reply), [fatal(&format!("a: the join was refused: {reason}"))]);
    }
}

#[test]
fn phoenix_prints_the_events_that_are_asked_for() {
    let mut client = phoenix(&["a"], &["x", "phx_reply"]);
    client.open();
    let reply = r#"["1","1","a","phx_reply",{"status":"ok","response":{"n":1}}]"#;
    let shown = r#"{"topic":"a","event":"phx_reply","payload":{"status":"ok","response":{"n":1}}}"#;
    assert_eq!(client.text(reply), [line(shown), note("joined a")]);
    assert_eq!(client.text(r#"[null,null,"a","y",{}]"#), []);
    assert_eq!(client.text(r#"[null,null,"a","x",{}]"#), [line(r#"{"topic":"a","event":"x","payload":{}}"#)]);
}

#[test]
fn phoenix_reads_binary_frames() {
    let mut client = phoenix(&["a"], &[]);
    client.open();
    let data = Payload::Binary(vec![0, 255].into());
    let one = Ref::string("1");
    let frame = |write: &dyn Fn(&mut Vec<u8>) -> bool| {
        let mut out = Vec::new();
        assert!(write(&mut out));
        out
    };
    let reply = frame(&|out| codec::reply(Format::V2, &one, &one, "a", "ok", &data, out).is_ok());
    let push = frame(&|out| codec::push(Format::V2, &one, "a", "e", &data, out).is_ok());
    let broadcast = frame(&|out| codec::broadcast(Format::V2, "a", "e", &data, out).is_ok());
    let shown = line(r#"{"topic":"a","event":"e","payload":{"binary":"AP8="}}"#);
    assert_eq!(client.binary(&reply), [note("joined a")]);
    for frame in [&push, &broadcast] {
        assert_eq!(client.binary(frame), std::slice::from_ref(&shown));
    }
    for cut in [0, 1, 3, 4] {
        let left_out = note("a binary frame that is no message of Phoenix was left out");
        assert_eq!(client.binary(&broadcast[..cut]), [left_out], "{cut}");
    }
}

#[test]
fn raw_frames() {
    let (mut hub, mut bullet) = (raw::Hub, raw::Bullet);
    for (frame, shown) in [
        (r#" {"a": 1}"#, r#"{"a": 1}"#),
        ("{\"a\":\r\n[]}", r#"{"a":  []}"#),
        ("5", r#"{"value":5}"#),
        ("null", r#"{"value":null}"#),
        ("hi\n\"", r#"{"text":"hi\n\""}"#),
        ("", r#"{"text":""}"#),
    ] {
        assert_eq!(hub.text(frame), [line(shown)]);
        assert_eq!(bullet.text(frame), [line(shown)]);
    }
    assert_eq!(hub.binary(b"\0\xff"), [line(r#"{"binary":"AP8="}"#)]);
    assert_eq!((hub.heartbeat(), bullet.heartbeat()), (Frame::Ping, Frame::Text("ping".into())));
    assert_eq!(bullet.text("heartbeat message"), []);
    assert_eq!((hub.end(1000).is_some(), hub.end(1012), bullet.end(1000)), (true, None, None));
}

#[test]
fn rooms_take_answers_for_joins_only() {
    let mut rooms = rooms::Rooms::new(&["a".into(), "b".into()]);
    assert_eq!(rooms.open(), [r#"{"join":"a"}"#, r#"{"join":"b"}"#].map(|join| Frame::Text(join.into())));
    let (joined, refused) = (r#"{"joined":"a"}"#, r#"{"refused":"b","response":{"reason":"no"}}"#);
    assert_eq!(rooms.text(joined), [note("joined a")]);
    assert_eq!(rooms.text(joined), [line(joined)], "the second is what a member says");
    assert_eq!(rooms.text(r#"{"a":1}"#), [line(r#"{"a":1}"#)]);
    assert_eq!(rooms.text(refused), [fatal(r#"b: the join was refused: {"reason":"no"}"#)]);
    rooms.open();
    rooms.heartbeat();
    assert_eq!(rooms.text(refused), [line(refused)], "long after the join a member says it");
    assert!(rooms.end(3000).is_some_and(|end| end.is_err()));
}

#[test]
fn phoenix_goes_on_where_it_was() {
    let new = |since| phoenix::Phoenix::new(&["a".to_owned()], &json!({}), &["x".to_owned()], since);
    let join =
        |n: u32, resume: &str| vec![Frame::Text(format!(r#"["{n}","{n}","a","phx_join",{{"resume":{resume}}}]"#))];
    let reply = |n: u32, position: &str, recovered: bool| {
        let resume = format!(r#"{{"position":"{position}","recovered":{recovered}}}"#);
        format!(r#"["{n}","{n}","a","phx_reply",{{"status":"ok","response":{{"resume":{resume}}}}}]"#)
    };
    let mut client = new(None);
    assert_eq!(client.open(), join(1, "true"));
    assert_eq!(client.text(&reply(1, "5e:3", true)), [note("joined a")]);
    assert_eq!(client.open(), join(2, "\"5e:3\""), "nothing came since");
    assert_eq!(client.text(&reply(2, "5e:3", true)), [note("joined a where it was left")]);
    let printed = line(r#"{"topic":"a","event":"x","payload":{},"position":"5e:4"}"#);
    assert_eq!(client.text(r#"[null,"5e:4","a","x",{}]"#), [printed]);
    let gap = |members: &str| format!(r#"[null,"5e:4","a","gap",{{"reason":"drop_oldest"{members}}}]"#);
    let left_out = "a: messages are missing: 12 were not taken in time (drop_oldest)";
    assert_eq!(client.text(&gap(r#","dropped":12,"from":"5e:4","to":"5e:16""#)), [note(left_out)], "asked for or not");
    assert_eq!(client.text(&gap("")), [], "an application's own");
    let of_broker = r#"[null,null,"a","gap",{"reason":"broker","dropped":null,"from":null,"to":null}]"#;
    let lost = "a: messages are missing: they were lost between the nodes (broker)";
    assert_eq!(client.text(of_broker), [note(lost)]);
    for payload in [json!({"gap": true}), json!({"resume": "5e:3"})] {
        let mut client = phoenix::Phoenix::new(&["a".to_owned()], &payload, &["x".to_owned()], None);
        assert_eq!(client.text(of_broker), [note(lost)], "asked for by {payload}");
    }
    assert_eq!(client.open(), join(3, "\"5e:4\""));
    let missing = "joined a; messages are missing: they are kept no more";
    assert_eq!(client.text(&reply(3, "6f:9", false)), [note(missing)]);
    assert_eq!(client.open(), join(4, "\"6f:9\""));
    assert_eq!(new(Some("0:0")).open(), join(1, "\"0:0\""));
}
