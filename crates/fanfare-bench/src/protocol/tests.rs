//! What clients of each protocol say, and what they make of what servers say.

use clap::Parser;
use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role as Side, Scratch};

use super::*;
use crate::args::{Bench, Scenario};

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    bench: Bench,
}

fn scenario(options: &[&str]) -> Scenario {
    Typed::try_parse_from([&["bench", "fanout"], options].concat()).unwrap().bench.scenario
}

fn make(url: &str, options: &[&str], echo: bool) -> Result<Box<dyn Protocol>, String> {
    let scenario = scenario(options);
    let target = Target { path: url.to_owned(), ..Target::parse("ws://127.0.0.1").unwrap() };
    protocol(scenario.common(), &target, echo)
}

/// The messages as they were before they became frames.
fn messages(mut out: Outgoing) -> Vec<String> {
    let mut messages = Vec::new();
    let mut sink = |item: Item<'_>| {
        messages.push(match item {
            Item::Text(text) => text.to_owned(),
            Item::Binary(data) => format!("binary:{}", String::from_utf8_lossy(data)),
            other => panic!("{other:?}"),
        });
        std::ops::ControlFlow::Continue(())
    };
    let mut decoder = Decoder::new(Side::Server);
    decoder.decode(&mut out.bytes, &Limits::default(), false, &mut Scratch::default(), &mut sink).unwrap();
    messages
}

fn written(write: impl FnOnce(&mut Outgoing)) -> Vec<String> {
    let mut out = Outgoing::new(7);
    write(&mut out);
    messages(out)
}

const STAMP: Stamp = Stamp { time: 1, publisher: 2, number: 3 };
const TEXT: &str = "~000000000000000100000002" /* and the number */;

#[test]
fn what_clients_say() {
    #[track_caller]
    fn check(options: &[&str], path: &str, enter: &[&str], publish: &str, echo: bool) {
        let protocol = make("", options, echo).unwrap();
        assert_eq!(protocol.path(Role::Subscriber, "t"), path, "{options:?}");
        assert_eq!(written(|out| _ = protocol.enter(Role::Subscriber, "t", 5, out)), enter, "{options:?}");
        let expected = publish.replace("STAMP", &format!("{TEXT}00000003~"));
        assert_eq!(written(|out| protocol.publish("t", STAMP, 36, out)), [expected], "{options:?}");
    }
    let join = r#"["1","1","t","phx_join",{}]"#;
    check(&[], "/websocket?vsn=2.0.0", &[join], r#"["1","p","t","new_msg",{"body":"STAMPxx"}]"#, false);
    let body = "x".repeat(36);
    check(
        &["--event", "say", "--params", r#"{"token":"a b","n":1}"#, "--join", r#"{"name":"c{client}"}"#],
        "/websocket?n=1&token=a%20b&vsn=2.0.0",
        &[r#"["1","1","t","phx_join",{"name":"c5"}]"#],
        &format!(r#"["1","STAMP","t","say",{{"body":"{body}"}}]"#),
        true,
    );
    check(&["--protocol", "plain"], "/t", &[], "STAMPxx", false);
    check(&["--protocol", "nchan"], "/sub/t", &[], "STAMPxx", false);
    let hello = "binary:CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true}\r\nSUB t 1\r\nPING\r\n";
    check(&["--protocol", "nats"], "/", &[hello], "binary:PUB t 36\r\nSTAMPxx\r\n", false);
    check(
        &["--protocol", "socketio"],
        "/socket.io/?EIO=4&transport=websocket",
        &["40"],
        r#"42["msg","t","STAMPxx"]"#,
        false,
    );
}

#[test]
fn paths() {
    #[track_caller]
    fn check(protocol: &str, url: &str, role: Role, expected: &str) {
        let protocol = make(url, &["--protocol", protocol], false).unwrap();
        assert_eq!(protocol.path(role, "r1"), expected);
    }
    check("phoenix", "/socket", Role::Member, "/socket/websocket?vsn=2.0.0");
    check("phoenix", "/socket/", Role::Member, "/socket/websocket?vsn=2.0.0");
    check("phoenix", "/socket/websocket?vsn=1.0.0&a=b", Role::Member, "/socket/websocket?vsn=1.0.0&a=b");
    check("plain", "/a/{room}?k=1", Role::Member, "/a/r1?k=1");
    check("nchan", "/x/sub/{room}", Role::Subscriber, "/x/sub/r1");
    check("nchan", "/x/sub/{room}", Role::Publisher, "/x/pub/r1");
    assert!(make("/x/{room}", &["--protocol", "nchan"], false).err().unwrap().contains("has no /sub/"));
}

#[test]
fn bad_options_are_explained() {
    for (option, value, part) in [("--join", "{", "--join {: not JSON"), ("--params", "[]", "not a JSON object")] {
        let error = make("", &[option, value], false).err().unwrap();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_servers_say() {
    #[track_caller]
    fn check(name: &str, message: &str, expected: Meaning, answer: &[&str]) {
        let protocol = make("", &["--protocol", name], false).unwrap();
        let mut out = Outgoing::new(7);
        assert_eq!(protocol.receive("t", message.as_bytes(), &mut out), expected, "{message}");
        assert_eq!(messages(out), answer, "{message}");
    }
    let phoenix = |message: &str, expected| check("phoenix", message, expected, &[]);
    phoenix(r#"["1","1","t","phx_reply",{"status":"ok","response":{}}]"#, Meaning::Entered);
    phoenix(
        r#"["1","1","t","phx_reply",{"status":"error","response":{"reason":"unauthorized"}}]"#,
        Meaning::Refused(r#"the server refused to join t: {"reason":"unauthorized"}"#.into()),
    );
    phoenix(
        r#"[null,"1","t","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#,
        Meaning::Refused(r#"the server refused to join t: {"reason":"unmatched topic"}"#.into()),
    );
    phoenix(r#"["1","p","t","phx_reply",{"status":"ok","response":{}}]"#, Meaning::Nothing);
    phoenix(
        r#"["1","p","t","phx_reply",{"status":"error","response":{"reason":"x"}}]"#,
        Meaning::Failed(r#"the server answered a push with an error: {"reason":"x"}"#.into()),
    );
    phoenix(r#"["1","2","t","phx_reply",{"status":"ok","response":{}}]"#, Meaning::Left);
    phoenix(r#"["1","1","t","phx_error",{}]"#, Meaning::Failed("the join of t crashed (phx_error)".into()));
    phoenix(r#"["1",null,"t","presence_state",{}]"#, Meaning::Nothing);
    phoenix(r#"[null,"h","phoenix","phx_reply",{"status":"ok","response":{}}]"#, Meaning::Nothing);
    phoenix(r#"[null,null,"t","new_msg",{"body":"from somebody else"}]"#, Meaning::Nothing);
    phoenix(r#"["1",{"#, Meaning::Failed("the server sent something that is no Phoenix message".into()));

    check("plain", "anything", Meaning::Nothing, &[]);
    check("nats", "INFO {}\r\n", Meaning::Nothing, &[]);
    check("nats", "PONG\r\n", Meaning::Entered, &[]);
    check("nats", "PING\r\n", Meaning::Nothing, &["binary:PONG\r\n"]);
    check("nats", "-ERR 'Authorization Violation'\r\n", Meaning::Refused("-ERR 'Authorization Violation'".into()), &[]);
    check("socketio", "0{\"sid\":\"a\"}", Meaning::Nothing, &[]);
    check("socketio", "40{\"sid\":\"a\"}", Meaning::Nothing, &[r#"42["join","t"]"#]);
    check("socketio", "42[\"joined\"]", Meaning::Entered, &[]);
    check("socketio", "2", Meaning::Nothing, &["3"]);
    check("socketio", "44{\"message\":\"no\"}", Meaning::Refused("44{\"message\":\"no\"}".into()), &[]);
}
